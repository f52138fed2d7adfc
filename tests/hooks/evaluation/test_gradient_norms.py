"""GradientNorms: the numbers are those that one finds by hand, and the training does not notice."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import (
    AbstractHook,
    Action,
    Batch,
    ColumnDataset,
    Head,
    JointLearning,
    MainLoop,
    Mixed,
    MultiTaskDataset,
    MultiTaskModel,
    RoundRobin,
    Task,
    TaskLoader,
)
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import Freeze, GradientNorms, LogVariables, SaveBest, StopAfter, WriteCSV
from emloop_mtl.hooks.evaluation.kept_norms import FOLD_AFTER, KeptNorms
from emloop_mtl.testing import SaveAndFail, run_hook
from emloop_mtl.types import EpochData
from emloop_mtl.utils.random import get_random_state

NAMES = ("a", "b", "c")

WEIGHTS = {"a": 1.0, "b": 0.5, "c": 2.0}

CLOSE = 1e-5
"""Relative: norms are sums of float32 in another order than by hand, after some updates of which the same is true."""


class Data(MultiTaskDataset):
    """Three batches of four rows that carry all tasks, or of each task by itself."""

    def __init__(self, scheduler: Any = None, apart: bool = False) -> None:
        super().__init__(streams={"train": {"scheduler": scheduler or RoundRobin()}})
        self._apart = apart

    def loaders(self) -> list[TaskLoader]:
        groups = [[name] for name in NAMES] if self._apart else [list(NAMES)]
        return [self._loader(index, names) for index, names in enumerate(groups)]

    @staticmethod
    def _loader(seed: int, names: Sequence[str]) -> TaskLoader:
        generator = torch.Generator().manual_seed(seed)
        labels = {name: torch.randint(3, (12,), generator=generator) for name in names}
        labels[names[0]][1] = -100
        features = {"x": torch.randn(12, 4, generator=generator), "word": torch.arange(12) % 5}
        tasks = dict(zip(names, names, strict=True))
        return TaskLoader(
            ColumnDataset(f"rows{seed}", features, labels), tasks, name="_".join(names), batch_size=4, shuffle=False
        )


def make_model(trunk: nn.Module | None = None, source: str = "x", **options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    tasks = [
        Task(
            name,
            {f"{name}_head": nn.Linear(5, 3)},
            [Action("features", "trunk", source), Action(f"{name}_out", f"{name}_head", "features")],
            label=name,
            loss="cross_entropy",
            weight=WEIGHTS[name],
            missing_label=-100,
        )
        for name in NAMES
    ]
    modules = {"trunk": trunk or nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))}
    settings = {"optimizer": {"class": "sgd", "lr": 0.05, "momentum": 0.9}, "device": "cpu"}
    return MultiTaskModel(tasks, modules, **{**settings, **options})


class Keep(AbstractHook):
    """Keep the numbers of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[dict[str, Any]] = []

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self.numbers.append(dict(epoch_data["train"]))


def train(
    *hooks: AbstractHook, model: MultiTaskModel | None = None, data: Any = None, epochs: int = 2, **loop: Any
) -> list[dict[str, Any]]:
    keep = Keep()
    MainLoop(model or make_model(), data or Data(), [*hooks, keep, StopAfter(epochs=epochs)], **loop).run_training()
    return keep.numbers


def losses(network: Any, batch: Any) -> dict[str, Tensor]:
    """Return the part of each task in the loss."""
    features = network["trunk"](batch["x"])
    return {
        name: WEIGHTS[name] * nn.functional.cross_entropy(network[f"{name}_head"](features), batch[name])
        for name in NAMES
        if name in batch
    }


def norm(gradients: Any) -> float:
    return math.sqrt(sum(float((each.double() ** 2).sum()) for each in gradients if each is not None))


