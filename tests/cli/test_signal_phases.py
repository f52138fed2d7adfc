"""A signal in each phase of a run: how it ends, and that it goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.main_loop import WAIT

from .conftest import Command, command_here
from .same_runs import what_differs
from .test_kills import CONFIGS

pytestmark = pytest.mark.long

HERE = Path(__file__).parent

SEND = """
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import little
from emloop_mtl import AbstractHook, Batch, TaskLoader

COUNTS = Counter()


def reach(moment):
    '''Do once what the file "wish" says, when a moment is there for the n-th time: send signals, then wait.'''
    path = Path("wish")
    if not path.exists():
        return
    wish = json.loads(path.read_text())
    COUNTS[moment] += 1
    if [moment, COUNTS[moment]] == wish["at"]:
        COUNTS.clear()
        path.unlink()
        for number in wish["numbers"]:
            os.kill(wish["process"], number)
        time.sleep(wish["seconds"])


class Send(AbstractHook):
    def requires(self):
        return ()

    def provides(self):
        return ()

    def before_training(self):
        reach("before_training")

    def before_epoch(self, epoch_id, train_streams, eval_streams):
        reach("before_epoch")

    def after_batch(self, stream_name, batch_data):
        reach("trained" if self.main_loop.is_training else stream_name)

    def after_epoch(self, epoch_id, epoch_data):
        reach("after_epoch")

    def after_training(self, success):
        reach("after_training")

    def state_dict(self):
        reach("saving")
        return {}

    def load_state_dict(self, state):
        pass


class Rows(little.Augmented):
    def __getitem__(self, row):
        reach(f"reading {self.name}")
        return super().__getitem__(row)


class Slow(little.Rows):
    def __init__(self, **settings):
        reach("building")
        super().__init__(**settings)

    def loaders(self):
        for loader in super().loaders():
            task, split = loader.name, loader.split
            workers = loader.num_workers
            yield TaskLoader(Rows(task, split), loader.tasks, split=split, batch_size=4, num_workers=workers)


class Halves(little.Plain):
    '''Generators whose steps have two batches.'''

    def _stream(self, split):
        for number, batch in enumerate(super()._stream(split)):
            if number % 2:
                reach("second half")
            yield Batch(batch, ends_step=number % 2 == 1 or number == 8)
"""

FOR_EVER = 3600


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Trains, once for each, what is not disturbed: batches in turns, read by a worker, and steps of two batches."""
    folders: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in folders:
            folder = folders[kind] = tmp_path_factory.mktemp(kind)
            data = json.loads(json.dumps(CONFIGS["augmented"]))
            data["dataset"] = {"class": "send.Halves" if kind == "halves" else "send.Slow"}
            if kind == "worker":
                data["dataset"]["num_workers"] = 1
            data["main_loop"] = {}
            data["hooks"].insert(-2, "send.Send")
            data["eval"] = {name: {"hooks": ["ScoreTasks", "send.Send"]} for name in ("valid", "test")}
            (folder / "config.yaml").write_text(json.dumps(data))
            (folder / "send.py").write_text(SEND)
            shutil.copy(HERE / "little.py", folder)
            before = Path.cwd()
            os.chdir(folder)
            with command_here() as run:
                done = run("train", "config.yaml", "--output-dir", "whole")
            os.chdir(before)
            forget()
            assert done.exit_code == 0, done.stderr
        return folders[kind]

    return make


def forget() -> None:
    for name in ("send", "little"):
        sys.modules.pop(name, None)


