"""A run that is killed at any moment and resumed ends like one that was not: tensors, scores and log records."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.config.create import create_training
from emloop_mtl.config.load import load_config

from .conftest import ENVIRONMENT, PROGRAM, Command, Program

EXCEPTED = {"seconds", "TrainingTrace", "WriteTensorBoard"}
"""What hooks remember of the clock, and the names of event files: every process begins one of its own."""

SNAPSHOT = """
from emloop_mtl import AbstractHook

class SaveAlways(AbstractHook):
    '''Keep a checkpoint of every batch and every epoch.'''

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._count = 0

    def requires(self):
        return ()

    def provides(self):
        return ()

    def save(self):
        self._count += 1
        self.main_loop.request_save(f"at-{self._count:02d}")

    def after_batch(self, stream_name, batch_data):
        self.save()

    def after_epoch(self, epoch_id, epoch_data):
        self.save()
"""


def differences(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Yield the places in which two states differ, bit for bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first.view(-1), second.view(-1)):
            yield where
    elif isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second} - EXCEPTED, key=str):
            yield from differences(first.get(key), second.get(key), f"{where}/{key}")
    elif isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)) and len(first) == len(second):
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif first != second:
        yield f"{where}: {first!r} and {second!r}"


def state(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"weights": checkpoint.weights, "position": checkpoint.position, **checkpoint.state}


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def assert_same_end(run: Path, whole: Path) -> None:
    for tag in ("latest", "best"):
        pair = [state(newest_checkpoint(folder / "checkpoints", tag)) for folder in (run, whole)]
        assert list(differences(*pair)) == []
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert scalars(run) == scalars(whole)
    assert scalars(whole)


def test_differences_are_seen() -> None:
    one = {"a": [torch.tensor([1.0, 2.0]), 3], "seconds": 1.0}
    assert list(differences(one, {"a": [torch.tensor([1.0, 2.0]), 3], "seconds": 2.0})) == []
    assert list(differences(one, {"a": [torch.tensor([1.0, 2.0 + 2**-22]), 3]})) == ["/a/0"]
    assert list(differences(one, {"a": [torch.tensor([1.0, 2.0]), 4]})) == ["/a/1: 3 and 4"]
    assert len(list(differences(one, {}))) == 1


def check_every_border(folder: Path, command: Command, words: list[str], steps: int, batches: int, epochs: int) -> None:
    """Train, keeping a checkpoint of every border, and go on from each of them.

    :param steps: training steps of an epoch
    :param batches: batches of the stream that is evaluated
    """
    (folder / "save_always.py").write_text(SNAPSHOT)
    words = ["hooks.0=save_always.SaveAlways", f"hooks.StopAfter.epochs={epochs}", "eval={}", *words]
    done = command("train", "config.yaml", *words, "--output-dir", "whole")
    assert done.exit_code == 0, done.stderr
    whole = folder / "whole"
    snapshots = [path for path in list_checkpoints(whole / "checkpoints") if path.name.startswith("at-")]
    # The zeroth epoch evaluates the train stream as well, so every epoch has as many borders, with its own end.
    assert len(snapshots) == (epochs + 1) * (steps + batches + 1)
    positions = set()
    for snapshot in snapshots:
        run = folder / "run"
        shutil.copytree(whole, run, ignore=lambda where, names: ["checkpoints"])
        checkpoint = load_checkpoint(snapshot)
        positions.add(checkpoint.position.step)
        training = create_training(load_config(folder / "config.yaml", [*words, "hooks.0=ShowProgress"]), run)
        training.main_loop.restore(checkpoint)
        training.main_loop.run_training()
        end = newest_checkpoint(run / "checkpoints", "latest")
        assert list(differences(state(end), state(newest_checkpoint(whole / "checkpoints", "latest")))) == [], snapshot
        assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes(), snapshot
        assert scalars(run) == scalars(whole), snapshot
        shutil.rmtree(run)
    assert positions == set(range(epochs * steps + 1))


def test_every_step_of_a_run_can_be_gone_on_from(folder: Path, command: Command) -> None:
    words = [
        "hooks.WriteJSON.steps=2",
        # 3 steps an epoch, the third with a batch of 1; Dropout makes every step depend on the random state.
        "dataset.max_rows=65",
        "model.modules.trunk.args.7={class: torch.nn.Dropout, p: 0.5}",
        # Windows of 4 steps: they cross epochs, and the last one is open for a single step.
        "model.update.accumulate=4",
    ]
    check_every_border(folder, command, words, steps=3, batches=3, epochs=3)


@pytest.mark.soak
def test_every_step_of_the_whole_example_can_be_gone_on_from(folder: Path, command: Command) -> None:
    check_every_border(folder, command, [], steps=38, batches=10, epochs=2)


def test_a_run_that_is_killed_twice_ends_as_if_it_was_not(folder: Path, program: Program) -> None:
    words = ("dataset.max_rows=320", "hooks.StopAfter.epochs=6", "hooks.SaveLatest.steps=3", "hooks.WriteJSON.steps=5")
    done = program("train", "config.yaml", *words, "--output-dir", "whole")
    assert done.returncode == 0, done.stderr
    chance = random.Random()
    run = folder / "run"
    line = [str(PROGRAM), "train", "config.yaml", *words, "--output-dir", "run"]
    kills = []
    for checkpoints in (chance.randrange(1, 8), chance.randrange(9, 18)):
        with subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
            deadline = time.monotonic() + 60
            while running.poll() is None and newest_sequence(run) < checkpoints and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.02))  # a step takes about 0.01 s, so it dies anywhere within one or two
            running.kill()
            said = running.communicate()[1].decode()
        assert running.returncode in (-signal.SIGKILL, 0), said
        kills += [newest_sequence(run)] if running.returncode == -signal.SIGKILL else []
        line = [str(PROGRAM), "resume", "run"]
    assert kills, "the processes were faster than their killer"
    done = program("resume", "run")
    assert done.returncode == 0, done.stderr
    print("killed after the checkpoints", kills)  # noqa: T201 - shown if the comparison fails
    assert_same_end(run, folder / "whole")


def newest_sequence(run: Path) -> int:
    return max((int(path.name.rpartition("-")[2]) for path in list_checkpoints(run / "checkpoints")), default=0)