def by_hand(model: MultiTaskModel, data: Data, epochs: int, window: int = 1, every: int = 1) -> list[dict[str, Any]]:
    """Train as the model does, without the package, and return the norms of each epoch."""
    network: Any = copy.deepcopy(model.network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    found: list[dict[str, list[float]]] = []
    step = 0
    for _ in range(epochs):
        numbers: dict[str, list[float]] = {}
        for batch in data.train_stream():
            parts = losses(network, batch)
            if (step // window + 1) % every == 0:
                for name, part in parts.items():
                    alone = torch.autograd.grad(part, list(network["trunk"].parameters()), retain_graph=True)
                    numbers.setdefault(f"gradient_norm/trunk/{name}", []).append(norm(alone))
            torch.autograd.backward(sum(parts.values()) / window)  # type: ignore[arg-type]
            step += 1
            if step % window == 0:
                if (step // window) % every == 0:
                    numbers.setdefault("gradient_norm", []).append(norm(p.grad for p in network.parameters()))
                    for name, module in network.items():
                        if any(p.grad is not None for p in module.parameters()):
                            gradients = [p.grad for p in module.parameters()]
                            numbers.setdefault(f"gradient_norm/{name}", []).append(norm(gradients))
                optimizer.step()
                optimizer.zero_grad()
        found.append(numbers)
    return [
        {name: {"mean": sum(values) / len(values), "max": max(values)} for name, values in numbers.items()}
        for numbers in found
    ]


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=CLOSE), name


# ------------------------------------------------------------------------------------------------- the right numbers


@pytest.mark.parametrize("stack_tasks", [True, False], ids=["stacked", "apart"])
@pytest.mark.parametrize(("window", "every"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_norms_are_those_that_one_finds_by_hand(window: int, every: int, stack_tasks: bool) -> None:
    # Windows of two cross the epochs of three steps.
    model = make_model(stack_tasks=stack_tasks, update={"accumulate": window})
    expected = by_hand(model, Data(), 4, window, every)
    found = train(GradientNorms(tasks=True, every=every), model=model, epochs=4)
    assert found[0] == {}  # in which nothing is trained
    for epoch in range(4):
        assert_close(found[epoch + 1], expected[epoch])
    assert (model.stacked_tasks == [NAMES]) is stack_tasks


def test_a_module_counts_where_it_has_a_gradient() -> None:
    model = make_model()
    expected = by_hand(model, Data(apart=True), 2)
    found = train(GradientNorms(tasks=True), model=model, data=Data(apart=True))
    for epoch in range(2):
        assert_close(found[epoch + 1], expected[epoch])


def test_norms_are_those_before_clipping() -> None:
    plain = train(GradientNorms(), model=make_model(optimizer={"class": "sgd", "lr": 0.0}))
    clipped = train(
        GradientNorms(), model=make_model(optimizer={"class": "sgd", "lr": 0.0}, update={"clip_norm": 1e-3})
    )
    assert clipped == plain
    assert plain[1]["gradient_norm"]["mean"] > 1e-2


def test_batches_of_one_step_are_looked_at_by_task_each_and_as_a_whole_once() -> None:
    model = make_model()
    data = Data(Mixed(), apart=True)
    network: Any = copy.deepcopy(model.network)
    batches = list(Data(apart=True).train_stream())[:3]
    parts = {name: part for batch in batches for name, part in losses(network, batch).items()}
    trunk = list(network["trunk"].parameters())
    alone = {name: norm(torch.autograd.grad(part, trunk, retain_graph=True)) for name, part in parts.items()}
    whole = norm(torch.autograd.grad(sum(parts.values()), list(network.parameters())))  # type: ignore[arg-type]
    found = train(GradientNorms(tasks=True), model=model, data=data, fixed_epoch_size=1, epochs=1)[1]
    assert {name: found[f"gradient_norm/trunk/{name}"]["max"] for name in NAMES} == pytest.approx(alone, rel=CLOSE)
    assert found["gradient_norm"]["mean"] == pytest.approx(whole, rel=CLOSE)


def test_modules_are_chosen_by_name_and_may_lie_in_each_other() -> None:
    model = make_model()
    network: Any = copy.deepcopy(model.network)
    parts = losses(network, next(iter(Data().train_stream())))
    found = train(
        GradientNorms(modules=["trunk.2", "trunk", "b_head"], tasks=True), model=model, fixed_epoch_size=1, epochs=1
    )[1]
    torch.autograd.backward(list(parts.values()), retain_graph=True)
    modules = {"trunk.2": network["trunk"][2], "trunk": network["trunk"], "b_head": network["b_head"]}
    expected = {f"gradient_norm/{name}": norm(p.grad for p in m.parameters()) for name, m in modules.items()}
    expected["gradient_norm"] = norm(p.grad for p in network.parameters())
    for task, part in parts.items():
        for name, module in modules.items():
            if name in ("trunk", "trunk.2", f"{task}_head"):
                alone = torch.autograd.grad(part, list(module.parameters()), retain_graph=True)
                expected[f"gradient_norm/{name}/{task}"] = norm(alone)
    assert {name: values["mean"] for name, values in found.items()} == pytest.approx(expected, rel=CLOSE)


def test_what_is_frozen_has_none() -> None:
    found = train(GradientNorms(tasks=True), Freeze(modules=["trunk", "a_head"], until_epoch=1))
    assert found[1].keys() == {"gradient_norm", "gradient_norm/b_head", "gradient_norm/c_head"}
    assert "gradient_norm/trunk/a" in found[2]
    assert train(GradientNorms(), Freeze(parameters=["."], until_epoch=1))[1] == {}


class Words(nn.Module):
    """Words, the same one twice, as a sparse embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(5, 5, sparse=True)

    def forward(self, word: Tensor) -> Tensor:
        found: Tensor = self.rows(word.div(2, rounding_mode="floor"))
        return found


def test_rows_of_sparse_gradients_are_summed_up_and_stay_as_they_are() -> None:
    def make() -> MultiTaskModel:
        torch.manual_seed(1)
        return make_model(Words(), "word", optimizer={"class": "sgd", "lr": 0.5})

    watched, plain = make(), make()
    found = train(GradientNorms(tasks=True), model=watched, epochs=1, fixed_epoch_size=1)[1]
    network: Any = copy.deepcopy(make().network)
    batch = next(iter(Data().train_stream()))
    features = network["trunk"](batch["word"])
    total = sum(
        WEIGHTS[name] * nn.functional.cross_entropy(network[f"{name}_head"](features), batch[name]) for name in NAMES
    )
    torch.autograd.backward(total)  # type: ignore[arg-type]
    expected = norm([network["trunk"].rows.weight.grad.to_dense()])
    assert found["gradient_norm/trunk"]["mean"] == pytest.approx(expected, rel=CLOSE)
    train(model=plain, epochs=1, fixed_epoch_size=1)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in watched.state_dict().items())


def test_of_a_step_that_is_evaluated_several_times_the_first_evaluation_counts() -> None:
    model = make_model(optimizer={"class": "lbfgs", "lr": 0.1, "max_iter": 4})
    network: Any = copy.deepcopy(model.network)
    parts = losses(network, next(iter(Data().train_stream())))
    whole = norm(torch.autograd.grad(sum(parts.values()), list(network.parameters())))  # type: ignore[arg-type]
    found = train(GradientNorms(tasks=True), model=model, fixed_epoch_size=1, epochs=1)[1]
    assert found["gradient_norm"] == pytest.approx({"mean": whole, "max": whole}, rel=CLOSE)


def test_parts_of_a_joint_loss_are_those_of_its_mean() -> None:
    torch.manual_seed(0)
    heads: dict[int | str, nn.Module | Head] = {number: nn.Linear(5, 2) for number in (1, 2)}
    optimizer = {"class": "sgd", "lr": 0.1}
    mapping: dict[int | str, dict[str, str]] = {"backbone": {"x": "input"}}
    model = JointLearning(nn.Linear(4, 5), heads, "y", arg_name_mapping=mapping, optimizer=optimizer, device="cpu")
    network: Any = copy.deepcopy(model.network)
    batch = Batch({"x": torch.randn(6, 4), "y": torch.arange(6) // 2 % 2, "task_id": torch.arange(6) % 2 + 1})
    hook = GradientNorms(tasks=True)

    class Rows(MultiTaskDataset):
        def loaders(self) -> list[TaskLoader]:
            columns = ColumnDataset("rows", {"x": batch["x"], "task_id": batch["task_id"]}, {"y": batch["y"]})
            return [TaskLoader(columns, batch_size=6, shuffle=False)]

    found = train(hook, model=model, data=Rows(), epochs=1)[1]
    for number in (1, 2):
        rows = batch["task_id"] == number
        outputs = network[str(number)](network["backbone"](batch["x"][rows]))
        part = nn.functional.cross_entropy(outputs, batch["y"][rows]) / 2
        alone = norm(torch.autograd.grad(part, list(network["backbone"].parameters())))
        assert found[f"gradient_norm/backbone/{number}"]["mean"] == pytest.approx(alone, rel=CLOSE)


def test_in_half_precision_the_scale_is_undone_and_updates_that_are_left_out_do_not_count() -> None:
    plain = train(GradientNorms(tasks=True), model=make_model(precision="bf16"), fixed_epoch_size=1, epochs=1)[1]
    scaled = train(GradientNorms(tasks=True), model=make_model(precision="fp16"), fixed_epoch_size=1, epochs=1)[1]
    assert scaled.keys() == plain.keys()
    for name, values in plain.items():  # bf16 has 8 bits, three layers and their gradients lose some of them
        assert scaled[name]["mean"] == pytest.approx(values["mean"], rel=0.05)


class Spoil(nn.Module):
    """The identity, but the gradient of its second batch is infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def forward(self, value: Tensor) -> Tensor:
        self.batches += self.training
        if self.batches == 2 and self.training:
            value = value * 1
            value.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
        return value


@pytest.mark.parametrize(("update", "is_finite"), [({"on_nan": "skip"}, True), ({}, False)], ids=["skip", "goes on"])
def test_updates_that_are_not_finite_count_where_they_are_made(update: dict[str, Any], is_finite: bool) -> None:
    trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), Spoil())
    found = train(GradientNorms(tasks=True), model=make_model(trunk, update=update), epochs=1)[1]
    for name in ("gradient_norm", "gradient_norm/trunk", "gradient_norm/trunk/a"):
        assert math.isfinite(found[name]["mean"]) is math.isfinite(found[name]["max"]) is is_finite


# ------------------------------------------------------------------------------------------ nothing notices the hook


@pytest.mark.parametrize("stack_tasks", [True, False], ids=["stacked", "apart"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_training_is_the_same_to_the_bit(stack_tasks: bool, precision: str) -> None:
    def run(*hooks: AbstractHook) -> tuple[dict[str, Any], Any]:
        torch.manual_seed(1)
        trunk = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.GELU())
        model = make_model(trunk, stack_tasks=stack_tasks, precision=precision, update={"clip_norm": 0.5})
        torch.manual_seed(1)
        train(*hooks, model=model)
        return model.state_dict(), get_random_state()

    (plain, state), (watched, other) = run(), run(GradientNorms(tasks=True))
    assert all(torch.equal(value, watched[name]) for name, value in plain.items())
    assert torch.equal(state["torch"], other["torch"])


def test_no_step_waits_for_the_device(no_waiting: type[Any]) -> None:
    model, hook = make_model(), GradientNorms(tasks=True)
    MainLoop(model, Data(), [hook])
    batches = [model.prepare(batch) for batch in Data().train_stream()]
    hook.before_training()
    model.run(batches[0], train=True)
    with no_waiting():
        model.run(batches[1], train=True)
        model.run(batches[2], train=True)
    assert hook.state_dict()["updates"] == 3


def test_a_copy_of_the_model_has_nobody_who_looks_at_it() -> None:
    copies: list[Any] = []

    class Copy(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if not copies:
                copies.append(copy.deepcopy(self.main_loop.model))

    model = make_model()
    train(GradientNorms(tasks=True), Copy(), model=model, epochs=1)
    for each in (*copies, model):  # nor has the model itself, afterwards
        assert list(each.loss_watches) == list(each.update.before_clipping) == []


def test_other_hooks_watch_log_and_write_the_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    best = SaveBest(stream="train", variable="gradient_norm/trunk", aggregation="max", mode="min")
    with caplog.at_level("INFO", "emloop_mtl"):
        numbers = train(GradientNorms(tasks=True), LogVariables(), WriteCSV(), best, output_dir=tmp_path)
    epoch = min((1, 2), key=lambda number: numbers[number]["gradient_norm/trunk"]["max"])
    assert newest_checkpoint(tmp_path / "checkpoints", "best").position.epoch == epoch
    header = (tmp_path / "training.csv").read_text().splitlines()[0].split(",")
    assert {"train/gradient_norm/mean", "train/gradient_norm/trunk/max"} < set(header)
    assert "gradient_norm/trunk/train/a/mean" in header
    assert [line for line in caplog.messages if line.startswith("epoch 2  train  gradient_norm/trunk: a ")]


class ChangeAfterOne(AbstractHook):
    """Change the model after the first epoch."""

    def __init__(self, change: Callable[[MultiTaskModel], None]) -> None:
        super().__init__()
        self._change = change

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        if epoch_id == 1:
            assert isinstance(self.main_loop.model, MultiTaskModel)
            self._change(self.main_loop.model)


def test_tasks_that_come_and_go_are_looked_at() -> None:
    found = train(GradientNorms(tasks=True), ChangeAfterOne(lambda model: model.remove_task("b")))
    assert found[1].keys() - found[2].keys() == {"gradient_norm/b_head", "gradient_norm/trunk/b"}


def test_a_module_that_is_replaced_is_looked_at_in_its_place() -> None:
    def replace(model: MultiTaskModel) -> None:
        flow = [Action("features", "trunk", "x"), Action("b_out", "b_head", "features")]
        trunk = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        model.update_task(Task("b", {"trunk": trunk}, flow, "b", "cross_entropy", missing_label=-100))

    found = train(GradientNorms(tasks=True), ChangeAfterOne(replace))
    assert found[2].keys() == found[1].keys()
    assert {"gradient_norm/trunk/a", "gradient_norm/trunk/b"} < found[2].keys()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_training_goes_on_exactly_from_any_moment(accumulate: int, tmp_path: Path) -> None:
    def loop(folder: str, *more: AbstractHook) -> MainLoop:
        torch.manual_seed(5)
        hooks = [GradientNorms(tasks=True, every=2), WriteCSV(), *more]
        model = make_model(update={"accumulate": accumulate})
        return MainLoop(model, Data(), [*hooks, StopAfter(epochs=2)], output_dir=tmp_path / folder)

    every = SaveAndFail(every=1000)
    loop("whole", every).run_training()
    expected = (tmp_path / "whole" / "training.csv").read_text()
    for moment in range(1, every.moments):
        with pytest.raises(RuntimeError, match="failed at moment"):
            loop(str(moment), SaveAndFail(every=moment, fail_at=moment + 1)).run_training()
        resumed = loop(str(moment), SaveAndFail(every=1000))
        resumed.restore(newest_checkpoint(tmp_path / str(moment) / "checkpoints"))
        resumed.run_training()
        assert (tmp_path / str(moment) / "training.csv").read_text() == expected, moment


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "says", "path"),
    [
        ({"every": 0}, "every must be a positive whole number, not 0", ("every",)),
        ({"tasks": "yes"}, "tasks must be true or false, not 'yes'", ("tasks",)),
        ({"modules": "trunk"}, r"modules must be a list of names, such as \[trunk\]", ("modules",)),
        ({"modules": ["trunk", "a_haed"]}, "the model has no module 'a_haed'; did you mean 'a_head'", ("modules", 1)),
    ],
)
def test_arguments_that_cannot_be_right_are_refused(
    arguments: dict[str, Any], says: str, path: tuple[Any, ...]
) -> None:
    with pytest.raises(ConfigError, match=f"GradientNorms: {says}") as caught:
        train(GradientNorms(**arguments))
    assert caught.value.path == path


def test_tasks_that_share_nothing_are_refused_unless_modules_are_named() -> None:
    task = Task("a", {"m": nn.Linear(4, 3)}, [Action("out", "m", "x")], label="a", loss="cross_entropy")

    def alone() -> MultiTaskModel:
        return MultiTaskModel([task], optimizer="sgd", device="cpu")

    class OneTask(Data):
        def loaders(self) -> list[TaskLoader]:
            return [self._loader(0, ["a"])]

    with pytest.raises(ConfigError, match="no two tasks run one module, .*: name 'modules', or leave 'tasks' out"):
        train(GradientNorms(tasks=True), model=alone(), data=OneTask())


def test_a_model_without_tasks_has_no_modules() -> None:
    with pytest.raises(
        ConfigError, match="GradientNorms needs a model that consists of tasks, which FakeModel does not"
    ):
        run_hook(GradientNorms())


def test_numbers_of_many_updates_are_folded_and_counted_once() -> None:
    kept = KeptNorms(leaves_out=False)
    for number in range(2 * FOLD_AFTER + 3):
        kept.add(("a", "b"), torch.tensor([float(number), -float(number)]))
    last = 2 * FOLD_AFTER + 2
    assert kept.result() == {"a": {"mean": last / 2, "max": last}, "b": {"mean": -last / 2, "max": 0}}
