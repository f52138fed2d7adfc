"""Keep checkpoints of many moments."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, remove_checkpoint
from emloop_mtl.constants import CHECKPOINT_FOLDER
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber, State

from ..arguments import check_count, check_positive
from ..frequency import ends_nth_step
from .save_latest import SaveLatest

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop

NAME = re.compile(r"(\w+-)?(epoch|step|minute)-\d+(\.\d+)?")
"""What the tags of checkpoints look like that are kept by such hooks."""

SHORTEST = 1e-6
"""Minutes; names of checkpoints have that many digits."""


class SaveEvery(AbstractHook):
    """Save the training every n-th epoch, step or minute, each time as a checkpoint of its own.

    The checkpoints are called ``epoch-<number>``, ``step-<number>`` and ``minute-<number>``. An older one goes only
    when the new one is on disk. The end of a training is none of them unless it falls on one; ``SaveLatest`` keeps it.

    :param every: save after every n-th epoch, epoch numbers being multiples of it; the zeroth counts. By default
        every epoch, or none if ``steps`` or ``minutes`` is given
    :param steps: save after every n-th training step
    :param minutes: save every n minutes, which need not be whole, at the end of the training step or evaluated batch
        that is under way then. Time counts over all resumes of a run, and only while it trains
    :param keep: how many stay, the newest ones; by default all. With it, checkpoints of moments that a resumed
        training has yet to reach are removed too
    :param runway: save nothing before this many training steps
    :param tag: put before the names of the checkpoints, as ``<tag>-epoch-<number>``, to tell two such hooks apart
    :raise ConfigError: if the run has no output folder, or the model cannot be checkpointed

    .. code-block:: yaml

        hooks:
          - SaveEvery: {every: 5, minutes: 30, keep: 3, runway: 1000}
    """

    training_only = True
    renamed = SaveLatest.renamed

    def __init__(
        self,
        every: int | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        keep: int | None = None,
        runway: int | None = None,
        tag: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if every is None and steps is None and minutes is None:
            every = 1
        self._every = every if every is None else check_count(self.name, "every", every)
        self._steps = steps if steps is None else check_count(self.name, "steps", steps)
        self._minutes = minutes if minutes is None else check_positive(self.name, "minutes", minutes)
        if self._minutes is not None and not SHORTEST <= self._minutes < inf:
            text = f"{self.name}: minutes must be finite and at least {SHORTEST:g}, not {minutes!r}"
            raise ConfigError(text, ("minutes",))
        self._keep = keep if keep is None else check_count(self.name, "keep", keep)
        self._runway = 0 if runway is None else check_count(self.name, "runway", runway)
        if tag is not None and not re.fullmatch(r"\w+", tag):
            raise ConfigError(f"{self.name}: {tag!r} cannot be the tag: take a word", ("tag",))
        self._tag = tag
        self._prefix = "" if tag is None else f"{tag}-"
        self.keeps_state = minutes is not None
        self._seconds_before = 0.0
        self._began: float | None = None
        self._periods = 0

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check that the training can be saved, and that no other hook gives its checkpoints the same names."""
        super().register_mainloop(main_loop)
        main_loop.check_can_save()
        for other in main_loop.hooks:
            if other is self:
                break
            if isinstance(other, SaveEvery) and other._tag == self._tag:
                text = f"{self.name} and another SaveEvery before it call their checkpoints alike"
                raise ConfigError(f"{text}: give one of them another tag", ("tag",))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Start the clock."""
        self._began = monotonic()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Save after every n-th step, and when the time has come."""
        if self._minutes is not None and (batch_data.ends_step or not self.main_loop.is_training):
            self._look_at_the_clock(self._minutes)  # first: it also tells which minutes lie ahead
        if ends_nth_step(self.main_loop, batch_data, self._steps):
            self._save("step", self.main_loop.position.step)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Save after every n-th epoch."""
        if self._every is not None and epoch_id % self._every == 0:
            self._save("epoch", epoch_id)

    def after_training(self, success: bool) -> None:
        """Stop the clock; remove what a kill between writing and removing has left, if no checkpoint followed."""
        self._seconds_before, self._began = self._elapsed(), None
        is_begun = self.main_loop.position.step >= max(self._runway, 1)
        if self._keep is not None and is_begun and self.main_loop.end == "finished":
            self._remove_when_saved()

    def state_dict(self) -> dict[str, State]:
        """Return the time that the training has taken, in seconds."""
        return {"seconds": self._elapsed()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Count on from the time that the training had taken."""
        self._seconds_before, self._began = float(state["seconds"]), None
        if self._minutes is not None:
            self._periods = int(self._seconds_before / 60 / self._minutes)

    def _elapsed(self) -> float:
        return self._seconds_before + (0.0 if self._began is None else monotonic() - self._began)

    def _look_at_the_clock(self, minutes: float) -> None:
        periods = int(self._elapsed() / 60 / minutes)
        if periods > self._periods:
            self._periods = periods
            self._save("minute", self._minute)

    @property
    def _minute(self) -> str:
        """The last moment that the clock has called for, in minutes."""
        return f"{self._periods * (self._minutes or 0):.6f}".rstrip("0").rstrip(".")

    def _save(self, unit: str, number: int | str) -> None:
        if self.main_loop.position.step < self._runway:
            return
        self.main_loop.request_save(f"{self._prefix}{unit}-{number}")
        if self._keep is not None:
            self._remove_when_saved()

    def _remove_when_saved(self) -> None:
        """Have all checkpoints of this hook but the newest ones removed once the one of this moment is on disk."""
        position, folder = self.main_loop.position, self.main_loop.output_dir
        reached = {"epoch": position.epoch, "step": position.step, "minute": float(self._minute)}
        assert folder is not None
        self.main_loop.when_saved(partial(self._remove_others, Path(folder) / CHECKPOINT_FOLDER, reached), True)

    def _remove_others(self, folder: Path, reached: Mapping[str, float]) -> None:
        name = re.compile(rf"{re.escape(self._prefix)}(?P<unit>epoch|step|minute)-(?P<number>\d+(?:\.\d+)?)-\d+")
        kept = 0
        for path in list_checkpoints(folder):
            match = name.fullmatch(path.name)
            if match is None:
                continue
            # One that lies ahead was left by a training that went on from here before, perhaps to elsewhere.
            if float(match["number"]) <= reached[match["unit"]] and kept != self._keep:
                kept += 1
            else:
                remove_checkpoint(path)
