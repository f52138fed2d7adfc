"""The area under the ROC curve."""

from __future__ import annotations

import math
from typing import Any, Literal

from .ranking import Ranking


class RocAuc(Ranking):
    """The area under the ROC curve, from all labels and probabilities at once.

    It is nan if a class has no label or all of them; the weighted mean leaves out those without a label.

    :param name: what the score is called
    :param average: see ``Ranking``
    """

    def __init__(self, name: str = "roc_auc", average: Literal["macro", "micro", "weighted"] = "macro") -> None:
        super().__init__(name, average)

    def score(self, gold: Any, prob: Any) -> float:
        if gold.all() or not gold.any():
            return math.nan
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(gold, prob))
