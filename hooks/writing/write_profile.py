"""Write down where the time of every epoch goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from emloop_mtl.constants import PROFILE_FILE
from emloop_mtl.errors import CheckpointError
from emloop_mtl.types import EpochData, Position, State, TimeProfile

from ..words import OnFailure
from .abstract_file_writer import AbstractFileWriter


class WriteProfile(AbstractFileWriter):
    """Write one JSON object per line and epoch: ``epoch``, ``step``, ``samples`` and seconds by what they went to.

    ``reading/<stream>`` is the wait for batches, ``model/<stream>`` the time of the model, ``hooks`` that of all hooks
    together, and ``saving`` that of checkpoints since the times of the epoch before were taken: the one at the end of
    an epoch counts in the next. On a device that works on its own the model's time is that of handing it the work.
    ``emloop-mtl plot`` draws these times. A training that is resumed goes on after the last line of its checkpoint; of
    the epoch that it was in, there are the times after that.

    :param path: the file, in the output folder
    :param on_failure: what happens when a line cannot be written in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on without that line
    :raise ConfigError: if the file cannot be written, or holds another training

    .. code-block:: yaml

        hooks:
          - WriteProfile
    """

    reads_numbers = False

    def __init__(self, path: str = PROFILE_FILE, on_failure: OnFailure = "error", **kwargs: Any) -> None:
        super().__init__(path, on_failure=on_failure, **kwargs)
        self._lines: int | None = None
        """How many lines there are, None if there was no training yet. Not bytes: each time has as many digits as it
        has, and a state must not depend on the clock."""

    def open(self) -> None:
        """Open the file and cut what comes after the lines of the checkpoint."""
        self._end = None if self._lines is None else self._end_of(self._lines)
        super().open()
        self._lines = self._lines or 0

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Do nothing: the times are told later."""

    def after_epoch_profile(self, epoch_id: int, profile: TimeProfile, streams: list[str]) -> None:
        """Write the times of the epoch."""
        seconds = {
            f"{part}/{stream}": sum(profile.get(f"{activity}_{stream}", ()))
            for stream in streams
            for part, activity in (("reading", "read_batch"), ("model", "eval_batch"))
        }
        hooks = sum(sum(profile.get(f"after_batch_hooks_{stream}", ())) for stream in streams)
        seconds["hooks"] = hooks + sum(profile.get("after_epoch_hooks", ())) + self.main_loop.hooks.times.before_epoch
        seconds["saving"] = sum(profile.get("saving", ()))
        with self.guarded():
            self.write(self.main_loop.position, seconds)
            self.tell_that_it_works()

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Append a line."""
        assert self._lines is not None
        record = {"epoch": position.epoch, "step": position.step, "samples": position.samples, **numbers}
        self.append(json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n")
        self._lines += 1

    def state_dict(self) -> dict[str, State]:
        """Return how many lines there are."""
        state = super().state_dict()
        del state["end"]
        return state | {"lines": self._lines}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on after the last line of the checkpoint."""
        super().load_state_dict({**state, "end": None})  # it is looked for when the file is opened
        self._lines = state["lines"]

    def _end_of(self, lines: int) -> int:
        """Return where a number of lines ends.

        :raise CheckpointError: if there are fewer
        """
        if not lines:
            return 0
        with self.path.open("rb") as file:
            found = [line for line in islice(file, lines) if line.endswith(b"\n")]
        if len(found) < lines:
            raise CheckpointError(
                f"{self.name}: {self.path} has {len(found)} lines, but had {lines} when the checkpoint was written: "
                "it has been cut or removed; put it back to resume"
            )
        return sum(map(len, found))
