"""Joint learning: a backbone, one head for each task id, and batches with rows of several tasks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import Batch, ConfigError, DataError, Head, JointLearning, LinearHeads, MainLoop, Scorer, StreamWrapper
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data import per_kind
from emloop_mtl.hooks import ComputeStats, Evaluate, SaveEvery, ScoreTasks, StopAfter, WriteJSON
from emloop_mtl.models import batch_preparation, share_outputs
from emloop_mtl.models.joint_heads import joint_heads
from emloop_mtl.schedulers import Interleaved, Sequential
from emloop_mtl.tasks import task_network
from emloop_mtl.tasks.select_rows import spread_rows

from .joint import CLASSES, Tasks, by_hand, grouped, make_model, make_rows

WAYS: dict[str, Callable[[Mapping[str, Tensor]], Any]] = {
    "ids": dict,
    "ids of a mixed loader": lambda rows: Batch(rows, tasks={str(key): "y" for key in CLASSES}),
    "grouped by a scheduler": grouped,
}
"""How a batch tells which row is of which task."""

CLOSE = 1e-6
"""float32 sums in another order: some units in the last place of numbers near 1."""


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("seed", range(3))
def test_loss_and_accuracy_of_a_mixed_batch_are_means_over_the_tasks_of_the_mean_of_each(way: Any, seed: int) -> None:
    model, rows = make_model(seed), make_rows(11, seed)
    expected, outputs = by_hand(model, rows), model.run(way(rows), train=False)
    for name in ("loss", "acc"):
        assert outputs[name].item() == pytest.approx(expected[name].item(), abs=CLOSE)
    assert outputs["loss_cls"].equal(outputs["loss"])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_preds_are_those_of_each_row_by_its_head_in_the_order_of_the_rows(way: Any) -> None:
    model, rows = make_model(), make_rows(40)
    outputs = model.run(way(rows), train=False)
    assert outputs["preds"].equal(by_hand(model, rows)["preds"])
    assert outputs["preds"].dtype == torch.int64


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_the_mean_is_over_the_tasks_that_are_present_alone(way: Any) -> None:
    model, rows = make_model(), make_rows(30)
    kept = rows["task_id"] != 2
    rows = {name: value[kept] for name, value in rows.items()}
    outputs = model.run(way(rows), train=False)
    assert outputs["loss"].item() == pytest.approx(by_hand(model, rows)["loss"].item(), abs=CLOSE)
    assert outputs["loss"].item() == pytest.approx((outputs["1/loss"] + outputs["7/loss"]).item() / 2, abs=CLOSE)
    assert "2/loss" not in outputs


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_step_has_the_gradients_of_that_mean_and_none_for_absent_tasks(way: Any) -> None:
    model, rows = make_model(), make_rows(9)
    kept = rows["task_id"] != 7
    rows = {name: value[kept] for name, value in rows.items()}
    expected = torch.autograd.grad(by_hand(model, rows)["loss"], [model.network["1"].weight, model.network["2"].weight])
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.run(way(rows), train=True)
    after = model.network.state_dict()
    for key, gradient in zip("12", expected, strict=True):
        # A step of float32 weights of about 1 has 1e-7 of them as its last digit, a tenth of what it is divided by.
        torch.testing.assert_close(
            (before[f"{key}.weight"] - after[f"{key}.weight"]) / 0.1, gradient, atol=1e-6, rtol=0
        )
    assert after["7.weight"].equal(before["7.weight"])
    assert not after["backbone.0.weight"].equal(before["backbone.0.weight"])


def test_every_way_of_telling_the_tasks_gives_the_same_bits() -> None:
    ends = []
    for way in WAYS.values():
        model = make_model()
        for seed in range(4):
            model.run(way(make_rows(10, seed)), train=True)
        ends.append(model.network.state_dict())
    assert all(torch.equal(value, end[name]) for end in ends[1:] for name, value in ends[0].items())


def test_a_batch_of_one_task_without_ids_uses_the_head_of_its_loader() -> None:
    model, rows = make_model(), make_rows(5)
    for key in CLASSES:
        y = rows["y"].clamp(max=1)
        outputs = model.run(Batch({"x": rows["x"], "y": y}, tasks={str(key): "y"}), train=False)
        alone = by_hand(model, {"x": rows["x"], "y": y, "task_id": torch.full((5,), key)})
        assert outputs["preds"].equal(alone["preds"])
        assert outputs["loss"].item() == pytest.approx(alone["loss"].item(), abs=CLOSE)
        assert outputs["acc"].item() == pytest.approx(alone["acc"].item(), abs=CLOSE)
        assert not any(name.startswith(f"{other}/") for other in CLASSES if other != key for name in outputs)


TRAINED: dict[str, Callable[[], Tasks]] = {
    "ids": Tasks,
    "Interleaved": lambda: Tasks(is_mixed=False, streams={"train": {"scheduler": Interleaved(batch_size=8)}}),
    "one by one": lambda: Tasks(is_mixed=False),
}
"""How the batches that are trained on come to be."""


@pytest.mark.parametrize("way", TRAINED)
def test_validation_and_test_go_task_by_task(way: str, tmp_path: Path) -> None:
    model = make_model()
    hooks = [Evaluate(["valid", "test"]), ScoreTasks(), StopAfter(epochs=2)]
    seen: dict[str, set[tuple[str, ...]]] = {}
    loop = MainLoop(model, TRAINED[way](), hooks, output_dir=tmp_path)
    run = model.run

    def noted(batch: Batch, train: bool, stream: Any = None) -> Any:
        seen.setdefault(stream.name, set()).add(tuple(batch.tasks))
        return run(batch, train, stream)

    model.run = noted  # type: ignore[method-assign]
    loop.run_training()
    assert seen["valid"] == seen["test"] == {("1",), ("2",), ("7",)}
    assert max(map(len, seen["train"])) == (1 if way == "one by one" else 3)


def test_activations_are_what_the_backbone_returns() -> None:
    model, rows = make_model(), make_rows(5)
    outputs = model.run(rows, train=False)
    assert set(outputs["activations"]) == {"backbone"}
    assert outputs["activations"]["backbone"].equal(model.network["backbone"](rows["x"]))


def test_activations_of_hidden_layers_are_among_the_outputs_without_gradients() -> None:
    model, rows = make_model(activations=["0", "2"]), make_rows(5)
    backbone = model.network["backbone"]
    hidden = {"0": backbone[0](rows["x"]), "2": backbone[:3](rows["x"])}  # the first update comes after the outputs
    outputs = model.run(rows, train=True)
    assert list(outputs["activations"]) == ["0", "2"]
    for name, value in outputs["activations"].items():
        assert value.equal(hidden[name])
        assert not value.requires_grad
    assert not backbone[0]._forward_hooks


class Named(nn.Module):
    """A backbone that returns its activations itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.layer(x)
        return {"features": hidden.tanh(), "hidden": hidden}


