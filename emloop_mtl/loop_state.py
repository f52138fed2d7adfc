"""What a checkpoint says of the main loop."""

from __future__ import annotations

from typing import Any, NamedTuple

from .errors import CheckpointError
from .types import State
from .utils.shown import shown

EPOCH = {"train_streams", "eval_streams", "streams_done"}


class LoopState(NamedTuple):
    """Where the main loop stands, beside its position.

    :param zeroth_done: whether the zeroth epoch was finished
    :param epoch: the epoch under way: its streams, and how many of them are done; None between two epochs
    :param total_steps: how long the run was to be, None where that was not known
    """

    zeroth_done: bool
    epoch: dict[str, Any] | None
    total_steps: int | None

    @classmethod
    def of_state(cls, state: State) -> LoopState:
        """Return what a checkpoint says.

        :raise CheckpointError: if it is nothing that a main loop has written
        """
        if type(state) is not dict or state.keys() != set(cls._fields):
            raise CheckpointError(f"the main loop has written no {shown(state)}")
        read = cls(**state)
        for name, is_right in (
            ("zeroth_done", type(read.zeroth_done) is bool),
            ("total_steps", read.total_steps is None or (type(read.total_steps) is int and read.total_steps >= 0)),
            ("epoch", read.epoch is None or _is_epoch(read.epoch)),
        ):
            if not is_right:
                raise CheckpointError(f"the main loop has written no {name} of {shown(state[name])}")
        return read._replace(epoch=None if read.epoch is None else dict(read.epoch))


def _is_epoch(epoch: State) -> bool:
    if type(epoch) is not dict or epoch.keys() != EPOCH:
        return False
    streams = [epoch["train_streams"], epoch["eval_streams"]]
    if not all(type(names) is list and all(type(name) is str for name in names) for names in streams):
        return False
    return type(epoch["streams_done"]) is int and 0 <= epoch["streams_done"] <= sum(map(len, streams))
