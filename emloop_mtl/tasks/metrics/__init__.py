"""Scores that are collected batch by batch without waiting for the device."""

from .accuracy import Accuracy
from .accuracy_f1 import AccuracyF1
from .average_precision import AveragePrecision
from .balanced_accuracy import BalancedAccuracy
from .brier_score import BrierScore
from .calibration_error import CalibrationError
from .class_average import ClassAverage
from .create_metric import METRICS, create_metric, find_metric
from .custom_metric import CustomMetric
from .exact_match import ExactMatch
from .f1 import F1
from .fbeta import FBeta
from .hamming_loss import HammingLoss
from .keeping_metric import KeepingMetric
from .log_loss import LogLoss
from .matthews_correlation import MatthewsCorrelation
from .mean_absolute_error import MeanAbsoluteError
from .mean_squared_error import MeanSquaredError
from .metric import Metric
from .micro_average import MicroAverage
from .pearson_correlation import PearsonCorrelation
from .pearson_spearman import PearsonSpearman
from .positive_counts import PositiveCounts
from .precision import Precision
from .probability_score import ProbabilityScore
from .r2_score import R2Score
from .ranking import Ranking
from .recall import Recall
from .roc_auc import RocAuc
from .sample_average import SampleAverage
from .spearman_correlation import SpearmanCorrelation
from .sum_metric import SumMetric
from .top_accuracy import TopAccuracy

__all__ = [
    "F1",
    "METRICS",
    "Accuracy",
    "AccuracyF1",
    "AveragePrecision",
    "BalancedAccuracy",
    "BrierScore",
    "CalibrationError",
    "ClassAverage",
    "CustomMetric",
    "ExactMatch",
    "FBeta",
    "HammingLoss",
    "KeepingMetric",
    "LogLoss",
    "MatthewsCorrelation",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "MicroAverage",
    "PearsonCorrelation",
    "PearsonSpearman",
    "PositiveCounts",
    "Precision",
    "ProbabilityScore",
    "R2Score",
    "Ranking",
    "Recall",
    "RocAuc",
    "SampleAverage",
    "SpearmanCorrelation",
    "SumMetric",
    "TopAccuracy",
    "create_metric",
    "find_metric",
]
