"""Metrics by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import ConfigError, nearest
from .accuracy import Accuracy
from .custom_metric import CustomMetric
from .f1 import F1
from .f1_average import F1Average
from .mean_squared_error import MeanSquaredError
from .metric import Metric
from .roc_auc import RocAuc

METRICS: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "f1": F1,
    "f1_macro": F1Average,
    # Every entry has one label and one prediction, so that a false positive is a false negative too.
    "f1_micro": lambda: Accuracy("f1_micro"),
    "f1_weighted": lambda: F1Average("f1_weighted", weighted=True),
    "mean_squared_error": MeanSquaredError,
    "roc_auc": RocAuc,
}
"""Name -> what makes the metric."""


def create_metric(metric: str | Callable[..., Any] | Metric) -> Metric:
    """Return a metric that has seen no rows.

    :param metric: one of the names in ``METRICS``, a function ``f(golds, probs, preds)``, called by its own name, or a
        metric
    :raise ConfigError: for an unknown name, or what is none of these
    """
    if isinstance(metric, Metric):
        return metric.fresh()
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ConfigError(f"unknown metric {metric!r}{nearest(metric, METRICS)}", ("metrics",))
        return METRICS[metric]()
    if callable(metric):
        return CustomMetric(getattr(metric, "__name__", type(metric).__name__), metric)
    raise ConfigError(f"a metric is a name, a function or a Metric, not {metric!r}", ("metrics",))
