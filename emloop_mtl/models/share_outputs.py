"""What a backbone and heads return where heads see some rows of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..data.share import Share
from ..tasks.flow_outputs import FlowOutputs
from ..tasks.select_rows import spread_rows
from .head_task import LOSS


class ShareOutputs(FlowOutputs):
    """Outputs of heads, some of which have been run on their shares of a batch.

    What such a head has returned is spread over all rows when somebody asks for it, which a loss need not.

    :param slots: name -> place among the values
    :param values: what was returned, each for the rows that it was run on
    :param shares: head -> the rows that it was run on, of those that were not run on all
    :param size: how many rows the batch has
    """

    __slots__ = ("_shares", "_size", "_spread")

    def __init__(self, slots: Mapping[str, int], values: list[Any], shares: Mapping[str, Share], size: int) -> None:
        super().__init__(slots, values)
        self._shares = shares
        self._size = size
        self._spread: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        told = super().__getitem__(name)
        share = self._shares.get(name)
        if share is None:
            return told
        if name not in self._spread:
            self._spread[name] = self._over_all_rows(told, share)
        return self._spread[name]

    def own(self, name: str) -> Any:
        """Return what a head has returned for the rows that it was run on."""
        return super().__getitem__(name)

    def _over_all_rows(self, told: Any, share: Share) -> Any:
        if not isinstance(told, Mapping):
            return spread_rows(told, share.rows, self._size)
        return {
            key: value if key == LOSS else spread_rows(value, share.rows, self._size) for key, value in told.items()
        }
