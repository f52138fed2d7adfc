"""Freeze: what is frozen stays as it is, in the epochs that it is told, however the training gets there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import (
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
    RoundRobin,
    Task,
    TaskLoader,
    create_training,
)
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, Evaluate, Freeze, StopAfter, WriteJSON
from emloop_mtl.testing import SaveAndFail, run_hook
from emloop_mtl.types import EpochData

NAMES = ("a", "b", "c", "d")


class Data(MultiTaskDataset):
    """12 rows in three batches that carry all tasks, or three batches of each task by itself, in turn."""

    def __init__(self, apart: bool = False, names: Sequence[str] = NAMES) -> None:
        super().__init__(streams={"train": {"scheduler": RoundRobin()}})
        self._apart, self._names = apart, names

    def loaders(self) -> list[TaskLoader]:
        return [
            TaskLoader(
                self._rows(index),
                dict(zip(names, names, strict=True)),
                split,
                name="_".join(names),
                batch_size=4,
                shuffle=False,
            )
            for index, names in enumerate([[name] for name in self._names] if self._apart else [list(self._names)])
            for split in ("train", "valid")
        ]

    def _rows(self, seed: int) -> ColumnDataset:
        generator = torch.Generator().manual_seed(seed)
        labels = {name: torch.randint(3, (12,), generator=generator) for name in self._names}
        return ColumnDataset(f"rows{seed}", {"x": torch.randn(12, 4, generator=generator)}, labels)


def make_trunk() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 5))


def make_task(name: str) -> Task:
    flow = [Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", "features")]
    return Task(name, {f"{name}_head": nn.Linear(5, 3)}, flow, label=name, loss="cross_entropy")


def make_model(optimizer: Any = "sgd", names: Sequence[str] = NAMES, **options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    settings = {"class": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01} if optimizer == "sgd" else optimizer
    modules = {"trunk": options.pop("trunk", None) or make_trunk()}
    return MultiTaskModel(
        [make_task(name) for name in names], modules, optimizer=settings, **{"device": "cpu", **options}
    )


class Watch(AbstractHook):
    """Keep copies of all weights at the end of each epoch, and what was trained in it."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[dict[str, Tensor]] = []
        self.trained: list[set[str]] = []

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        model = self.main_loop.model
        assert isinstance(model, MultiTaskModel)
        self.weights.append({name: value.clone() for name, value in model.state_dict().items()})
        self.trained.append({name for name, p in model.network.named_parameters() if p.requires_grad})

    def moved(self, epoch: int) -> set[str]:
        """Return the modules some of whose numbers are others than an epoch before."""
        before, after = self.weights[epoch - 1], self.weights[epoch]
        return {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}


def train(
    *hooks: AbstractHook, model: MultiTaskModel | None = None, epochs: int = 4, data: Any = None, **loop: Any
) -> tuple[Watch, MultiTaskModel]:
    watch, model = Watch(), model or make_model()
    MainLoop(model, data or Data(), [*hooks, watch, StopAfter(epochs=epochs)], **loop).run_training()
    return watch, model


HEADS = {f"{name}_head" for name in NAMES}


# ------------------------------------------------------------------------------------------------------- the epochs


