"""Metrics by name."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from ...errors import ConfigError, nearest
from .accuracy import Accuracy
from .accuracy_f1 import AccuracyF1
from .average_precision import AveragePrecision
from .balanced_accuracy import BalancedAccuracy
from .brier_score import BrierScore
from .calibration_error import CalibrationError
from .class_average import ClassAverage
from .custom_metric import CustomMetric
from .exact_match import ExactMatch
from .f1 import F1
from .fbeta import FBeta
from .hamming_loss import HammingLoss
from .log_loss import LogLoss
from .matthews_correlation import MatthewsCorrelation
from .mean_absolute_error import MeanAbsoluteError
from .mean_squared_error import MeanSquaredError
from .metric import Metric
from .micro_average import MicroAverage
from .pearson_correlation import PearsonCorrelation
from .pearson_spearman import PearsonSpearman
from .precision import Precision
from .r2_score import R2Score
from .read_option import name_of_beta, read_beta, read_choice
from .recall import Recall
from .roc_auc import RocAuc
from .sample_average import SampleAverage
from .score_function import is_score_function, name_of, second_column
from .spearman_correlation import SpearmanCorrelation
from .top_accuracy import TopAccuracy

Average = Literal["binary", "macro", "micro", "weighted", "samples", "per_class"]
"""How precision and recall of several classes become one score, or several."""

AVERAGES = ("binary", "macro", "micro", "weighted", "samples", "per_class")

SKLEARN = "sklearn.metrics."
"""How the path of a metric of scikit-learn begins."""


def _accuracy(topk: int = 1, name: str | None = None, normalize: bool = True) -> Metric:
    if topk == 1:
        return Accuracy("accuracy" if name is None else name, normalize)
    return TopAccuracy(topk, name, normalize)


def _averaged(
    kind: str, beta: float, average: str, name: str | None = None, zero_division: float | Literal["nan"] = 0.0
) -> Metric:
    name = f"{kind}_{average}" if name is None else name
    if average == "micro":
        return MicroAverage(name, beta, zero_division)
    if average == "samples":
        return SampleAverage(name, beta, zero_division)
    return ClassAverage(name, beta, average, zero_division)


def _of_average(average: str, kind: str, beta: float, positive: int, rest: Mapping[str, Any]) -> Metric:
    read_choice(kind, "average", average, AVERAGES)
    if positive != 1:
        text = f"metric {kind!r}: positive is the one class of 'average: binary', and average is {average}"
        raise ConfigError(f"{text}; 'average: per_class' gives the score of each", ("positive",))
    return _averaged(kind, beta, average, **rest)


def _averaging(kind: str, binary: Callable[..., Metric], beta: float) -> Callable[..., Metric]:
    """Return what makes a metric that can be averaged over classes.

    :param kind: its name
    :param binary: makes it for one class
    :param beta: how much recall counts in comparison with precision
    """

    def make(
        average: Average = "binary",
        name: str | None = None,
        positive: int = 1,
        zero_division: float | Literal["nan"] = 0.0,
    ) -> Metric:
        if average == "binary":
            return binary(kind if name is None else name, positive, zero_division)
        return _of_average(average, kind, beta, positive, {"name": name, "zero_division": zero_division})

    return make


def _fbeta(
    beta: float = 1.0,
    average: Average = "binary",
    name: str | None = None,
    positive: int = 1,
    zero_division: float | Literal["nan"] = 0.0,
) -> Metric:
    if average == "binary":
        return FBeta(beta, name, positive, zero_division)
    kind = name_of_beta(read_beta(beta))
    return _of_average(average, kind, beta, positive, {"name": name, "zero_division": zero_division})


METRICS: dict[str, Callable[..., Metric]] = {
    "accuracy": _accuracy,
    "accuracy_f1": AccuracyF1,
    "average_precision": AveragePrecision,
    "balanced_accuracy": BalancedAccuracy,
    "brier_score": BrierScore,
    "calibration_error": CalibrationError,
    "exact_match": ExactMatch,
    "f1": _averaging("f1", F1, 1.0),
    "fbeta": _fbeta,
    "hamming_loss": HammingLoss,
    "log_loss": LogLoss,
    "matthews_correlation": MatthewsCorrelation,
    "mean_absolute_error": MeanAbsoluteError,
    "mean_squared_error": MeanSquaredError,
    "pearson_correlation": PearsonCorrelation,
    "pearson_spearman": PearsonSpearman,
    "precision": _averaging("precision", Precision, 0.0),
    "r2": R2Score,
    "recall": _averaging("recall", Recall, math.inf),
    "roc_auc": RocAuc,
    "spearman_correlation": SpearmanCorrelation,
    **{
        f"{kind}_{average}": partial(_averaged, kind, beta, average)
        for kind, beta in (("precision", 0.0), ("recall", math.inf), ("f1", 1.0))
        for average in ("macro", "micro", "weighted", "samples")
    },
}
"""Name -> what makes the metric, from its options."""


def find_metric(metric: str | Callable[..., Any], options: Mapping[str, Any] | None = None) -> Callable[..., Metric]:
    """Return what makes a metric from its options.

    :param metric: a name in ``METRICS``, ``accuracy@K``, the dotted path of a function of ``sklearn.metrics``, or what
        a path stands for: a function that scores rows, or one that makes a metric or such a function of its options
    :param options: what it is to be called with; a function that needs more than these scores rows
    :raise ConfigError: for any other name
    """
    if not isinstance(metric, str):
        return _scoring(metric, options or {}) if is_score_function(metric, options or {}) else metric
    if metric in METRICS:
        return METRICS[metric]
    if metric.startswith(SKLEARN):
        return find_metric(_of_sklearn(metric), options)
    kind, at, topk = metric.partition("@")
    if kind == "accuracy" and at:
        if re.fullmatch("[1-9][0-9]*", topk) is None:
            raise ConfigError(f"unknown metric {metric!r}; after accuracy@ comes a whole number > 0")
        return partial(_accuracy, int(topk))
    raise ConfigError(f"unknown metric {metric!r}{nearest(metric, METRICS)}")


def create_metric(metric: str | Callable[..., Any] | Metric | Mapping[str, Any]) -> Metric:
    """Return a metric that has seen no rows.

    :param metric: one of the names in ``METRICS`` or ``accuracy@K``; the path of a function of ``sklearn.metrics``; a
        mapping with any of these or a function under ``class`` and its options beside it; a function of rows, see
        ``CustomMetric``, called by its own name; or a metric
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
        return CustomMetric(name_of(metric), metric)
    raise ConfigError(f"a metric is a name, a function or a Metric, not {metric!r}")


