"""Adding, updating and removing tasks at any time of a training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import (
    AbstractDataset,
    AbstractHook,
    Action,
    BackboneHeadsModel,
    Batch,
    ColumnDataset,
    Head,
    JointLearning,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.checkpoint import load_checkpoint
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks import (
    ComputeStats,
    Evaluate,
    LRSchedule,
    SaveEvery,
    ScoreTasks,
    StopAfter,
    StopOnNaN,
    Warmup,
    WriteCSV,
    WriteJSON,
)


def soak(optimizer: Mapping[str, Any]) -> Any:
    return pytest.param(optimizer, marks=pytest.mark.soak)


OPTIMIZERS: list[Any] = [
    {"class": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    {"class": "adagrad", "lr": 0.1, "initial_accumulator_value": 0.3},
    soak({"class": "adam", "lr": 0.05, "amsgrad": True}),
    soak({"class": "rmsprop", "lr": 0.01}),
    soak({"class": "bert_adam", "lr": 0.05}),
    soak({"class": "adam", "lr": 0.05, "fused": False, "foreach": False}),
]


def make_task(name: str, seed: int = 0, classes: int = 3, **options: Any) -> Task:
    """A task whose head is its own, behind a trunk that all share, and that the first of them brings."""
    torch.manual_seed(1)
    trunk = nn.Linear(4, 5)
    torch.manual_seed(1000 + seed + ord(name[0]))
    modules = {"trunk": trunk, f"{name}_head": nn.Linear(5, classes)}
    flow = [Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", "features")]
    return Task(name, modules, flow, label=name, loss="cross_entropy", metrics=["accuracy"], **options)


def make_model(*names: str, **options: Any) -> MultiTaskModel:
    return MultiTaskModel([make_task(name) for name in names], device="cpu", **options)


def make_batch(*names: str, number: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(number)
    sources: dict[str, Tensor] = {"x": torch.randn(6, 4, generator=generator)}
    sources.update({name: torch.randint(3, (6,), generator=generator) for name in ("a", "b", "c", "d")})
    return Batch(sources, tasks={name: name for name in names})


def state_of(model: MultiTaskModel, *names: str) -> dict[str, Any]:
    """Weights and what the optimizer remembers, of the modules that some tasks use."""
    wanted = (*(f"{name}_head." for name in names), "trunk.")
    training = model.training_state_dict()["optimizer"]
    states = {**model.state_dict(), **{f"{key} of {n}": v for n, entry in training.items() for key, v in entry.items()}}
    return {name: value for name, value in states.items() if name.split(" of ")[-1].startswith(wanted)}


def assert_equal(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(found[name], value) if isinstance(value, Tensor) else found[name] == value
        assert same, name


def flat(state: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in state.items():
        found.update(flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found


@pytest.mark.parametrize("stack_tasks", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
def test_a_task_that_is_added_between_two_steps_trains_as_if_it_had_been_there(
    optimizer: Mapping[str, Any], stack_tasks: bool
) -> None:
    grown = make_model("a", "b", "c", optimizer=optimizer, stack_tasks=stack_tasks)
    whole = make_model("a", "b", "c", "d", optimizer=optimizer, stack_tasks=stack_tasks)
    for number in range(3):
        grown.run(make_batch("a", "b", "c", number=number), train=True)
        whole.run(make_batch("a", "b", "c", number=number), train=True)
    held = grown.optimizer
    grown.add_tasks(make_task("d"))
    assert grown.optimizer is held
    assert list(grown.tasks) == ["a", "b", "c", "d"]
    for number in range(3, 6):
        outputs = grown.run(make_batch("a", "b", "c", "d", number=number), train=True)
        expected = whole.run(make_batch("a", "b", "c", "d", number=number), train=True)
        # Parts of tensors that are added up as one, or not, round differently.
        torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state_of(grown, *"abcd"), state_of(whole, *"abcd"))
    if not stack_tasks:
        assert_equal(state_of(grown, *"abcd"), state_of(whole, *"abcd"))


@pytest.mark.parametrize("stack_tasks", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: "-".join(map(str, o.values())))
def test_the_others_go_on_as_before_where_a_task_is_removed_between_two_steps(
    optimizer: Mapping[str, Any], stack_tasks: bool
) -> None:
    update = {"accumulate": 2}
    model = make_model("a", "b", "c", "d", optimizer=optimizer, update=update, stack_tasks=stack_tasks)
    whole = make_model("a", "b", "c", "d", optimizer=optimizer, update=update, stack_tasks=stack_tasks)
    for number in range(3):  # the third leaves gradients in a window
        model.run(make_batch(*"abcd", number=number), train=True)
        whole.run(make_batch(*"abcd", number=number), train=True)
    assert_equal(state_of(model, *"abcd"), state_of(whole, *"abcd"))
    model.remove_task("b")
    assert not [name for name in model.state_dict() if name.startswith("b_head")]
    assert not [name for name in model.training_state_dict()["optimizer"] if name.startswith("b_head")]
    assert not [name for name in model.gradients() if name.startswith("b_head")]
    for number in range(3, 6):
        model.run(make_batch(*"acd", number=number), train=True)
        whole.run(make_batch(*"acd", number=number), train=True)
    # Tasks that are together round otherwise than those that are not.
    torch.testing.assert_close(state_of(model, *"acd"), state_of(whole, *"acd"))
    if not stack_tasks:
        assert_equal(state_of(model, *"acd"), state_of(whole, *"acd"))


def test_modules_that_no_task_uses_any_more_are_dropped_with_the_task() -> None:
    model = make_model("a", "b")
    model.remove_task("a")
    assert {name.split(".")[0] for name in model.state_dict()} == {"trunk", "b_head"}
    [group] = model.optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in model.network.parameters()]
    assert group["param_names"] == [name for name, _ in model.network.named_parameters()]


def test_modules_of_the_model_are_dropped_with_the_last_task_that_runs_them() -> None:
    modules = {name: nn.Linear(4, 4) for name in ("trunk", "a_head", "b_head", "spare")}
    tasks = [
        Task(
            name, flow=[Action("f", "trunk", "x"), Action(name, f"{name}_head", "f")], label=name, loss="cross_entropy"
        )
        for name in "ab"
    ]
    model = MultiTaskModel(tasks, modules, device="cpu")
    model.remove_task("b")
    assert list(model.network) == ["trunk", "a_head", "spare"]  # the last one may be what a loss reads
    model.update_task(Task("a", flow=[Action("a", "a_head", "x")], label="a", loss="cross_entropy"))
    assert list(model.network) == ["a_head", "spare"]
    assert {name.split(".")[0] for name in model.optimizer.param_groups[0]["param_names"]} == {"a_head", "spare"}


def test_a_module_that_no_flow_runs_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    modules = {"head": nn.Linear(4, 3), "spare": nn.Linear(4, 3), "other": nn.Linear(4, 3)}
    task = Task("a", flow=[Action("logits", "head", "x")], label="a", loss="cross_entropy")
    model = MultiTaskModel([task], modules, device="cpu")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            MainLoop(model, Unnamed(), [StopAfter(epochs=1)], on_unused_sources="ignore").run_training()
    assert [record.getMessage() for record in caplog.records] == ["no flow runs the module 'spare', 'other'"]


def test_a_task_that_is_updated_brings_its_modules_and_these_begin_anew() -> None:
    model = make_model("a", "b", optimizer={"class": "adam", "lr": 0.05})
    for number in range(3):
        model.run(make_batch("a", "b", number=number), train=True)
    before = copy.deepcopy(model.training_state_dict()["optimizer"])
    trunk = model.network["trunk"]
    new = make_task("b", seed=9)
    del new.modules["trunk"]
    model.update_task(new)
    assert model.network["trunk"] is trunk
    assert model.network["b_head"] is new.modules["b_head"]
    state = model.training_state_dict()["optimizer"]
    assert not [name for name in state if name.startswith("b_head")]
    for name in ("trunk.weight", "a_head.bias"):
        assert_equal(state[name], before[name])
    weight = model.state_dict()["b_head.weight"].clone()
    model.run(make_batch("a", "b", number=3), train=True)
    assert not torch.equal(model.state_dict()["b_head.weight"], weight)
    assert float(model.training_state_dict()["optimizer"]["b_head.weight"]["step"]) == 1
    assert float(model.training_state_dict()["optimizer"]["a_head.weight"]["step"]) == 4


def test_a_task_that_is_updated_with_the_modules_it_had_goes_on() -> None:
    model = make_model("a", "b", optimizer={"class": "adam", "lr": 0.05})
    model.run(make_batch("a", "b"), train=True)
    before = state_of(model, "a", "b")
    task = model.tasks["b"]
    model.update_task(
        Task("b", {"b_head": task.modules["b_head"]}, task.flow, label="b", loss="cross_entropy", weight=3)
    )
    assert_equal(state_of(model, "a", "b"), before)
    loss = model.run(make_batch("b"), train=False)
    assert float(loss["loss"]) == pytest.approx(3 * float(loss["b/loss"]), rel=1e-6)  # float32 has seven digits


def per_task(network: Any) -> list[dict[str, Any]]:
    """A group for the trunk, and one for each head."""
    return [{"params": module.parameters(), "lr": 0.1 / (1 + place)} for place, module in enumerate(network.values())]


def test_parameter_groups_and_their_rates_follow_the_tasks() -> None:
    settings = {"class": "sgd", "lr": 0.1, "momentum": 0.9, "parameters": per_task}
    model = make_model("a", "b", optimizer=settings)
    model.learning_rate.warm_up(steps=4)
    model.learning_rate.follow("linear")
    model.set_length(20, 20)
    for number in range(2):
        model.run(make_batch("a", "b", number=number), train=True)
    assert model.learning_rate.current == [0.1 / 4, 0.05 / 4, 0.1 / 12]
    model.add_tasks(make_task("c"))
    assert [group["param_names"] for group in model.optimizer.param_groups][-1] == ["c_head.weight", "c_head.bias"]
    assert model.learning_rate.current == [0.1 / 4, 0.05 / 4, 0.1 / 12, 0.1 / 16]
    model.run(make_batch("a", "c", number=2), train=True)
    assert model.learning_rate.current == [0.1 / 2, 0.05 / 2, 0.1 / 6, 0.1 / 8]
    model.remove_task("a")
    assert model.learning_rate.current == [0.1 / 2, 0.05 / 2, 0.1 / 6]


@pytest.mark.parametrize("schedule", ["one_cycle", "cyclic", "plateau", "step", "exponential"])
def test_schedules_go_on_where_tasks_change(schedule: str) -> None:
    rates: list[list[float]] = []
    for changes in (False, True):
        model = make_model("a", "b", optimizer={"class": "sgd", "lr": 0.1, "momentum": 0.9})
        model.learning_rate.follow(schedule)
        model.set_length(10, 10)
        found: list[float] = []
        rates.append(found)
        for number in range(8):
            if changes and number == 3:
                model.add_tasks(make_task("c"))
            if changes and number == 5:
                model.remove_task("b")
            model.learning_rate.feed(1.0, number)
            model.run(make_batch("a", number=number), train=True)
            group = model.optimizer.param_groups[0]
            found += [*model.learning_rate.current, group["momentum"]]
    assert rates[0] == rates[1]


def test_options_that_were_changed_and_hooks_on_the_optimizer_stay() -> None:
    model = make_model("a", "b", optimizer={"class": "sgd", "lr": 0.1})
    model.optimizer.param_groups[0]["lr"] = 0.01
    called: list[int] = []
    model.optimizer.register_step_post_hook(lambda *_: called.append(1))
    model.add_tasks(make_task("c"))
    assert model.optimizer.param_groups[0]["lr"] == 0.01
    model.run(make_batch("a", "c"), train=True)
    assert called == [1]


def test_parameters_that_are_frozen_for_a_while_are_held_on_to() -> None:
    model = make_model("a", "b", optimizer={"class": "sgd", "lr": 0.1})
    model.network["trunk"].requires_grad_(False)
    model.add_tasks(make_task("c"))
    assert not model.network["trunk"].weight.requires_grad
    model.network["trunk"].requires_grad_(True)
    before = model.state_dict()["trunk.weight"].clone()
    model.run(make_batch("a", "c"), train=True)
    assert not torch.equal(model.state_dict()["trunk.weight"], before)


def test_a_change_that_is_refused_leaves_all_as_it_was() -> None:
    def one_head_at_most(network: Any) -> list[dict[str, Any]]:
        if len(network) > 3:
            raise ValueError("too many")
        return [{"params": network.parameters()}]

    model = make_model("a", "b", optimizer={"class": "sgd", "lr": 0.1, "momentum": 0.9, "parameters": one_head_at_most})
    twin = make_model("a", "b", optimizer={"class": "sgd", "lr": 0.1, "momentum": 0.9})
    for each in (model, twin):
        each.run(make_batch("a", "b"), train=True)
    with pytest.raises(ConfigError, match="optimizer.parameters: the function failed, ValueError: too many"):
        model.add_tasks(make_task("c"))
    with pytest.raises(ConfigError, match="there are two tasks called 'a'"):
        model.add_tasks(make_task("a"))
    with pytest.raises(ConfigError, match="every task must be a Task, not an object of class str"):
        model.add_tasks(["c"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="the model has no task 'c'"):
        model.update_task(make_task("c"))
    with pytest.raises(ConfigError, match="the model has no task 'bb'; did you mean 'b'"):
        model.remove_task("bb")
    assert list(model.network) == ["trunk", "a_head", "b_head"]
    assert list(model.tasks) == ["a", "b"]
    for each in (model, twin):
        each.run(make_batch("a", "b", number=1), train=True)
    assert_equal(state_of(model, "a", "b"), state_of(twin, "a", "b"))
    model.remove_task("a")
    with pytest.raises(ConfigError, match="task 'b' cannot be removed: a model needs at least one task"):
        model.remove_task("b")


def test_a_module_that_is_added_after_an_evaluation_is_evaluated_too_and_frozen_ones_stay_frozen() -> None:
    model = make_model("a")
    model.run(make_batch("a"), train=False)
    task = make_task("b")
    dropout, frozen = nn.Dropout(0.5), nn.Dropout(0.5).eval()
    task.modules["b_head"] = nn.Sequential(dropout, frozen, nn.Linear(5, 3))
    model.add_tasks(task)
    losses = {float(model.run(make_batch("b"), train=False)["b/loss"]) for _ in range(5)}
    assert len(losses) == 1
    model.run(make_batch("b"), train=True)
    assert dropout.training
    assert not frozen.training
    assert model.network["trunk"].training


@pytest.mark.parametrize("on_nan", ["error", "skip", "warn"])
def test_what_is_added_is_looked_at_by_on_nan(on_nan: str) -> None:
    model = make_model("a", "b", update={"on_nan": on_nan})
    model.run(make_batch("a", "b"), train=True)
    task = make_task("c")
    model.add_tasks(task)
    model.remove_task("b")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = make_batch("c")
    batch["x"] = batch["x"] * float("nan")
    if on_nan == "error":
        with pytest.raises(ArithmeticError, match="'c'"):
            model.run(batch, train=True)
        return
    model.run(batch, train=True)
    assert model.update.watch is not None
    assert model.update.watch.skipped == (on_nan == "skip")
    if on_nan == "skip":
        assert_equal(model.state_dict(), before)
    model.run(make_batch("a", "c", number=1), train=True)
    assert model.state_dict()["a_head.weight"].isfinite().all() == (on_nan == "skip")


def test_lbfgs_begins_anew_and_goes_on() -> None:
    model = make_model("a", "b", optimizer={"class": "lbfgs", "lr": 0.1, "max_iter": 4})
    model.run(make_batch("a", "b"), train=True)
    model.add_tasks(make_task("c"))
    losses = [float(model.run(make_batch("a", "c"), train=True)["loss"]) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_compiled_flows_are_compiled_anew() -> None:
    plain, compiled = make_model("a", "b"), make_model("a", "b", compile={"backend": "eager"})
    for model in (plain, compiled):
        model.run(make_batch("a", "b"), train=True)
        model.add_tasks(make_task("c"))
        model.remove_task("b")
        model.run(make_batch("a", "c", number=1), train=True)
    assert_equal(compiled.state_dict(), plain.state_dict())


class Letters(MultiTaskDataset):
    """A loader for tasks a and b, one for b alone, and one for c, from the beginning."""

    def loaders(self) -> list[TaskLoader]:
        return list(self._make())

    def _make(self) -> Iterator[TaskLoader]:
        generator = torch.Generator().manual_seed(5)
        for data, tasks in (("both", "ab"), ("one", "b"), ("new", "c")):
            labels = {name: torch.randint(3, (12,), generator=generator) for name in tasks}
            columns = ColumnDataset(data, {"x": torch.randn(12, 4, generator=generator)}, labels)
            for split in ("train", "valid"):
                yield TaskLoader(columns, {name: name for name in tasks}, split, batch_size=4)


class Unnamed(MultiTaskDataset):
    """A loader that names no tasks, with the labels of a, b and c."""

    def loaders(self) -> list[TaskLoader]:
        labels = {name: torch.arange(12) % 3 for name in "abc"}
        return [
            TaskLoader(ColumnDataset("all", {"x": torch.ones(12, 4)}, labels), None, s, batch_size=4)
            for s in ("train", "valid")
        ]


class Plain(AbstractDataset):
    """Batches that hold the labels of a, b and c, and name no tasks."""

    deterministic = True

    def train_stream(self) -> Iterator[dict[str, Any]]:
        for number in range(9):
            yield dict(make_batch(number=number))

    def valid_stream(self) -> Iterator[dict[str, Any]]:
        yield dict(make_batch(number=100))


class Change(AbstractHook):
    """Changes the tasks after certain steps, and again where a run is gone on with."""

    def __init__(self, changes: Mapping[int, Callable[[MultiTaskModel], None]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.changes = dict(changes)
        self.done = 0

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        while self.changes and min(self.changes) <= self.main_loop.position.step:
            self._change()

    def _change(self) -> None:
        model = self.main_loop.model
        assert isinstance(model, MultiTaskModel)
        self.changes.pop(min(self.changes))(model)
        self.done += 1

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        while self.done < state["done"]:
            self._change()


CHANGES: Mapping[int, Callable[[MultiTaskModel], None]] = {
    2: lambda model: model.remove_task("b"),
    4: lambda model: model.update_task(make_task("c", seed=3)),
    7: lambda model: model.add_tasks(make_task("b", seed=7), make_task("d")),
    11: lambda model: model.remove_task("c"),
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "window": {"update": {"accumulate": 3, "clip_norm": 1.0}},
    "skip": {"update": {"on_nan": "skip"}},
    "groups": {"optimizer": {"class": "adam", "lr": 0.01, "parameters": per_task}},
}


def make_loop(
    dataset: Any, folder: Path | None = None, steps: int = 14, changes: Any = CHANGES, buffer: int = 0, **options: Any
) -> MainLoop:
    hooks: list[AbstractHook] = [
        Change(changes),
        Evaluate(streams=["valid"]),
        ComputeStats(variables=["loss"]),
        ScoreTasks(train=True),
        StopOnNaN(),
        Warmup(steps=3),
        LRSchedule(schedule={"class": "exponential", "gamma": 0.95}),
        StopAfter(steps=steps),
    ]
    settings: dict[str, Any] = {"on_unused_sources": "ignore", "fixed_epoch_size": 5, "buffer": buffer}
    if folder is not None:
        hooks.append(SaveEvery(steps=1))
        settings["output_dir"] = folder
    return MainLoop(make_model("a", "b", "c", **options), dataset, hooks, **settings)


RUNS = [("plain", Letters), ("groups", Plain)]


@pytest.mark.parametrize(
    ("settings", "make_dataset"),
    [
        pytest.param(settings, kind, marks=[] if (settings, kind) in RUNS else pytest.mark.soak)
        for settings in SETTINGS
        for kind in (Letters, Plain)
    ],
)
def test_a_run_whose_tasks_change_resumes_exactly_from_any_step(
    settings: str, make_dataset: type[Any], tmp_path: Path
) -> None:
    loop = make_loop(make_dataset(), tmp_path, **SETTINGS[settings])
    loop.run_training()
    expected = flat({**loop.model.state_dict(), **loop.model.training_state_dict()})
    folders = sorted((tmp_path / "checkpoints").glob("step-*"))
    assert len(folders) > 10
    for folder in folders[1::3]:
        again = make_loop(make_dataset(), **SETTINGS[settings])
        again.restore(load_checkpoint(folder))
        again.run_training()
        assert_equal(flat({**again.model.state_dict(), **again.model.training_state_dict()}), expected)


def test_a_schedule_that_needs_the_length_of_the_run_goes_on_where_tasks_were_changed(tmp_path: Path) -> None:
    def make() -> MainLoop:
        hooks = [Change(CHANGES), Warmup(steps=2), LRSchedule("linear"), StopAfter(steps=9), SaveEvery(steps=1)]
        return MainLoop(make_model("a", "b", "c"), Letters(), hooks, output_dir=tmp_path, on_unused_sources="ignore")

    loop = make()
    loop.run_training()
    expected = flat({**loop.model.state_dict(), **loop.model.training_state_dict()})
    (folder,) = (tmp_path / "checkpoints").glob("step-*6")
    again = make()
    again.restore(load_checkpoint(folder))
    again.run_training()
    assert_equal(flat({**again.model.state_dict(), **again.model.training_state_dict()}), expected)


def test_files_get_a_column_for_every_task_there_was(tmp_path: Path) -> None:
    hooks = [
        Evaluate(streams=["valid"]),
        ScoreTasks(),
        Change(CHANGES),
        StopAfter(steps=14),
        WriteCSV(),
        WriteJSON(steps=1),
    ]
    MainLoop(make_model("a", "b", "c"), Letters(), hooks, fixed_epoch_size=5, output_dir=tmp_path).run_training()
    header = (tmp_path / "training.csv").read_text(encoding="utf-8").splitlines()[0]
    assert all(f"{task}/" in header for task in "abc")


@pytest.mark.parametrize("make_dataset", [Letters, Plain])
def test_batches_that_were_read_ahead_are_run_as_if_they_were_not(make_dataset: type[Any]) -> None:
    found = []
    for buffer in (0, 6):
        loop = make_loop(make_dataset(), buffer=buffer)
        loop.run_training()
        found.append({**loop.model.state_dict(), "step": loop.position.step})
    assert_equal(found[1], found[0])


@pytest.mark.parametrize("change", ["add", "remove"])
def test_a_batch_that_is_read_while_a_task_changes_is_one_of_before_or_after(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("a", "b", optimizer={"class": "sgd", "lr": 0.1}, stack_tasks=False)
    if change == "add":
        model.remove_task("b")
    place, batch = model.network.place, make_batch("a", "b")
    with ThreadPoolExecutor(1) as pool:
        read: list[Future[Batch]] = []

        def place_and_let_a_thread_read(device: torch.device) -> None:
            place(device)
            read.append(pool.submit(model.prepare, batch))
            wait(read, timeout=0.2)  # time to be done, where nothing keeps the thread from it

        monkeypatch.setattr(model.network, "place", place_and_let_a_thread_read)
        if change == "add":
            model.add_tasks(make_task("b"))
        else:
            model.remove_task("b")
        prepared = read[0].result()
    found = {name for name in model.run(prepared, train=True) if name.endswith("/loss")}
    assert found == ({"a/loss", "b/loss"} if change == "add" else {"a/loss"})


def test_tasks_may_be_added_as_a_list() -> None:
    model = make_model("a")
    model.add_tasks([make_task("b"), make_task("c")], make_task("d"))
    assert list(model.tasks) == ["a", "b", "c", "d"]


def misled(name: str, label: str = "a", source: str = "x") -> Task:
    flow = [Action(f"{name}_logits", f"{name}_head", source)]
    return Task(name, {f"{name}_head": nn.Linear(4, 3)}, flow, label=label, loss="cross_entropy")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.add_tasks(misled("d", label="e")), "task 'd': no loader holds its label 'e'"),
        (lambda m: m.add_tasks(misled("d", source="xx")), "task 'd': action 'd_logits', input 'xx': there is no"),
        (lambda m: m.update_task(misled("c", label="e")), "task 'c': no loader holds its label 'e'"),
        (lambda m: m.update_task(misled("c", source="xx")), "task 'c': action 'c_logits', input 'xx': there is no"),
    ],
    ids=["added, label", "added, source", "updated, label", "updated, source"],
)  # fmt: skip
def test_a_new_task_that_no_data_suit_is_told_of_before_the_next_epoch(
    change: Callable[[MultiTaskModel], None], text: str
) -> None:
    loop = make_loop(Unnamed(), changes={2: change})
    with pytest.raises(ConfigError, match=text):
        loop.run_training()
    assert loop.position.step == 5  # that of the end of the epoch


def test_a_new_task_that_no_loader_names_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    loop = make_loop(Letters(), changes={2: lambda model: model.add_tasks(make_task("d"))})
    with caplog.at_level(logging.WARNING):
        loop.run_training()
    said = [record.getMessage() for record in caplog.records if "'d'" in record.getMessage()]
    assert said == [
        "no loader names the task 'd', so it is neither trained nor evaluated; no loader holds its label 'd'; "
        "known are: _uids_, a, b, c, x"
    ]


def test_a_loader_of_removed_tasks_alone_is_told_of_once_and_trains_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loop = make_loop(Letters(), changes={1: lambda model: model.remove_task("b")})
    with caplog.at_level(logging.WARNING):
        loop.run_training()
    [said] = [record.getMessage() for record in caplog.records if "removed" in record.getMessage()]
    assert "loader 'one'" in said
    assert said.endswith("carries only tasks that were removed ('b'): nothing is learnt from such batches")
    assert loop.position.step == 14
    assert {name.split("/")[0] for name in loop.epoch_data["valid"]} == {"a", "c", "loss", "model"}


@pytest.mark.parametrize("make", [BackboneHeadsModel, JointLearning])
def test_a_batch_of_heads_that_were_removed_trains_nothing(make: type[BackboneHeadsModel]) -> None:
    heads = {name: Head(nn.Linear(5, 3), label=name, loss="cross_entropy") for name in "ab"}
    optimizer = {"class": "sgd", "lr": 0.1}
    mapping = {"backbone": {"x": "input"}}
    model = make(nn.Linear(4, 5), heads, arg_name_mapping=mapping, optimizer=optimizer, device="cpu")
    model.remove_task("b")
    model.check_sources(make_batch("a", "b"))
    before = copy.deepcopy(dict(model.state_dict()))
    for train in (True, False):
        outputs = model.run(make_batch("b"), train=train)
        assert outputs["loss"] == 0
        assert not [name for name in outputs if name.startswith(("a/", "b/"))]
    assert_equal(dict(model.state_dict()), before)


def test_a_checkpoint_of_changed_tasks_is_refused_where_they_were_not_changed_again(tmp_path: Path) -> None:
    make_loop(Letters(), tmp_path, steps=4).run_training()
    loop = make_loop(Letters(), tmp_path, changes={})
    checkpoint = load_checkpoint(max((tmp_path / "checkpoints").glob("step-*")))
    checkpoint.state["hooks"]["Change"]["done"] = 0
    with pytest.raises(CheckpointError, match=r"does not fit the model.*b_head"):
        loop.restore(checkpoint)
