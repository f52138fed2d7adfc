"""Heads on a backbone that run as one come to the same numbers as those that run apart."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import (
    Action,
    BackboneHeadsModel,
    Batch,
    ColumnDataset,
    DataError,
    Head,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.hooks import Evaluate, ScoreTasks, StopAfter, WriteJSON
from emloop_mtl.testing import SaveAndFail
from emloop_mtl.utils.random import seed_everything

from .test_stacked_equality import OPTIMIZERS, Heads, assert_close, check_twins, draw, expected_stacks, make_batch

SETS = 18


class Mapped(nn.Module):
    """Returns a mapping whose keys its source tells."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"encoded": torch.tanh(self.layer(x)), "other": x}


class Computed(Mapped):
    """Returns a mapping whose keys are known only when it has run."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(("encoded", "other"), super().forward(x).values(), strict=True))


class OneValue(Mapped):
    """Returns one value, which its source does not tell."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()),
    "mapped": Mapped,
    "computed": Computed,
    "one_value": OneValue,
}


class OwnLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x: Tensor, encoded: Tensor | None = None, input: Tensor | None = None) -> dict[str, Tensor]:
        features = x if encoded is None else encoded
        return {"loss": self.layer(features).square().mean(), "sum": x.sum(1)}


def plan_of(seed: int) -> dict[str, Any]:
    """Return which heads there are; a loss that is a function of a flow's actions has no place here."""
    plan = draw(seed)
    plan["tasks"] = {name: kind for name, kind in plan["tasks"].items() if kind != "by_function"} or {"a": "classes"}
    plan["some"] = [name for name in plan["some"] if name in plan["tasks"]] or list(plan["tasks"])[:1]
    plan["weights"].setdefault("a", 1.0)
    plan["backbone"] = list(BACKBONES)[seed % len(BACKBONES)]
    return plan


def make(seed: int, stack: bool, dtype: torch.dtype, **options: Any) -> BackboneHeadsModel:
    plan = plan_of(seed)
    torch.manual_seed(seed)
    backbone = BACKBONES[plan["backbone"]]()
    heads: dict[str, nn.Module | Head] = {}
    mapping: dict[str, dict[str, str]] = {"backbone": {"x": "input"}} if plan["backbone"] == "layers" else {}
    for name, kind in plan["tasks"].items():
        module, settings = getattr(Heads, kind)()
        heads[name] = Head(module, **settings)
        if plan["backbone"] in ("mapped", "computed"):
            mapping[name] = {"encoded": "input"}
    if seed % 3 == 0:
        heads["own"] = OwnLoss()
    for module in (backbone, *heads.values()):
        (module.module if isinstance(module, Head) else module).to(dtype)
        if isinstance(module, Head) and isinstance(module.loss, nn.Module):
            module.loss.to(dtype)
    settings = dict(plan["optimizer"])
    if plan["groups"] and settings["class"] != "lbfgs":
        last = list(plan["tasks"])[-1]

        def groups(network: nn.ModuleDict) -> list[dict[str, Any]]:
            own = list(network[last].parameters())
            others = [p for p in network.parameters() if all(p is not q for q in own)]
            return [{"params": others}, {"params": own, "lr": 0.003}]

        settings["parameters"] = groups
    weights = {name: plan["weights"][name] for name in plan["tasks"]}
    return BackboneHeadsModel(
        backbone,
        heads,
        weights,
        mapping,
        optimizer=settings,
        update=plan["update"],
        device="cpu",
        stack_tasks=stack,
        **options,
    )


def batch_of(seed: int, step: int, names: list[str], dtype: torch.dtype) -> Batch:
    batch = make_batch(seed, step, [name for name in names if name in draw(seed)["tasks"]], dtype)
    if "a" in names:
        batch["a"] = torch.arange(9) % 4
    own = {"own": None} if seed % 3 == 0 else {}
    return Batch(batch, tasks={**{name: name for name in names}, **own})


