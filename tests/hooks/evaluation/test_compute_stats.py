from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import ComputeStats, SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, run_hook
from emloop_mtl.types import EpochNumber

UNEQUAL = {"train": [{"x": [1, 2, 3]}, {"x": [7]}]}
"""Two batches of three samples and of one."""


def stats(hook: ComputeStats, outputs: dict[str, Any], **streams: Any) -> dict[str, Any]:
    record = run_hook(hook, outputs=outputs, dataset=FakeDataset(**(streams or UNEQUAL)))
    return record.epochs[1]["train"]


def size(batch: Batch) -> torch.Tensor:
    return torch.tensor(float(len(batch["x"])))


def test_the_mean_of_a_loss_is_weighted_by_samples_and_other_aggregations_are_not() -> None:
    hook = ComputeStats(["loss", {"loss": ["median", "sum"]}])
    # losses 3 and 1 of batches of 3 samples and of 1
    assert stats(hook, {"loss": size}) == {"loss": {"mean": (3 * 3 + 1) / 4, "median": 2.0, "sum": 4.0}}


@pytest.mark.parametrize(
    "per_sample",
    [
        lambda batch: torch.tensor(batch["x"]),
        lambda batch: np.array(batch["x"], dtype=np.float32),
        lambda batch: batch["x"],
        lambda batch: [torch.tensor(x) for x in batch["x"]],
        lambda batch: torch.tensor(batch["x"]).view(-1, 1, 1).expand(-1, 2, 2),
    ],
)
def test_values_of_samples_are_aggregated_over_all_samples(per_sample: Callable[[Batch], Any]) -> None:
    hook = ComputeStats([{"y": ["mean", "max", "median"]}])
    assert stats(hook, {"y": per_sample}) == {"y": {"mean": 13 / 4, "max": 7.0, "median": 2.5}}


def test_nothing_is_kept_with_its_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    hook = ComputeStats([{"one": ["mean", "median", "sum"]}, {"each": ["mean", "median", "max"]}])

    class Look(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            assert batch_data["one"].requires_grad
            assert batch_data["each"].requires_grad
            statistics = [each for numbers in hook.state_dict()[stream_name].values() for each in numbers.values()]
            kept = [value for each in statistics for value in each.values() if isinstance(value, torch.Tensor)]
            assert len(kept) >= len(statistics) == 6
            assert not any(value.requires_grad for value in kept)

    outputs = {"one": lambda batch: weight * len(batch["x"]), "each": lambda batch: weight * torch.tensor(batch["x"])}
    record = run_hook(hook, Look(), outputs=outputs, dataset=FakeDataset(**UNEQUAL))
    expected = {"one": {"mean": 2.5, "median": 2.0, "sum": 4.0}, "each": {"mean": 13 / 4, "median": 2.5, "max": 7.0}}
    assert record.epochs[1]["train"] == expected


def test_sources_python_numbers_and_nan_are_taken() -> None:
    hook = ComputeStats(["x", {"y": ["nanfraction", "nancount", "nanmean"]}])
    found = stats(hook, {"y": lambda batch: math.nan if len(batch["x"]) == 1 else 4.0})
    assert found == {"x": {"mean": 13 / 4}, "y": {"nanfraction": 0.5, "nancount": 1.0, "nanmean": 4.0}}


def test_an_epoch_begins_anew_and_only_the_listed_streams_are_taken() -> None:
    record = run_hook(ComputeStats(["x"], streams=["valid"]), epochs=2)
    assert record.epochs == {epoch: {"train": {}, "valid": {"x": {"mean": 6.5}}} for epoch in range(3)}


def test_a_task_loss_is_weighted_by_labelled_rows(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset]
) -> None:
    losses: list[tuple[float, int]] = []

    class Note(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            rows = batch_data.rows.get("size")
            losses.append((batch_data["size/loss"].item(), 4 if rows is None else len(rows)))

    hooks = [ComputeStats(["size/loss", "digit/prob"]), Note()]
    record = run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=0)
    assert sorted(rows for _, rows in losses) == [3, 4, 4]
    # 3 float32 losses are added up in float64 in either case; only their order may differ
    expected = sum(loss * rows for loss, rows in losses) / 11
    assert record.epochs[0]["train"]["size/loss"]["mean"] == pytest.approx(expected, rel=1e-14)
    assert record.epochs[0]["train"]["digit/prob"]["mean"] == pytest.approx(1 / 3, rel=1e-6)  # float32 probabilities


