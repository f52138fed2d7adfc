"""What Emmental 0.1.1 was found to do with data and tasks, where no vector was recorded and no other test says it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from emloop_mtl import (
    Action,
    ColumnDataset,
    DataError,
    MultiTaskModel,
    Task,
    TaskLoader,
    create_training,
    slice_tasks,
)
from emloop_mtl.errors import ConfigError, EmloopError

from .test_statements import ROWS, make_columns, make_loader, make_task, train

# ------------------------------------------------------------------------------------------------------------ data


def test_the_length_is_that_of_all_columns_and_not_of_the_first_alone() -> None:
    with pytest.raises(DataError, match="'x' has 3 rows, 'z' has 2; all columns must have the same length"):
        ColumnDataset("rows", {"x": torch.zeros(3), "z": torch.zeros(2)})
    with pytest.raises(DataError, match="'x' has 3 rows, 'y' has 4"):
        ColumnDataset("rows", {"x": torch.zeros(3)}, {"y": torch.zeros(4)})
    with pytest.raises(ConfigError, match="dataset 'rows' has no features; at least one is needed"):
        ColumnDataset("rows", {})


def test_rows_without_a_uid_are_numbered_and_what_was_given_stays_as_it_was() -> None:
    features = {"x": torch.zeros(3)}
    data = ColumnDataset("rows", features)
    assert data.__getitems__([2, 0])["_uids_"].tolist() == [2, 0]
    assert features.keys() == {"x"}
    data.add_features({"z": torch.ones(3)})
    assert features.keys() == {"x"}


def test_a_feature_that_is_called_like_a_mask_is_refused_instead_of_being_written_over() -> None:
    ragged = [torch.ones(1), torch.ones(2)]
    with pytest.raises(ConfigError, match="the name 'x_mask' is taken"):
        ColumnDataset("rows", {"x": ragged, "x_mask": [0, 1]})


def test_rows_and_batches_are_one_mapping_with_labels_and_without() -> None:
    for labels in ([], ["a"]):
        data = make_columns(*labels)
        names = {"x", *labels, "_uids_"}
        assert data[0].keys() == names
        assert all(batch.keys() == names for batch in TaskLoader(data, batch_size=4))
    assert ColumnDataset("rows", {"x": [1]}, {})[0].keys() == {"x", "_uids_"}


def test_data_whose_last_label_is_removed_are_data_without_labels() -> None:
    data = make_columns("a")
    data.remove_label("a")
    model = MultiTaskModel([make_task("a")], device="cpu")
    found = model.predict(TaskLoader(data, {"a": None}, "valid", batch_size=4))["a"]
    assert (len(found), found.labels) == (ROWS, None)
    with pytest.raises(ConfigError, match="dataset 'rows' has no label 'a'"):
        data.remove_label("a")


def samples() -> list[dict[str, Any]]:
    return [{"x": torch.zeros(4), "a": 0, "b": 1} for _ in range(4)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(samples())


@pytest.mark.parametrize("data", [lambda: make_columns("a", "b"), samples, Stream], ids=["columns", "rows", "stream"])
@pytest.mark.parametrize("tasks", [{"a": ["a", "b"]}, {"a": 0}, {0: "a"}], ids=["labels", "number", "task"])
def test_a_task_of_a_loader_has_one_label_source_and_anything_else_is_refused_where_it_is_made(
    data: Any, tasks: Any
) -> None:
    with pytest.raises(
        ConfigError, match=r"loader '\w+': tasks maps the name of a task to the one source of its labels"
    ):
        TaskLoader(data(), tasks, "valid", batch_size=2)


def test_whether_there_is_a_label_is_known_of_each_row_and_not_by_the_first() -> None:
    data = ColumnDataset("rows", {"x": torch.zeros(3, 4)}, {"a": torch.tensor([-100, 1, 2])})
    model = MultiTaskModel([make_task("a", missing_label=-100)], device="cpu")
    loader = TaskLoader(data, {"a": "a"}, "valid", batch_size=1)
    assert model.predict(loader)["a"].is_labelled.tolist() == [False, True, True]


# ----------------------------------------------------------------------------------------------- tasks and models


def test_a_model_takes_one_task_or_several() -> None:
    task = make_task("a")
    assert list(MultiTaskModel(task, device="cpu").tasks) == ["a"]
    assert list(MultiTaskModel([task, make_task("b")], device="cpu").tasks) == ["a", "b"]


def test_the_modules_of_a_task_stay_its_own_where_a_model_takes_those_of_another() -> None:
    tasks = [make_task("a"), make_task("b")]
    trunks = [task.modules["trunk"] for task in tasks]
    model = MultiTaskModel(tasks, device="cpu")
    assert model.network["trunk"] is trunks[0]
    assert [task.modules["trunk"] for task in tasks] == trunks


def test_an_action_of_another_task_under_the_same_name_must_be_the_same() -> None:
    other = Task(
        "b", {"other": nn.Linear(4, 5)}, [Action("features", "other", "x")], loss=lambda outputs, label: outputs.sum()
    )
    text = "task 'b': action 'features' has another module or other inputs than in task 'a'"
    with pytest.raises(ConfigError, match=text):
        MultiTaskModel([make_task("a"), other], device="cpu")


def test_a_task_with_a_label_that_its_loader_does_not_name_is_predicted_without_a_loss() -> None:
    model = MultiTaskModel([make_task("a")], device="cpu")
    batch = next(iter(make_loader({"a": None}, "a", split="valid")))
    assert model.run(batch, train=False).keys() == {"loss", "a/prob", "a/pred"}
    with pytest.raises(EmloopError, match="task 'a'.*it cannot be trained on without labels"):
        train(model, make_loader({"a": None}, "a"))


def test_what_one_task_requires_is_not_computed_for_the_others_of_its_loader() -> None:
    tasks = [make_task("a"), make_task("b", metrics=[]), make_task("c", require_prob_for_eval=False)]
    model = MultiTaskModel(tasks, device="cpu")
    seen: set[str] = set()
    original = model.run

    def watched(*given: Any, **how: Any) -> dict[str, Any]:
        outputs = original(*given, **how)
        seen.update(outputs)
        return outputs

    model.run = watched  # type: ignore[method-assign]
    model.score(make_loader({name: name for name in "abc"}, *"abc", split="valid"))
    assert {name for name in seen if not name.endswith("loss")} == {"a/pred", "c/pred"}


# ----------------------------------------------------------------------------------------- schedulers and slices

MODULE = """
from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader
from emloop_mtl.schedulers import AbstractTaskScheduler


