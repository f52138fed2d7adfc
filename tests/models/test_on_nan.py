"""Losses and gradients that are not finite: an error, a warning, or an update that is left out."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError, NotFiniteError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

from .not_finite import Root, equal, make_batches, make_model, make_modules, zeros

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"class": "sgd", "lr": 0.1},
    "momentum": {"class": "sgd", "lr": 0.1, "momentum": 0.9},
    "dampening": {"class": "sgd", "lr": 0.1, "momentum": 0.9, "dampening": 0.5, "fused": True},
    "plain sgd": {"class": "sgd", "lr": 0.1, "momentum": 0.9, "fused": False},
    "adam": {"class": "adam", "lr": 0.1},
    "adamw": {"class": "adamw", "lr": 0.1, "weight_decay": 0.1, "amsgrad": True},
    "plain adamw": {"class": "adamw", "lr": 0.1, "fused": False},
    "adagrad": {"class": "adagrad", "lr": 0.1},
    "rmsprop": {"class": "rmsprop", "lr": 0.1},
    "nadam": {"class": "nadam", "lr": 0.1},
    "bert_adam": {"class": "bert_adam", "lr": 0.1},
}


def train_by_hand(
    modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, steps: Sequence[Sequence[Batch]], clip: float
) -> None:
    """Train as one would without an engine: an update for each step, left out where anything is not finite."""
    network = nn.ModuleDict(modules)
    for number, step in enumerate(steps):
        optimizer.param_groups[0]["lr"] = rate(number)
        is_good = True
        for batch in step:
            before = [buffer.clone() for buffer in network.buffers()]
            features = modules["trunk"](batch["x"])
            losses = {name: functional.cross_entropy(modules[f"{name}_head"](features), batch[name]) for name in "ab"}
            loss = losses["a"] + losses["b"] * 0.5
            torch.autograd.backward(loss / len(step))
            if not loss.isfinite():
                is_good = False
                for buffer, value in zip(network.buffers(), before, strict=True):
                    buffer.copy_(value)
        parameters = [parameter for parameter in network.parameters() if parameter.grad is not None]
        is_good = is_good and all(bool(p.grad.isfinite().all()) for p in parameters if p.grad is not None)
        if is_good:
            nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
        optimizer.zero_grad()


def rate(step: int) -> float:
    return 0.1 / (1 + step)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_skip_equals_a_loop_by_hand_that_skips(optimizer: dict[str, Any], accumulate: int, place: str) -> None:
    batches = make_batches(12, bad=[0, 4, 5, 10])
    model = make_model("skip", optimizer, update={"accumulate": accumulate, "clip_norm": 1.0})
    model.learning_rate.follow(lambda base, x: base / (1 + x // accumulate))
    model.set_length(12, None)
    for batch in batches:
        model.run(batch, train=True)
    model.settle()

    modules = make_modules()
    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    options = {name: value for name, value in model.optimizer.defaults.items() if name != "decoupled_weight_decay"}
    twin = type(model.optimizer)(parameters, **options)
    windows = [batches[start : start + accumulate] for start in range(0, 12, accumulate)]
    train_by_hand(modules, twin, windows, clip=1.0)
    assert equal(model.state_dict(), dict(nn.ModuleDict(modules).state_dict()))
    for mine, other in zip(parameters, model.optimizer.param_groups[0]["params"], strict=True):
        assert equal(dict(twin.state[mine]), dict(model.optimizer.state[other]))
    assert model.update.step == 12
    assert model.update.watch is not None
    assert model.update.watch.skipped == (4 if accumulate == 1 else 3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_an_update_that_is_left_out_changes_nothing(optimizer: str, place: str) -> None:
    model = make_model("skip", {"class": optimizer, "lr": 0.1})
    good, bad = make_batches(2, bad=[1])
    model.run(good, train=True)
    before = copy.deepcopy((model.state_dict(), model.training_state_dict()["optimizer"]))
    model.run(bad, train=True)
    assert equal(before[0], model.state_dict())
    assert equal(before[1], model.training_state_dict()["optimizer"])
    assert model.update.step == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("compiled", [False, {"backend": "eager"}], ids=["plain", "compiled"])
def test_error_names_loss_and_batch(value: float, compiled: Any, tmp_path: Path) -> None:
    model = make_model("error", output_dir=tmp_path, compile=compiled)
    batches = make_batches(3, bad=[1], value=value, data_name="rows")
    batches[1]["_uids_"] = [f"row {n}" for n in range(8)]
    model.run(batches[0], train=True)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NotFiniteError) as caught:
        model.run(batches[1], train=True)
    folder = tmp_path / "not_finite" / "step-2"
    assert str(caught.value) == (
        "the loss of task 'a', 'b' is nan: step 2, batch 1, loader 'rows', task 'a', 'b', uids row 0, row 1, row 2, "
        "row 3, row 4, row 5, row 6, row 7; so are the buffers 'trunk.1.running_mean', 'trunk.1.running_var'; "
        f"the batch is kept in '{folder}'; model.update.on_nan: skip leaves out such updates"
    )
    weights = [name for name, _ in model.network.named_parameters()]
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in weights)


def test_a_bad_label_is_of_its_own_task() -> None:
    losses = [Task("a", flow=[Action("a_out", "a", "x")], label="a", loss="mse")]
    losses += [Task("b", flow=[Action("b_out", "b", "x")], label="b", loss=infinite)]
    model = MultiTaskModel(
        losses, {"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)}, update={"on_nan": "error"}, device="cpu"
    )
    batch = Batch({"x": torch.ones(2, 3), "a": torch.ones(2), "b": torch.ones(2)}, tasks={"a": "a", "b": "b"})
    with pytest.raises(NotFiniteError, match=r"^the loss of task 'b' is inf: step 1, task 'a', 'b'; model"):
        model.run(batch, train=True)


def infinite(outputs: Any, label: Tensor) -> Tensor:
    out: Tensor = outputs["b_out"]
    return (out.squeeze(1) - label).square().mean() * 0 + torch.tensor(math.inf)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("stream", [None, "train"])
def test_a_gradient_that_is_not_finite_is_named_without_those_that_clipping_would_make_so(
    clip: float | None, stream: str | None, place: str
) -> None:
    modules = {"trunk": nn.Linear(3, 4, bias=False), "a_head": nn.Sequential(zeros(4, 2), Root())}
    modules["b_head"] = nn.Linear(4, 2)
    modules["b_head"].requires_grad_(False)
    model = make_model("error", modules=modules, update={"clip_norm": clip})
    for parameter in modules["trunk"].parameters():
        parameter.requires_grad_(False)
    with pytest.raises(NotFiniteError) as caught:
        model.run(make_batches(1)[0], train=True)
        model.settle()
    text = "the gradient of 'a_head.0.weight', 'a_head.0.bias' is nan, inf, the loss is finite: step 1, batch 0"
    alternatives = [text, text.replace("nan, inf", "inf"), text.replace("nan, inf", "nan")]
    assert any(str(caught.value).startswith(each) for each in alternatives)


def test_tasks_that_run_as_one_are_named_apart(place: str) -> None:
    names = [f"t{number}" for number in range(4)]
    features = Action("features", "trunk", "x")
    tasks = [Task(n, flow=[features, Action(f"{n}_out", f"{n}_head", "features")], label=n, loss="mse") for n in names]
    modules = {"trunk": nn.Linear(3, 4), **{f"{name}_head": nn.Linear(4, 1) for name in names}}
    model = MultiTaskModel(tasks, modules, update={"on_nan": "error"}, optimizer="adam", device="cpu")

    def batch(value: float) -> Batch:
        labels = {name: torch.ones(2) for name in names}
        labels["t2"] = torch.tensor([1.0, value])
        return Batch({"x": torch.ones(2, 3), **labels}, tasks={name: name for name in names})

    model.run(batch(1.0), train=True)
    assert model.stacked_tasks == [tuple(names)]
    with pytest.raises(NotFiniteError, match=r"^the loss of task 't2' is inf: step 2"):
        model.run(batch(1e30), train=True)
        model.settle()
    assert model.stacked_tasks == [tuple(names)]


def test_gradients_of_parameters_that_are_one_are_named_apart(place: str) -> None:
    names = [f"t{number}" for number in range(3)]
    tasks = [Task(n, flow=[Action(f"{n}_out", f"{n}_head", "x")], label=n, loss="cross_entropy") for n in names]
    modules = {f"{name}_head": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)) for name in names}
    model = MultiTaskModel(tasks, modules, update={"on_nan": "error"}, optimizer="sgd", device="cpu")
    batch = Batch(
        {"x": torch.ones(2, 3), **{name: torch.tensor([0, 1]) for name in names}}, tasks={name: name for name in names}
    )
    model.run(batch.copy(), train=True)
    assert model.stacked_tasks == [tuple(names)]
    weights = model.state_dict()
    with torch.no_grad():  # 1e30 · 1e30 in the backward pass alone: what comes out of the layers is finite
        weights["t1_head.1.weight"].copy_(torch.tensor([[1e30, 0.0], [-1e30, 0.0]]))
        weights["t1_head.0.weight"].zero_()
        weights["t1_head.0.bias"].zero_()
    batch["x"] = torch.full((2, 3), 1e30)
    with pytest.raises(NotFiniteError) as caught:
        model.run(batch, train=True)
        model.settle()
    text = str(caught.value)
    assert "t1_head.0.weight" in text, text
    assert "t0" not in text.split(":")[0]


@pytest.mark.parametrize("on_nan", ["error", "skip", "warn"])
def test_numbers_whose_sum_or_square_is_infinite_are_finite(
    on_nan: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    for size in (2, 2**16):  # small gradients are looked at in another way than large ones
        weight = nn.Linear(size, 1, bias=False)
        task = Task("a", flow=[Action("out", "layer", "x")], loss=total)
        model = MultiTaskModel([task], {"layer": weight}, optimizer="sgd", update={"on_nan": on_nan}, device="cpu")
        model.optimizer.param_groups[0]["lr"] = 1e-38
        nn.init.zeros_(weight.weight)
        model.run(Batch({"x": torch.full((1, size), 3e38)}, tasks={"a": None}), train=True)
        model.settle()
        assert weight.weight.detach().abs().max() > 0
    assert not caplog.records


def total(outputs: Any, label: Any) -> Tensor:
    out: Tensor = outputs["out"]
    return out.sum()


def test_warn_tells_of_each_place_once_and_not_forever(place: str, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("warn", modules=make_modules(noise=False))
    for batch in make_batches(45, bad=[2]):
        model.run(batch, train=True)
    model.settle()
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert texts[0] == (
        "the loss of task 'a', 'b' is nan: step 3, batch 2, task 'a', 'b'; "
        "the training goes on with it (model.update.on_nan: warn)"
    )
    assert len(texts) == 12  # the weights are nan from then on: 10 batches, then the 20th and the 40th
    assert texts[10].startswith("20 batches so far were not finite, the last one: the loss of task 'a', 'b' is nan: ")
    assert texts[11].startswith("40 batches so far")


def test_a_place_that_comes_again_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("skip")
    for _ in range(5):
        for batch in make_batches(3, bad=[2]):
            model.run(batch, train=True)
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(texts) == 1
    assert texts[0].endswith("; its update is left out (model.update.on_nan: skip)")
    assert model.update.watch is not None
    assert model.update.watch.skipped == 5


def test_too_many_updates_in_a_row_that_are_left_out_are_an_error(place: str) -> None:
    model = make_model("skip")
    bad = make_batches(1, bad=[0])[0]
    good = make_batches(1)[0]
    for number in range(260):
        model.run((good if number in (0, 99) else bad).copy(), train=True)
        if number == 150:
            model.settle()
        if number == 198:
            break
    model.settle()
    with pytest.raises(NotFiniteError, match="100 updates in a row were not finite and left out"):
        model.run(bad.copy(), train=True)
        model.settle()


def test_fp16_leaves_an_overflow_of_the_scale_to_the_scaler(place: str, caplog: pytest.LogCaptureFixture) -> None:
    for on_nan in ("error", "skip", "warn"):
        model = make_model(on_nan, precision="fp16", modules=make_modules(noise=False))
        scaler = model.update._scaler
        assert scaler is not None
        batches = make_batches(8)
        scaler._init_scale = 2.0**60  # no gradient survives that in fp16
        for batch in batches:
            model.run(batch, train=True)
        model.settle()
        assert scaler.get_scale() == 2.0**52
        assert model.update.watch is not None
        assert model.update.watch.skipped == 0
    assert not caplog.records


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_nan_is_no_matter_of_the_scale(precision: str, place: str) -> None:
    model = make_model("skip", precision=precision)
    batches = make_batches(4, bad=[2])
    for batch in batches[:2]:
        model.run(batch, train=True)
    before = copy.deepcopy((model.state_dict(), model.training_state_dict()))
    model.run(batches[2], train=True)
    after = model.training_state_dict()
    assert equal(before[0], model.state_dict())
    for key in ("optimizer", "scaler"):
        assert equal({key: before[1][key]}, {key: after[key]})
    assert after["watch"]["skipped"] == 1
    model.run(batches[3], train=True)
    assert not equal(before[0], model.state_dict())
    with pytest.raises(NotFiniteError, match="the loss of task 'a', 'b' is nan: step 1"):
        model = make_model("error", precision=precision)
        model.run(batches[2].copy(), train=True)
        model.settle()


def test_fp16_tells_of_gradients_that_no_scale_can_help(place: str) -> None:
    modules = {"trunk": nn.Linear(3, 4), "a_head": nn.Sequential(zeros(4, 2), Root()), "b_head": nn.Linear(4, 2)}
    model = make_model("error", precision="fp16", modules=modules)
    batches = make_batches(20)
    with pytest.raises(NotFiniteError, match="step 17, batch 16, .*, or another of its window") as caught:
        for batch in batches:  # the scale begins at 65536, which is 2 to the 16th
            model.run(batch, train=True)
            model.settle()
    assert str(caught.value).startswith("the gradient of ")
    assert "a_head.0.weight" in str(caught.value)


@pytest.mark.parametrize("value", [True, "stop", "Error", 1, ["error"], {}])
def test_a_wrong_value_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"update.on_nan must be one of error, skip, warn, or be left out, not") as e:
        make_model(value)
    assert e.value.path == ("update", "on_nan")


def test_an_optimizer_that_evaluates_several_times_is_refused() -> None:
    with pytest.raises(ConfigError, match="LBFGS evaluates a step several times and cannot work with update.on_nan"):
        make_model("error", "lbfgs")


def test_without_the_setting_nothing_is_looked_at() -> None:
    model = make_model(None)
    assert model.update.watch is None
    model.run(make_batches(1, bad=[0])[0], train=True)
    assert "watch" not in model.training_state_dict()


def pickled(model: MultiTaskModel) -> MultiTaskModel:
    twin: MultiTaskModel = pickle.loads(pickle.dumps(model))  # noqa: S301 - it was made a line before
    return twin


@pytest.mark.parametrize("make_copy", [copy.deepcopy, pickled])
def test_copies_of_a_model_look_at_batches_of_their_own(make_copy: Any, place: str) -> None:
    model = make_model("skip")
    batches = make_batches(3, bad=[1])
    for batch in batches[:2]:
        model.run(batch.copy(), train=True)
    twin = make_copy(model)
    model.run(batches[2].copy(), train=True)
    twin.run(batches[1].copy(), train=True)
    twin.run(batches[2].copy(), train=True)
    assert equal(model.state_dict(), twin.state_dict())
    assert (model.training_state_dict()["watch"]["skipped"], twin.training_state_dict()["watch"]["skipped"]) == (1, 2)


def test_a_weight_of_tasks_that_run_as_one_is_named_by_itself() -> None:
    names = ["t0", "t1", "t2"]
    tasks = [Task(n, flow=[Action(f"{n}_out", f"{n}_head", "x")], label=n, loss="mse") for n in names]
    modules = {f"{name}_head": nn.Linear(3, 1) for name in names}
    model = MultiTaskModel(tasks, modules, update={"on_nan": "error"}, optimizer="adam", device="cpu")
    batch = Batch(
        {"x": torch.ones(2, 3), **{name: torch.ones(2) for name in names}}, tasks={name: name for name in names}
    )
    model.run(batch, train=True)
    assert model.stacked_tasks == [tuple(names)]
    with torch.no_grad():
        model.state_dict()["t1_head.bias"].fill_(math.inf)
    with pytest.raises(NotFiniteError, match="^'t1_head.bias' is not finite after step 1, so that is not saved$"):
        model.training_state_dict()
