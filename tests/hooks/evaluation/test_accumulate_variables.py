from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import AccumulateVariables, LogVariables
from emloop_mtl.hooks.evaluation.kept_values import KeptValues
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeDataset, FakeModel, run_hook
from emloop_mtl.types import EpochData


class Look(AbstractHook):
    """Take down what another hook, found in the main loop, has accumulated at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, dict[str, list[Any]]]] = []

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        (hook,) = [hook for hook in self.main_loop.hooks if isinstance(hook, AccumulateVariables)]
        self.seen.append({stream: dict(variables) for stream, variables in hook.accumulated.items()})


def accumulate(variables: list[str], outputs: dict[str, Any] | None = None, **arguments: Any) -> list[dict[str, Any]]:
    look = Look()
    run_hook(AccumulateVariables(variables), look, outputs=outputs, **arguments)
    return look.seen


def test_all_values_of_the_epoch_are_there_stream_by_stream() -> None:
    seen = accumulate(["x"], epochs=2)
    assert seen == [{"train": {"x": [1, 2, 3, 4]}, "valid": {"x": [5, 6, 7, 8]}}] * 3


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda x: torch.tensor(x), [1, 2, 3, 4]),
        (lambda x: torch.tensor(x, dtype=torch.bfloat16), [1.0, 2.0, 3.0, 4.0]),
        (lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True), [1.0, 2.0, 3.0, 4.0]),
        (lambda x: np.array(x, dtype=np.uint16), [1, 2, 3, 4]),
        (lambda x: np.array([*map(str, x)]), ["1", "2", "3", "4"]),
        (lambda x: [*map(str, x)], ["1", "2", "3", "4"]),
        (lambda x: tuple({"a": value} for value in x), [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]),
        (lambda x: torch.tensor(float(sum(x))), [3.0, 7.0]),  # one value per batch
        (lambda x: float(sum(x)), [3.0, 7.0]),
        (lambda x: np.float32(sum(x)), [3.0, 7.0]),
        (lambda x: torch.zeros(0), []),
        # kinds that change from batch to batch
        (lambda x: torch.tensor(x) if x[0] == 1 else np.array(x), [1, 2, 3, 4]),
        (lambda x: torch.tensor(x, dtype=torch.float32 if x[0] == 1 else torch.int64), [1.0, 2.0, 3, 4]),
    ],
)
def test_tensors_arrays_and_lists_are_alike(made: Callable[[list[int]], Any], expected: list[Any]) -> None:
    values = accumulate(["v"], {"v": lambda batch: made(batch["x"])})[-1]["train"]["v"]
    assert values == expected
    assert [type(value) for value in values if isinstance(value, torch.Tensor)] == []


def test_rows_of_tensors_are_numpys() -> None:
    rows = accumulate(["v"], {"v": lambda batch: torch.ones(2, 3) * batch["x"][0]})[-1]["train"]["v"]
    assert [type(row) for row in rows] == [np.ndarray] * 4
    assert np.array_equal(rows, [[1.0] * 3] * 2 + [[3.0] * 3] * 2)
    ragged = {"v": lambda batch: torch.ones(2, batch["x"][0])}
    assert [row.shape for row in accumulate(["v"], ragged)[-1]["train"]["v"]] == [(1,), (1,), (3,), (3,)]


def test_no_batch_is_copied_or_waited_for(no_waiting: Any) -> None:
    hook = AccumulateVariables(["v"])
    MainLoop(FakeModel({"v": 1.0}), FakeDataset(train=[]), [hook])
    values = [torch.rand(4, 2) for _ in range(5)]
    with no_waiting():
        for value in values:
            hook.after_batch("train", Batch({"x": [1]}, tasks={}) | {"v": value})  # type: ignore[arg-type]
    kept = hook._kept["train"]["v"]._parts
    assert [part.data_ptr() for part in kept] == [value.data_ptr() for value in values]  # type: ignore[union-attr]


def test_values_are_fetched_once_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    cpu = torch.Tensor.cpu

    def count(tensor: torch.Tensor) -> torch.Tensor:
        fetched.append(len(tensor))
        return cpu(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", count)
    values = KeptValues()
    for start in range(3):
        values.add(torch.tensor([start, start]))
    assert values.rows() == values.rows() == [0, 0, 1, 1, 2, 2]
    assert fetched == [6]
    values.add(torch.tensor([3]))
    assert values.rows() == [0, 0, 1, 1, 2, 2, 3]
    assert fetched == [6, 1]


def test_nothing_is_kept_with_its_graph_or_into_the_next_epoch() -> None:
    weight = torch.ones(2, requires_grad=True)
    hook = AccumulateVariables(["v"])

    class Check(AbstractHook):
        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            assert hook.accumulated == {}
            assert hook.state_dict() == {}

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            parts = hook._kept[stream_name]["v"]._parts
            assert not any(part.requires_grad for part in parts)  # type: ignore[union-attr]

    class Before(Check):  # stands before the hook that is looked at
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            pass

    run_hook(Before(), hook, Check(), outputs={"v": lambda batch: weight * 2}, epochs=2)


def test_an_epoch_that_was_cut_is_forgotten_by_the_next() -> None:
    hook = AccumulateVariables(["x"])
    MainLoop(FakeModel(), FakeDataset(train=[]), [hook])
    hook.before_epoch(1, ["train"], [])
    hook.after_batch("train", Batch({"x": [1]}))
    hook.before_epoch(2, ["train"], [])
    hook.after_batch("train", Batch({"x": [2]}))
    assert hook.accumulated == {"train": {"x": [2]}}


def test_a_variable_or_stream_that_was_not_met_is_empty() -> None:
    hook = AccumulateVariables(["x"])
    assert hook.accumulated["valid"]["x"] == []
    assert hook.state_dict() == {}


# ------------------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6).reshape(3, 2),
        torch.tensor(0.1, dtype=torch.float64),
        np.arange(6, dtype=">i2").reshape(3, 2),
        np.array(["a", "bc"]),
        np.array(["2026-01-02", "NaT"], dtype="datetime64[D]"),
        np.array([[1, "a"], [None, 2.5]], dtype=object),
        np.array([{"a": np.float32(1)}, [1, (2, 3)]], dtype=object),
        [1, 2.5, "text", None, True, b"bytes"],
        [np.float32(0.1), np.int8(3), np.arange(3)],
        [{"a": [1, 2]}, {"list": [3], "array": 4}, {"tuple": (1,)}],
        [torch.ones(2), torch.zeros(1)],
        (1, (2, 3)),
        7,
    ],
    ids=repr,
)
def test_state_holds_values_of_every_kind(value: Any, tmp_path: Path) -> None:
    values, twin = KeptValues(), KeptValues()
    values.add(value)
    torch.save(values.state_dict(), tmp_path / "state")
    twin.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    for found, expected in zip(twin.rows(), values.rows(), strict=True):
        assert type(found) is type(expected)
        assert repr(found) == repr(expected)
        assert getattr(found, "dtype", None) == getattr(expected, "dtype", None)
    twin.add(value)  # goes on
    assert len(twin.rows()) == 2 * len(values.rows())


def test_state_replaces_what_was_there() -> None:
    hook, other = AccumulateVariables(["x"]), AccumulateVariables(["x"])
    for each, stream in ((hook, "train"), (other, "valid")):
        MainLoop(FakeModel(), FakeDataset(train=[]), [each])
        each.after_batch(stream, Batch({"x": [1]}))
    hook.load_state_dict(other.state_dict())
    assert hook.accumulated == {"valid": {"x": [1]}}


def test_a_training_cut_in_mid_epoch_ends_with_the_same_values(tmp_path: Path) -> None:
    class Cut(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if stream_name == "valid" and self.main_loop.position.epoch == 0 and self.main_loop.position.step == 2:
                self.main_loop.request_save("cut")
                raise TrainingTerminated("cut")

    def loop(*hooks: AbstractHook) -> MainLoop:
        outputs = {"t": lambda batch: torch.tensor(batch["x"]) / 3, "a": lambda batch: np.array(batch["x"])}
        dataset = FakeDataset(train=[{"x": [1, 2]}, {"x": [3, 4]}], valid=[{"x": [5]}, {"x": [6]}])
        hooks = (AccumulateVariables(["x", "t", "a"]), *hooks)
        return MainLoop(FakeModel(outputs), dataset, hooks, extra_streams=["valid"], output_dir=tmp_path)

    class End(Look):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            super().after_epoch(epoch_id, epoch_data)
            if epoch_id == 1:
                raise TrainingTerminated("done")

    whole, rest = End(), End()
    loop(whole).run_training()
    loop(Cut()).run_training()
    resumed = loop(rest)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert len(whole.seen) == 2
    assert rest.seen == whole.seen[1:]
    assert list(rest.seen[0]) == ["train", "valid"]
    assert rest.seen[0]["valid"]["x"] == [5, 6]


# -------------------------------------------------------------------------------------------- tasks, wiring, arguments


def test_variables_of_tasks_are_taken_where_the_task_is(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset]
) -> None:
    class End(Look):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            super().after_epoch(epoch_id, epoch_data)
            raise TrainingTerminated("done")

    look = End()
    MainLoop(
        make_model(), make_dataset(), [AccumulateVariables(["digit/pred", "digit", "size/loss"]), look]
    ).run_training()
    values = look.seen[0]["train"]
    assert {name: len(rows) for name, rows in values.items()} == {"digit/pred": 12, "digit": 12, "size/loss": 3}
    assert sorted(values["digit"]) == sorted(TRAIN_DIGITS)


TRAIN_DIGITS = torch.randn(12, 3, generator=torch.Generator().manual_seed(len("train"))).argmax(1).tolist()


def test_a_task_that_the_batch_does_not_carry_is_left_out() -> None:
    class Tasks(FakeModel):
        tasks = ("a", "b")

    kinds: list[dict[str, str | None]] = [{"a": None}, {"b": "x"}, {"b": None}]  # the last has no labels, so no loss
    batches = [Batch({"x": [1]}, tasks=tasks) for tasks in kinds]
    look, hook = Look(), AccumulateVariables(["a/pred", "b/loss"])
    runs = iter([{"a/pred": [1]}, {"b/loss": 2.0}, {}] * 2)
    model = Tasks({"a/pred": 0, "b/loss": 0})
    model.run = lambda *args, **kwargs: next(runs)  # type: ignore[method-assign]
    run_hook(hook, look, model=model, dataset=FakeDataset(train=batches))
    assert look.seen[-1] == {"train": {"a/pred": [1], "b/loss": [2.0]}}


def test_a_missing_variable_is_an_error() -> None:
    with pytest.raises(DataError, match="AccumulateVariables: a batch of stream 'train' lacks the variable 'y'"):
        accumulate(["y"])


@pytest.mark.parametrize("value", ["text", None, {"a": 1}, object()])
def test_what_has_no_entries_is_an_error(value: Any) -> None:
    with pytest.raises(
        DataError, match=r"the variable 'v' of stream 'train' cannot be accumulated: a \w+ has no entry"
    ):
        accumulate(["v"], {"v": value})


@pytest.mark.parametrize("variables", ["loss", [], ["a", "a"], [1]])
def test_wrong_variables(variables: Any) -> None:
    with pytest.raises(ConfigError, match="AccumulateVariables: variables") as info:
        AccumulateVariables(variables)
    assert info.value.path[0] == "variables"


def test_only_what_inherits_may_write_numbers() -> None:
    class Count(AccumulateVariables):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:  # type: ignore[override]
            for stream, variables in self.accumulated.items():
                epoch_data[stream]["count"] = len(variables["x"])

    record = run_hook(Count(["x"]), LogVariables(variables=["count"]))
    assert record.epochs[1]["valid"]["count"] == 4
    assert AccumulateVariables(["x"]).provides() == ()
    assert AccumulateVariables(["x", "y"]).requires() == ("x", "y")
    with pytest.raises(ConfigError, match="LogVariables requires the number 'count', which no hook before it"):
        run_hook(AccumulateVariables(["x"]), LogVariables(variables=["count"]))
