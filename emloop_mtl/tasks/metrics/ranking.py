"""Metrics of how probabilities rank the labels."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import ConfigError, DataError
from ..output import CLASS_DIM
from .align import check_shapes, class_of, without_column
from .class_average import nan_mean
from .keeping_metric import KeepingMetric
from .read_option import read_choice

AVERAGES = ("macro", "micro", "weighted")
"""How the scores of classes become one."""


class Ranking(KeepingMetric):
    """A score of 0 or 1 and a probability, or any other number, of each class; averaged over several classes.

    Of [n, classes] probabilities every class is taken against the rest. Labels [n, classes] may be 0 and 1 for each
    class by itself, or probabilities of which the greatest counts. It is nan for more than two classes of labels with a
    single probability, and for probabilities that are not finite. What is kept are labels and probabilities.

    :param name: what the score is called
    :param average: ``macro`` for the mean over the classes, ``weighted`` for the mean in which a class counts by the
        number of its labels, ``micro`` for the score of all entries together
    """

    needs: frozenset[str] = frozenset({"prob"})
    labels_are_classes: ClassVar[bool] = True

    of_second: ClassVar[bool] = False
    """Whether the score of two classes is that of the second one."""

    def __init__(self, name: str, average: str = "macro") -> None:
        self.average = read_choice(name, "average", average, AVERAGES)
        super().__init__(name)

    @abstractmethod
    def score(self, gold: Any, prob: Any) -> float:
        """Return the score of one class; nan where it is undefined.

        :param gold: whether each label is that class, [n], a numpy array
        :param prob: its probability, [n], in float64
        """

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        if prob is not None and prob.dim() > 2:
            label, prob = self._entries(label, prob)
        if prob is not None and (label.dim() > 2 or label.shape[0] != prob.shape[0]):
            check_shapes(self.name, label, prob)
        super().update(label, prob, pred)

    def compute(self) -> dict[str, float]:
        if self.num_rows == 0:
            return {self.name: math.nan}
        label, prob = self.fetch("label"), self.fetch("prob")
        if label is None or prob is None:
            raise ConfigError(f"metric {self.name!r} needs 'prob', and there is none")
        label, prob = without_column(label), without_column(prob)
        if self.ignored_label is not None and label.dim() == 1:
            kept = label != self.ignored_label
            label, prob = label[kept], prob[kept]
        return {self.name: self._of_all(label, prob) if len(label) else math.nan}

    def _entries(self, label: Tensor, prob: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entries of rows of several labels one by one."""
        label = label.to(prob.device, non_blocking=True)
        if self.has_label_sets or prob.shape[CLASS_DIM] == 1:
            label = label if label.shape == prob.shape else label.unsqueeze(CLASS_DIM)
            check_shapes(self.name, label, prob)
            return label.reshape(-1), prob.reshape(-1)
        prob = prob.movedim(CLASS_DIM, -1)
        if label.dim() == prob.dim():
            label = label.movedim(CLASS_DIM, -1)
            check_shapes(self.name, label, prob)
            return label.reshape(-1, label.shape[-1]), prob.reshape(-1, prob.shape[-1])
        check_shapes(self.name, label, prob[..., 0])
        return label.reshape(-1), prob.reshape(-1, prob.shape[-1])

    def _of_all(self, label: Tensor, prob: Tensor) -> float:
        if not bool(prob.isfinite().all()):  # a model that diverges has no score, but its training may go on
            return math.nan
        if label.dim() > 1 and label.shape == prob.shape and bool(((label == 0) | (label == 1)).all()):
            return self._averaged(list(zip((label == 1).unbind(1), prob.unbind(1), strict=True)))
        if label.dim() > 1:
            label = class_of(label)
        if prob.dim() > 1:
            classes = prob.shape[1]
            least, most = label.aminmax()
            if least < 0 or most >= classes or (label.is_floating_point() and bool((label != label.floor()).any())):
                found = f"{least.item()} to {most.item()}"
                raise DataError(f"metric {self.name!r}: labels must be classes 0..{classes - 1}, got {found}")
            columns = [(label == number, prob[:, number]) for number in range(classes)]
            if classes == 2 and self.of_second:
                columns = columns[1:]
        else:
            least, most = label.aminmax()
            if bool(((label != least) & (label != most)).any()):
                return math.nan
            gold = label == most
            columns = [(gold & (label > 0) if self.of_second else gold, prob)]  # of no label but 0, none is it
        return self._averaged(columns)

    def _averaged(self, columns: list[tuple[Tensor, Tensor]]) -> float:
        if self.average == "micro":
            columns = [tuple(torch.cat(each) for each in zip(*columns, strict=True))]  # type: ignore[list-item]
        weights = [float(gold.sum()) if self.average == "weighted" else 1.0 for gold, _ in columns]
        kept = [(gold, prob, weight) for (gold, prob), weight in zip(columns, weights, strict=True) if weight]
        kept = kept or [(*columns[0], 1.0)]  # no class has a label
        scores = [self.score(gold.numpy(), prob.double().numpy()) for gold, prob, _ in kept]
        if any(map(math.isnan, scores)):
            return math.nan
        return nan_mean(scores, [weight for _, _, weight in kept])