@pytest.fixture
def interrupted(
    wholes: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> Iterator[Callable[..., Any]]:
    """Trains until a signal, and tells how that ended."""

    def train(kind: str, moment: str, count: int, *numbers: int, seconds: float = 0) -> Any:
        shutil.copytree(wholes(kind), tmp_path, dirs_exist_ok=True)
        wish = {"at": [moment, count], "numbers": numbers, "seconds": seconds, "process": os.getpid()}
        (tmp_path / "wish").write_text(json.dumps(wish))
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        done = command("train", "config.yaml", "--output-dir", "run")
        assert not (tmp_path / "wish").exists(), done.stderr
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
        assert "Traceback" not in done.stderr
        return done

    yield train
    forget()


def resume(command: Command) -> None:
    done = command("resume", "run")
    assert done.exit_code == 0, done.stderr
    assert what_differs(Path("run"), Path("whole")) == []
    done = command("resume", "run")
    assert (done.exit_code, "nothing is left to do" in done.stderr) == (0, True)


SAVED = "go on with:  emloop-mtl resume run"


@pytest.mark.parametrize(
    ("moment", "count", "number"),
    [
        pytest.param("trained", 4, signal.SIGTERM, id="training"),
        pytest.param("train", 3, signal.SIGINT, id="zeroth epoch, the train stream"),
        pytest.param("valid", 2, signal.SIGTERM, id="zeroth epoch, another stream"),
        pytest.param("test", 13, signal.SIGTERM, id="evaluation in an epoch"),
        pytest.param("before_epoch", 2, signal.SIGTERM, id="before an epoch"),
        pytest.param("after_epoch", 1, signal.SIGTERM, id="after the zeroth epoch"),
        pytest.param("after_epoch", 2, signal.SIGINT, id="after an epoch"),
        pytest.param("saving", 5, signal.SIGTERM, id="saving"),
    ],
)
def test_a_run_is_saved_at_the_next_border_and_goes_on(
    moment: str, count: int, number: signal.Signals, interrupted: Callable[..., Any], command: Command
) -> None:
    done = interrupted("turns", moment, count, number)
    assert (done.exit_code, SAVED in done.stderr) == (128 + number, True), done.stderr
    resume(command)


@pytest.mark.parametrize("moment", ["building", "before_training"])
def test_before_the_first_batch_nothing_is_left(moment: str, interrupted: Callable[..., Any], tmp_path: Path) -> None:
    done = interrupted("turns", moment, 1, signal.SIGTERM)
    assert (done.exit_code, SAVED in done.stderr) == (143, False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("moment", "count", "number"),
    [("valid", 28, signal.SIGINT), ("test", 30, signal.SIGTERM), ("after_training", 1, signal.SIGTERM)],
)
def test_what_is_left_of_the_evaluation_at_the_end_is_done_on_resume(
    moment: str, count: int, number: signal.Signals, interrupted: Callable[..., Any], command: Command
) -> None:
    # Three epochs of 9 batches are evaluated before.
    done = interrupted("turns", moment, count, number)
    assert done.exit_code == 128 + number, done.stderr
    assert "not all is scored; go on with:  emloop-mtl resume run" in done.stderr
    scored = Path("run/scores.json")
    assert (list(json.loads(scored.read_text())["scores"]) if scored.exists() else []) == (
        ["valid"] * (moment == "test")
    )
    resume(command)


@pytest.mark.parametrize("numbers", [[signal.SIGTERM] * 3, [signal.SIGHUP, signal.SIGTERM]])
def test_a_second_signal_that_is_no_sigint_changes_nothing(
    numbers: list[signal.Signals], interrupted: Callable[..., Any], command: Command
) -> None:
    done = interrupted("turns", "trained", 3, *numbers)
    assert (done.exit_code, SAVED in done.stderr) == (128 + numbers[0], True)
    resume(command)


@pytest.mark.parametrize(("moment", "count"), [("trained", 6), ("saving", 6), ("test", 12)])
def test_a_second_sigint_leaves_the_last_checkpoint_whole(
    moment: str, count: int, interrupted: Callable[..., Any], command: Command
) -> None:
    done = interrupted("turns", moment, count, signal.SIGINT, signal.SIGINT)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (130, "interrupted")
    assert SAVED in done.stderr
    resume(command)


@pytest.mark.parametrize("kind", ["turns", "worker"])
def test_a_run_whose_data_does_not_come_is_saved_all_the_same(
    kind: str, interrupted: Callable[..., Any], command: Command
) -> None:
    began = time.monotonic()
    # Row 5 of the first epoch: 60 rows of this table were read before. The worker has counted on from 40, since it did
    # not read the 20 of the zeroth epoch.
    done = interrupted(kind, "reading one", 65 if kind == "turns" else 45, signal.SIGTERM, seconds=FOR_EVER)
    assert (done.exit_code, SAVED in done.stderr) == (143, True), done.stderr
    assert time.monotonic() - began >= WAIT
    resume(command)


def test_a_step_that_does_not_get_its_last_batch_is_not_saved(
    interrupted: Callable[..., Any], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emloop_mtl.main_loop.WAIT_IN_STEP", 0.5)
    done = interrupted("halves", "second half", 15, signal.SIGTERM, seconds=FOR_EVER)
    assert done.exit_code == 143
    assert "no batch has come in the middle of a step" in done.stderr
    assert SAVED in done.stderr
    resume(command)


def test_an_evaluation_ends_as_well(interrupted: Callable[..., Any], command: Command) -> None:
    interrupted("turns", "trained", 3, signal.SIGTERM)
    for number, words in ((signal.SIGTERM, ("eval", "valid", "run")), (signal.SIGHUP, ("predict", "test", "run"))):
        wish = {"at": ["reading one", 3], "numbers": [number], "seconds": 0, "process": os.getpid()}
        Path("wish").write_text(json.dumps(wish))
        done = command(*words)
        assert done.exit_code == 128 + number, done.stderr
        assert not Path("wish").exists()
        assert "Traceback" not in done.stderr
