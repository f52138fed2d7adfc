"""A run that goes on from any border ends like one that was not interrupted: tensors, scores and log records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.config.create import create_training
from emloop_mtl.config.load import load_config

from .conftest import Command
from .same_runs import differences, scalars, state

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


@pytest.mark.long
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
