"""``emloop-mtl gridsearch`` with real processes: what fails, is killed, interrupted or finds no room, and goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.cli.folder_in_use import is_in_use
from emloop_mtl.cli.run_comparison import differences_of_runs

from .conftest import ENVIRONMENT, PROGRAM, Command, command_here
from .test_full_disk import TINY_DISK, mounting

pytestmark = pytest.mark.long

CONFIG = """
seed: 1
dataset: {class: small.Small}
model:
  class: MultiTaskModel
  name: small
  device: cpu
  optimizer: {class: adam, lr: 0.01}
  modules: {head: {class: torch.nn.Linear, in_features: 4, out_features: 1}}
  tasks:
    t: {flow: [{name: out, module: head, inputs: x}], label: y, loss: mse_loss}
hooks:
  - small.Obey
  - ComputeStats: {variables: [loss]}
  - WriteJSON
  - SaveLatest: {steps: 2}
  - SaveBest: {stream: train, variable: loss}
  - StopAfter: {epochs: 3}
"""

MODULE = '''
import os
import signal
import time
from pathlib import Path

import torch
from emloop_mtl import AbstractHook, ColumnDataset, MultiTaskDataset, TaskLoader


class Small(MultiTaskDataset):
    """5 steps in an epoch."""

    def loaders(self):
        torch.manual_seed(0)
        rows = ColumnDataset("rows", {"x": torch.randn(20, 4)}, {"y": torch.randn(20, 1)})
        return [TaskLoader(rows, {"t": "y"}, "train", name="rows", batch_size=4)]


class Obey(AbstractHook):
    """Does in step 7 what a file says that is called like the run, slow or stuck while there is such a file."""

    def __init__(self, size=0, output_dir=None, **kwargs):
        super().__init__(**kwargs)
        self._size = size
        self._name = Path(output_dir or "none").name

    def state_dict(self):
        return {"text": "x" * self._size}

    def load_state_dict(self, state):
        pass

    def requires(self):
        return ()

    def after_batch(self, stream_name, batch_data):
        wish = Path("wishes", self._name)
        if self.main_loop.is_training and self.main_loop.position.step == 7 and wish.exists():
            if wish.read_text() == "fail":
                raise RuntimeError("as wished")
            os.kill(os.getpid(), signal.SIGKILL)
        if Path("slow").exists() and self.main_loop.position.step:
            Path("reached", self._name).touch()
            time.sleep(0.05)
        if Path("stuck").exists():
            Path("reached", self._name).touch()
            time.sleep(600)
'''

PATIENCE = 400
"""Seconds that processes may take to get somewhere on a busy machine."""

FOUR = ("config.yaml", "model.optimizer.lr=[0.1, 0.2]", "seed=[1, 2]")
GRID = Path("log/small_grid")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a config of a small training."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "small.py").write_text(MODULE)
    for name in ("wishes", "reached"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(folder: Path) -> Iterator[Command]:
    """Runs the command in this process."""
    with command_here() as run:
        yield run


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Starts the installed program; what a test that fails leaves of it ends with the test."""
    pipe = subprocess.PIPE
    with ExitStack() as stack:

        def begin(*words: str) -> subprocess.Popen[str]:
            line = [str(PROGRAM), "gridsearch", *words, "--json"]
            process = subprocess.Popen(line, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
            stack.callback(process.communicate)
            stack.callback(process.terminate)
            return process

        yield begin


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Return the exit code, the runs by their names, and what was said."""
    out, said = process.communicate(timeout=PATIENCE)
    runs = json.loads(out)["runs"] if out else []
    return process.returncode, {Path(run["run"]).name: run for run in runs}, said


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it has not come so far"
        time.sleep(0.02)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def check_undisturbed(command: Command) -> None:
    """Check that the runs of the grid end as trainings that nobody has disturbed."""
    for run in sorted(path for path in GRID.iterdir() if path.is_dir()):
        config = run / "config.yaml"
        shutil.copy(config, "whole.yaml")
        (run / "gridsearch.log").unlink()
        assert command("train", "whole.yaml", "--output-dir", "whole").exit_code == 0
        assert differences_of_runs(run, Path("whole")) == []
        shutil.rmtree("whole")


def test_the_others_go_on_where_runs_fail_or_are_killed_and_a_further_call_does_the_rest(
    folder: Path, command: Command, start: Start
) -> None:
    failing, killed = "lr=0.1,seed=1", "lr=0.2,seed=2"
    Path("wishes", failing).write_text("fail")
    Path("wishes", killed).write_text("kill")
    code, runs, said = ended(start(*FOUR, "--jobs", "2"))
    assert code == 1, said
    others = runs.keys() - {failing, killed}
    assert {name: run["state"] for name, run in runs.items()} == {
        failing: "failed",
        killed: "killed",
        **dict.fromkeys(others, "finished"),
    }
    assert runs[failing]["reason"].startswith("RuntimeError: as wished")
    assert runs[killed]["reason"] == "killed by SIGKILL, as the system does when memory runs out"
    assert f"failed: {failing}: RuntimeError: as wished" in said
    assert said.splitlines()[-1].endswith("2 finished, 0 running, 2 failed, 0 left")
    assert "RuntimeError: as wished" in (GRID / failing / "gridsearch.log").read_text()
    shutil.rmtree("wishes")
    before = {name: contents(GRID / name) for name in others}
    code, runs, said = ended(start(*FOUR))
    assert code == 0, said
    assert {run["state"] for run in runs.values()} == {"finished"}
    assert {name: contents(GRID / name) for name in others} == before
    assert said.count("begun: ") == 2
    all_of_it = contents(GRID)
    code, again, said = ended(start(*FOUR))
    assert (code, again, said.count("begun: ")) == (0, runs, 0)
    assert contents(GRID) == all_of_it
    for run in runs.values():
        assert (run["epochs"], run["steps"], run["best"]["name"]) == (3, 15, "train/loss/mean")
    check_undisturbed(command)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_trainings_saved_and_a_further_call_goes_on(
    folder: Path, command: Command, start: Start, number: signal.Signals, code: int
) -> None:
    Path("slow").touch()
    words = (*FOUR, "hooks.SaveLatest.steps=null", "hooks.StopAfter.epochs=60", "--jobs", "2")
    running = start(*words)
    wait_until(lambda: len(list(Path("reached").iterdir())) == 2)
    running.send_signal(number)
    got, runs, said = ended(running)
    assert got == code, said
    assert sorted(run["state"] for run in runs.values()) == ["interrupted", "interrupted", "not begun", "not begun"]
    assert "Traceback" not in said
    told, hint = said.splitlines()[-2:]
    assert told.endswith("0 finished, 0 running, 0 failed, 4 left")
    assert hint.endswith("call the same command again to go on")
    for run in GRID.glob("lr*/"):
        assert list((run / "checkpoints").glob("latest-*")), "it was not saved"
        assert not is_in_use(run)
    Path("slow").unlink()
    got, runs, said = ended(start(*words))
    assert got == 0, said
    assert said.count("begun: ") == 4
    check_undisturbed(command)


def test_a_second_signal_ends_trainings_that_do_not_come_to_a_border(folder: Path, start: Start) -> None:
    Path("stuck").touch()
    running = start(*FOUR, "--jobs", "2")
    wait_until(lambda: len(list(Path("reached").iterdir())) == 2)
    running.send_signal(signal.SIGTERM)
    logs = list(GRID.glob("lr*/train.log"))
    wait_until(lambda: all("interrupt again to end at once" in log.read_text() for log in logs))
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    code, runs, said = ended(running)
    assert code == 143, said
    assert sorted(run["state"] for run in runs.values()) == ["interrupted", "interrupted", "not begun", "not begun"]
    assert "Traceback" not in said
    assert len(logs) == 2
    assert not any(map(is_in_use, GRID.glob("lr*/"))), "a training goes on"


def test_trainings_that_outlive_the_command_are_not_disturbed_by_a_further_one(folder: Path, start: Start) -> None:
    Path("slow").touch()
    words = (*FOUR[:2], "hooks.StopAfter.epochs=60", "--jobs", "2")
    running = start(*words)
    wait_until(lambda: len(list(Path("reached").iterdir())) == 2)
    running.kill()
    running.communicate()
    code, runs, said = ended(start(*words))
    assert code == 75, said
    assert {run["state"] for run in runs.values()} == {"in use"}
    Path("slow").unlink()
    wait_until(lambda: not any(map(is_in_use, GRID.glob("lr*/"))))
    code, runs, said = ended(start(*words))
    assert (code, said.count("begun: ")) == (0, 0), said
    assert {run["state"] for run in runs.values()} == {"finished"}


def test_a_combination_whose_training_cannot_begin_is_named_and_nothing_is_trained(folder: Path, start: Start) -> None:
    code, _, said = ended(start("config.yaml", "seed=[1, 2]", "model.modules.head.in_features=[4, 5]"))
    assert code == 2
    line = said.splitlines()[-1]
    assert line.startswith("with seed=1 model.modules.head.in_features=5: ")
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in line
    assert not Path("log").exists()


def test_a_config_that_changes_meanwhile_is_trained_no_more(folder: Path, start: Start) -> None:
    Path("slow").touch()
    running = start(*FOUR[:2])
    wait_until(lambda: len(list(Path("reached").iterdir())) == 1)
    with Path("config.yaml").open("a") as file:
        file.write("x-note: changed\n")
    Path("slow").unlink()
    code, runs, said = ended(running)
    assert code == 1, said
    assert [run["state"] for run in runs.values()] == ["finished", "not begun"]
    assert "config.yaml has changed meanwhile; undo that, and call the command again" in said


def test_a_disk_that_is_full_is_told(folder: Path) -> None:
    """A run that finds no room is named, the other goes on; and a grid that cannot be recorded leaves nothing."""
    namespace = mounting()
    if namespace is None:
        pytest.skip("nobody may mount a disk here")
    Path("disk").mkdir()
    grid = f"{PROGRAM} gridsearch config.yaml 'hooks.Obey.size=[2000000, 0]' --json --output-dir disk"
    script = f"""
        {TINY_DISK} && {grid}/first > first; echo $?
        head -c 2m /dev/zero > disk/filler 2> /dev/null; {grid}/second > second; echo $?; ls disk"""
    line = [*namespace, "sh", "-c", script, "disk"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.split() == ["1", "2", "filler", "first"], done.stderr
    large, small = sorted(json.loads(Path("first").read_text())["runs"], key=lambda run: str(run["run"]), reverse=True)
    assert (large["state"], small["state"]) == ("failed", "finished")
    assert "No space left on device" in large["reason"]
    assert done.stderr.splitlines()[-1] == "disk/second/grid.yaml: cannot be written: No space left on device"
