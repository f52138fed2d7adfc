"""Trains what is left of a grid."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigError
from ..utils.caught_signals import CAUGHT
from .child_order import ChildOrder
from .child_processes import ChildProcesses
from .folder_in_use import is_in_use
from .grid import LOG_SUFFIX, Grid
from .grid_checking import check_by_building
from .grid_folder import SAID_FILE, GridFolder
from .grid_run import GridRun
from .reporting import FAILURE, IN_USE, SIGNAL_BASE
from .run_folder import RunFolder
from .run_reading import read_run
from .said import why_failed

log = logging.getLogger(__name__)

STATUS_SECONDS = 30.0
"""Seconds after which a line tells how far all is, where no other line has."""

INTERRUPTED = {SIGNAL_BASE + number for number in CAUGHT} | {-number for number in CAUGHT}
"""Codes of trainings that a signal has ended; less than 0, before they had begun."""


class GridSearch:
    """Trains what is left of a grid, each combination in a process and a folder of its own.

    :param grid: what to train
    :param folder: where
    :param jobs: how many at the same time
    :param options: of each process
    :raise ConfigError: if there is a run that is none of the grid
    """

    def __init__(self, grid: Grid, folder: GridFolder, jobs: int, options: tuple[str, ...] = ()) -> None:
        self._grid, self._folder, self._jobs, self._options = grid, folder, jobs, options
        self._runs = {each.name: GridRun(str(folder.run_of(each).path), each.values) for each in grid.combinations}
        self._combinations = {each.name: each for each in grid.combinations}
        self._left = [each for each in grid.combinations if not folder.has_ended(each)]
        for each in grid.combinations:
            if each not in self._left:
                self._runs[each.name].state = "finished"
            elif folder.run_of(each).is_begun:
                self._runs[each.name].state = "not finished"
        self._told = 0.0

    @property
    def commands(self) -> dict[str, tuple[str, ...]]:
        """What is left to do: the name of a run -> what stands behind ``emloop-mtl``."""
        return {each.name: (*self._folder.words_for(each), *self._options) for each in self._left}

    def check(self) -> None:
        """Build each training that has not begun and run a batch of every loader.

        :raise ConfigError: naming the combination whose training cannot begin
        """
        new = [each for each in self._left if not self._folder.run_of(each).is_begun]
        check_by_building(self._grid.config_path, new, min(self._jobs, _cores()))

    def train(self) -> int:
        """Train what is left, and return the exit code of the command."""
        self._told = time.monotonic()
        log.info("%i trainings in %s, %s", len(self._runs), self._folder.path, self._status())
        processes = ChildProcesses(self._jobs, environment(self._jobs), self._began, self._ended)
        processes.run(self._orders(), self._tell)
        if processes.interrupted_by is not None:
            log.info("call the same command again to go on")
            return SIGNAL_BASE + processes.interrupted_by
        states = {run.state for run in self._runs.values()} - {"finished"}
        if not states:
            return 0
        return IN_USE if states == {"in use"} else FAILURE

    def results(self) -> list[GridRun]:
        """Return what has become of all trainings, in the order of the grid."""
        for run in self._runs.values():
            if Path(run.run).is_dir():
                read = read_run(Path(run.run))
                run.epochs, run.steps, run.best = read.epochs, read.steps, read.best
                run.reason = run.reason or read.fault
        return list(self._runs.values())

    def _orders(self) -> Iterator[ChildOrder]:
        """Yield what can be done, asked for one by one."""
        for name, words in self.commands.items():
            run = self._runs[name]
            if not self._grid.is_unchanged:
                log.error("%s has changed meanwhile; undo that, and call the command again", self._grid.config_path)
                return
            if is_in_use(Path(run.run)):
                run.state, run.reason = "in use", "another process trains it"
                log.error("%s: another process trains it", name)
                continue
            yield ChildOrder(name, words, self._folder.path / f"{name}{LOG_SUFFIX}")

    def _began(self, order: ChildOrder) -> None:
        self._runs[order.name].state = "running"
        log.info("begun: %s", order.name)

    def _ended(self, order: ChildOrder, code: int | OSError) -> None:
        run = self._runs[order.name]
        run.state, run.reason = _how(code, order.log)
        if code != 0 and self._has_ended(order.name):  # a signal came too late, or a library has failed on the way out
            run.state, run.reason = "finished", None
        if run.reason is None:
            log.info("%s: %s; %s", run.state, order.name, self._status())
        else:
            log.error("%s: %s: %s; %s", run.state, order.name, run.reason, self._status())
        self._told = time.monotonic()
        self._keep_said(order)

    def _has_ended(self, name: str) -> bool:
        with suppress(ConfigError):
            return self._folder.has_ended(self._combinations[name])
        return False

    def _keep_said(self, order: ChildOrder) -> None:
        """Move what a process has said into the folder of its run, if it has begun one."""
        run = Path(self._runs[order.name].run)
        with suppress(OSError):
            if RunFolder(run).is_begun:
                with order.log.open("rb") as said, (run / SAID_FILE).open("ab") as kept:
                    shutil.copyfileobj(said, kept)
                order.log.unlink()

    def _tell(self) -> None:
        if time.monotonic() - self._told >= STATUS_SECONDS:
            self._told = time.monotonic()
            log.info("%s", self._status())

    def _status(self) -> str:
        states = [run.state for run in self._runs.values()]
        counts = {name: states.count(name) for name in ("finished", "running")}
        counts["left"] = sum(map(states.count, ("not begun", "not finished", "interrupted")))
        failed = len(states) - sum(counts.values())
        return f"{counts['finished']} finished, {counts['running']} running, {failed} failed, {counts['left']} left"


def environment(jobs: int) -> dict[str, str]:
    """Return the variables for processes of which some run at a time, with the cores shared out between them.

    Each would take all cores for its sums otherwise, and they would slow each other down.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, _cores() // jobs))} if jobs > 1 else {}
    return {**threads, **os.environ}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _how(code: int | OSError, said: Path) -> tuple[str, str | None]:
    """Return the state of a run whose process has ended, and the reason."""
    if isinstance(code, OSError):
        return "failed", f"cannot be begun: {code.strerror or code}"
    if code == 0:
        return "finished", None
    if code in INTERRUPTED:
        state = "interrupted"
    elif code < 0:
        state = "killed"
    else:
        state = "in use" if code == IN_USE else "failed"
    return state, why_failed(code, said)
