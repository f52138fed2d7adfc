"""The area under the curve of precision over recall, as steps."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from .ranking import Ranking


class AveragePrecision(Ranking):
    """The mean precision over all steps of the recall, from all labels and probabilities at once.

    Of two classes it is that of class 1. It is 0 for a class that has no label.

    :param name: what the score is called
    :param average: see ``Ranking``
    """

    of_second: ClassVar[bool] = True

    def __init__(
        self, name: str = "average_precision", average: Literal["macro", "micro", "weighted"] = "macro"
    ) -> None:
        super().__init__(name, average)

    def score(self, gold: Any, prob: Any) -> float:
        if not gold.any():
            return 0.0
        from sklearn.metrics import average_precision_score

        return float(average_precision_score(gold, prob))
