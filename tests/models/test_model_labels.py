"""Labels, rows without them, and tasks that a batch does not carry."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

from .kinds_and_sizes import make_batch, make_model, make_modules, make_tasks


def test_a_task_that_the_batch_does_not_carry_is_not_run() -> None:
    model = make_model()
    batch = make_batch(tasks={"size": "size"})
    outputs = model.run(batch, train=True)
    assert outputs.keys() == {"loss", "size/loss", "size/prob", "size/pred"}
    assert model.network["kind_head"].weight.grad is None
    assert model.update.optimizer.state[model.network["kind_head"].weight] == {}


def test_a_plain_batch_carries_the_tasks_whose_labels_it_holds() -> None:
    model, batch = make_model(), make_batch()
    del batch["kind"]
    assert model.prepare(batch).tasks == {"size": "size"}
    unlabelled = Batch({"x": torch.zeros(2, 3)})
    assert model.prepare(unlabelled).tasks == {"kind": None, "size": None}


@pytest.mark.parametrize("labelled", [[0, 2, 3], []])
def test_rows_without_label_take_no_part(labelled: list[int]) -> None:
    model = make_model(tasks=make_tasks(missing_label=-100))
    model.network.eval()
    batch = make_batch()
    missing = [row for row in range(6) if row not in labelled]
    batch["kind"][missing] = -100
    prepared = model.prepare(batch)
    assert prepared.rows["kind"].tolist() == labelled
    assert "size" not in prepared.rows
    loss = model.run(prepared, train=False)["kind/loss"]
    logits = model.network(batch)["kind_logits"]
    expected = functional.cross_entropy(logits[labelled], batch["kind"][labelled]) if labelled else torch.zeros(())
    assert float(loss) == float(expected.detach())


def test_a_batch_without_any_label_gives_zero_gradients_not_none() -> None:
    model = make_model(
        tasks=make_tasks(missing_label=-100), optimizer={"class": "sgd", "lr": 0.1}, update={"accumulate": 2}
    )
    batch = make_batch(tasks={"kind": "kind"})
    batch["kind"][:] = -100
    model.run(batch, train=True)
    gradient = model.network["kind_head"].weight.grad
    assert gradient is not None
    assert not gradient.any()
    assert model.network["size_head"].weight.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": torch.tensor([0, 9])}, "task 'kind', source 'kind': label 9 in row 1 is out of range 0..3"),
        ({"kind": torch.tensor([0, -1])}, "label -1 in row 1 is out of range 0..3"),
        ({"size": torch.tensor([0.0, math.nan])}, "task 'size', source 'size': label nan in row 1 is not finite"),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_labels_that_cannot_be_used(change: dict[str, Tensor], message: str, train: bool) -> None:
    batch = make_batch(2)
    batch.update(change)
    with pytest.raises(DataError, match=message):
        make_model().run(batch, train)


@pytest.mark.parametrize("loss", ["cross_entropy", functional.nll_loss])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3, 1], None),
        ([[0], [3], [1]], None),
        ([0, -100, 1], "label -100 in row 1 is out of range 0..3; set missing_label: -100 if it marks a row"),
        ([0, 4, 1], "label 4 in row 1 is out of range 0..3"),
        ([[0], [4], [1]], "label 4 in row 1 is out of range 0..3"),
        ([0, torch.iinfo(torch.int64).min, 1], "in row 1 is out of range 0..3"),
    ],
)
def test_classes_are_checked_by_their_loss_and_before_it_alike(
    labels: list[Any], message: str | None, loss: Any
) -> None:
    """A module as a loss is not asked for its opinion, so that its labels are checked beforehand."""
    module = nn.CrossEntropyLoss() if loss == "cross_entropy" else nn.NLLLoss()
    found = []
    for each in (loss, module):
        task = Task("kind", {"head": nn.Linear(4, 4)}, [Action("o", "head", "x")], "kind", each)
        model = MultiTaskModel([task], optimizer={"class": "sgd", "lr": 0.1}, device="cpu")
        assert bool(model.prepare(Batch({"x": torch.ones(3, 4), "kind": torch.tensor([0, 1, 2])})).kind.unchecked) == (
            each is loss
        )
        nn.init.ones_(model.network["head"].weight)
        nn.init.zeros_(model.network["head"].bias)
        batch = Batch({"x": torch.arange(12.0).view(3, 4), "kind": torch.tensor(labels)})
        if message is None:
            model.run(batch, train=True)
        else:
            with pytest.raises(DataError, match=message):
                model.run(batch, train=True)
        found.append(model.network["head"].bias.detach().clone())
    assert found[0].tolist() == found[1].tolist()
    assert (message is None) == bool(found[0].any())


def test_fewer_classes_than_columns_are_heeded() -> None:
    task = Task("kind", {"head": nn.Linear(4, 4)}, [Action("o", "head", "x")], "kind", "cross_entropy", num_classes=3)
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    model.run(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 2])}), train=True)
    with pytest.raises(DataError, match=r"label 3 in row 1 is out of range 0\.\.2"):
        model.run(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 3])}), train=True)


def test_missing_label_sources_and_unknown_tasks() -> None:
    with pytest.raises(DataError, match="task 'kind': the batch lacks the label source 'knd'; did you mean 'kind'"):
        make_model().prepare(make_batch(tasks={"kind": "knd"}))
    with pytest.raises(ConfigError, match="the model has no task 'knid'; did you mean 'kind'"):
        make_model().prepare(make_batch(tasks={"knid": None}))


def test_batches_with_the_same_sources_but_other_tasks_are_told_apart() -> None:
    model = make_model()
    assert model.prepare(make_batch()).tasks == {"kind": "kind", "size": "size"}
    assert model.prepare(make_batch(tasks={"size": "kind"})).tasks == {"size": "kind"}
    prepared = model.prepare(make_batch())
    prepared.tasks.clear()
    assert model.prepare(make_batch()).tasks == {"kind": "kind", "size": "size"}
    model.network.remove_task("size")
    assert model.prepare(make_batch()).tasks == {"kind": "kind"}


@pytest.mark.parametrize("train", [False, True])
def test_tasks_that_are_taken_from_a_prepared_batch_are_missing_in_no_other(train: bool) -> None:
    model = make_model()
    less = model.prepare(make_batch())
    del less.tasks["kind"]
    assert {name for name in model.run(less, train) if "loss" in name} == {"size/loss", "loss"}
    assert {name for name in model.run(make_batch(), train) if "loss" in name} == {"kind/loss", "size/loss", "loss"}
    assert less.kind is not model.prepare(make_batch()).kind


def test_labels_of_unsigned_types_that_torch_hardly_knows_are_used() -> None:
    model, batch = make_model(), make_batch()
    expected = model.score({"s": [batch]})
    for kind in (batch["kind"].to(torch.uint16), batch["kind"].numpy().astype(np.uint32)):
        assert model.score({"s": [Batch({**batch, "kind": kind})]}) == expected


class Rows(MultiTaskDataset):
    """Rows of which the loader does not say what tasks they are for."""

    def loaders(self) -> list[TaskLoader]:
        batch = make_batch()
        labels = {"kind": batch["kind"], "size": batch["size"]}
        return [TaskLoader(ColumnDataset("rows", {"x": batch["x"]}, labels), split="train", batch_size=3)]


@pytest.mark.parametrize(
    ("change", "message", "path"),
    [
        ({"label": "kin"}, "task 'kind': no loader holds its label 'kin'; did you mean 'kind'?", ("label",)),
        (
            {"flow": [Action("features", "trunk", "y"), Action("kind_logits", "kind_head", "features")]},
            "task 'kind': action 'features', input 'y': there is no such source",
            ("flow", 0, "inputs"),
        ),
        (
            {"flow": [Action("kind_logits", "trunk", "y")], "label": None, "loss": None},
            "task 'kind': action 'kind_logits', input 'y': there is no such source",
            ("flow", 0, "inputs"),
        ),
        ({"label": None}, "task 'kind': its loss 'cross_entropy' needs labels; set 'label'", ()),
    ],
)
def test_a_task_is_not_left_out_for_a_misspelt_name(
    change: dict[str, Any], message: str, path: tuple[str | int, ...]
) -> None:
    settings = {"flow": make_tasks()[0].flow, "label": "kind", "loss": "cross_entropy", **change}
    size = Task("size", flow=[Action("size_value", "size_head", "x")], label="size", loss="mse_loss")
    modules = {**make_modules(), "size_head": nn.Linear(3, 1)}
    model = MultiTaskModel([Task("kind", **settings), size], modules, device="cpu")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        MainLoop(model, Rows(), [StopAfter(epochs=1)]).check()
    assert caught.value.path == ("model", "tasks", "kind", *path)


class Strict(Task):
    """Has a check of its own."""

    def check_labels(self, label: Any, source: str | None = None) -> Tensor | None:
        raise DataError("none will do")


def test_a_check_of_ones_own_is_asked_before_the_loss() -> None:
    task = Strict("kind", {"head": nn.Linear(4, 4)}, [Action("o", "head", "x")], "kind", "cross_entropy")
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    with pytest.raises(DataError, match="none will do"):
        model.prepare(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 1])}))


@pytest.mark.parametrize("module_device", [None, {"head": "cpu"}])
def test_labels_are_left_to_the_loss_only_where_all_modules_are_on_the_host(module_device: Any) -> None:
    task = Task(
        "kind",
        {"head": nn.Linear(4, 4)},
        [Action("o", "head", "x")],
        "kind",
        "cross_entropy",
        module_device=module_device,
    )
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    batch = model.prepare(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 1])}))
    assert bool(batch.kind.unchecked) == (module_device is None)
