"""Losses and gradients that are not finite: an error, a warning, or an update that is left out."""

from __future__ import annotations

import copy
import json
import math
import pickle
import resource
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError, NotFiniteError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim import finite_watch, host_flags
from emloop_mtl.optim.update import Update
from emloop_mtl.tasks import Action, Task

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


@pytest.fixture(params=["host", "device"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where batches are looked at: as on the CPU, or as on a device that nobody waits for."""
    if request.param == "device":
        monkeypatch.setattr(finite_watch, "answers_at_once", lambda device: False)
    return str(request.param)


class Root(nn.Module):
    """The square root, whose gradient at 0 is infinite although its value is finite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


def zeros(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def make_modules(noise: bool = True) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(3, 4), nn.BatchNorm1d(4)] if noise else [nn.Linear(3, 4)]
    return {"trunk": nn.Sequential(*layers, nn.Tanh()), "a_head": nn.Linear(4, 2), "b_head": nn.Linear(4, 2)}


def make_model(
    on_nan: str | None,
    optimizer: Any = "adam",
    modules: Mapping[str, nn.Module] | None = None,
    update: Mapping[str, Any] | None = None,
    **options: Any,
) -> MultiTaskModel:
    features = Action("features", "trunk", "x")
    tasks = [
        Task(
            name,
            flow=[features, Action(f"{name}_out", f"{name}_head", "features")],
            label=name,
            loss="cross_entropy",
            weight=weight,
        )
        for name, weight in (("a", 1.0), ("b", 0.5))
    ]
    settings = {"on_nan": on_nan, **(update or {})}
    options = {"device": "cpu", **options}
    return MultiTaskModel(tasks, modules or make_modules(), optimizer=optimizer, update=settings, **options)


def make_batches(number: int, bad: Iterable[int] = (), value: float = math.nan, **attributes: Any) -> list[Batch]:
    """Make batches with labels of both tasks; ``bad`` ones have a source that is not finite."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for index in range(number):
        x = torch.randn(8, 3, generator=generator)
        if index in bad:
            x[5, 1] = value
        labels = {name: torch.randint(2, (8,), generator=generator) for name in "ab"}
        batches.append(Batch({"x": x, **labels}, tasks={"a": "a", "b": "b"}, **attributes))
        batches[-1].number = index
    return batches


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


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    return bool(first == second)


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


# ------------------------------------------------------------------------------------------- precision and settings


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


# ------------------------------------------------------------------------------------------------- what is kept


def test_what_is_kept_is_plain_and_whole(tmp_path: Path) -> None:
    model = make_model("error", output_dir=tmp_path)
    (tmp_path / "checkpoints" / "latest-3").mkdir(parents=True)
    batch = make_batches(1, bad=[0], data_name="rows")[0]
    batch.update(_uids_=list("abcdefgh"), strange=[object()] * 8, one=1.5)
    with pytest.raises(NotFiniteError) as caught:
        model.run(batch, train=True)
    folder = tmp_path / "not_finite" / "step-1"
    kept = torch.load(folder / "batch.pt", weights_only=True)
    assert torch.equal(kept["sources"]["x"], batch["x"].nan_to_num(0)) is False
    assert torch.equal(kept["sources"]["x"].isnan(), batch["x"].isnan())
    assert kept["sources"].keys() == {"x", "a", "b", "_uids_", "one"}
    assert kept["tasks"] == {"a": "a", "b": "b"}
    assert kept["losses"].keys() == {"a/loss", "b/loss", "loss"}
    assert kept["gradients"].keys() == dict(model.network.named_parameters()).keys()
    assert {key: kept[key] for key in ("step", "stream", "loader", "batch")} == {
        "step": 1,
        "stream": "",
        "loader": "rows",
        "batch": 0,
    }
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert str(caught.value).startswith(summary["message"])
    assert summary["checkpoints"] == ["latest-3"]
    assert summary["losses"]["a/loss"] == "nan"
    assert summary["sources"]["x"] == "float32 8x3, 1 nan, 0 infinite"
    assert summary["sources"]["one"] == "float"
    assert summary["sources"]["strange"] == "left out: its values are no plain data"
    assert summary["not_finite"]["buffers"] == ["trunk.1.running_mean", "trunk.1.running_var"]
    assert sorted(path.name for path in (tmp_path / "not_finite").iterdir()) == ["step-1"]


def test_no_more_is_kept_than_a_few_batches(tmp_path: Path) -> None:
    model = make_model("skip", output_dir=tmp_path)
    for batch in make_batches(9, bad=range(1, 9)):
        model.run(batch, train=True)
    kept = tmp_path / "not_finite"
    assert sorted(path.name for path in kept.iterdir()) == [f"step-{number}" for number in range(2, 7)]
    error = make_model("error", output_dir=tmp_path)
    error.update.step = 20
    with pytest.raises(NotFiniteError):  # the end of a training is worth more than the oldest of those
        error.run(make_batches(1, bad=[0])[0], train=True)
    assert len(list(kept.iterdir())) == 5
    assert (kept / "step-21").is_dir()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_source_of_an_odd_kind_costs_no_other_one(tmp_path: Path) -> None:
    model = make_model("error", output_dir=tmp_path)
    batch = make_batches(1, bad=[0])[0]
    batch["small"] = torch.tensor([1.0, math.nan]).to(torch.float8_e4m3fn)
    batch["ragged"] = torch.nested.nested_tensor([torch.ones(2), torch.tensor([1.0, math.inf, 1.0])])
    with pytest.raises(NotFiniteError):
        model.run(batch, train=True)
    folder = tmp_path / "not_finite" / "step-1"
    described = json.loads((folder / "summary.json").read_text())["sources"]
    assert described["small"] == "float8_e4m3fn 2, 1 nan, 0 infinite"
    assert described["ragged"] == "float32 nested 2, 0 nan, 1 infinite"
    assert torch.load(folder / "batch.pt", weights_only=True)["sources"].keys() == batch.keys()


def test_large_sources_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emloop_mtl.optim.evidence.MOST_BYTES", 200)
    model = make_model("error", output_dir=tmp_path)
    with pytest.raises(NotFiniteError):
        model.run(make_batches(1, bad=[0])[0], train=True)
    kept = torch.load(tmp_path / "not_finite" / "step-1" / "batch.pt", weights_only=True)
    assert kept["sources"].keys() == {"x", "a"}  # 96 and 64 bytes


def test_a_folder_that_cannot_be_written_hides_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "not_finite").write_text("a file in its place")
    model = make_model("error", output_dir=tmp_path)
    with pytest.raises(NotFiniteError, match="the loss of task 'a', 'b' is nan"):
        model.run(make_batches(1, bad=[0])[0], train=True)
    assert "cannot be written, so nothing is kept of that batch" in caplog.text


def test_more_batches_on_their_way_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite_watch, "answers_at_once", lambda device: False)
    model = make_model("warn")
    number = host_flags.MOST + 5
    for batch in make_batches(number):
        model.run(batch, train=True)
    assert model.update.watch is not None
    held = [finding for finding in model.update.watch._waiting if finding is not None]
    assert len(held) == host_flags.MOST
    model.settle()
    assert not model.update.watch._waiting


def test_a_disk_that_takes_no_more_hides_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("error", output_dir=tmp_path)
    batch = make_batches(1, bad=[0])[0]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))  # bytes of a file: less than the batch takes
    try:
        with pytest.raises(NotFiniteError, match="the loss of task 'a', 'b' is nan"):
            model.run(batch, train=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written, so nothing is kept of that batch" in caplog.text
    assert not list((tmp_path / "not_finite").iterdir())


class Exchanging(nn.Module):
    """A module that makes its buffer anew in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = x.mean(dim=0)
        return x


def test_buffers_that_are_exchanged_are_put_back(place: str) -> None:
    modules = {**make_modules(), "trunk": nn.Sequential(Exchanging(), nn.Linear(3, 4))}
    model = make_model("skip", modules=modules)
    good, bad = make_batches(2, bad=[1])
    model.run(good, train=True)
    model.run(bad, train=True)
    assert torch.equal(model.state_dict()["trunk.0.mean"], good["x"].mean(dim=0))


class Adjacent(nn.Module):
    """A module with buffers that cannot be written to as others can, one of which is exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("graph", torch.eye(3).to_sparse())
        self.register_buffer("counts", torch.eye(3).to_sparse())
        with torch.inference_mode():
            self.register_buffer("fixed", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.counts = self.counts + x.detach().mean() * self.graph
        result: Tensor = self.layer(torch.sparse.mm(self.graph, x.T).T)
        return result


def test_sparse_buffers_and_those_of_inference_are_put_back(place: str) -> None:
    module = Adjacent()
    model = make_model("skip", "sgd", {**make_modules(noise=False), "trunk": module})
    for batch in make_batches(3, [0, 2]):
        model.run(batch, train=True)
    model.settle()
    assert torch.equal(module.graph.to_dense(), torch.eye(3))
    assert torch.equal(module.fixed, torch.ones(3))
    expected = torch.eye(3) + make_batches(2)[1]["x"].mean() * torch.eye(3)
    assert torch.equal(module.counts.to_dense(), expected)


class OddBuffers(nn.Module):
    """A module with a cache that grows with the batches, one that is made late, one that comes and goes, and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("cache", torch.zeros(2))
        self.register_buffer("late", None)
        self.register_buffer("gone", torch.ones(2))
        self.register_buffer("scale", torch.ones(1).expand(3))

    def forward(self, x: Tensor) -> Tensor:
        self.cache = x.detach().sum(1)
        mean = x.detach().mean(0)
        self.late = mean if self.late is None else self.late.lerp(mean, 0.5)
        self.gone = torch.ones(2) if self.gone is None else None
        result: Tensor = self.layer(x * self.scale)
        return result


def test_buffers_that_change_their_shape_or_are_made_late_are_put_back(place: str) -> None:
    trained = {}
    for bad in ([0, 2], []):
        module = OddBuffers()
        model = make_model("skip", "sgd", {**make_modules(noise=False), "trunk": module})
        for batch in make_batches(4, bad) if bad else make_batches(4)[1::2]:
            model.run(batch, train=True)
        model.settle()
        trained[len(bad)] = dict(module.named_buffers())
    assert trained[2].keys() == trained[0].keys() == {"cache", "late", "gone", "scale"}
    for name, buffer in trained[0].items():
        assert torch.equal(trained[2][name], buffer), name


def test_gradients_that_somebody_has_put_there_are_looked_at() -> None:
    weight = nn.Parameter(torch.ones(3))
    update = Update({"weight": weight}, {"class": "sgd", "lr": 0.1, "fused": False}, on_nan="error")
    for value in (1.0, math.nan):
        weight.grad = torch.tensor(value).expand(3)  # one number for all, which cannot be written to
        batch = Batch({"x": [0]})
        if math.isnan(value):
            with pytest.raises(NotFiniteError, match="the gradient of 'weight' is nan, the loss is finite: step 1"):
                update.look_at(batch, {"loss": torch.tensor(1.0)}, "")
        else:
            update.look_at(batch, {"loss": torch.tensor(1.0)}, "")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_of_every_kind_are_looked_at(dtype: torch.dtype, sparse: bool, place: str) -> None:
    weight = nn.Parameter(torch.ones(4, 3, dtype=dtype))
    update = Update({"weight": weight}, {"class": "sgd", "lr": 0.1, "fused": False}, on_nan="error")
    for value in (1.0, math.inf):
        gradient = torch.full((4, 3), value, dtype=dtype)
        weight.grad = gradient.to_sparse(1) if sparse else gradient
        if value == 1.0:
            update.look_at(Batch({"x": [0]}), {"loss": torch.tensor(1.0, dtype=torch.float64)}, "")
            assert update.watch is not None
            update.watch.settle()
            continue
        with pytest.raises(NotFiniteError, match="the gradient of 'weight' is inf"):
            update.look_at(Batch({"x": [0]}), {"loss": torch.tensor(1.0)}, "")
            assert update.watch is not None
            update.watch.settle()


class Masked(nn.Module):
    """Attention's kind of mask, and a table in a type that torch cannot sum up."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
        self.register_buffer("table", torch.zeros(2).to(torch.float8_e4m3fn))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mask.exp().sum() * 0


@pytest.mark.parametrize("on_nan", ["error", "skip", "warn"])
def test_a_buffer_that_is_infinite_by_its_nature_is_in_order(on_nan: str, caplog: pytest.LogCaptureFixture) -> None:
    modules = {**make_modules(noise=False), "trunk": nn.Sequential(Masked(), nn.Linear(3, 4), nn.BatchNorm1d(4))}
    model = make_model(on_nan, modules=modules)
    good, bad = make_batches(2, bad=[1])
    model.run(good, train=True)
    assert model.training_state_dict()["watch"]["skipped"] == 0
    assert not caplog.records
    if on_nan == "error":
        with pytest.raises(NotFiniteError, match="so are the buffers 'trunk.2.running_mean', 'trunk.2.running_var';"):
            model.run(bad, train=True)


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
