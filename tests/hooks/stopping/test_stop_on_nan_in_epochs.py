from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError, DataError, NotFiniteError
from emloop_mtl.hooks import ComputeStats, Evaluate, ScoreTasks, StopAfter, StopOnNaN
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, run_hook
from emloop_mtl.types import EpochData, EpochNumber

from .nan_runs import INF, NAN


class Put(AbstractHook):
    """Write given numbers into every epoch, without saying which."""

    def __init__(self, **streams: dict[str, Any]) -> None:
        super().__init__()
        self._streams = streams

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        for stream, numbers in self._streams.items():
            epoch_data.setdefault(stream, {}).update(numbers)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"loss": NAN}, "the number 'loss' of stream 'valid' is nan in epoch 0;"),
        ({"loss": {"max": 1.0, "mean": torch.tensor(NAN)}}, r"the number 'loss' \(mean\) of stream 'valid' is nan in"),
        ({"a/rows/loss": np.float64(NAN)}, "the number 'a/rows/loss' of stream 'valid' is nan in epoch 0; list other"),
        ({"loss": [1.0, [NAN]]}, "the number 'loss' of stream 'valid' is nan"),
    ],
)
def test_losses_of_the_epoch_are_looked_at_by_default(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(NotFiniteError, match=message):
        run_hook(Put(train={"loss": 1.0}, valid=numbers), StopOnNaN())


def test_a_score_is_looked_at_on_demand_only() -> None:
    scores = {"a/rows/roc_auc": NAN, "loss": 1.0, "lossy": NAN, "text": "a"}
    assert run_hook(Put(valid=scores), StopOnNaN(), epochs=2).main_loop.position.epoch == 2
    with pytest.raises(
        NotFiniteError, match="'a/rows/roc_auc' of stream 'valid' is nan in epoch 0; list other numbers"
    ):
        run_hook(Put(valid=scores), StopOnNaN(["loss", "a/rows/roc_auc"]))


def test_the_loss_of_a_task_without_labels_is_no_reason_to_end(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path
) -> None:
    class Unlabelled(MultiTaskDataset):
        """``size`` has no label but nan in ``valid``, and in ``test`` none at all; ``digit`` has all."""

        def loaders(self) -> list[TaskLoader]:
            image = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
            labels = {"digit": image.argmax(1), "size": image.sum(1)}
            rows = {
                "train": ColumnDataset("shapes", {"image": image}, labels),
                "valid": ColumnDataset("shapes", {"image": image}, labels | {"size": torch.full((8,), NAN)}),
                "test": ColumnDataset("shapes", {"image": image}, {"digit": labels["digit"]}),
            }
            tasks = {"digit": "digit", "size": "size"}
            return [
                TaskLoader(rows[split], tasks | ({"size": None} if split == "test" else {}), split, batch_size=4)
                for split in rows
            ]

    class Cut(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if stream_name == "test" and self.main_loop.position.epoch == 0 and self.main_loop.position.step == 2:
                self.main_loop.request_save("cut")
                raise TrainingTerminated("cut")

    def loop(*hooks: AbstractHook) -> MainLoop:
        stats = ComputeStats(["size/loss"])
        hooks = (Evaluate(["valid", "test"]), ScoreTasks(), stats, StopOnNaN(), *hooks)
        return MainLoop(make_model(), Unlabelled(), hooks, output_dir=tmp_path)

    whole, record = loop(StopAfter(epochs=1)), RecordEvents(requires=())
    whole.run_training()
    assert math.isnan(whole.epoch_data["valid"]["size/shapes/loss"])
    assert math.isnan(whole.epoch_data["valid"]["size/loss"]["mean"])
    assert math.isnan(whole.epoch_data["test"]["size/shapes/loss"])
    assert math.isnan(whole.epoch_data["all"]["model/all/loss"])
    loop(Cut()).run_training()
    resumed = loop(record)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    (hook,) = [hook for hook in resumed.hooks if isinstance(hook, StopOnNaN)]
    both, digit = [("digit", "shapes"), ("size", "shapes")], [("digit", "shapes")]
    labelled = {"train": both, "valid": digit, "test": digit}
    assert hook.state_dict()["losses"] == {"labelled": labelled, "lacking": ["size"]}
    with torch.no_grad():  # as if a step had gone wrong: the labelled losses of the rest of the epoch are nan
        resumed.model.network.get_parameter(next(iter(dict(resumed.model.network.named_parameters())))).fill_(NAN)
    with pytest.raises(NotFiniteError, match="the number 'digit/shapes/loss' of stream 'test' is nan in epoch 1"):
        resumed.run_training()


@pytest.mark.parametrize("is_cut", [False, True])
def test_the_loss_of_a_task_without_labels_is_none_either_where_the_task_is_removed_in_the_epoch(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, is_cut: bool
) -> None:
    class Unlabelled(MultiTaskDataset):
        def loaders(self) -> list[TaskLoader]:
            image = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
            labels = {"digit": image.argmax(1), "size": torch.full((8,), NAN)}
            return [TaskLoader(ColumnDataset("shapes", {"image": image}, labels), split="train", batch_size=2)]

    class Remove(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.position.step == 2 and "size" in self.main_loop.model.tasks:  # type: ignore[attr-defined]
                self.main_loop.model.remove_task("size")  # type: ignore[attr-defined]
            if is_cut and self.main_loop.position.step == 3:
                self.main_loop.request_save("cut")
                raise TrainingTerminated("cut")

    def loop(*hooks: AbstractHook) -> MainLoop:
        stats = [] if is_cut else [ComputeStats(["size/loss"])]  # of a task that it never had, a model knows nothing
        hooks = (ScoreTasks(train=True), *stats, StopOnNaN(), *hooks, StopAfter(epochs=1))
        return MainLoop(make_model(), Unlabelled(), hooks, output_dir=tmp_path, skip_zeroth_epoch=True)

    trained = loop(Remove())
    trained.run_training()
    if is_cut:
        trained = loop()
        trained.model.remove_task("size")  # type: ignore[attr-defined]
        trained.restore(newest_checkpoint(tmp_path / "checkpoints"))
        trained.run_training()
    numbers = trained.epoch_data["train"]
    assert math.isnan(numbers["size/shapes/loss"])
    assert numbers["digit/shapes/loss"] > 0


def test_infinity_among_the_numbers_of_the_epoch() -> None:
    run_hook(Put(valid={"loss": INF}), StopOnNaN())
    with pytest.raises(NotFiniteError, match="the number 'loss' of stream 'valid' is nan or infinite in epoch 0"):
        run_hook(Put(valid={"loss": INF}), StopOnNaN(stop_on_inf=True))


def test_epochs_are_left_out_on_demand() -> None:
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    record = run_hook(Put(valid={"loss": NAN}), hook)
    assert record.main_loop.end == "finished"
    with pytest.raises(NotFiniteError, match="the number 'loss' of stream 'valid' is nan in epoch 0"):
        run_hook(Put(valid={"loss": NAN}), StopOnNaN(after_batch=True))


def test_batches_are_named_rather_than_the_epoch() -> None:
    with pytest.raises(NotFiniteError, match="epoch 0, stream 'train', batch 0"):
        run_hook(ComputeStats(["loss"]), StopOnNaN(after_batch=True), outputs={"loss": torch.tensor(NAN)})


def test_text_among_the_numbers_of_the_epoch(caplog: pytest.LogCaptureFixture) -> None:
    put = Put(train={"loss": "text"})
    run_hook(put, StopOnNaN())
    run_hook(put, StopOnNaN(on_unknown_type="warn"), epochs=2)
    assert caplog.text.count("a str in 'loss' of stream 'train' cannot be nan") == 1
    with pytest.raises(ConfigError, match="a str in 'loss' of stream 'train' cannot be nan"):
        run_hook(put, StopOnNaN(on_unknown_type="error"))


# -------------------------------------------------------------------------------------------------- wiring, arguments


def test_without_any_numbers_there_is_nothing_to_look_at() -> None:
    with pytest.raises(
        ConfigError, match="no hook before it writes numbers .* ComputeStats or ScoreTasks .* after_batch"
    ):
        run_hook(StopOnNaN())
    run_hook(StopOnNaN(after_batch=True))
    run_hook(ComputeStats(["loss"]), StopOnNaN())


def test_numbers_that_come_too_late_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    run_hook(Put(), StopOnNaN(), ComputeStats(["loss"]))
    assert "StopOnNaN misses the numbers of ComputeStats: list it after ComputeStats" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variables": ["los"]}, "the number 'los', which no hook before it provides; did you mean 'loss'"),
        ({"variables": ["los"], "after_batch": True}, "did you mean 'loss'"),
    ],
)
def test_an_unknown_variable_is_an_error_before_the_first_batch(arguments: dict[str, Any], message: str) -> None:
    model = FakeModel()
    with pytest.raises(ConfigError, match=message):
        run_hook(ComputeStats([{"loss": ["min", "max"]}]), StopOnNaN(**arguments), model=model)
    assert model.evaluated == 0
    run_hook(ComputeStats([{"loss": ["min", "max"]}]), StopOnNaN(**{**arguments, "variables": ["loss"]}))


def test_a_variable_that_a_batch_should_hold_is_an_error() -> None:
    with pytest.raises(DataError, match="StopOnNaN: a batch of stream 'train' lacks the variable 'los'; did you mean"):
        run_hook(StopOnNaN(["los"], after_batch=True, after_epoch=False))


def test_batch_variables_and_numbers_are_listed_together() -> None:
    hook = StopOnNaN(["x", "size"], after_batch=True)
    with pytest.raises(NotFiniteError, match="the number 'size' of stream 'valid' is nan in epoch 0"):
        run_hook(Put(valid={"size": NAN}), hook)
    assert hook.requires() == ["x", EpochNumber("size")]
    with pytest.raises(NotFiniteError, match="'x' is nan in epoch 0, stream 'train', batch 0"):
        run_hook(Put(valid={"size": NAN}), hook, dataset=FakeDataset(train=[{"x": [NAN]}]))


def test_a_model_without_losses_needs_names() -> None:
    with pytest.raises(ConfigError, match=r"no output 'loss'.*; known are: score; name others under 'variables'"):
        run_hook(StopOnNaN(after_batch=True), outputs={"score": 1.0})
    run_hook(StopOnNaN(["score"], after_batch=True), outputs={"score": 1.0})


@pytest.mark.parametrize(
    ("arguments", "message", "path"),
    [
        ({"after_epoch": False}, "nothing is looked at: set after_batch or after_epoch to true", "after_epoch"),
        ({"on_unknown_type": "warning"}, "'warning' is unknown; did you mean 'warn'", "on_unknown_type"),
        ({"check_every": 0}, "check_every must be a positive whole number", "check_every"),
        ({"check_every": 5}, "check_every says when batches are looked at: set after_batch to true", "check_every"),
        ({"variables": "loss"}, r"variables must be a list of names, such as \[loss\]", "variables"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, path: str) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        StopOnNaN(**arguments)
    assert info.value.path == (path,)
