"""Metrics by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ...errors import ConfigError, nearest
from .accuracy import Accuracy
from .accuracy_f1 import AccuracyF1
from .custom_metric import CustomMetric
from .f1 import F1
from .f1_average import F1Average
from .fbeta import FBeta
from .matthews_correlation import MatthewsCorrelation
from .mean_squared_error import MeanSquaredError
from .metric import Metric
from .pearson_correlation import PearsonCorrelation
from .pearson_spearman import PearsonSpearman
from .precision import Precision
from .recall import Recall
from .roc_auc import RocAuc
from .spearman_correlation import SpearmanCorrelation
from .top_accuracy import TopAccuracy


def _accuracy(topk: int = 1, name: str | None = None, normalize: bool = True) -> Metric:
    if topk == 1:
        return Accuracy("accuracy" if name is None else name, normalize)
    return TopAccuracy(topk, name, normalize)


def _f1_macro(name: str = "f1_macro") -> Metric:
    return F1Average(name)


def _f1_micro(name: str = "f1_micro") -> Metric:
    # Every entry has one label and one prediction, so that a false positive is a false negative too.
    return Accuracy(name)


def _f1_weighted(name: str = "f1_weighted") -> Metric:
    return F1Average(name, weighted=True)


METRICS: dict[str, Callable[..., Metric]] = {
    "accuracy": _accuracy,
    "accuracy_f1": AccuracyF1,
    "f1": F1,
    "f1_macro": _f1_macro,
    "f1_micro": _f1_micro,
    "f1_weighted": _f1_weighted,
    "fbeta": FBeta,
    "matthews_correlation": MatthewsCorrelation,
    "mean_squared_error": MeanSquaredError,
    "pearson_correlation": PearsonCorrelation,
    "pearson_spearman": PearsonSpearman,
    "precision": Precision,
    "recall": Recall,
    "roc_auc": RocAuc,
    "spearman_correlation": SpearmanCorrelation,
}
"""Name -> what makes the metric, from its options."""


def find_metric(name: str) -> Callable[..., Metric]:
    """Return what makes the metric of a name in ``METRICS``, or of ``accuracy@K``.

    :raise ConfigError: for any other name
    """
    if name in METRICS:
        return METRICS[name]
    kind, at, topk = name.partition("@")
    if kind == "accuracy" and at:
        if re.fullmatch("[1-9][0-9]*", topk) is None:
            raise ConfigError(f"unknown metric {name!r}; after accuracy@ comes a whole number > 0")
        return partial(_accuracy, int(topk))
    raise ConfigError(f"unknown metric {name!r}{nearest(name, METRICS)}")


def create_metric(metric: str | Callable[..., Any] | Metric | Mapping[str, Any]) -> Metric:
    """Return a metric that has seen no rows.

    :param metric: one of the names in ``METRICS`` or ``accuracy@K``; a mapping with such a name under ``class`` and its
        options beside it; a function ``f(golds, probs, preds)``, called by its own name; or a metric
    :raise ConfigError: for an unknown name or option, or what is none of these
    """
    if isinstance(metric, Metric):
        return metric.fresh()
    if isinstance(metric, str):
        return find_metric(metric)()
    if isinstance(metric, Mapping):
        return create_metric(_from_mapping(metric))
    if isinstance(metric, type) and issubclass(metric, Metric):
        make: Callable[[], Metric] = metric
        return make()
    if callable(metric):
        return CustomMetric(getattr(metric, "__name__", type(metric).__name__), metric)
    raise ConfigError(f"a metric is a name, a function or a Metric, not {metric!r}")


def _from_mapping(metric: Mapping[str, Any]) -> Any:
    options = {name: value for name, value in metric.items() if name != "class"}
    kind = metric.get("class")
    if not isinstance(kind, str) and not callable(kind):
        raise ConfigError(f"a metric with options is a mapping with 'class', not {metric!r}")
    make = find_metric(kind) if isinstance(kind, str) else kind
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        known = inspect.signature(make).parameters
        unknown = [name for name in options if name not in known]
        reason = f"unknown argument {unknown[0]!r}{nearest(unknown[0], known)}" if unknown else str(error)
        raise ConfigError(f"metric {kind!r}: {reason}") from error
    return make(**options)