class Backwards(AbstractTaskScheduler):
    def picks(self, lengths, *, seed=0, pass_number=0):
        yield from ((index,) for index in reversed(range(len(lengths))) for _ in range(lengths[index]))


class Two(MultiTaskDataset):
    def loaders(self):
        for name, size in (("few", 2), ("many", 3)):
            data = ColumnDataset(name, {"x": [[float(size)]] * size}, {"y": [0.0] * size})
            yield TaskLoader(data, {"size": "y"}, batch_size=1)
"""

CONFIG = {
    "dataset": {"class": "own_turns.Two", "streams": {"train": {"scheduler": {"class": "own_turns.Backwards"}}}},
    "model": {
        "class": "MultiTaskModel",
        "device": "cpu",
        "modules": {"head": {"class": "torch.nn.Linear", "in_features": 1, "out_features": 1}},
        "tasks": {
            "size": {"flow": [{"name": "size_of", "module": "head", "inputs": "x"}], "label": "y", "loss": "mse"}
        },
    },
    "hooks": [{"StopAfter": {"epochs": 1}}],
}


def test_a_scheduler_of_ones_own_decides_whose_batch_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_turns.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    training = create_training(CONFIG)
    assert [batch.data_name for batch in training.dataset.train_stream()] == ["many"] * 3 + ["few"] * 2
    training.main_loop.run_training()
    assert training.main_loop.position.step == 5
    monkeypatch.delitem(sys.modules, "own_turns")


def left(x: Tensor) -> Tensor:
    return x[:, 0] < 0


def low(x: Tensor) -> Tensor:
    return x[:, 1] < 0


def test_a_task_attends_to_its_own_slices_and_not_to_those_of_another_task() -> None:
    torch.manual_seed(0)
    tasks = [make_task("a"), make_task("b")]
    model = MultiTaskModel(slice_tasks(tasks, {"a": [left], "b": [left, low]}), device="cpu")
    x = torch.randn(6, 4)
    together, alone = model.network({"x": x}), model.network({"x": x}, tasks=["a"])
    assert together["a_slices"]["attention"].shape == (6, 2)
    assert together["b_slices"]["attention"].shape == (6, 3)
    assert torch.equal(together["a_slices"]["attention"], alone["a_slices"]["attention"])
    assert torch.equal(together["a_logits"], alone["a_logits"])


def test_a_task_that_gets_slices_keeps_its_head_and_its_flow() -> None:
    task = make_task("a")
    modules, flow = dict(task.modules), list(task.flow)
    slices = [left]
    slice_tasks(task, slices)
    assert (dict(task.modules), list(task.flow)) == (modules, flow)
    assert slices == [left]
