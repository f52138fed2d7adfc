"""What metrics that correlate labels and predicted values have in common."""

from __future__ import annotations

from typing import ClassVar

from .metric import Metric


class Correlation(Metric):
    """A correlation of labels and predicted values, one of each per row, and on request its p-value.

    :param name: what the score is called
    :param return_pvalue: report the p-value, too, under the name with ``pvalue`` in place of ``correlation``
    """

    needs: frozenset[str] = frozenset({"prob"})
    compares_numbers: ClassVar[bool] = True

    def __init__(self, name: str, return_pvalue: bool = False) -> None:
        self.return_pvalue = return_pvalue
        super().__init__(name)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, f"{self.name.removesuffix('_correlation')}_pvalue") if self.return_pvalue else (self.name,)