@pytest.mark.parametrize(
    ("epochs", "frozen"),
    [
        ({}, {1, 2, 3, 4}),
        ({"until_epoch": 2}, {1, 2}),
        ({"from_epoch": 3}, {3, 4}),
        ({"from_epoch": 2, "until_epoch": 3}, {2, 3}),
        ({"from_epoch": 5}, set()),
    ],
    ids=["all", "until", "from", "between", "later"],
)
def test_a_module_stays_as_it_is_in_the_epochs_in_which_it_is_frozen(
    epochs: dict[str, Any], frozen: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", Freeze.__module__)
    watch, model = train(Freeze(modules=["trunk.0", "trunk.4"], **epochs))
    for epoch in range(1, 5):
        names = {n for n in watch.weights[0] if n.startswith(("trunk.0.", "trunk.4."))}
        same = {n for n in names if torch.equal(watch.weights[epoch][n], watch.weights[epoch - 1][n])}
        assert same == (names if epoch in frozen else set())
        assert watch.moved(epoch) >= HEADS
    assert all(parameter.requires_grad for parameter in model.network.parameters())  # as it was before
    assert [message for message in caplog.messages if message.startswith("Freeze: ")] == [
        f"Freeze: {'frozen' if epoch in frozen else 'trained'} from epoch {epoch} on"
        for epoch in range(1, 5)
        if (epoch in frozen) != (epoch - 1 in frozen)
    ]


def test_parameters_are_found_by_patterns_of_their_names() -> None:
    watch, _ = train(Freeze(parameters=[r"^trunk\..*\.bias$", "^a_head"], until_epoch=1), epochs=2)
    every = set(dict(make_model().network.named_parameters()))
    biases = {name for name in every if name.startswith("trunk.") and name.endswith(".bias")}
    assert watch.trained[1] == every - biases - {"a_head.weight", "a_head.bias"}
    assert watch.trained[2] == every


def test_several_unfreeze_a_model_bit_by_bit_and_what_two_of_them_name_waits_for_both() -> None:
    hooks = [
        Freeze(modules=["trunk"], until_epoch=1),
        Freeze(modules=["trunk.0"], until_epoch=2),
        Freeze(parameters=["trunk.0.bias"], until_epoch=3),
    ]
    watch, _ = train(*hooks)
    trunk = [{name for name in names if name.startswith("trunk.")} for names in watch.trained]
    later = {f"trunk.{number}.{kind}" for number in (1, 4) for kind in ("weight", "bias")}
    assert trunk[1:] == [set(), later, later | {"trunk.0.weight"}, later | {"trunk.0.weight", "trunk.0.bias"}]


def test_what_the_model_has_frozen_by_itself_stays_frozen() -> None:
    model = make_model(trunk=make_trunk().requires_grad_(False))
    watch, _ = train(Freeze(modules=["trunk", "a_head"], until_epoch=1), model=model, epochs=2)
    assert watch.moved(2) & HEADS == HEADS
    assert not any(parameter.requires_grad for parameter in model.network["trunk"].parameters())


def test_epochs_are_those_of_the_loop_whatever_their_size() -> None:
    watch, _ = train(
        Freeze(modules=["a_head"], from_epoch=2, until_epoch=3), fixed_epoch_size=2, skip_zeroth_epoch=True
    )
    assert ["a_head.bias" in names for names in watch.trained] == [True, False, False, True]


# ----------------------------------------------------------------------------------------------- the same as by hand

SGD = {"class": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}
ADAMW = {"class": "adamw", "lr": 0.05, "weight_decay": 0.1}


def by_hand(optimizer: torch.optim.Optimizer, network: nn.Module, data: Data, frozen: set[int], window: int) -> None:
    """Train one task for four epochs as one would without the package."""
    trunk, head = network["trunk"], network["a_head"]  # type: ignore[index]
    batches = [(b["x"], b["a"]) for b in data.train_stream()]
    step = 0
    for epoch in range(1, 5):
        for parameter in trunk.parameters():
            parameter.requires_grad_(epoch not in frozen)
            if epoch in frozen:
                parameter.grad = None
        for x, label in batches:
            torch.autograd.backward(nn.functional.cross_entropy(head(trunk(x)), label) / window)
            step += 1
            if step % window == 0:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize(
    ("settings", "kind"), [(SGD, torch.optim.SGD), (ADAMW, torch.optim.AdamW)], ids=["sgd", "adamw"]
)
def test_weights_are_to_the_bit_those_of_a_loop_that_freezes_by_hand(
    settings: dict[str, Any], kind: type[torch.optim.Optimizer], window: int
) -> None:
    # A window of two steps is open where the second of the epochs of three begins.
    trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))
    model = make_model(settings, names=["a"], trunk=trunk, update={"accumulate": window})
    network = copy.deepcopy(model.network)
    options = {key: value for key, value in settings.items() if key != "class"}
    optimizer = kind(network.parameters(), fused=True, **options)  # type: ignore[call-arg]
    data = Data(names=["a"])
    by_hand(optimizer, network, data, {2, 4}, window)
    hooks = [Freeze(modules=["trunk"], from_epoch=2, until_epoch=2), Freeze(modules=["trunk"], from_epoch=4)]
    train(*hooks, model=model, data=data)
    for name, value in network.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    remembered = model.training_state_dict()["optimizer"]
    for name, parameter in network.named_parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(torch.as_tensor(remembered[name][key]), torch.as_tensor(value)), (name, key)


