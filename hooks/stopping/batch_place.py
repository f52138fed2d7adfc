"""Where a batch was met."""

from __future__ import annotations

from typing import Any, NamedTuple

SHOWN_UIDS = 8
"""So many rows of a batch are named; a larger batch ends with an ellipsis."""


class BatchPlace(NamedTuple):
    """Where a batch was met, for messages.

    :param epoch: number of the epoch
    :param stream: its stream
    :param step: the training step that it is of, counted from 1; None in an evaluation
    :param number: its number in the epoch and stream, counted from 0
    :param data_name: the loader that made it, empty if it has no name
    :param tasks: the tasks that it carries
    :param uids: the uids of its rows, left on their device until the place is shown; None if it has none
    """

    epoch: int
    stream: str
    step: int | None
    number: int
    data_name: str
    tasks: tuple[str, ...]
    uids: Any

    def __str__(self) -> str:
        parts = [f"epoch {self.epoch}", f"stream {self.stream!r}"]
        parts += [] if self.step is None else [f"step {self.step}"]
        parts += [f"batch {self.number}"]
        parts += [f"loader {self.data_name!r}"] if self.data_name else []
        parts += [f"task {', '.join(map(repr, self.tasks))}"] if self.tasks else []
        if self.uids is not None:
            uids = self.uids.tolist() if hasattr(self.uids, "tolist") else list(self.uids)
            more = ["…"] if len(uids) > SHOWN_UIDS else []
            parts += [f"uids {', '.join([*map(str, uids[:SHOWN_UIDS]), *more])}"]
        return ", ".join(parts)
