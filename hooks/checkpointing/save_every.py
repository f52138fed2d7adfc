"""Keep checkpoints of many epochs."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, remove_checkpoint
from emloop_mtl.constants import CHECKPOINT_FOLDER
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber

from ..arguments import check_count
from ..frequency import ends_nth_step
from .save_latest import SaveLatest

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


class SaveEvery(AbstractHook):
    """Save the training every n-th epoch, each time as a checkpoint of its own.

    The checkpoints are called ``epoch-<number>`` and ``step-<number>``. An older one goes only when the new one is
    on disk. The end of a training is none of them unless it falls on one; ``SaveLatest`` keeps it.

    :param every: save after every n-th epoch, epoch numbers being multiples of it; the zeroth counts. By default
        every epoch, or none if ``steps`` is given
    :param steps: save after every n-th training step
    :param keep: how many stay, the newest ones; by default all. With it, checkpoints of epochs and steps that a
        resumed training has yet to reach are removed too
    :param runway: save nothing before this many training steps
    :param tag: put before the names of the checkpoints, as ``<tag>-epoch-<number>``, to tell two such hooks apart
    :raise ConfigError: if the run has no output folder, or the model cannot be checkpointed

    .. code-block:: yaml

        hooks:
          - SaveEvery: {every: 5, keep: 3, runway: 1000}
    """

    training_only = True
    renamed = SaveLatest.renamed

    def __init__(
        self,
        every: int | None = None,
        steps: int | None = None,
        keep: int | None = None,
        runway: int | None = None,
        tag: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if every is None and steps is None:
            every = 1
        self._every = every if every is None else check_count(self.name, "every", every)
        self._steps = steps if steps is None else check_count(self.name, "steps", steps)
        self._keep = keep if keep is None else check_count(self.name, "keep", keep)
        self._runway = 0 if runway is None else check_count(self.name, "runway", runway)
        if tag is not None and not re.fullmatch(r"\w+", tag):
            raise ConfigError(f"{self.name}: {tag!r} cannot be the tag: take a word", ("tag",))
        self._tag = tag
        self._prefix = "" if tag is None else f"{tag}-"

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

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Save after every n-th step."""
        if ends_nth_step(self.main_loop, batch_data, self._steps):
            self._save("step", self.main_loop.position.step)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Save after every n-th epoch."""
        if self._every is not None and epoch_id % self._every == 0:
            self._save("epoch", epoch_id)

    def after_training(self, success: bool) -> None:
        """Remove what a kill between writing a checkpoint and removing others has left, if no other followed."""
        is_begun = self.main_loop.position.step >= max(self._runway, 1)
        if self._keep is not None and is_begun and self.main_loop.end == "finished":
            self.main_loop.when_saved(self._remove_others)

    def _save(self, unit: str, number: int) -> None:
        if self.main_loop.position.step < self._runway:
            return
        self.main_loop.request_save(f"{self._prefix}{unit}-{number}")
        if self._keep is not None:
            self.main_loop.when_saved(self._remove_others)

    def _remove_others(self) -> None:
        """Remove all checkpoints of this hook but the newest ones."""
        assert self.main_loop.output_dir is not None
        reached = {"epoch": self.main_loop.position.epoch, "step": self.main_loop.position.step}
        name = re.compile(rf"{re.escape(self._prefix)}(?P<unit>epoch|step)-(?P<number>\d+)-\d+")
        kept = 0
        for path in list_checkpoints(Path(self.main_loop.output_dir) / CHECKPOINT_FOLDER):
            match = name.fullmatch(path.name)
            if match is None:
                continue
            # One that lies ahead was left by a training that went on from here before, perhaps to elsewhere.
            if int(match["number"]) <= reached[match["unit"]] and kept != self._keep:
                kept += 1
            else:
                remove_checkpoint(path)
