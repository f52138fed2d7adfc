from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.abstract_hook import EVENTS, AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError, DataError, TrainingTerminated
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, SaveAndFail, run_hook

BATCHES = ["after_batch"] * 4


def test_run_hook_runs_the_zeroth_epoch_and_as_many_as_asked_for() -> None:
    record = run_hook(epochs=2)
    epoch = ["before_epoch", *BATCHES, "after_epoch", "after_epoch_profile"]
    assert record.names == ["before_training", *epoch, *epoch, *epoch, "after_training"]
    assert record.main_loop.position == (2, 4, 2, 8)
    assert record.main_loop.end == "finished"
    assert record.main_loop.total_steps == 4


def test_save_and_fail_counts_batches_and_ends_of_epochs(tmp_path: Path) -> None:
    hook = SaveAndFail(every=4)
    run_hook(hook, outputs={"loss": 1.0}, output_dir=tmp_path)
    assert hook.moments == 2 * (4 + 1)
    # The eighth moment is the third batch of epoch 1, the first of the stream that is evaluated.
    assert newest_checkpoint(tmp_path / "checkpoints", "latest").position.step == 2
    with pytest.raises(RuntimeError, match="failed at moment 7"):
        run_hook(SaveAndFail(every=100, fail_at=7))


def test_every_event_is_recorded() -> None:
    assert set(run_hook().names) == set(EVENTS)


def test_what_is_recorded_is_what_was_there_at_that_moment() -> None:
    class Forget(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
            epoch_data["train"]["late"] = 1

    record = RecordEvents()
    run_hook(record, Forget(), outputs={"twice": lambda batch: [2 * x for x in batch["x"]]})
    assert record.epochs == {0: {"train": {}, "valid": {}}, 1: {"train": {}, "valid": {}}}
    _, first = record.events[2]
    assert first == {"stream_name": "train", "batch_data": {"x": [1, 2], "twice": [2, 4]}}
    assert record.events[1] == (
        "before_epoch",
        {"epoch_id": 0, "train_streams": [], "eval_streams": ["train", "valid"]},
    )
    assert record.events[-1] == ("after_training", {"success": True})


def test_a_hook_can_end_the_run_earlier() -> None:
    class StopAtOnce(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            raise TrainingTerminated("at once")

    record = run_hook(StopAtOnce(), epochs=5)
    assert record.names == ["before_training", "before_epoch", "after_batch", "after_training"]


def test_the_fake_model_counts_and_keeps_its_count() -> None:
    model = FakeModel({"loss": 0.5})
    run_hook(model=model, epochs=3)
    assert (model.trained, model.evaluated) == (6, 10)  # 3 epochs of 2 batches; 4 evaluations of valid, 1 of train
    assert model.can_be_checkpointed
    twin = FakeModel()
    twin.load_state_dict(model.state_dict())
    assert twin.trained == 6


def test_the_fake_model_says_what_it_reads_and_writes() -> None:
    model = FakeModel({"a": 1, "b": torch.ones(2)}, inputs=["image"])
    assert (list(model.input_names), list(model.output_names)) == (["image"], ["a", "b"])
    with pytest.raises(DataError, match="image"):
        run_hook(model=model)


def test_the_fake_dataset_hands_out_fresh_batches() -> None:
    batch = Batch({"x": [1]}, tasks={"t": None}, data_name="d")
    dataset = FakeDataset(train=[batch], valid=[{"x": [2]}])
    dataset.train_stream()[0]["y"] = [1]  # type: ignore[attr-defined]
    assert batch == {"x": [1]}
    assert dataset.train_stream()[0].data_name == "d"  # type: ignore[attr-defined]
    assert dataset.stream_names() == ["train", "valid"]
    assert dataset.num_batches == {"train": 1, "valid": 1}
    with pytest.raises(ConfigError, match="did you mean 'valid'"):
        run_hook(dataset=dataset, extra_streams=["valyd"])
