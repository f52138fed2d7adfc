"""Precision, recall, F1 and accuracy of batch variables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.types import EpochData, EpochNumber

from ..words import F1Average
from .abstract_predicted_classes import AbstractPredictedClasses


class ClassificationMetrics(AbstractPredictedClasses):
    """Compute ``accuracy``, ``precision``, ``recall`` and ``f1`` of predicted classes over each epoch.

    They are scikit-learn's, 0 where nothing can be divided. Without ``f1_average`` the last three have a number for
    each class, with the class as its aggregation; with ``binary``, class 1 being what is looked for, there is
    ``specificity``, too. Of a task, predicted as ``<task>/pred``, rows without a label are left out, as are batches
    that do not carry it. All values of an epoch are kept until it ends.

    :param predicted_variable: name of the predicted classes
    :param gt_variable: name of the labels
    :param f1_average: ``binary``, ``micro``, ``macro``, ``weighted`` or ``samples``
    :param var_prefix: what the names of the numbers begin with
    :param streams: names of the streams to do so for; by default all
    :raise ConfigError: for another average, and a stream that does not exist

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ClassificationMetrics: {predicted_variable: digit/pred, gt_variable: digit, f1_average: macro}
    """

    def __init__(
        self,
        predicted_variable: str,
        gt_variable: str,
        f1_average: F1Average | None = None,
        var_prefix: str = "",
        streams: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(predicted_variable, gt_variable, streams=streams, **kwargs)
        averages = get_args(F1Average)
        if f1_average is not None and f1_average not in averages:
            text = f"{self.name}: unknown f1_average {f1_average!r}{nearest(str(f1_average), averages)}"
            raise ConfigError(text, ("f1_average",))
        if not isinstance(var_prefix, str):
            raise ConfigError(f"{self.name}: var_prefix must be text, not {var_prefix!r}", ("var_prefix",))
        self._average = f1_average
        self._prefix = var_prefix

    def provides(self) -> Collection[str | EpochNumber] | None:
        """Return the numbers of all streams; nothing is said where each class has one."""
        if self._average is None:
            return None
        names = ["precision", "recall", "f1", "accuracy", *(["specificity"] if self._average == "binary" else ())]
        streams: Sequence[str | None] = self._streams or [None]
        return [EpochNumber(f"{self._prefix}{name}", stream) for name in names for stream in streams]

    def after_epoch(self, epoch_id: int = 0, epoch_data: EpochData | None = None) -> None:
        """Write the numbers.

        :raise ConfigError: if another hook has written a number of the name, and for values that are no classes, or not
            what the average is of
        """
        assert epoch_data is not None
        for stream, values in self._labelled_rows():
            page = epoch_data.setdefault(stream, {})
            try:
                metrics = self._metrics(values[self._expected], values[self._predicted])
            except ValueError as error:
                text = f"{self.name}: {self._predicted!r} and {self._expected!r} of stream {stream!r}"
                reason = " ".join(str(error).split())
                argument = "f1_average" if "average" in reason else "predicted_variable"
                raise ConfigError(f"{text}: {reason}", (argument,)) from error
            for name, number in metrics.items():
                if self._prefix + name in page:
                    text = f"stream {stream!r} has a number {self._prefix + name!r} already: set var_prefix"
                    raise ConfigError(f"{self.name}: {text}", ("var_prefix",))
                page[self._prefix + name] = number

    def _metrics(self, expected: Sequence[Any], predicted: Sequence[Any]) -> Mapping[str, Any]:
        from sklearn.metrics import accuracy_score, precision_recall_fscore_support
        from sklearn.utils.multiclass import unique_labels

        if not len(expected):
            return {}
        truth, guess = _classes(expected), _classes(predicted)
        scores = precision_recall_fscore_support(truth, guess, average=self._average, zero_division=0.0)[:3]
        metrics: dict[str, Any] = {}
        for name, score in zip(("precision", "recall", "f1"), scores, strict=True):
            if self._average is None:
                classes = unique_labels(truth, guess)
                metrics[name] = {str(each): float(number) for each, number in zip(classes, score, strict=True)}
            else:
                metrics[name] = float(score)
        metrics["accuracy"] = float(accuracy_score(truth, guess))
        if self._average == "binary":
            negative = truth != 1
            count = int(negative.sum())
            metrics["specificity"] = float((guess[negative] != 1).sum()) / count if count else float("nan")
        return metrics


def _classes(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Return classes as an array, those in a column [n, 1] as [n]."""
    array = np.asarray(values)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
