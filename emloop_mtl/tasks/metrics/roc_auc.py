"""The area under the ROC curve."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from ...errors import ConfigError, DataError
from .align import without_column
from .keeping_metric import KeepingMetric


class RocAuc(KeepingMetric):
    """The area under the ROC curve, from all labels and probabilities at once.

    For [n, classes] probabilities it is the mean over the classes, each against the rest; labels [n, classes] may be 0
    and 1 for each class by itself, or probabilities of which the greatest counts. It is nan if a class has no label or
    all of them, for more than two classes of labels with a single probability, and for probabilities that are
    not finite.

    :param name: what the score is called
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prob"})

    def __init__(self, name: str = "roc_auc") -> None:
        super().__init__(name)

    def compute(self) -> dict[str, float]:
        if self.num_rows == 0:
            return {self.name: math.nan}
        label, prob = self.fetch("label"), self.fetch("prob")
        if label is None or prob is None:
            raise ConfigError(f"metric {self.name!r} needs 'prob', and there is none")
        return {self.name: self._score(without_column(label), without_column(prob))}

    def _score(self, label: Tensor, prob: Tensor) -> float:
        if not bool(prob.isfinite().all()):  # a model that diverges has no score, but its training may go on
            return math.nan
        if label.dim() > 1 and label.shape == prob.shape and bool(((label == 0) | (label == 1)).all()):
            return _mean_area(list(zip((label == 1).unbind(1), prob.unbind(1), strict=True)))
        if label.dim() > 1:
            label = label.argmax(1)
        if prob.dim() > 1:
            classes = prob.shape[1]
            least, most = label.aminmax()
            if least < 0 or most >= classes or (label.is_floating_point() and bool((label != label.floor()).any())):
                found = f"{least.item()} to {most.item()}"
                raise DataError(f"metric {self.name!r}: labels must be classes 0..{classes - 1}, got {found}")
            columns = [(label == number, prob[:, number]) for number in range(classes)]
        else:
            least, most = label.aminmax()
            if bool(((label != least) & (label != most)).any()):
                return math.nan
            columns = [(label == most, prob)]
        return _mean_area(columns)


def _mean_area(columns: list[tuple[Tensor, Tensor]]) -> float:
    from sklearn.metrics import roc_auc_score

    if any(bool(gold.all()) or not bool(gold.any()) for gold, _ in columns):
        return math.nan
    areas = [float(roc_auc_score(gold.numpy(), score.double().numpy())) for gold, score in columns]
    return sum(areas) / len(areas)
