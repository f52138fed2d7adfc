"""A run whose checkpoints were checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from .checked_checkpoint import CheckedCheckpoint


@dataclass
class CheckedRun:
    """What was found in the folder of a run.

    :param run: the folder
    :param checkpoints: the newest first, as ``resume`` looks at them
    :param resume: the name of the one that ``resume`` takes
    :param leftovers: what else lies beside the checkpoints, each with what it is
    """

    run: str
    checkpoints: list[CheckedCheckpoint] = field(default_factory=list)
    resume: str | None = None
    leftovers: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether there are checkpoints and none of them is bad."""
        return bool(self.checkpoints) and all(each.fault is None for each in self.checkpoints)
