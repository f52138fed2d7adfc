from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, run_hook

FIVE = FakeDataset(train=[{"x": [number]} for number in range(5)], valid=[{"x": [0]}] * 3)


def saved_at(hook: SaveLatest, epochs: int = 4, *others: AbstractHook) -> list[tuple[int, int]]:
    """Return (epoch, step) of each request."""
    requests: list[tuple[int, int]] = []

    class Loop(MainLoop):
        def request_save(self, tag: str) -> None:
            assert tag == "latest"
            requests.append(self.position[:2])

    loop = Loop(
        FakeModel(), FIVE, [hook, *others, StopAfter(epochs=epochs)], output_dir="unused", extra_streams=["valid"]
    )
    loop.run_training()
    return requests


def test_every_nth_epoch_and_the_end_are_saved() -> None:
    assert saved_at(SaveLatest(every=2), 3) == [(0, 0), (2, 10), (3, 15)]


def test_every_nth_step_is_saved_and_evaluation_saves_nothing() -> None:
    assert saved_at(SaveLatest(every=9, steps=5), 2) == [(0, 0), (0, 5), (1, 10), (2, 10)]


def test_an_end_in_mid_epoch_is_saved_once(tmp_path: Path) -> None:
    record = run_hook(SaveLatest(), StopAfter(steps=3), dataset=FIVE, output_dir=tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.finished
    assert checkpoint.position == record.main_loop.position == (0, 3, 0, 3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["latest-00000002"]  # 1: the zeroth epoch


def test_a_failed_training_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    class Fail(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.position.step == 7:
                raise RuntimeError("out of paper")

    with pytest.raises(RuntimeError, match="out of paper"):
        run_hook(SaveLatest(), Fail(), dataset=FIVE, output_dir=tmp_path, epochs=3)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert (checkpoint.position[:2], checkpoint.finished) == ((1, 5), False)


def test_without_a_folder_it_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="output_dir"):
        MainLoop(FakeModel(), FIVE, [SaveLatest()])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_save_failure": "warn"}, "'on_save_failure' is gone: a checkpoint that cannot be written always ends"),
        ({"every": 0}, "every must be a positive whole number"),
        ({"steps": 0}, "steps must be a positive whole number"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SaveLatest(**arguments)
