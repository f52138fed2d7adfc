"""Where a batch was met."""

from __future__ import annotations

from typing import Any, NamedTuple

SHOWN_UIDS = 8
"""So many rows of a batch are named; a larger batch ends with an ellipsis."""


class BatchPlace(NamedTuple):
    """Where a batch was met, for messages.

    :param epoch: number of the epoch; None where that is not known
    :param stream: its stream, empty where it has none
    :param step: the training step that it is of, counted from 1; None in an evaluation
    :param number: its number in the epoch, or the pass, and stream, counted from 0; None where nobody has counted
    :param data_name: the loader that made it, empty if it has no name
    :param tasks: the tasks that it carries
    :param uids: the uids of its rows, left on their device until the place is shown; None if it has none
    """

    epoch: int | None
    stream: str
    step: int | None
    number: int | None
    data_name: str
    tasks: tuple[str, ...]
    uids: Any

    def __str__(self) -> str:
        parts = [] if self.epoch is None else [f"epoch {self.epoch}"]
        parts += [f"stream {self.stream!r}"] if self.stream else []
        parts += [] if self.step is None else [f"step {self.step}"]
        parts += [] if self.number is None else [f"batch {self.number}"]
        parts += [f"loader {self.data_name!r}"] if self.data_name else []
        parts += [f"task {', '.join(map(repr, self.tasks))}"] if self.tasks else []
        if self.uids is not None:
            uids = self.uids.tolist() if hasattr(self.uids, "tolist") else list(self.uids)
            more = ["…"] if len(uids) > SHOWN_UIDS else []
            parts += [f"uids {', '.join([*map(str, uids[:SHOWN_UIDS]), *more])}"]
        return ", ".join(parts)