# Sums are taken in another order, which in float64 changes the 16th digit; a dozen updates, some divided by roots of
# small numbers, make that the 11th at most.
@pytest.mark.parametrize("seed", range(SETS))
def test_sets_of_heads_learn_the_same_in_float64(seed: int) -> None:
    check_twins(seed, torch.float64, 1e-9, plan_of, make, batch_of)


# float32 has seven digits; SGD divides by nothing that could be small.
@pytest.mark.parametrize("seed", [seed for seed in range(SETS) if OPTIMIZERS[seed % len(OPTIMIZERS)]["class"] == "sgd"])
def test_sets_of_heads_learn_the_same_in_float32(seed: int) -> None:
    check_twins(seed, torch.float32, 2e-5, plan_of, make, batch_of)


def test_a_third_of_the_sets_have_heads_that_run_as_one_on_each_kind_of_backbone() -> None:
    stacked = [plan_of(seed)["backbone"] for seed in range(SETS) if expected_stacks(plan_of(seed))]
    assert len(stacked) >= SETS / 3
    assert set(stacked) == set(BACKBONES)


# ------------------------------------------------------------------------------- batches that do not go together


def layers() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.2))


def equal_heads(
    backbone: Callable[[], nn.Module] = layers, stack_tasks: bool = True, **options: Any
) -> BackboneHeadsModel:
    """Make a model of four equal heads ``a`` to ``d`` on a backbone that returns one value."""
    torch.manual_seed(0)
    heads = {name: Head(nn.Linear(6, 3), loss="cross_entropy", missing_label=-100) for name in "abcd"}
    mapping = options.pop("arg_name_mapping", {"backbone": {"x": "input"}})
    settings = {"optimizer": {"class": "adam", "lr": 0.05}, "device": "cpu", **options}
    return BackboneHeadsModel(backbone(), heads, arg_name_mapping=mapping, stack_tasks=stack_tasks, **settings)