def _from_mapping(metric: Mapping[str, Any]) -> Any:
    options = {name: value for name, value in metric.items() if name != "class"}
    kind = metric.get("class")
    if not isinstance(kind, str) and not callable(kind):
        raise ConfigError(f"a metric with options is a mapping with 'class', not {metric!r}")
    make = find_metric(kind, options)
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        known = inspect.signature(make).parameters
        unknown = [name for name in options if name not in known]
        reason = f"unknown argument {unknown[0]!r}{nearest(unknown[0], known)}" if unknown else str(error)
        shown = kind if isinstance(kind, str | type) else name_of(kind)
        raise ConfigError(f"metric {shown!r}: {reason}") from error
    return make(**options)


def _of_sklearn(path: str) -> Callable[..., Any]:
    import sklearn.metrics

    name = path.removeprefix(SKLEARN)
    found = getattr(sklearn.metrics, name, None)
    if not callable(found):
        raise ConfigError(f"unknown metric {path!r}{nearest(name, sklearn.metrics.__all__)}")
    return found  # type: ignore[no-any-return]


def _scoring(function: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., Metric]:
    """Return what makes the metric of a function of rows from its options, among them ``name``."""

    def make(name: str | None = None, **given: Any) -> Metric:
        return CustomMetric(name_of(function) if name is None else name, function, given)

    parameters = list(inspect.signature(function).parameters.values())
    columns = [each for each in parameters if each.kind in _BY_POSITION and each.name not in options]
    needed = 2 if second_column(function, options) is not None else max(3, _count_required(columns))
    rows = {each.name for each in columns[:needed]}
    kept = [each for each in parameters if each.name not in {*rows, "name"} and each.kind is not _VAR_POSITIONAL]
    own = inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Any)
    last = [each for each in kept if each.kind is inspect.Parameter.VAR_KEYWORD]
    by_name = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in kept if each not in last]
    make.__signature__ = inspect.Signature([*by_name, own, *last])  # type: ignore[attr-defined]
    make.__wrapped__ = function  # type: ignore[attr-defined] # its annotations are read where it was defined
    return make


def _count_required(parameters: list[inspect.Parameter]) -> int:
    return sum(each.default is inspect.Parameter.empty for each in parameters)


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