class CountedBackward(torch.autograd.Function):
    """The identity; counts how often it is run backward."""

    count = 0

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        CountedBackward.count += 1
        return gradients[0]


class Counted(nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        found: Tensor = CountedBackward.apply(value)  # type: ignore[no-untyped-call]
        return found


def test_nothing_runs_backward_through_a_frozen_trunk() -> None:
    CountedBackward.count = 0
    model = make_model(trunk=nn.Sequential(nn.Linear(4, 6), Counted(), nn.Linear(6, 5)))
    counts = []

    class Note(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            counts.append(CountedBackward.count)

    train(Freeze(modules=["trunk"], until_epoch=1), Note(), model=model, epochs=2)
    assert counts == [0, 0, 3]


def everything(optimizer: str, **update: Any) -> MultiTaskModel:
    return make_model({"class": optimizer, "lr": 0.05}, update=update)


OPTIMIZERS = ["sgd", "adam", "adamw", "bert_adam", "adagrad", "rmsprop", "nadam", "lbfgs"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_while_the_whole_network_is_frozen_nothing_is_trained(optimizer: str) -> None:
    watch, _ = train(
        Freeze(parameters=["."], until_epoch=1, modules=["trunk"], eval_mode=True), model=everything(optimizer)
    )
    assert watch.moved(1) == set()
    assert watch.moved(2) == {"trunk", *HEADS}


@pytest.mark.parametrize(
    "update", [{"clip_norm": 0.1}, {"accumulate": 2}, {"on_nan": "error"}, {"on_nan": "skip"}], ids=str
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_is_so_with_all_that_belongs_to_an_update(update: dict[str, Any], precision: str) -> None:
    model = make_model(update=update, precision=precision)
    watch, _ = train(Freeze(parameters=["weight", "bias"], until_epoch=2), model=model)
    assert watch.moved(1) == watch.moved(2) == {"trunk"}  # whose batch statistics go on
    assert watch.moved(4) == {"trunk", *HEADS}


def test_batches_all_of_whose_tasks_are_frozen_train_nothing() -> None:
    watch, _ = train(Freeze(modules=["trunk", "a_head"], until_epoch=2, eval_mode=True), data=Data(apart=True))
    assert watch.moved(1) == watch.moved(2) == HEADS - {"a_head"}
    assert watch.moved(4) == {"trunk", *HEADS}


# ----------------------------------------------------------------------------------------------------- eval mode


@pytest.mark.parametrize("evaluated", [["valid"], []], ids=["evaluates", "does not"])
def test_in_eval_mode_statistics_and_random_numbers_stand_still_too(evaluated: list[str]) -> None:
    modes = []

    class Note(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            network = self.main_loop.model.network  # type: ignore[attr-defined]
            if self.main_loop.is_training:
                trunk = [module.training for module in network["trunk"].modules()]
                modes.append((network["a_head"].training, any(trunk), all(trunk)))

    model = make_model()
    list(model.network["trunk"].children())[3].eval()  # by the user, which it stays
    hooks: list[AbstractHook] = [Evaluate(streams=evaluated)] if evaluated else []
    hooks += [Freeze(modules=["trunk"], from_epoch=2, until_epoch=2, eval_mode=True), Note()]
    watch, _ = train(*hooks, model=model, epochs=3)
    assert modes == 3 * [(True, True, False)] + 3 * [(True, False, False)] + 3 * [(True, True, False)]
    assert watch.moved(2) == HEADS
    assert not torch.equal(watch.weights[3]["trunk.1.running_mean"], watch.weights[2]["trunk.1.running_mean"])
    model.network.train()
    model.run(next(iter(Data().train_stream())), train=True)


def test_by_default_batch_statistics_go_on_as_in_torch() -> None:
    watch, _ = train(Freeze(modules=["trunk"]), epochs=1)
    moved = {n for n, value in watch.weights[1].items() if not torch.equal(value, watch.weights[0][n])}
    assert {name for name in moved if name.startswith("trunk")} == {
        f"trunk.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


# ------------------------------------------------------------------------------------------- changing tasks, stacks


def test_tasks_that_run_as_one_do_so_again_when_they_are_frozen_alike() -> None:
    stacked = []

    class Note(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            stacked.append(self.main_loop.model.stacked_tasks)  # type: ignore[attr-defined]

    train(Freeze(parameters=["_head"], from_epoch=2, until_epoch=2), Note(), epochs=3)
    assert stacked == [[], [NAMES], [NAMES], [NAMES]]
    stacked.clear()
    train(Freeze(modules=["a_head"], from_epoch=2, until_epoch=2), Note(), epochs=3)
    assert stacked == [[], [NAMES], [NAMES[1:]], [NAMES[1:]]]  # the optimizer remembers less of the first


class Grow(AbstractHook):
    """Remove a task; a step later add one of its name, and put another trunk in the place of the first."""

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        model = self.main_loop.model
        assert isinstance(model, MultiTaskModel)
        if not self.main_loop.is_training:
            return
        if self.main_loop.position.step == 1:
            model.remove_task("d")
        elif self.main_loop.position.step == 2:
            model.add_tasks(make_task("d"))
            task = make_task("a")
            task.modules["trunk"] = make_trunk()
            model.update_task(task)
            self.at_first = {name: value.clone() for name, value in model.state_dict().items()}


def test_what_is_added_in_the_middle_of_an_epoch_is_frozen_at_once_if_it_is_named() -> None:
    grow = Grow()
    hook = Freeze(modules=["trunk"], parameters=["^[cd]_head"], until_epoch=1)
    watch, _ = train(hook, grow, epochs=2)
    for name, value in watch.weights[1].items():
        is_frozen = name.startswith(("trunk.0", "trunk.4", "c_head", "d_head"))
        assert torch.equal(value, grow.at_first[name]) or not is_frozen, name
        assert not torch.equal(value, grow.at_first[name]) or not name.startswith(("a_head", "b_head")), name
    assert watch.moved(2) == {"trunk", *HEADS}


def heads_model() -> MultiTaskModel:
    torch.manual_seed(0)
    heads = {name: Head(nn.Linear(5, 3), loss="cross_entropy") for name in NAMES}
    return BackboneHeadsModel(
        nn.Sequential(nn.Linear(4, 5), nn.Tanh()),
        heads,
        arg_name_mapping={"backbone": {"x": "input"}},
        optimizer=dict(SGD),
        device="cpu",
    )


def test_backbone_and_heads_are_modules_like_others() -> None:
    watch, _ = train(Freeze(modules=["backbone", "b"], until_epoch=1), model=heads_model(), epochs=2)
    assert watch.moved(1) == {"a", "c", "d"}
    assert watch.moved(2) == {"backbone", *NAMES}


class Numbered(MultiTaskDataset):
    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        features = {"x": torch.randn(8, 4, generator=generator), "task_id": torch.arange(8) % 2 + 1}
        return [TaskLoader(ColumnDataset("rows", features, {"y": torch.arange(8) // 2 % 2}), batch_size=4)]


def test_tasks_that_are_called_by_numbers_are_named_so() -> None:
    heads: dict[int | str, nn.Module | Head] = {number: nn.Linear(5, 2) for number in (1, 2)}
    model = JointLearning(
        nn.Linear(4, 5), heads, "y", arg_name_mapping={"backbone": {"x": "input"}}, optimizer=dict(SGD), device="cpu"
    )
    watch, _ = train(Freeze(modules=[1], until_epoch=1), model=model, data=Numbered(), epochs=2)
    assert (watch.moved(1), watch.moved(2)) == ({"backbone", "2"}, {"backbone", "1", "2"})


# --------------------------------------------------------------------------------------------------------- resuming

CASES: dict[str, Callable[[], list[AbstractHook]]] = {
    "bit by bit": lambda: [
        Freeze(modules=["trunk", "a_head"], until_epoch=1, eval_mode=True),
        Freeze(modules=["trunk.0"], until_epoch=2),
        Freeze(parameters=["^[ab]_head"], from_epoch=3),
    ],
    "one head": lambda: [Freeze(modules=["a_head"], until_epoch=1)],
}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_a_training_goes_on_exactly_from_any_moment(case: str, accumulate: int, tmp_path: Path) -> None:
    def loop(folder: str, *more: AbstractHook) -> MainLoop:
        torch.manual_seed(5)
        hooks = [*CASES[case](), ComputeStats(["loss"]), WriteJSON(), *more]
        model = make_model(update={"accumulate": accumulate})
        return MainLoop(model, Data(), [*hooks, StopAfter(epochs=3)], output_dir=tmp_path / folder)

    every = SaveAndFail(every=1000)
    whole = loop("whole", every)
    whole.run_training()
    expected = whole.model.state_dict()
    state = whole.model.training_state_dict()
    for moment in range(1, every.moments):
        with pytest.raises(RuntimeError, match="failed at moment"):
            loop(str(moment), SaveAndFail(every=moment, fail_at=moment + 1)).run_training()
        resumed = loop(str(moment), SaveAndFail(every=1000))
        resumed.restore(newest_checkpoint(tmp_path / str(moment) / "checkpoints"))
        resumed.run_training()
        for name, value in resumed.model.state_dict().items():
            assert torch.equal(value, expected[name]), (moment, name)
        for name, entry in resumed.model.training_state_dict()["optimizer"].items():
            for key, value in entry.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(state["optimizer"][name][key])), moment
        written = [(tmp_path / folder / "metrics.jsonl").read_text() for folder in ("whole", str(moment))]
        assert written[0] == written[1], moment


def test_a_loop_that_goes_on_in_one_process_freezes_again() -> None:
    model, watch = make_model(), Watch()
    stop = StopAfter(epochs=1)
    MainLoop(model, Data(), [Freeze(modules=["a_head"]), watch, stop]).run_training()
    assert all(parameter.requires_grad for parameter in model.network.parameters())
    later = Watch()
    MainLoop(model, Data(), [later, StopAfter(epochs=1)]).run_training()
    assert later.moved(1) >= HEADS


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "says", "path"),
    [
        ({}, "Freeze: name what is frozen under 'modules' or 'parameters'", ()),
        ({"modules": []}, r"modules must be a list of names, not \[\]", ("modules",)),
        ({"modules": "trunk"}, r"must be a list of names, such as \[trunk\], not 'trunk'", ("modules",)),
        ({"modules": ["trunk", "trunk"]}, "lists 'trunk' twice", ("modules", 1)),
        ({"modules": [True]}, "must be a list of names", ("modules",)),
        ({"parameters": ["a", "(b"]}, "'\\(b' is no regular expression: missing \\)", ("parameters", 1)),
        ({"modules": ["a"], "until_epoch": 0}, "until_epoch must be a positive whole number, not 0", ("until_epoch",)),
        ({"modules": ["a"], "from_epoch": 1.5}, "from_epoch must be a positive whole number, not 1.5", ("from_epoch",)),
        ({"modules": ["a"], "from_epoch": 3, "until_epoch": 2}, "2 comes before from_epoch 3", ("until_epoch",)),
        ({"modules": ["a"], "eval_mode": 1}, "eval_mode must be true or false, not 1", ("eval_mode",)),
        ({"parameters": ["a"], "eval_mode": True}, "eval_mode is of modules", ("eval_mode",)),
        ({"modules": ["a"], "until": 3}, "unknown argument 'until'; did you mean 'until_epoch'", ("until",)),
    ],
)
def test_arguments_that_cannot_be_right_are_refused(
    arguments: dict[str, Any], says: str, path: tuple[str | int, ...]
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Freeze(**arguments)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"modules": ["trunk", "trunc"]}, "Freeze: the model has no module 'trunc'; did you mean 'trunk'?"),
        ({"modules": ["trunk.7"]}, "the model has no module 'trunk.7'; did you mean 'trunk."),
        ({"modules": ["trunk.0.bias"]}, "no module 'trunk.0.bias'; a parameter is named under 'parameters'"),
        ({"modules": ["trunk.2"]}, "the module 'trunk.2' has no parameter that could be frozen"),
        ({"parameters": ["trunc.0"]}, "'trunc.0' is found in the name of no parameter; did you mean 'trunk.0"),
        ({"parameters": [""]}, "all parameters are frozen in every epoch, so there is nothing to learn"),
    ],
)
def test_what_the_model_has_not_is_told_with_the_nearest_that_it_has(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        train(Freeze(**arguments))


def test_two_that_leave_nothing_to_train_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="there is nothing to learn"):
        train(Freeze(parameters=["_head"]), Freeze(modules=["trunk"]))
    train(Freeze(parameters=["_head"]), Freeze(modules=["trunk"], until_epoch=1), epochs=2)


def test_lbfgs_moves_what_it_has_trained_before_so_that_is_not_frozen_later() -> None:
    with pytest.raises(ConfigError, match="LBFGS moves all that it has ever trained; with it, freeze from epoch 1 on"):
        train(Freeze(modules=["trunk"], from_epoch=2), model=everything("lbfgs"))


def test_a_model_without_tasks_has_nothing_to_freeze() -> None:
    with pytest.raises(ConfigError, match="Freeze needs a model that consists of tasks, which FakeModel does not"):
        run_hook(Freeze(modules=["trunk"]))


def test_a_mistake_in_a_config_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frozen_rows.py").write_text(
        "import torch\nfrom emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader\n\n\n"
        "class Rows(MultiTaskDataset):\n    def loaders(self):\n"
        "        rows = ColumnDataset('r', {'x': torch.ones(2, 3)}, {'y': torch.tensor([0, 1])})\n"
        "        return [TaskLoader(rows, {'y': 'y'}, batch_size=2)]\n"
    )
    config = tmp_path / "config.yaml"
    config.write_text(
        "dataset: {class: frozen_rows.Rows}\n"
        "model:\n  class: MultiTaskModel\n"
        "  modules: {head: {class: torch.nn.Linear, in_features: 3, out_features: 2}}\n"
        "  tasks: {y: {flow: [{name: out, module: head, inputs: x}], label: y, loss: cross_entropy}}\n"
        "hooks:\n  - Freeze:\n      modules: [head, heat]\n      until_epoch: 2\n  - StopAfter: {epochs: 2}\n"
    )
    with pytest.raises(ConfigError, match=r"config.yaml:8:23: hooks\[0\] Freeze.*: .*'heat'; did you mean 'head'\?"):
        create_training(config)
