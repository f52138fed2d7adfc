"""Trainings that are killed and resumed."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import ConfigError, EmloopError
from .disturbed_run import DisturbedRun
from .reporting import MISTAKE
from .run_comparison import differences_of_runs, end_of
from .said import last_line
from .training_server import TrainingServer

UNDISTURBED, AGAIN = "undisturbed", "again"
"""The folders of the two runs that nobody disturbs."""


class ResumeTrials:
    """Kills and resumes trainings, and compares their ends with that of an undisturbed one.

    :param config_path: what is trained
    :param overrides: ``key.sub=value`` each
    :param folder: where the runs lie
    :param servers: two; they take turns, so that a training is resumed by a process as unlike the one that has begun
        it as processes are that were started one by one
    :param times: how often each training is killed
    :param natural: save nothing but what the hooks of the config save
    :param keep: keep the runs that were compared
    """

    def __init__(
        self,
        config_path: Path,
        overrides: Sequence[str],
        folder: Path,
        servers: Sequence[TrainingServer],
        times: int,
        natural: bool = False,
        keep: bool = False,
    ) -> None:
        self._order: dict[str, Any] = {"config": str(config_path), "overrides": list(overrides)}
        self._folder, self._times, self._natural, self._keep = folder, times, natural, keep
        self._servers = servers

    def train_undisturbed(self) -> int:
        """Train twice without a kill and return how many steps that took."""
        runs = [self._folder / name for name in (UNDISTURBED, AGAIN)]
        orders = [self._ordered(run) for run in runs]
        pool = ThreadPoolExecutor(2)
        codes = list(pool.map(lambda server, order: server.train(order), self._servers, orders))
        pool.shutdown(wait=False)
        for run, code in zip(runs, codes, strict=True):
            if code != 0:
                text = f"the training fails without a kill: {last_line(_log_of(run))}"
                raise ConfigError(text) if code == MISTAKE else EmloopError(text)
        return end_of(self._folder / UNDISTURBED)

    def disturb(self, step: int) -> DisturbedRun:
        """Kill a training, first at ``step``, resume it until it ends, and compare its end."""
        run = self._folder / f"step-{step}"
        kills = 0
        for number, kill in enumerate([*self._kills(step), {}]):
            code = self._servers[number % len(self._servers)].train(self._ordered(run, resume=number > 0, **kill))
            if code == -signal.SIGKILL and kill:
                kills += 1
            elif code != 0:
                what = "resuming" if number else "training"
                return DisturbedRun(step, kills, [f"{what} fails with code {code}: {last_line(_log_of(run))}"])
            else:
                break
        found = self._compare(run)
        if not self._keep:
            shutil.rmtree(run)
        return DisturbedRun(step, kills, found)

    def compare_undisturbed(self) -> list[str]:
        """Return in which parts the two undisturbed trainings end differently."""
        return self._compare(self._folder / AGAIN)

    def _compare(self, run: Path) -> list[str]:
        return differences_of_runs(run, self._folder / UNDISTURBED)

    def _kills(self, step: int) -> Iterator[Mapping[str, Any]]:
        """Yield when each process is killed: the first at the step, the next just after, where nothing is saved yet."""
        for number in range(self._times):
            at = "done" if self._natural else "saved"
            yield {"step": step + number // 2, "moment": "next" if number % 2 else at}

    def _ordered(
        self, run: Path, resume: bool = False, step: int | None = None, moment: str = "saved"
    ) -> dict[str, Any]:
        more = {"working_folder": str(Path.cwd()), "resume": resume, "step": step, "moment": moment}
        return {**self._order, "run_dir": str(run), "log": str(_log_of(run)), **more}


def _log_of(run: Path) -> Path:
    """Return what has the output of the last process that trained in a run: beside it, since it may not begin."""
    return run.with_name(f"{run.name}.txt")
