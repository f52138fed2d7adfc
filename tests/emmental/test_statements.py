"""What Emmental's manual says of data, tasks and models, where no vector was recorded and no other test says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import (
    AbstractDataset,
    Action,
    Batch,
    ColumnDataset,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.hooks import ScoreTasks, StopAfter

ROWS = 12


def make_task(name: str, **options: Any) -> Task:
    """A task with a head of its own behind the action and module that all share."""
    modules = {"trunk": nn.Linear(4, 5), f"{name}_head": nn.Linear(5, 3)}
    flow = [Action("features", "trunk", "x"), Action(f"{name}_logits", f"{name}_head", "features")]
    given = {"modules": modules, "flow": flow, "label": name, "loss": "cross_entropy", "metrics": ["accuracy"]}
    return Task(name, **(given | options))


def make_columns(*labels: str, name: str = "rows") -> ColumnDataset:
    generator = torch.Generator().manual_seed(len(name))
    columns = {label: torch.randint(3, (ROWS,), generator=generator) for label in labels}
    return ColumnDataset(name, {"x": torch.randn(ROWS, 4, generator=generator)}, columns)


def make_loader(tasks: Mapping[str, str | None], *labels: str, name: str = "rows", **options: Any) -> TaskLoader:
    return TaskLoader(make_columns(*labels, name=name), tasks, batch_size=4, **options)


class Given(MultiTaskDataset):
    """A dataset of given loaders."""

    def __init__(self, *given: TaskLoader) -> None:
        super().__init__()
        self.given = given

    def loaders(self) -> list[TaskLoader]:
        return list(self.given)


def train(model: MultiTaskModel, *loaders: TaskLoader) -> MainLoop:
    loop = MainLoop(model, Given(*loaders), [ScoreTasks(train=True), StopAfter(epochs=1)], on_unused_sources="ignore")
    loop.run_training()
    return loop


def weights_of(model: MultiTaskModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_one_loader_has_labels_for_several_tasks() -> None:
    model = MultiTaskModel([make_task("a", label="one"), make_task("b", label="two")], device="cpu")
    loop = train(model, make_loader({"a": "one", "b": "two"}, "one", "two"))
    assert {"a/rows/accuracy", "b/rows/accuracy"} <= loop.epoch_data["train"].keys()


def test_tasks_of_different_loaders_share_actions_and_modules() -> None:
    model = MultiTaskModel([make_task("a"), make_task("b")], device="cpu", optimizer={"class": "sgd", "lr": 0.1})
    before = weights_of(model)
    calls: list[int] = []
    model.network["trunk"].register_forward_hook(lambda *_: calls.append(1))
    train(model, make_loader({"a": "a"}, "a", name="left"), make_loader({"b": "b"}, "b", name="right"))
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert list(model.network) == ["trunk", "a_head", "b_head"]
    # 3 batches of each loader, evaluated in epoch 0 and trained on in epoch 1, and the first of them tried as both
    # before, with the shared action once in each
    assert len(calls) == 2 * 2 * 3 + 2 * 2


def contrast(outputs: Mapping[str, Any], label: None) -> Tensor:
    """Rows of a batch are to be told apart: InfoNCE of a row with itself under dropout."""
    assert label is None
    features = nn.functional.normalize(outputs["features"], dim=1)
    return nn.functional.cross_entropy(features @ features.T, torch.arange(len(features)))


@pytest.mark.parametrize("labels", [(), ("a",)], ids=["a dataset without labels", "a dataset with labels of others"])
def test_a_contrastive_task_is_trained_without_labels(labels: tuple[str, ...]) -> None:
    task = Task("pairs", {"trunk": nn.Linear(4, 5)}, [Action("features", "trunk", "x")], loss=contrast)
    model = MultiTaskModel([task], device="cpu", optimizer={"class": "sgd", "lr": 0.1})
    before = weights_of(model)
    loop = train(model, make_loader({"pairs": None}, *labels))
    assert loop.epoch_data["train"]["pairs/rows/loss"] > 0
    assert not torch.equal(before["trunk.weight"], model.state_dict()["trunk.weight"])
    found = model.predict(make_loader({"pairs": None}, *labels))["pairs"]
    assert found.labels is None
    assert not found.is_labelled.any()


def test_the_loss_of_a_task_counts_by_its_weight_in_the_models_loss_alone() -> None:
    torch.manual_seed(0)
    model = MultiTaskModel([make_task("a", weight=3), make_task("b", weight=0.5)], device="cpu")
    outputs = model.run(next(iter(make_loader({"a": "a", "b": "b"}, "a", "b"))), train=False)
    # The sum is one of float32.
    assert float(outputs["loss"]) == pytest.approx(3 * float(outputs["a/loss"]) + 0.5 * float(outputs["b/loss"]))


def test_collate_of_ones_own_makes_the_batches() -> None:
    samples = [{"x": torch.full((4,), float(row)), "a": 0} for row in range(4)]

    def doubled(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"x": torch.stack([row["x"] for row in rows]) * 2, "a": torch.zeros(len(rows), dtype=torch.int64)}

    [batch] = TaskLoader(samples, {"a": "a"}, "valid", batch_size=4, collate=doubled)
    assert batch["x"][:, 0].tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("form", ["a_logits", ("features", 0), ["a_logits", ("features", 0), "_input_.x", "a_logits"]])
def test_action_outputs_are_a_string_a_tuple_or_a_list(form: Any) -> None:
    model = MultiTaskModel([make_task("a", action_outputs=form)], device="cpu")
    outputs = model.run(next(iter(make_loader({"a": "a"}, "a"))), train=False)
    found = [name for name in outputs if name not in ("loss", "a/loss", "a/prob", "a/pred")]
    names = {"a_logits": "a/a_logits", ("features", 0): "a/features_0", "_input_.x": "a/_input__x"}
    assert found == list(dict.fromkeys(names[each] for each in (form if isinstance(form, list) else [form])))
    assert all(len(outputs[name]) == 4 for name in found)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"metrics": []}, set()),
        ({"metrics": ["accuracy"]}, {"a/prob", "a/pred"}),
        ({"metrics": ["accuracy"], "require_prob_for_eval": False}, {"a/pred"}),
        ({"metrics": ["accuracy"], "require_pred_for_eval": False}, {"a/prob"}),
        ({"metrics": ["roc_auc"], "require_pred_for_eval": False}, {"a/prob"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_probabilities_and_predictions_are_neither_computed_nor_kept_where_they_are_not_required(
    options: dict[str, Any], kept: set[str]
) -> None:
    task = make_task("a", **options)
    assert task.eval_outputs <= kept
    model = MultiTaskModel([task], device="cpu")
    seen: set[str] = set()
    original = model.run

    def watched(batch: Batch, train: bool, stream: Any = None) -> dict[str, Any]:
        outputs = original(batch, train, stream)
        seen.update(outputs)
        return outputs

    model.run = watched  # type: ignore[method-assign]
    model.score(make_loader({"a": "a"}, "a", split="valid"))
    assert seen - {"loss", "a/loss"} == task.eval_outputs


class Streams(AbstractDataset):
    """A stream by hand of what a loader yields."""

    def valid_stream(self) -> Iterator[dict[str, Any]]:
        for batch in make_loader({"a": "a"}, "a", split="valid"):
            yield dict(batch)


SOURCES: dict[str, Callable[[], Any]] = {
    "a loader": lambda: make_loader({"a": "a"}, "a", split="valid"),
    "a stream by hand": lambda: Streams().valid_stream(),
    "a stream of loaders": lambda: Given(make_loader({"a": "a"}, "a", split="valid")).valid_stream(),
    "a list": lambda: [dict(batch) for batch in make_loader({"a": "a"}, "a", split="valid")],
    "a generator": lambda: (batch for batch in make_loader({"a": "a"}, "a", split="valid")),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("source", SOURCES)
def test_predict_and_score_take_it_and_leave_the_mode_as_found(source: str, training: bool) -> None:
    torch.manual_seed(0)
    model = MultiTaskModel([make_task("a")], device="cpu")
    model.network.train(training)
    model.network["a_head"].train(not training)
    expected = model.predict(make_loader({"a": "a"}, "a", split="valid"))["a"].probs
    found = model.predict(SOURCES[source]())["a"]
    assert found.probs is not None
    assert (found.probs == expected).all()
    scores = model.score({"valid": SOURCES[source]()})
    data = "data" if source in ("a stream by hand", "a list") else "rows"
    assert found.preds is not None
    assert found.labels is not None
    assert scores[f"a/{data}/valid/accuracy"] == (found.preds == found.labels).tolist().count(True) / ROWS
    assert (model.network.training, model.network["a_head"].training) == (training, not training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("act", ["predict", "score"])
def test_predict_and_score_leave_the_mode_as_found_where_a_batch_fails(act: str, training: bool) -> None:
    model = MultiTaskModel([make_task("a")], device="cpu")
    model.network.train(training)

    def batches() -> Iterator[dict[str, Any]]:
        yield {"x": torch.ones(2, 4), "a": torch.tensor([0, 1])}
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        model.predict(batches()) if act == "predict" else model.score({"valid": batches()})
    assert model.network.training is training


def test_a_label_that_is_removed_from_a_dataset_is_no_longer_in_its_batches_and_one_that_is_added_is() -> None:
    data = make_columns("a", "b")
    loader = TaskLoader(data, {"a": "a"}, "valid", batch_size=4)
    data.remove_label("b")
    data.add_labels({"c": torch.zeros(ROWS, dtype=torch.int64)})
    data.add_features({"extra": torch.ones(ROWS)})
    assert all(batch.keys() == {"x", "a", "c", "extra", "_uids_"} for batch in loader)


def test_evaluation_takes_every_batch_whatever_n_batches_says() -> None:
    model = MultiTaskModel([make_task("a")], device="cpu")
    loader = make_loader({"a": "a"}, "a", split="valid", n_batches=1)
    assert len(model.predict(loader)["a"]) == ROWS


def test_modules_of_one_flow_stand_on_their_devices_and_what_they_need_is_moved_there() -> None:
    # On a device without data only where things are can be seen; what is learnt there is tested on a GPU.
    task = make_task("a", module_device={"trunk": -1, "a_head": "meta"}, metrics=[], loss=None)
    model = MultiTaskModel([task, make_task("b")], device="cpu")
    places = {name: value.device.type for name, value in model.state_dict().items()}
    assert places == {name: "meta" if name.startswith("a_head") else "cpu" for name in model.state_dict()}
    outputs = model.network({"x": torch.ones(2, 4)})
    assert [outputs[name].device.type for name in ("features", "a_logits", "b_logits")] == ["cpu", "meta", "cpu"]
