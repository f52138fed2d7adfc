"""The moment of saving: hooks ask for checkpoints, the main loop writes them at the next border."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

from .checkpoint import take_snapshot, write_checkpoint
from .constants import CHECKPOINT_FOLDER
from .errors import ConfigError
from .models.abstract_model import AbstractModel
from .snapshot import SLACK
from .types import Position, State
from .utils.background import Background
from .utils.disk_room import lack_of_room
from .utils.host_memory import HostMemory

log = logging.getLogger(__name__)

Act = Callable[[], None]

Exchange = Callable[[dict[str, State]], dict[str, State]]
"""Gets weights by name and returns those to save."""


class Saver:
    """Keeps the tags that checkpoints were asked for under until they are written together.

    An asynchronous one only copies the state when it is told to write, and writes in a thread, one checkpoint after
    the other. What waits for that is done, and what went wrong is told, when it is told to write again or to finish.

    :param output_dir: folder of the run, None if it has none
    :param model: whose weights are saved
    :param asynchronous: whether checkpoints are written in a thread
    """

    def __init__(self, output_dir: str | None, model: AbstractModel, asynchronous: bool = False) -> None:
        self._output_dir = output_dir
        self._model = model
        self._memory = HostMemory() if asynchronous else None
        self._exchanges: list[Exchange] = []
        self._asked: dict[str, None] = {}
        self._then: list[_Then] = []
        self._written: dict[str, object] = {}
        self._is_expected = False
        self._first: list[Act] | None = None
        """What has to be done before the checkpoint whose state is being made, if a thread writes it."""
        self._job: Background | None = None
        self._after_job: list[Act] = []
        self.is_asked = False
        """Whether there is anything to write, to do when that is written, or to tell of what a thread has written."""

    @property
    def can_save(self) -> bool:
        """Whether checkpoints can be written at all."""
        return self._output_dir is not None and self._model.can_be_checkpointed

    def check(self) -> None:
        """Check that checkpoints can be written, for one who will ask for them.

        :raise ConfigError: if the run has no folder, or the model cannot be checkpointed
        """
        if self._output_dir is None:
            raise ConfigError("checkpoints need a folder: give the main loop an output_dir")
        if not self._model.can_be_checkpointed:
            raise ConfigError(f"checkpoints need 'state_dict' and 'load_state_dict' of {type(self._model).__name__}")
        self._is_expected = True

    def check_room(self, more: int) -> None:
        """Check, if anybody will ask for checkpoints, that the disk has room for one.

        :param more: bytes that it takes beside those of the model
        :raise ConfigError: if it has not
        """
        if self._is_expected and self._output_dir is not None:
            lack = lack_of_room(self._output_dir, self._model.checkpoint_bytes() + more + SLACK)
            if lack is not None:
                raise ConfigError(f"no room in '{self._output_dir}': a checkpoint will take about {lack}")

    def exchange_weights(self, exchange: Exchange) -> None:
        """Have what ``exchange`` returns saved in the place of the model's weights."""
        self._exchanges.append(exchange)

    def ask(self, tag: str) -> None:
        """Ask for a checkpoint that is kept as ``tag``."""
        self.check()
        self._asked[tag] = None
        self.is_asked = True

    def when_written(self, act: Act, in_thread: bool = False) -> None:
        """Have ``act`` called once what was asked for is written, even if that is nothing.

        :param in_thread: call it in the thread that has written it, if there is one
        """
        self._then.append(_Then(act, in_thread))
        self.is_asked = True

    def before_written(self, act: Act) -> None:
        """Have ``act`` called before the checkpoint whose state is being made is written, in the thread that does.

        Without a thread, and at any other time, it is called at once.
        """
        if self._first is None:
            act()
        else:
            self._first.append(act)

    def go_back(self) -> None:
        """Take no tag for written any more: the training goes on from another moment."""
        self._written.clear()

    def forget(self) -> None:
        """Forget what was asked for."""
        self._asked.clear()
        self._then.clear()
        self.is_asked = False

    def write(self, stamp: object, state: Callable[[], dict[str, State]], position: Position, finished: bool) -> None:
        """Write what was asked for, but for tags under which this very moment is kept already; then do what waits.

        :param stamp: tells this moment from all others
        :param state: makes the state of everything but the weights
        :param position: where the training stands
        :param finished: whether the training has ended regularly
        :raise CheckpointError: if the checkpoint, or the one before, cannot be written
        """
        self.is_asked = False  # before looking at the thread, which sets it once it has ended
        if self._job is not None and self._job.has_ended:
            self.finish()
        tags = [tag for tag in self._asked if self._written.get(tag) != stamp]
        then, self._then = self._then, []
        self._asked.clear()
        if tags:
            self.finish()
            assert self._output_dir is not None
            folder = Path(self._output_dir) / CHECKPOINT_FOLDER
            first: list[Act] | None = None if self._memory is None else []
            self._first = first
            try:
                weights = self._model.state_dict()
                for exchange in self._exchanges:
                    weights = exchange(weights)
                snapshot = take_snapshot(folder, weights, state(), self._memory)
            except BaseException:
                with suppress(Exception):
                    _do_all(first or [])
                raise
            finally:
                self._first = None
            write = partial(write_checkpoint, folder, tags, snapshot, position, finished)
            if first is None:
                write()
            else:
                self._start(first, write, then)
                then = []
            self._written.update(dict.fromkeys(tags, stamp))
        if self._job is not None:
            self._after_job += [each.act for each in then]
            return
        for each in then:
            each.act()

    def finish(self) -> None:
        """Wait until the checkpoint that a thread is writing is on disk, then do what waits for that.

        :raise CheckpointError: if it cannot be written
        """
        if self._job is None:
            return
        self._job.wait()
        job, self._job = self._job, None
        acts, self._after_job = self._after_job, []
        if job.error is not None:
            self._written.clear()
            raise job.error
        if self._memory is not None:
            self._memory.reuse()
        for act in acts:
            act()

    def close(self, at_once: bool) -> None:
        """Forget all that waits, and let a thread end, whose error is logged only: something else ends the training.

        :param at_once: have it break off
        """
        self.forget()
        job, self._job, self._after_job = self._job, None, []
        if self._memory is not None:
            self._memory = HostMemory()
        if job is None:
            return
        if at_once:
            job.stop()
        try:
            job.wait()
        except BaseException:  # an interrupt: nobody waits for it any longer
            job.stop()
            self._written.clear()
            raise
        if job.error is not None:
            self._written.clear()
            if not at_once:
                log.error("%s", job.error)

    def _start(self, first: list[Act], write: Callable[..., object], then: list[_Then]) -> None:
        in_thread = [each.act for each in then if each.in_thread]

        def work(stop: Event) -> None:
            _do_all(first)
            write(stop=stop)
            for act in in_thread:
                act()

        self._after_job = [each.act for each in then if not each.in_thread]
        self._job = Background(work, self._wake)

    def _wake(self) -> None:
        self.is_asked = True


class _Then(NamedTuple):
    """What is done once a checkpoint is written."""

    act: Act
    in_thread: bool


def _do_all(acts: list[Act]) -> None:
    """Do each, even if one before fails, since it may hold a file open; an error is raised in the end."""
    with ExitStack() as stack:
        for act in reversed(acts):
            stack.callback(act)
