"""Scores that are collected batch by batch without waiting for the device."""

from .accuracy import Accuracy
from .accuracy_f1 import AccuracyF1
from .create_metric import METRICS, create_metric, find_metric
from .custom_metric import CustomMetric
from .f1 import F1
from .f1_average import F1Average
from .fbeta import FBeta
from .keeping_metric import KeepingMetric
from .matthews_correlation import MatthewsCorrelation
from .mean_squared_error import MeanSquaredError
from .metric import Metric
from .pearson_correlation import PearsonCorrelation
from .pearson_spearman import PearsonSpearman
from .positive_counts import PositiveCounts
from .precision import Precision
from .recall import Recall
from .roc_auc import RocAuc
from .spearman_correlation import SpearmanCorrelation
from .sum_metric import SumMetric
from .top_accuracy import TopAccuracy

__all__ = [
    "F1",
    "METRICS",
    "Accuracy",
    "AccuracyF1",
    "CustomMetric",
    "F1Average",
    "FBeta",
    "KeepingMetric",
    "MatthewsCorrelation",
    "MeanSquaredError",
    "Metric",
    "PearsonCorrelation",
    "PearsonSpearman",
    "PositiveCounts",
    "Precision",
    "Recall",
    "RocAuc",
    "SpearmanCorrelation",
    "SumMetric",
    "TopAccuracy",
    "create_metric",
    "find_metric",
]
