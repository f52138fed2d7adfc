"""Two hundred kills of both examples."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from .same_runs import what_differs
from .test_kills import SEED
from .test_signals import Processes, wait_until

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

KILLS = 100
"""Of each example."""

KILLS_OF_A_RUN = 20

EARLY = 0.3
"""Seconds; a training begins after that at the soonest, by processes that need not import anything."""

AT_THE_SAME_TIME = int(os.environ.get("KILLS_PROCESSES") or os.cpu_count() or 1)

PHASE = """
import mmap
from pathlib import Path

from emloop_mtl import AbstractHook


class Phase(AbstractHook):
    '''Keeps in a file, which outlives the process, what the training does.'''

    def requires(self):
        return ()

    def provides(self):
        return ()

    def before_training(self):
        path = Path(self.main_loop.output_dir).with_suffix(".phase")
        with path.open("w+b") as file:
            file.write(b"b")
            file.flush()
            self._phase = mmap.mmap(file.fileno(), 1)

    def before_epoch(self, epoch_id, train_streams, eval_streams):
        self._phase[0:1] = b"t" if train_streams else b"e"

    def after_batch(self, stream_name, batch_data):
        last = self.main_loop.is_training and self.main_loop.get_stream(stream_name).ends_epoch
        self._phase[0:1] = b"t" if self.main_loop.is_training and not last else b"e"

    def after_epoch(self, epoch_id, epoch_data):
        self._phase[0:1] = b"a"

    def after_training(self, success):
        self._phase[0:1] = b"s"
"""

PHASES = {
    "": "importing, building",
    "b": "importing, building",
    "t": "training",
    "e": "evaluation",
    "a": "hooks after an epoch",
    "s": "scoring at the end",
}


class Run:
    """One training that is killed several times.

    :param processes: starts them
    :param path: the folder of the run, in that of the example
    :param chance: draws the moments
    :param seconds: what the training takes that is not killed
    """

    def __init__(self, processes: Processes, path: Path, chance: random.Random, seconds: float) -> None:
        self.path = path
        self._processes = processes
        self.kills: Counter[str] = Counter()
        self.restarts = 0
        self._chance, self._seconds = chance, seconds
        self._begin()

    def _begin(self) -> None:
        self._phase.unlink(missing_ok=True)
        words = ("resume", self.path.name, "--auto", "--config", "config.yaml")
        self._process = self._processes.start(*words, said=self._said)
        self._begun = time.monotonic()
        # One life in ten ends before the training begins; the others get a part of the way.
        self._early = self._chance.random() < 0.1
        self._until = self._chance.uniform(0, EARLY if self._early else 1.5 * self._seconds / KILLS_OF_A_RUN)

    def look(self) -> bool:
        """Kill the process if it is time, and begin the next one; return whether the run has ended."""
        now = time.monotonic()
        if not self._early and not self._phase.exists():
            self._begun = now  # counted from where it goes on
        if self.kills.total() < KILLS_OF_A_RUN and now - self._begun > self._until:
            os.kill(self._process, signal.SIGKILL)
        if self._processes.is_alive(self._process):
            return False
        code = self._processes.code(self._process)
        if code != -signal.SIGKILL:
            assert code == 0, self._said.read_text()[-3000:]
            return True
        self.kills[self._where()] += 1
        checkpoints = self.path / "checkpoints"
        self.restarts += not (checkpoints.is_dir() and any(path.name[0] != "." for path in checkpoints.iterdir()))
        self._begin()
        return False

    @property
    def _said(self) -> Path:
        return self.path.with_suffix(".said")

    @property
    def _phase(self) -> Path:
        return self.path.with_suffix(".phase")

    def _where(self) -> str:
        if any((self.path / "checkpoints").glob(".tmp-*")):
            return "a save"
        return PHASES[self._phase.read_text() if self._phase.exists() else ""]


@pytest.mark.soak
@pytest.mark.parametrize("example", ["01_digits", "02_tabular"])
def test_an_example_that_is_killed_a_hundred_times_ends_as_if_it_was_not(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (EXAMPLES / example).iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phase.py").write_text(PHASE)
    config = (tmp_path / "config.yaml").read_text()
    config = config.replace("- SaveLatest", "- SaveLatest: {steps: 7}").replace(
        "hooks:\n", "hooks:\n  - phase.Phase\n", 1
    )
    (tmp_path / "config.yaml").write_text(config)
    processes = Processes(tmp_path)  # which trains once, undisturbed
    wait_until(lambda: (tmp_path / "first.phase").exists())
    began = time.monotonic()
    processes.begun()
    seconds = time.monotonic() - began
    runs: list[Run] = []
    active: list[Run] = []
    kills: Counter[str] = Counter()
    try:
        while active or kills.total() < KILLS:
            planned = kills.total() + KILLS_OF_A_RUN * len(active)
            if len(active) < AT_THE_SAME_TIME and planned < KILLS:
                chance = random.Random(f"{SEED} {example} {len(runs)}")
                active.append(Run(processes, tmp_path / f"run{len(runs)}", chance, seconds))
                runs.append(active[-1])
            for run in [run for run in active if run.look()]:
                active.remove(run)
                kills += run.kills
            time.sleep(0.002)
    finally:
        processes.end_all()
        processes.close()
    differing = {run.path.name: found for run in runs if (found := what_differs(run.path, tmp_path / "first"))}
    with capsys.disabled():
        told = f"{kills.total()} kills {dict(kills)}, {sum(run.restarts for run in runs)} restarts"
        print(f"\n{example}: {len(runs)} runs, {told}, {len(differing)} differ (KILLS_SEED={SEED})")  # noqa: T201
    assert differing == {}
