"""Slice-based learning: rows that follow a rule of their own are learnt by heads of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl import (
    Action,
    Batch,
    ColumnDataset,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    SlicingFunction,
    Task,
    TaskLoader,
    add_slice_labels,
    slice_tasks,
)
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.hooks import Evaluate, ScoreTasks, StopAfter
from emloop_mtl.tasks.slicing import SliceHeads
from emloop_mtl.testing import SaveAndFail

TRAIN, VALID = 1000, 2000


def member(x: Tensor) -> Tensor:
    """A tenth of the rows."""
    return x[:, 2] > 1.3


def left(x: Tensor) -> Tensor:
    return x[:, 0] < 0


class Rules(MultiTaskDataset):
    """The class is the sign of a sum, but for members of the slice its opposite."""

    def __init__(self, rows: int = TRAIN, **settings: Any) -> None:
        super().__init__(**settings)
        self.rows = rows

    def loaders(self) -> list[TaskLoader]:
        made = []
        for number, (split, size) in enumerate({"train": self.rows, "valid": 2 * self.rows}.items()):
            x = torch.randn(size, 4, generator=torch.Generator().manual_seed(100 * (self._seed or 0) + number))
            kind = (x[:, 0] + x[:, 1] > 0) ^ member(x)
            data = ColumnDataset("rules", {"x": x}, {"kind": kind.long()})
            made.append(TaskLoader(data, {"kind": "kind"}, split, batch_size=100))
        return made


def make_task(width: int = 8, loss: Any = "cross_entropy", **settings: Any) -> Task:
    modules = {"trunk": nn.Sequential(nn.Linear(4, width), nn.ReLU()), "head": nn.Linear(width, 2)}
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    return Task("kind", modules, flow, **{"label": "kind", "loss": loss, "metrics": ["accuracy"], **settings})


def make_model(tasks: Iterable[Task], **options: Any) -> MultiTaskModel:
    return MultiTaskModel(tasks, **{"optimizer": {"class": "adam", "lr": 0.03}, "device": "cpu", **options})


def train(seed: int, sliced: bool) -> tuple[float, float]:
    """Return the accuracies of all rows and of the slice."""
    dataset = Rules(seed=seed)
    torch.manual_seed(seed)
    task = make_task()
    model = make_model(slice_tasks(task, [member], dataset) if sliced else [task])
    MainLoop(model, dataset, [StopAfter(epochs=12)], skip_zeroth_epoch=True).run_training()
    assert dataset.task_streams["valid"].loaders[0].tasks.keys() == (model.tasks.keys() if sliced else {"kind"})
    loader = dataset.task_streams["valid"].loaders[0]
    batch = Batch(loader.dataset.__getitems__(range(VALID)), tasks={"kind": "kind"})
    right = model.run(batch, train=False)["kind/pred"] == batch["kind"]
    accuracy, of_slice = right.float().mean().item(), right[member(batch["x"])].float().mean().item()
    if sliced:
        scores = model.score(loader)
        assert scores["kind_slice:member/rules/valid/accuracy"] == pytest.approx(of_slice, abs=1e-6)  # float32 means
        assert scores["kind/rules/valid/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    return accuracy, of_slice


def test_a_slice_with_a_rule_of_its_own_is_learnt_better_and_nothing_is_lost_elsewhere() -> None:
    seeds = range(2)
    plain, sliced = (torch.tensor([train(seed, way) for seed in seeds]) for way in (False, True))
    # Over seeds 0..5 the slice went from 0.69 (0.31 to 0.83) to 0.92 (0.89 to 0.95), all rows from 0.94 to 0.97.
    assert sliced[:, 1].mean() > plain[:, 1].mean() + 0.15
    assert sliced[:, 1].min() > 0.85
    assert (sliced[:, 0] > plain[:, 0] - 0.01).all()


def run_on(model: MultiTaskModel, dataset: Rules, steps: int) -> list[dict[str, Tensor]]:
    batches = iter(dataset.train_stream())
    return [model.run(next(batches), train=True) for _ in range(steps)]


def sliced_model(dataset: Rules, task: Task | None = None, **options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    return make_model(slice_tasks(task or make_task(), [member, left], dataset), **options)


def test_each_slice_has_an_indicator_a_predictor_and_scores_beside_the_task_itself() -> None:
    dataset = Rules(rows=100)
    model = sliced_model(dataset)
    kinds = ("pred_", "ind_", "")
    names = {f"kind_slice:{kind}{part}" for kind in kinds for part in ("member", "left")}
    assert model.tasks.keys() == {"kind", "kind_slice:pred_base", *names}
    train, valid = (dataset.task_streams[name].loaders[0].tasks for name in ("train", "valid"))
    assert valid.keys() == model.tasks.keys()
    assert train.keys() == valid.keys() - {"kind_slice:member", "kind_slice:left"}, "what only scores costs no step"


def test_weights_and_action_outputs_of_a_task_are_those_of_its_slices_as_well() -> None:
    tasks = slice_tasks(make_task(weight=0.5, action_outputs="features"), [member], weight=3.0)
    assert {task.name.removeprefix("kind"): task.weight for task in tasks} == {
        "": 0.5,
        "_slice:member": 0.0,  # the last one only scores
        **dict.fromkeys(["_slice:pred_base", "_slice:pred_member", "_slice:ind_member"], 1.5),
    }
    assert tasks[0].action_output_names == ["kind/features", "kind/kind_slices_attention"]
    unlearnt = slice_tasks(make_task(loss=None, missing_label=-1), [member], weight=3.0)
    assert {task.name.removeprefix("kind"): task.weight for task in unlearnt if task.loss is not None} == {
        "_slice:ind_member": 3.0
    }


def test_the_losses_of_a_slice_see_its_rows_only() -> None:
    dataset = Rules(rows=100)
    model = sliced_model(dataset)
    batch = next(iter(dataset.valid_stream()))
    outputs = model.run(batch, train=False)
    rows = member(batch["x"])
    heads = model.network(batch, tasks=["kind"])["kind_slices"]
    # Here the same operations in float32 give the same, elsewhere those of other kernels nearly.
    torch.testing.assert_close(
        outputs["kind_slice:pred_member/loss"],
        functional.cross_entropy(heads["predictions"][rows, 1], batch["kind"][rows]),
    )
    torch.testing.assert_close(
        outputs["kind_slice:member/loss"],
        functional.cross_entropy(model.network(batch, tasks=["kind"])["logits"][rows], batch["kind"][rows]),
    )
    torch.testing.assert_close(
        outputs["kind_slice:ind_member/loss"],
        functional.binary_cross_entropy_with_logits(heads["indicators"][:, 0, 0], rows.float()),
    )


def test_the_attention_of_one_slice_is_the_probability_of_it_where_both_are_as_confident() -> None:
    torch.manual_seed(0)
    heads = SliceHeads(nn.Linear(4, 2), 4, ["one"])
    features = torch.randn(5, 4)
    told = heads(features)
    belongs = heads.indicators["one"](features).sigmoid()
    # In float32, of which one is computed as a difference, and one as a softmax.
    torch.testing.assert_close(told["attention"], torch.cat([1 - belongs, belongs], 1))
    experts = torch.stack([heads.experts[name](features) for name in ("base", "one")], 1)
    torch.testing.assert_close(told["features"], (told["attention"].unsqueeze(2) * experts).sum(1))
    torch.testing.assert_close(told["predictions"], heads.predictor(experts))


@pytest.mark.parametrize("confidence", ["softmax", "sigmoid", "exp"])
def test_odds_are_multiplied_by_the_probability_of_what_is_most_probable(confidence: Any) -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)) if confidence == "exp" else nn.Linear(4, 3)
    heads = SliceHeads(head, 4, ["one", "two"], confidence)
    told = heads(torch.randn(5, 4))
    values = told["predictions"]
    if confidence == "sigmoid":  # the geometric mean over the labels
        sure = torch.maximum(values.sigmoid(), 1 - values.sigmoid()).log().mean(2).exp()
    else:
        sure = (values.softmax(2) if confidence == "softmax" else values.exp()).amax(2)
    weights = torch.cat([torch.ones(5, 1), told["indicators"].squeeze(2).exp()], 1) * sure
    # A softmax of logarithms in float32, and products.
    torch.testing.assert_close(told["attention"], weights / weights.sum(1, keepdim=True))


def test_hooks_can_read_the_attention_and_every_row_can_be_predicted() -> None:
    dataset = Rules(rows=100)
    model = sliced_model(dataset)
    batch = next(iter(dataset.valid_stream()))
    weights = model.run(batch, train=False)["kind/kind_slices_attention"]
    assert weights.shape == (100, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(100))  # sums in float32
    predicted = model.predict([{"x": batch["x"]}])
    assert [len(predicted[name]) for name in ("kind", "kind_slice:ind_left")] == [100, 100]


@pytest.mark.parametrize("left_out", [None, "kind_slice:pred_member"], ids=["all", "all but one"])
def test_the_slices_are_run_as_one_and_come_out_the_same_apart(left_out: str | None) -> None:
    found: list[tuple[MultiTaskModel, list[dict[str, Tensor]]]] = []
    for together in (True, False):
        dataset = Rules(rows=300)
        torch.manual_seed(0)
        slices: list[Callable[..., Any]] = [member, left, SlicingFunction(lambda x: x[:, 0] > 1, "right")]
        model = make_model(slice_tasks(make_task(), slices, dataset), stack_tasks=together)
        if left_out is not None:
            model.remove_task(left_out)
        found.append((model, run_on(model, dataset, 3)))
    (one, outputs), (other, others) = found
    assert [len(names) for names in one.stacked_tasks] == [4 if left_out is None else 3, 3]
    assert not other.stacked_tasks
    for mine, theirs in zip(outputs, others, strict=True):
        assert list(mine) == list(theirs)
        # Sums in another order; Adam makes 1e-7 of a gradient a step of up to its rate, 0.03.
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_batch_without_a_row_of_a_slice_gives_a_loss_of_zero() -> None:
    dataset = Rules(rows=100)
    model = sliced_model(dataset)
    batch = dataset.task_streams["train"].loaders[0].dataset.__getitems__(range(100))
    rows = ~member(batch["x"])
    few = {name: value[rows] for name, value in batch.items()}
    tasks = {name: name for name in ("kind_slice:pred_member", "kind_slice:ind_member")}
    outputs = model.run(Batch(few, tasks={"kind": "kind", **tasks}), train=True)
    assert outputs["kind_slice:pred_member/loss"] == 0
    assert all(value.isfinite().all() for value in model.state_dict().values())


def run_loop(folder: Path, fail_at: int | None, resume: bool = False) -> tuple[MultiTaskModel, Any]:
    dataset = Rules(rows=300)
    torch.manual_seed(0)
    model = make_model(slice_tasks(make_task(), [member, left], dataset), output_dir=str(folder))
    hooks = [Evaluate(["valid"]), ScoreTasks(), SaveAndFail(every=21, fail_at=fail_at), StopAfter(epochs=3)]
    loop = MainLoop(model, dataset, hooks, output_dir=folder)
    if resume:
        loop.restore(newest_checkpoint(folder / "checkpoints"))
    loop.run_training()
    return model, loop.epoch_data


def test_a_training_with_slices_is_resumed_exactly(tmp_path: Path) -> None:
    whole, scores = run_loop(tmp_path / "whole", None)
    # Each epoch, the zeroth too, has 3 batches of train, 6 of valid and its end: this is the second step of the second.
    with pytest.raises(RuntimeError, match="failed at moment 22"):
        run_loop(tmp_path / "broken", 22)
    resumed, again = run_loop(tmp_path / "broken", None, resume=True)
    assert again == scores
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    path = whole.save("weights")
    fresh = sliced_model(Rules(rows=300))
    fresh.load(path)
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
def test_no_step_with_slices_waits_for_the_device(together: bool, no_waiting: Any) -> None:
    dataset = Rules(rows=300)
    model = sliced_model(dataset, stack_tasks=together)
    prepared = [model.prepare(batch) for batch in dataset.train_stream()]  # on the host, before the copy to the device
    with no_waiting():
        losses = [model.run(batch, train=True)["loss"] for batch in prepared]
    assert torch.stack(losses).isfinite().all()


def test_tasks_of_slices_can_be_removed_and_the_task_goes_on() -> None:
    dataset = Rules(rows=100)
    model = sliced_model(dataset)
    for name in [name for name in model.tasks if name != "kind"]:
        model.remove_task(name)
    assert list(model.network) == ["trunk", "head", "kind_slices"]
    batch = Batch(dataset.task_streams["valid"].loaders[0].dataset.__getitems__(range(9)), tasks={"kind": "kind"})
    assert model.run(batch, train=True)["loss"].isfinite()


def own_loss(outputs: Mapping[str, Any], label: Tensor) -> Tensor:
    loss: Tensor = functional.cross_entropy(outputs["logits"], label) + 0 * outputs["features"].sum()
    return loss


def own_output(outputs: Mapping[str, Any]) -> Tensor:
    probabilities: Tensor = outputs["logits"].softmax(1)
    return probabilities


def test_a_loss_and_an_output_in_python_find_the_predictions_of_a_slice_under_the_name_of_the_head() -> None:
    dataset = Rules(rows=100)
    model = sliced_model(dataset, make_task(loss=own_loss, output=own_output, missing_label=-1))
    batch = next(iter(dataset.valid_stream()))
    outputs = model.run(batch, train=False)
    rows = left(batch["x"])
    logits = model.network(batch, tasks=["kind"])["kind_slices"]["predictions"][:, 2]
    # In float32, of columns and of copies of them.
    torch.testing.assert_close(
        outputs["kind_slice:pred_left/loss"], functional.cross_entropy(logits[rows], batch["kind"][rows])
    )
    torch.testing.assert_close(outputs["kind_slice:pred_left/prob"], logits.softmax(1))


@pytest.mark.parametrize(
    ("loss", "width", "metric"),
    [
        ("mse", 1, "mean_squared_error"),
        ("bce_with_logits", 1, "accuracy"),
        ("bce_with_logits", 3, "f1_macro"),
        ("nll", 2, "accuracy"),
    ],
    ids=["values", "one of two", "several labels", "log probabilities"],
)
def test_tasks_of_every_kind_have_slices(loss: str, width: int, metric: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(60, 4)
    kind = (x[:, :3] > 0) if width == 3 else x[:, 1] if loss == "mse" else (x[:, 1] > 0).long()
    head = nn.Sequential(nn.Linear(8, 2), nn.LogSoftmax(1)) if loss == "nll" else nn.Linear(8, width)
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    task = Task("kind", {"trunk": nn.Linear(4, 8), "head": head}, flow, label="kind", loss=loss, metrics=[metric])
    data = ColumnDataset("rows", {"x": x}, {"kind": kind})
    loaders = [TaskLoader(data, {"kind": "kind"}, split, batch_size=20) for split in ("train", "valid")]
    add_slice_labels(loaders, task, [left])
    model = make_model(slice_tasks(task, [left]))
    for batch in loaders[0]:
        assert model.run(batch, train=True)["loss"].isfinite()
    scores = model.score(loaders[1])
    assert 0 <= scores[f"kind_slice:left/rows/valid/{metric}"] < 100


def test_compiled_and_in_half_precision_slices_are_what_they_are() -> None:
    for options in ({"compile": {"backend": "eager"}}, {"precision": "bf16"}):
        dataset = Rules(rows=100)
        model = sliced_model(dataset, **options)
        assert all(outputs["loss"].isfinite() for outputs in run_on(model, dataset, 1))
