"""Metrics that need all rows at once."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ...errors import DataError
from ...types import State
from .kept_rows import KeptRows
from .metric import Metric


class KeepingMetric(Metric):
    """A metric that keeps what it needs of labels, probabilities and predictions until all rows are there."""

    labels_are_classes: ClassVar[bool] = False
    """Whether labels of whole numbers are classes, which need but half the memory that they come in."""

    _kept: dict[str, KeptRows]

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        self._keep("label", label)
        if prob is not None and "prob" in self.needs:
            self._keep("prob", prob)
        if pred is not None and "pred" in self.needs:
            self._keep("pred", pred)

    def fetch(self, kind: str) -> Tensor | None:
        """Return all rows of ``label``, ``prob`` or ``pred`` on the host; None if there were none.

        :raise DataError: if only some batches had them
        """
        rows = self._kept.get(kind)
        if rows is None:
            return None
        if rows.number != self.num_rows:
            raise DataError(f"metric {self.name!r}: only some batches had {kind!r}")
        return rows.fetch()

    @property
    def num_rows(self) -> int:
        """The number of rows that are kept."""
        rows = self._kept.get("label")
        return 0 if rows is None else rows.number

    def reset(self) -> None:
        self._kept = {}

    def state_dict(self) -> dict[str, State]:
        return {kind: rows.fetch() for kind, rows in self._kept.items()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        self._kept = {kind: KeptRows([rows], self._halves(kind)) for kind, rows in state.items()}

    def _halves(self, kind: str) -> bool:
        return kind == "label" and self.labels_are_classes

    def _keep(self, kind: str, value: Tensor) -> None:
        rows = self._kept.get(kind)
        if rows is None:
            rows = self._kept[kind] = KeptRows(halve=self._halves(kind))
        elif rows.shape != value.shape[1:]:
            raise DataError(
                f"metric {self.name!r}: rows of {kind!r} have different shapes in different batches, "
                f"{tuple(rows.shape or ())} and {tuple(value.shape[1:])}"
            )
        rows.add(value)