def test_variables_of_a_task_are_taken_from_the_batches_that_carry_it(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset]
) -> None:
    streams = {}
    for task in ("digit", "size"):
        (loader,) = make_dataset().valid_stream().loaders
        streams[task] = [Batch(batch, tasks={task: task}, data_name=task) for batch in loader]
    dataset = FakeDataset(train=[*streams["digit"], *streams["size"]], valid=streams["digit"])
    hook = ComputeStats(["digit/loss", "size/loss", "loss"])
    record = run_hook(hook, model=make_model(), dataset=dataset, extra_streams=["valid"], epochs=0)
    assert set(record.epochs[0]["train"]) == {"digit/loss", "size/loss", "loss"}
    assert set(record.epochs[0]["valid"]) == {"digit/loss", "loss"}


def test_a_batch_without_a_variable_is_an_error_that_names_it() -> None:
    outputs = {"loss": 1.0}
    model = FakeModel(outputs)
    streams = {"train": [{"x": [1]}], "valid": [{"x": [1], "weight": [1]}]}
    with pytest.raises(DataError, match=r"stream 'train' lacks the variable 'weight'; known are: loss, x"):
        run_hook(ComputeStats(["weight"]), model=model, dataset=FakeDataset(**streams))


@pytest.mark.parametrize("value", [["a", "b"], [[1], [1, 2]], object(), 1j])
def test_what_is_no_number_is_an_error_that_names_it(value: Any) -> None:
    with pytest.raises(DataError, match="the variable 'y' of stream 'train' cannot be aggregated"):
        stats(ComputeStats(["y"]), {"y": value})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ([{"loss": ["maen"]}], "unknown aggregation 'maen' of 'loss'; did you mean 'mean'"),
        ([{"loss": "save"}], "unknown aggregation 'save'"),
        (["loss", 3], "variables must be names or mappings of a name to its aggregations, not 3"),
        ([], "must name at least one variable"),
        ("loss", "variables must be a list, not 'loss'"),
    ],
)
def test_wrong_variables(variables: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ComputeStats(variables)


def test_an_unknown_stream_is_refused() -> None:
    with pytest.raises(ConfigError, match="ComputeStats: .*; did you mean 'valid'") as caught:
        run_hook(ComputeStats(["loss"], streams=["train", "vaild"]))
    assert caught.value.path == ("streams", 1)


def test_it_says_what_it_reads_and_writes() -> None:
    hook = ComputeStats(["loss", {"x": ["min", "max"]}])
    assert set(hook.requires()) == {"loss", "x"}
    assert set(hook.provides()) == {
        EpochNumber("loss", None, "mean"),
        EpochNumber("x", None, "min"),
        EpochNumber("x", None, "max"),
    }
    assert set(ComputeStats(["loss"], streams=["valid"]).provides()) == {EpochNumber("loss", "valid", "mean")}


def test_a_training_resumed_in_mid_epoch_ends_with_the_same_numbers(tmp_path: Path) -> None:
    streams = {"train": [{"x": [1, 2]}, {"x": [30]}, {"x": [4, 5, 6]}, {"x": [70]}]}
    variables: list[Any] = ["loss", {"x": ["mean", "std", "sum"]}]

    def loop(steps: int) -> tuple[MainLoop, RecordEvents]:
        record = RecordEvents(requires=())
        hooks = [ComputeStats(variables), SaveLatest(), record, StopAfter(epochs=1, steps=steps)]
        return MainLoop(FakeModel({"loss": size}), FakeDataset(**streams), hooks, output_dir=tmp_path), record

    whole, expected = loop(steps=9)
    whole.run_training()
    cut, _ = loop(steps=2)
    cut.run_training()
    resumed, record = loop(steps=9)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert record.epochs[1] == expected.epochs[1]
    assert record.epochs[1]["train"]["x"]["sum"] == 118
