"""The metrics of one task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError, KeyPath, nearest
from ..types import State
from ..utils.model_note import ModelNote
from .metrics import F1, CustomMetric, FBeta, Metric, create_metric, find_metric
from .metrics.sum_metric import SumMetric

RESERVED = ("loss", "average")
"""Variables that stand beside a task's metrics, so that no metric can be called so."""


class Scorer:
    """Several metrics that see the same rows.

    :param metrics: names, paths of functions of ``sklearn.metrics``, functions ``f(golds, probs, preds)``,
        ``f(golds, preds)`` or ``f(golds, probs)``, mappings of ``class`` to any of these and of its options to values,
        or metrics
    :param custom: name -> function ``f(golds, probs, preds)`` or ``f(golds, probs, preds, uids)``; takes the place of a
        metric of the same name
    :raise ConfigError: for an unknown name, a name that is reported twice, or one that cannot be used
    """

    config_names: ClassVar[Mapping[str, Callable[..., Callable[..., Metric]]]] = {"metrics": find_metric}
    """Arguments whose objects the config may call by short names."""

    def __init__(
        self,
        metrics: Sequence[str | Callable[..., Any] | Metric | Mapping[str, Any]] = (),
        custom: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        if isinstance(metrics, str) or not isinstance(metrics, Sequence):
            found = f"a single {type(metrics).__name__}" if isinstance(metrics, Metric) else repr(metrics)
            raise ConfigError(f"metrics must be a list, not {found}", ("metrics",))
        self._note: Callable[[Metric], ModelNote] | None = None
        self._metrics: dict[str, Metric] = {}
        self._paths: dict[str, KeyPath] = {}
        for index, given in enumerate(metrics):
            path = ("metrics", index)
            try:
                metric = create_metric(given)
            except ConfigError as error:
                raise error.below(path) from error.__cause__
            if metric.name in self._metrics:
                raise ConfigError(_twice(metric.name, self._metrics[metric.name], metric), path)
            self._metrics[metric.name], self._paths[metric.name] = metric, path
        for name, function in (custom or {}).items():
            self._metrics[name], self._paths[name] = CustomMetric(name, function), ("custom", name)
        reported: dict[str, Metric] = {}
        for metric in self.metrics:
            for name in metric.names:
                _check_name(name, self.path_of(metric))
                if name in reported:
                    raise ConfigError(_twice(name, reported[name], metric), self.path_of(metric))
                reported[name] = metric

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics in their order."""
        return tuple(self._metrics.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all scores; a function that returns a mapping reports its keys instead of its own name."""
        return tuple(name for metric in self.metrics for name in metric.names)

    def path_of(self, metric: Metric) -> KeyPath:
        """Return where a metric stands in the arguments that the scorer was made of."""
        return self._paths[metric.name]

    @property
    def needs(self) -> frozenset[str]:
        """Which of ``prob`` and ``pred`` the metrics read."""
        return frozenset().union(*(metric.needs for metric in self.metrics))

    @property
    def takes_uids(self) -> bool:
        """Whether a metric reads the identifiers of the rows."""
        return any(metric.takes_uids for metric in self.metrics)

    def split(self) -> tuple[Scorer, Scorer]:
        """Return scorers of the same metrics: of those that may get several batches as one, and of the others."""
        together: dict[str, Metric] = {
            name: metric
            for name, metric in self._metrics.items()
            if isinstance(metric, SumMetric) and metric.counts_together
        }
        parts = copy.copy(self), copy.copy(self)
        parts[0]._metrics = together
        parts[1]._metrics = {name: metric for name, metric in self._metrics.items() if name not in together}
        return parts

    def fresh(self, num_classes: int | None = None, ignored_label: int | None = None) -> Scorer:
        """Return a scorer with the same metrics that has seen no rows.

        :param num_classes: the number of classes, where it is known
        :param ignored_label: a label that does not count inside a row of several labels
        """
        twin = copy.copy(self)
        twin._metrics = {name: metric.fresh() for name, metric in self._metrics.items()}
        for metric in twin.metrics:
            metric.num_classes = num_classes
            metric.ignored_label = ignored_label
        return twin

    def of_task(
        self,
        num_classes: int | None,
        ignored_label: int | None,
        has_label_sets: bool | None,
        note: Callable[[Metric], ModelNote] | None = None,
    ) -> Scorer:
        """Return a scorer with the same metrics, which know what a task predicts.

        :param num_classes: the number of classes, where it is known
        :param ignored_label: a label that does not count inside a row of several labels
        :param has_label_sets: whether labels of a row are 0 or 1 each by itself; None if that is not known
        :param note: what an error of a metric is told with
        :raise ConfigError: if two metrics would report one name, or one cannot score so many classes
        """
        twin = self.fresh(num_classes, ignored_label)
        twin._note = note
        reported: dict[str, Metric] = {}
        for metric in twin.metrics:
            metric.has_label_sets = has_label_sets
            if isinstance(metric, CustomMetric) and num_classes is not None and not has_label_sets:
                try:
                    metric.try_classes(num_classes)
                except ConfigError as error:
                    raise error.below(self.path_of(metric)) from error.__cause__
            for name in metric.names:
                if name in reported:
                    raise ConfigError(_twice(name, reported[name], metric), self.path_of(metric))
                reported[name] = metric
        return twin

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        """Take in the labelled rows of a batch, without waiting for the device.

        :param label: the labels, [n, ...]
        :param prob: what ``Task.probabilities`` returned, or None
        :param pred: what ``Task.predictions`` returned, or None
        :param uids: the identifiers of the rows, for functions that take them
        """
        for metric in self._metrics.values():
            try:
                metric.update(label, prob, pred, uids)
            except Exception as error:
                self._tell(error, metric)
                raise

    def try_functions(self) -> None:
        """Check that functions of scikit-learn can score rows of the kind that was taken in.

        :raise DataError: naming the metric that cannot
        :raise ConfigError: naming one that does not score at all
        """
        for metric in self.metrics:
            if isinstance(metric, CustomMetric):
                try:
                    metric.try_rows()
                except Exception as error:
                    self._tell(error, metric)
                    raise

    def compute(self) -> dict[str, float]:
        """Fetch and return all scores by name; nan under its own names for a metric that has seen no rows.

        :raise ConfigError: if a function reports a name that is taken
        """
        scores: dict[str, float] = {}
        for metric in self.metrics:
            try:
                found = metric.compute()
            except Exception as error:
                self._tell(error, metric)
                raise
            for name in found:
                _check_name(name)
                if name in scores:
                    raise ConfigError(f"metric {metric.name!r} reports {name!r}, as another metric does")
            scores.update(found)
        return scores

    def score(self, golds: Any, probs: Any = None, preds: Any = None, uids: Any = None) -> dict[str, float]:
        """Return the scores of rows that are given at once; what this scorer has collected is left alone.

        :param golds: labels, [n] or [n, ...], as a tensor, an array or a list
        :param probs: probabilities or values, or None
        :param preds: predictions, or None; those of the shape [n, k] that are, like the labels, 0 or 1 are taken for k
            answers, each by itself
        :param uids: identifiers, or None
        """
        label, prob, pred = _tensor("golds", golds), _tensor("probs", probs), _tensor("preds", preds)
        if label is None:
            raise DataError("golds are missing")
        fresh = self.fresh()
        if len(label):
            fresh = self.fresh(_count_classes(label, pred) if prob is None and pred is not None else None)
            if pred is not None:
                for metric in fresh.metrics:
                    if metric.has_label_sets is None:
                        metric.has_label_sets = _are_label_sets(label, prob, pred)
            fresh.update(label, prob, pred, uids)
        return fresh.compute()

    def _tell(self, error: Exception, metric: Metric) -> None:
        """Have an error say which metric it is of."""
        if self._note is not None:
            error.add_note(self._note(metric))

    def reset(self) -> None:
        """Forget all rows."""
        for metric in self.metrics:
            metric.reset()

    def state_dict(self) -> dict[str, State]:
        """Return what has been collected, as plain data and tensors."""
        return {name: metric.state_dict() for name, metric in self._metrics.items()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned.

        :raise ConfigError: if the metrics were others then
        """
        for name in state:
            if name not in self._metrics:
                raise ConfigError(f"there is no metric {name!r} to restore{nearest(name, self._metrics)}")
        for name, metric in self._metrics.items():
            if name not in state:
                raise ConfigError(f"metric {name!r} is not in what is to be restored{nearest(name, state)}")
            metric.load_state_dict(state[name])


def _check_name(name: str, path: KeyPath = ()) -> None:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a metric must have a name, not {name!r}", path)
    if name in RESERVED:
        raise ConfigError(f"a metric cannot be called {name!r}, the engine writes that itself", path)


def _twice(name: str, first: Metric, second: Metric) -> str:
    kinds = {type(first), type(second)}
    if isinstance(first, FBeta) and isinstance(second, FBeta) and kinds == {F1, FBeta}:
        if (first.beta, first.positive) == (second.beta, second.positive):
            return f"metric {name!r} is given twice: f1 and fbeta with beta 1 are one metric"
    hint = "; set 'name' to call one of them otherwise"
    if len(kinds) == 1 and first.__dict__ == second.__dict__:
        hint = ""
    elif CustomMetric in kinds:
        hint = "; call a function otherwise by giving it under 'custom'"
    return f"metric {name!r} is given twice{hint}"


def _tensor(name: str, values: Any) -> Tensor | None:
    if values is None or isinstance(values, Tensor):
        return values
    try:
        if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
            return torch.stack(list(values))
        return torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} must be numbers: {error}") from error


def _are_label_sets(label: Tensor, prob: Tensor | None, pred: Tensor) -> bool:
    if label.dim() != 2 or label.shape[1] < 2 or label.shape != pred.shape or pred.is_floating_point():
        return False
    if prob is not None:
        return prob.shape == pred.shape
    return all(bool(((values == 0) | (values == 1)).all()) for values in (label, pred))


def _count_classes(label: Tensor, pred: Tensor) -> int | None:
    if pred.is_floating_point():
        return None
    if label.dim() > pred.dim():
        return label.shape[1] if label.shape[-1] > 1 else int(max(label.max().item(), pred.max().item())) + 1
    return int(max(label.max().item(), pred.max().item())) + 1
