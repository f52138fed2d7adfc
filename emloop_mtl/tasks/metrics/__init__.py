"""Scores that are collected batch by batch without waiting for the device."""

from .accuracy import Accuracy
from .create_metric import METRICS, create_metric
from .custom_metric import CustomMetric
from .f1 import F1
from .f1_average import F1Average
from .keeping_metric import KeepingMetric
from .mean_squared_error import MeanSquaredError
from .metric import Metric
from .roc_auc import RocAuc
from .sum_metric import SumMetric

__all__ = [
    "F1",
    "METRICS",
    "Accuracy",
    "CustomMetric",
    "F1Average",
    "KeepingMetric",
    "MeanSquaredError",
    "Metric",
    "RocAuc",
    "SumMetric",
    "create_metric",
]