def test_activations_of_a_backbone_that_returns_a_mapping_are_its_entries() -> None:
    mapping = {key: {"features": "input"} for key in CLASSES}
    heads = LinearHeads(5, CLASSES)
    model = JointLearning(Named(), heads, label="y", arg_name_mapping=mapping, device="cpu")
    found = model.run(make_rows(5), train=False)["activations"]
    assert list(found) == ["features", "hidden"]
    assert found["features"].equal(found["hidden"].tanh())


def test_outputs_that_nobody_reads_are_not_made(tmp_path: Path) -> None:
    seen = []
    model = make_model()
    loop = MainLoop(model, Tasks(), [StopAfter(steps=1)], output_dir=tmp_path)
    run = model.run
    model.run = lambda *args, **how: seen.append(run(*args, **how)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    loop.run_training()
    assert all(name == "loss" or name.endswith("/loss") for outputs in seen for name in outputs)


def test_what_a_head_says_of_its_rows_is_spread_over_the_others_only_where_somebody_reads_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(share_outputs, "spread_rows", lambda *how: asked.append(how) or spread_rows(*how))  # type: ignore[func-returns-value]
    model, stream = make_model(), StreamWrapper(list)
    for outputs, count in ((("loss", "1/loss"), 0), (("1/pred", "2/pred"), 2)):
        stream.outputs = frozenset(outputs)
        model.run(make_rows(9), train=True, stream=stream)
        assert len(asked) == count


def test_hooks_read_what_is_said_of_a_batch_as_a_whole(tmp_path: Path) -> None:
    kept: list[Any] = []

    class Keep(StopAfter):
        def requires(self) -> Any:
            return ["preds", "activations", "acc"]

        def after_batch(self, stream_name: str, batch_data: Any) -> None:
            super().after_batch(stream_name, batch_data)
            kept.append((len(batch_data["preds"]), len(batch_data["activations"]["2"]), batch_data["acc"].dim()))

        def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
            super().after_epoch(epoch_id, epoch_data)
            assert 0 <= epoch_data["train"]["acc"]["mean"] <= 1
            assert epoch_data["train"]["loss_cls"]["mean"] == epoch_data["train"]["loss"]["mean"]

    hooks = [ComputeStats(["loss", "loss_cls", "acc"]), Keep(epochs=1)]
    MainLoop(make_model(activations=["2"]), Tasks(), hooks, output_dir=tmp_path).run_training()
    assert {(8, 8, 0), (2, 2, 0)} == set(kept)


def test_loss_weights_are_in_the_loss_but_not_in_loss_cls() -> None:
    rows = make_rows(12)
    plain, outputs = (make_model(loss_weights=w).run(rows, train=False) for w in (None, {1: 3.0, 7: 0.5}))
    parts = {key: plain[f"{key}/loss"].item() for key in CLASSES}
    assert outputs["loss"].item() == pytest.approx((3 * parts[1] + parts[2] + 0.5 * parts[7]) / 3, abs=CLOSE)
    assert outputs["loss_cls"].equal(plain["loss"])


def test_a_task_whose_rows_lack_labels_is_not_present_and_gets_zero_gradients() -> None:
    decaying = {"class": "sgd", "lr": 0.1, "weight_decay": 0.5}
    model = make_model(heads=LinearHeads(5, CLASSES, missing_label=-100), optimizer=decaying)
    rows = make_rows(12)
    rows["y"][rows["task_id"] == 2] = -100
    rows["y"][0] = -100
    labelled = {name: value[rows["y"] >= 0] for name, value in rows.items()}
    expected, outputs = by_hand(model, labelled), model.run(rows, train=False)
    for name in ("loss", "acc"):
        assert outputs[name].item() == pytest.approx(expected[name].item(), abs=CLOSE)
    assert outputs["preds"].equal(by_hand(model, {**rows, "y": rows["y"].clamp(min=0)})["preds"])
    before = model.network["2"].weight.clone()
    model.run(rows, train=True)
    # The decay alone has acted, which leaves weights without a gradient as they are.
    torch.testing.assert_close(model.network["2"].weight, before * (1 - 0.1 * 0.5), atol=1e-7, rtol=0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_missing_labels_are_found_among_the_rows_of_each_task(way: Any) -> None:
    model, rows = make_model(heads=LinearHeads(5, CLASSES, missing_label=-100)), make_rows(20)
    rows["y"][::3] = -100
    kept = rows["y"] >= 0
    outputs = model.run(way(rows), train=False)
    expected = by_hand(model, {name: value[kept] for name, value in rows.items()})
    assert outputs["loss"].item() == pytest.approx(expected["loss"].item(), abs=CLOSE)
    assert outputs["acc"].item() == pytest.approx(expected["acc"].item(), abs=CLOSE)
    assert outputs["preds"][kept].equal(expected["preds"])


def test_a_batch_without_any_label_has_a_loss_of_zero_and_no_accuracy() -> None:
    model, rows = make_model(heads=LinearHeads(5, CLASSES, missing_label=-100)), make_rows(6)
    rows["y"][:] = -100
    outputs = model.run(rows, train=True)
    assert outputs["loss"].item() == 0
    assert outputs["acc"].isnan()
    assert outputs["loss_cls"].isnan()


def test_the_accuracy_is_that_of_tasks_with_classes() -> None:
    heads = {"kind": nn.Linear(5, 3), "size": Head(nn.Linear(5, 1), loss="mse")}
    model, rows = make_model(heads=heads), make_rows(6)
    batch = {"x": rows["x"], "y": torch.tensor([0.0, 1, 2, 0, 1, 2]), "task_id": ["kind", "size"] * 3}
    outputs = model.run(batch, train=False)
    kinds = outputs["kind/pred"][::2]
    assert outputs["acc"].item() == (kinds == torch.tensor([0, 2, 1])).float().mean().item()
    assert "preds" not in outputs  # one number and a row of one do not fit


def test_scores_are_those_of_each_task_and_their_average_counts_each_once() -> None:
    model, rows = make_model(), make_rows(30)
    outputs = by_hand(model, rows)
    scores = model.score({"valid": [rows]})
    for key in CLASSES:
        own = rows["task_id"] == key
        right = (outputs["preds"][own] == rows["y"][own]).float().mean().item()
        assert scores[f"{key}/data/valid/accuracy"] == pytest.approx(right)  # a mean in float32
    assert scores["model/all/valid/macro_average"] == pytest.approx(outputs["acc"].item(), abs=CLOSE)
    assert scores["model/all/valid/loss"] == pytest.approx(outputs["loss"].item(), abs=CLOSE)


def test_a_row_is_predicted_by_the_head_of_its_task_alone() -> None:
    model, rows = make_model(), make_rows(9)
    predicted = model.predict([rows])
    expected = by_hand(model, rows)["preds"]
    for key in CLASSES:
        own = (rows["task_id"] == key).nonzero().squeeze(1)
        assert [int(value) for value in predicted[str(key)].preds] == expected[own].tolist()


def test_a_head_may_name_labels_of_its_own() -> None:
    heads: dict[str, Any] = {"one": Head(nn.Linear(5, 3), label="z"), "two": nn.Linear(5, 2)}
    model = make_model(heads=heads)
    assert {name: task.label for name, task in model.tasks.items()} == {"one": "z", "two": "y"}
    assert heads["one"].loss is None  # what is given stays as it was


def test_hyperparameters_that_are_returned_are_nobody_elses() -> None:
    model = make_model(hparams={"sizes": [1, 2]})
    model.hparams["sizes"].append(3)
    assert model.hparams == {"sizes": [1, 2]}


def test_heads_with_names_are_numbered_in_their_order() -> None:
    model = make_model(heads=LinearHeads(5, {"one": 3, "two": 2}))
    rows = make_rows(4)
    rows["y"].clamp_(max=1)
    ends = [
        model.run({"x": rows["x"], "y": rows["y"], "task_id": ids}, train=False)
        for ids in (torch.tensor([1, 0, 0, 1]), ["two", "one", "one", "two"])
    ]
    assert ends[0]["preds"].equal(ends[1]["preds"])
    assert set(model.tasks) == {"one", "two"}


def test_heads_may_come_and_go_between_batches_and_keep_their_ids() -> None:
    model, rows = make_model(), make_rows(12)
    model.run(rows, train=True)
    model.remove_task("2")
    model.add_head("9", nn.Linear(5, 2))
    rows["task_id"][rows["task_id"] == 2] = 9
    expected, outputs = by_hand(model, rows), model.run(rows, train=True)
    assert outputs["preds"].equal(expected["preds"])
    assert outputs["loss"].item() == pytest.approx(expected["loss"].item(), abs=CLOSE)
    with pytest.raises(ConfigError, match="'left' is no id, but other heads have ids"):
        model.add_head("left", nn.Linear(5, 2))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("train", [True, False])
def test_rows_of_a_removed_task_are_left_out_of_mixed_batches(way: Any, train: bool) -> None:
    model, rows = make_model(), make_rows(12)
    model.remove_task("2")
    kept = rows["task_id"] != 2
    expected = by_hand(model, {name: value[kept] for name, value in rows.items()})
    outputs = model.run(way(rows), train=train)
    assert outputs["loss"].item() == pytest.approx(expected["loss"].item(), abs=CLOSE)
    assert outputs["acc"].item() == pytest.approx(expected["acc"].item(), abs=CLOSE)
    assert outputs["preds"][kept].equal(expected["preds"])
    assert not [name for name in outputs if name.startswith("2/")]
    rows["task_id"][0] = 5
    if way is dict:
        with pytest.raises(DataError, match="row 0 is for head number 5, which there is not"):
            model.run(way(rows), train=train)


def test_accumulated_steps_are_the_mean_of_their_means() -> None:
    batches = [make_rows(7, seed) for seed in range(2)]
    one, other = make_model(update={"accumulate": 2}), make_model()
    loss = sum(by_hand(other, rows)["loss"] for rows in batches) / 2
    gradient = torch.autograd.grad(loss, other.network["backbone"][0].weight)[0]
    before = one.network["backbone"][0].weight.clone()
    for rows in batches:
        one.run(rows, train=True)
    # As above, the last digit of a weight over 0.1.
    torch.testing.assert_close((before - one.network["backbone"][0].weight) / 0.1, gradient, atol=1e-6, rtol=0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_mixed_batch_with_a_bad_row_can_be_skipped(way: Any, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = make_rows(12), make_rows(12, seed=1)
    row = bad["task_id"].tolist().index(2)
    bad["x"][row] = torch.nan
    model, other = (make_model(optimizer="adam", update={"on_nan": "skip"}) for _ in range(2))
    for rows in (good, bad, good):
        model.run(way(rows), train=True)
    model.settle()
    for _ in range(2):
        other.run(way(good), train=True)
    assert model.update.watch is not None
    assert model.update.watch.skipped == 1
    assert "the loss of task '2' is nan" in caplog.text
    for name, value in other.state_dict().items():
        assert model.state_dict()[name].equal(value)


def test_what_is_known_of_the_sets_of_tasks_in_a_batch_does_not_grow_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for most in (1024, 3):
        for module in (batch_preparation, task_network, per_kind):
            monkeypatch.setattr(module, "MOST_KINDS", most)
        model = make_model()
        streams = {"train": {"scheduler": Sequential()}}
        hooks = [Evaluate(["valid"]), ScoreTasks(train=True), ComputeStats(["acc"]), WriteJSON(), StopAfter(epochs=2)]
        folder = tmp_path / str(most)
        MainLoop(model, Tasks(batch_size=2, streams=streams), hooks, output_dir=folder).run_training()
        ends.append((folder / "metrics.jsonl").read_bytes())
        kept = max(len(model._preparation._kinds), len(model.network._plans))
        assert kept <= 3 if most == 3 else kept > 5  # of 7 sets of tasks
    assert ends[0] == ends[1]


@pytest.mark.parametrize("way", TRAINED)
def test_a_run_that_is_resumed_ends_like_one_that_was_not(way: str, tmp_path: Path) -> None:
    def train(folder: str, hparams: dict[str, Any] | None, restored: str | None = None) -> JointLearning:
        model = make_model(hparams=hparams, optimizer={"class": "adam", "lr": 0.01}, update={"accumulate": 2})
        hooks = [Evaluate(["valid"]), ScoreTasks(), ComputeStats(["acc"]), WriteJSON(), SaveEvery(steps=5)]
        loop = MainLoop(model, TRAINED[way](), [*hooks, StopAfter(epochs=3)], output_dir=tmp_path / folder)
        if restored is not None:
            shutil.copytree(tmp_path / "whole", tmp_path / folder, dirs_exist_ok=True)
            loop.restore(newest_checkpoint(tmp_path / folder / "checkpoints", restored))
        loop.run_training()
        return model

    whole = train("whole", {"lr": "low"})
    rest = train("rest", None, restored="step-5")  # in the middle of an epoch and of a window
    assert all(torch.equal(value, rest.state_dict()[name]) for name, value in whole.state_dict().items())
    assert rest.hparams == {"lr": "low"}
    assert (tmp_path / "rest" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_hyperparameters_are_kept_with_the_run() -> None:
    given = {"dataset": "digits", "crop": [3, 4]}
    model = make_model(hparams=given)
    given["crop"].append(5)  # type: ignore[attr-defined]
    assert model.hparams == {"dataset": "digits", "crop": [3, 4]}
    state = model.training_state_dict()
    for own, expected in ((None, model.hparams), ({"crop": []}, {"crop": []})):
        other = make_model(hparams=own)
        other.load_training_state_dict(state)
        assert other.hparams == expected
    assert make_model().hparams == {}


@pytest.mark.parametrize(
    ("settings", "says", "path"),
    [
        ({"heads": {1: nn.Linear(5, 2), "two": nn.Linear(5, 2)}}, "'two' is no id, but other heads have", ("two",)),
        ({"heads": {1: nn.Linear(5, 2), "01": nn.Linear(5, 2)}}, "two heads have the id 1", ("01",)),
        ({"heads": {-1: nn.Linear(5, 2)}}, "-1 cannot be the id of a task", ("-1",)),
        ({"heads": {True: nn.Linear(5, 2)}}, "True cannot be the id of a task", ("True",)),
        ({"heads": {1: 3}}, "head '1' must be an nn.Module or a Head, not 3", ("1",)),
        ({"heads": [nn.Linear(5, 2)]}, "heads must map names to modules", ()),
        ({"heads": {}}, "a model needs at least one head", ()),
    ],
)  # fmt: skip
def test_heads_that_cannot_be_told_apart_are_refused(settings: Any, says: str, path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_model(**settings)
    assert says in str(caught.value)
    assert caught.value.path == ("heads", *path)


@pytest.mark.parametrize(
    ("settings", "says", "path"),
    [
        ({"loss_weights": {3: 1.0}}, "loss_weights: there is no head '3'", ("loss_weights", "3")),
        ({"activations": ["1", "9"]}, "the backbone has no layer '9'", ("activations", 1)),
        ({"activations": "1"}, "activations must be a list of names of layers, not '1'", ("activations",)),
        ({"activations": 1}, "activations must be a list of names of layers, not 1", ("activations",)),
        ({"hparams": {"size": torch.nn.ReLU()}}, "hparams/size: torch.nn.modules", ("hparams",)),
        ({"hparams": [1]}, "hparams must be a mapping, not [1]", ("hparams",)),
    ],
)
def test_wrong_settings_are_refused(settings: Any, says: str, path: tuple[str | int, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_model(**settings)
    assert says in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({1: 0}, "task 1: a number of classes must be"),
        ([], "classes must map ids of tasks"),
        ("ab", "classes must map"),
    ],
)
def test_linear_heads_need_numbers_of_classes(classes: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LinearHeads(4, classes)


def test_linear_heads_may_be_given_as_a_list() -> None:
    assert list(make_model(heads=LinearHeads(5, [3, 2])).tasks) == ["0", "1"]


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (lambda rows: {"x": rows["x"], "y": rows["y"]}, "no source 'task_id', and its loader names no task"),
        (lambda rows: Batch({"x": rows["x"], "y": rows["y"]}, tasks={"1": "y", "2": "y"}), "loader names 2 tasks"),
        (lambda rows: {**rows, "task_id": rows["task_id"] * 3}, "is for head number 3, which there is not; heads"),
        (lambda rows: {**rows, "task_id": rows["task_id"][:2]}, "must hold the head of each of 6 rows, not 2 values"),
        (lambda rows: {**rows, "y": rows["y"] + 7}, "task '1', source 'y': "),
        (lambda rows: Batch(rows, tasks={"1": "y"}), "but the loader has only 1"),
    ],
)  # fmt: skip
def test_a_batch_that_does_not_fit_the_tasks_is_refused(batch: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        make_model().run(batch(make_rows(6)), train=True)
    assert says in str(caught.value)


def test_a_row_of_two_tasks_is_refused() -> None:
    batch = grouped(make_rows(6))
    batch.shares["1"] = batch.shares["2"]
    with pytest.raises(DataError, match="each row must be of one task"):
        make_model().run(batch, train=True)


def test_a_loader_that_does_not_tell_the_task_is_refused_before_the_training(tmp_path: Path) -> None:
    loop = MainLoop(make_model(task_source="task"), Tasks(), [StopAfter(epochs=1)], output_dir=tmp_path)
    with pytest.raises(ConfigError) as caught:
        loop.run_training()
    assert "loader 'mixed', split 'train': nothing tells which of the tasks 1, 2, 7 a row" in str(caught.value)


def test_what_a_head_says_itself_is_kept() -> None:
    given = Head(nn.Linear(2, 2))
    scored, other = Head(nn.Linear(2, 2), scorer=Scorer(["f1"])), Head(nn.Linear(2, 1), label="own", loss="mse")
    made = joint_heads({1: given, 2: scored, 3: other}, "label")
    assert [(head.label, head.loss, head.metrics) for head in made.values()] == [
        ("label", "cross_entropy", ["accuracy"]),
        ("label", "cross_entropy", None),
        ("own", "mse", None),
    ]
    assert (given.label, given.loss, given.metrics) == (None, None, None)