def rows_of(seed: int, **more: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    labels = {name: torch.randint(3, (8,), generator=generator) for name in "abcd"}
    for label in labels.values():
        label[torch.rand(8, generator=generator) < 0.3] = -100
    return {"x": torch.randn(8, 6, generator=generator), **labels, **more}


def train_alike(together: BackboneHeadsModel, apart: BackboneHeadsModel, batches: list[dict[str, Any]]) -> None:
    for step, batch in enumerate(batches):
        for train in (False, True):
            outputs = []
            for model in (together, apart):
                torch.manual_seed(step)
                outputs.append(model.run(Batch(batch), train=train))
            # float32 has seven digits, and adam divides by roots of what may be small.
            assert_close(*outputs, 1e-4)
    assert_close(together.state_dict(), apart.state_dict(), 1e-4)


def test_heads_that_get_rows_of_their_own_run_apart_for_good() -> None:
    together, apart = equal_heads(), equal_heads(stack_tasks=False)
    train_alike(together, apart, [rows_of(0)])
    assert together.stacked_tasks == [tuple("abcd")]
    train_alike(together, apart, [rows_of(1, task=["a", "b", "c", "d", "a", "b", "c", "d"]), rows_of(2)])
    assert together.stacked_tasks == []
    assert together.training_state_dict()["together"] == [["a"], ["b"], ["c"], ["d"]]


def test_rows_of_single_heads_are_evaluated_with_heads_that_are_trained_as_one() -> None:
    together, apart = equal_heads(), equal_heads(stack_tasks=False)
    train_alike(together, apart, [rows_of(0)])
    batch = rows_of(1, task=["a", "b", "c", "d", "a", "b", "c", "d"])
    # Adam divides by roots of what may be small, in float32.
    assert_close(*(model.run(Batch(batch), train=False) for model in (together, apart)), 1e-4)
    assert together.stacked_tasks == [tuple("abcd")]


@pytest.mark.parametrize(
    "update", [{}, {"accumulate": 2, "on_nan": "skip", "clip_norm": 0.5}], ids=["plain", "windows"]
)
@pytest.mark.parametrize("kind", ["mapped", "computed"])
def test_a_source_that_takes_the_place_of_what_the_backbone_returns_reaches_stacked_heads(
    kind: str, update: dict[str, Any]
) -> None:
    mapping = {name: {"encoded": "input"} for name in "abcd"}
    twins = [equal_heads(BACKBONES[kind], stack, arg_name_mapping=mapping, update=update) for stack in (True, False)]
    train_alike(twins[0], twins[1], [rows_of(0)])
    assert twins[0].stacked_tasks == [tuple("abcd")]
    train_alike(twins[0], twins[1], [rows_of(1, encoded=torch.ones(8, 6)), rows_of(2)])
    assert twins[0].stacked_tasks == []


def test_a_part_that_nobody_has_named_before_reaches_each_head_and_they_run_apart() -> None:
    class Named(Mapped):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return dict(zip(["input"], [super().forward(x)["encoded"]], strict=True))

    twins = [equal_heads(Named, stack, arg_name_mapping={}) for stack in (True, False)]
    train_alike(twins[0], twins[1], [rows_of(0), rows_of(1)])
    assert twins[0].stacked_tasks == []


def test_tasks_that_begin_with_a_part_of_an_output_run_as_one() -> None:
    twins = []
    for stack in (True, False):
        torch.manual_seed(0)
        modules: dict[str, nn.Module] = {"trunk": Mapped(), **{name: nn.Linear(6, 3) for name in "abc"}}
        tasks = [
            Task(
                name,
                flow=[Action("features", "trunk", "x"), Action(f"{name}_out", name, "features.encoded")],
                label=name,
                loss="cross_entropy",
                missing_label=-100,
            )
            for name in "abc"
        ]
        settings = {"optimizer": {"class": "sgd", "lr": 0.1}, "device": "cpu"}
        twins.append(MultiTaskModel(tasks, modules, stack_tasks=stack, **settings))  # type: ignore[arg-type]
    for step in range(3):
        outputs = [model.run(Batch(rows_of(step)), train=True) for model in twins]
        assert_close(*outputs, 2e-5)  # float32 has seven digits
    assert twins[0].stacked_tasks == [tuple("abc")]


def test_mistakes_in_labels_of_stacked_heads_name_the_head() -> None:
    model = equal_heads()
    model.run(Batch(rows_of(0)), train=True)
    batch = rows_of(1)
    batch["c"][2] = 7
    with pytest.raises(DataError, match="'c'.* label 7 in row 2 is out of range 0..2"):
        model.run(Batch(batch), train=True)
    unlabelled = Batch({"x": batch["x"]}, tasks=dict.fromkeys("abcd"))
    with pytest.raises(DataError, match="head 'a': the batch cannot be trained on, it holds no label for the head"):
        model.run(unlabelled, train=True)


def test_a_copy_of_a_model_with_stacked_heads_goes_on_by_itself() -> None:
    model = equal_heads()
    model.run(Batch(rows_of(0)), train=True)
    twin = copy.deepcopy(model)
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    model.run(Batch(rows_of(1)), train=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in twin.state_dict().items())


def test_stacked_heads_can_be_compiled() -> None:
    together, apart = equal_heads(compile={"backend": "eager"}), equal_heads(stack_tasks=False)
    for model in (together, apart):
        model.network["backbone"][2].p = 0.0  # what is compiled draws other random numbers
    train_alike(together, apart, [rows_of(0), rows_of(1)])
    assert together.stacked_tasks == [tuple("abcd")]
    assert together.is_compiled
    torch._dynamo.reset()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_stacked_heads_work_in_half_precision(precision: str) -> None:
    together, apart = (equal_heads(stack_tasks=stack, precision=precision) for stack in (True, False))
    for step in range(3):
        losses = []
        for model in (together, apart):
            torch.manual_seed(step)
            losses.append(model.run(Batch(rows_of(step)), train=True)["loss"])
        # bf16 has three digits.
        torch.testing.assert_close(*losses, rtol=0.02, atol=0.02)
    assert together.stacked_tasks == [tuple("abcd")]


# ------------------------------------------------------------------------------------------------------ in the loop


class Rows(MultiTaskDataset):
    """All heads in each batch, a third of the labels missing."""

    def loaders(self) -> list[TaskLoader]:
        made = []
        for split, seeds in (("train", range(5)), ("valid", range(5, 7))):
            parts = [rows_of(seed) for seed in seeds]
            columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            data = ColumnDataset("rows", {"x": columns.pop("x")}, columns)
            made.append(TaskLoader(data, {name: name for name in "abcd"}, split=split, batch_size=8))
        return made


def train(folder: Path, fail_at: int | None = None, resume: bool = False, **options: Any) -> MainLoop:
    """Train for three epochs with dropout and windows of three steps, or until a given moment."""
    model = equal_heads(update={"accumulate": 3, "on_nan": "error"}, **options)
    seed_everything(1)
    hooks = [
        Evaluate(streams=["valid"]),
        ScoreTasks(),
        WriteJSON(path="metrics.jsonl", output_dir=str(folder)),
        SaveAndFail(every=1000 if fail_at is None else fail_at - 1, fail_at=fail_at),
        StopAfter(epochs=3),
    ]
    loop = MainLoop(model, Rows(), hooks, output_dir=str(folder))
    if resume:
        loop.restore(newest_checkpoint(folder / "checkpoints", "latest"))
    if fail_at is None:
        loop.run_training()
    else:
        with pytest.raises(RuntimeError, match="failed at moment"):
            loop.run_training()
    return loop


def test_rows_of_a_head_that_computes_its_own_loss_part_the_others() -> None:
    twins = []
    for stack in (True, False):
        torch.manual_seed(0)
        heads: dict[str, nn.Module | Head] = {name: Head(nn.Linear(6, 3), loss="cross_entropy") for name in "abc"}
        mapping = {name: {"encoded": "input"} for name in heads}
        heads["own"] = OwnLoss()
        twins.append(BackboneHeadsModel(Mapped(), heads, arg_name_mapping=mapping, device="cpu", stack_tasks=stack))
    for step in range(3):
        batch = {name: value.clamp(min=0) if name != "x" else value for name, value in rows_of(step).items()}
        given = {
            "tasks": {"a": "a", "b": "b", "c": "c", "own": "d"},
            "rows": {"own": torch.tensor([1, 4])} if step else None,
        }
        outputs = [model.run(Batch(batch, **given), train=True) for model in twins]  # type: ignore[arg-type]
        assert_close(*outputs, 1e-4)  # adam divides by roots of what may be small, in float32
        assert twins[0].stacked_tasks == ([tuple("abc")] if step == 0 else [])


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MainLoop]:
    """A training that nothing has disturbed, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


# Of some 25 moments: an open window, and the middle of the last epoch.
@pytest.mark.parametrize("moment", [4, 16])
def test_a_training_of_stacked_heads_goes_on_exactly_where_it_was(
    whole_run: tuple[Path, MainLoop], tmp_path: Path, moment: int
) -> None:
    folder, whole = whole_run
    train(tmp_path, fail_at=moment)
    resumed = train(tmp_path, resume=True)
    ours: Mapping[str, Any] = resumed.model.state_dict()
    theirs = whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert whole.model.stacked_tasks == [tuple("abcd")]  # type: ignore[attr-defined]


def test_a_step_of_stacked_heads_waits_for_no_device(no_waiting: Any) -> None:
    model = equal_heads()
    model.run(Batch(rows_of(0)), train=True)
    batches = [model.prepare(Batch(rows_of(seed))) for seed in (1, 2)]
    with no_waiting():
        for batch in batches:
            model.run(batch, train=True)
    assert model.stacked_tasks == [tuple("abcd")]
