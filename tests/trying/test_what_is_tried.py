"""What a model is tried on before its training, and which models are."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.utils.data import Subset

from emloop_mtl import (
    AbstractHook,
    Action,
    ColumnDataset,
    MainLoop,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.constants import CHECKPOINT_FOLDER
from emloop_mtl.hooks import Evaluate, Freeze, SaveEvery, ScoreTasks, StopAfter
from emloop_mtl.models.compiled_plan import CompiledPlan
from emloop_mtl.schedulers import Interleaved

from .trial import ROWS, SETTINGS, DatasetOf, Training, columns, loader, make_model, train


def test_streams_that_nobody_will_run_are_not_tried() -> None:
    narrow = ColumnDataset("rows", {"x": torch.ones(ROWS, 3)}, {"y": torch.arange(ROWS) % 3})
    data = DatasetOf(loader(), loader(narrow, split="test"))
    MainLoop(make_model(), data, [StopAfter(epochs=1)]).try_batches()
    for hooks, options in (([Evaluate(["test"])], {}), ([], {"extra_streams": ["test"]})):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            MainLoop(make_model(), data, [*hooks, StopAfter(epochs=1)], **options).try_batches()


def test_a_training_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    first_batch = TaskLoader.first_batch
    monkeypatch.setattr(TaskLoader, "first_batch", lambda self, count=None: reads.append(1) or first_batch(self, count))
    loop = MainLoop(make_model(), DatasetOf(loader()), [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    loop.try_batches()
    loop.run_training()
    loop.run_evaluation("train")
    assert len(reads) == 1


def test_batches_of_a_size_that_is_left_out_are_not_tried() -> None:
    class OnlyFour(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            assert len(x) == 4
            return super().forward(x)

    model = make_model(trunk=OnlyFour(4, 5))
    data = DatasetOf(loader())
    MainLoop(model, data, [StopAfter(epochs=1)], fixed_batch_size=4).try_batches()
    with pytest.raises(AssertionError):
        MainLoop(model, data, [StopAfter(epochs=1)], fixed_batch_size=8).try_batches()


def test_an_empty_loader_is_left_to_what_is_set_about_empty_streams(caplog: pytest.LogCaptureFixture) -> None:
    empty = loader(Subset(columns(), []), split="valid")
    assert train(make_model(), loader(), empty, on_empty_stream="warn").end == "finished"
    assert "stream 'valid' is empty" in caplog.text


class OwnRun(MultiTaskModel):
    """Makes of a batch what only it knows."""

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        batch["x"] = batch["x"][:, :3]
        return super().run(batch, train, stream)


class OwnPrepare(MultiTaskModel):
    """Makes of sources and labels what only it knows."""

    def prepare(self, batch: Any) -> Any:
        batch["x"], batch["y"] = batch["x"][:, :3], batch["y"] % 3
        return super().prepare(batch)


@pytest.mark.parametrize("kind", [OwnRun, OwnPrepare])
def test_what_a_model_makes_of_batches_in_its_own_way_is_tried(kind: type[MultiTaskModel]) -> None:
    data = loader(columns(y=torch.arange(ROWS) % (3 if kind is OwnRun else 6)))
    model = make_model(trunk=nn.Linear(3, 5))
    model.__class__ = kind
    assert train(model, data).end == "finished"
    wrong = make_model(trunk=nn.Linear(4, 5))
    wrong.__class__ = kind
    for settings in ({}, {"skip_zeroth_epoch": True}):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            MainLoop(wrong, DatasetOf(data), [StopAfter(epochs=1)], **settings).try_batches()


@pytest.mark.parametrize("name", ["run", "prepare"])
def test_methods_that_somebody_has_put_in_their_place_are_tried(name: str) -> None:
    calls: list[str] = []
    model = make_model(trunk=nn.Linear(3, 5))
    method = getattr(model, name)
    setattr(model, name, lambda *args, **kwargs: calls.append(name) or method(*args, **kwargs))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)]).try_batches()
    assert calls


class NeedsTraining(MultiTaskModel):
    """Cannot do without what a hook gives it."""

    factor: float

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        batch["x"] = batch["x"] * self.factor
        return super().run(batch, train, stream)


class GivesFactor(AbstractHook):
    """Gives the model what it needs as soon as the training begins."""

    def before_training(self) -> None:
        assert isinstance(self.main_loop.model, NeedsTraining)
        self.main_loop.model.factor = 2.0


@pytest.mark.parametrize("skips", [True, False])
def test_what_methods_of_ones_own_raise_for_want_of_a_training_is_no_mistake(
    skips: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    model.__class__ = NeedsTraining
    with caplog.at_level(logging.INFO):
        loop = train(model, loader(), hooks=[GivesFactor()], skip_zeroth_epoch=skips)
    assert loop.end == "finished"
    told = "whether the modules fit will show in the first batch: NeedsTraining raises AttributeError"
    assert f"stream 'train', loader 'rows': {told}" in caplog.text


class Runs(MultiTaskModel):
    """Runs batches in its own way, and notes how."""

    noted: list[bool]

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        self.noted.append(train)
        return super().run(batch, train, stream)


@pytest.mark.parametrize("skips", [True, False])
def test_methods_of_ones_own_are_tried_once_as_a_training_will_call_them_first(skips: bool) -> None:
    noted: list[bool] = []
    model = make_model()
    run = model.run

    def noting(batch: Any, train: bool, stream: Any) -> dict[str, Any]:
        noted.append(train)
        return run(batch, train, stream)

    model.run = noting  # type: ignore[method-assign]
    MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)], skip_zeroth_epoch=skips).try_batches()
    assert noted == [skips]


class Watch:
    """Looks at losses before the backward pass."""

    is_due = True

    def __init__(self) -> None:
        self.taken: list[Mapping[str, Tensor]] = []

    def take(self, parts: Mapping[str, Tensor]) -> None:
        self.taken.append(parts)


def test_nobody_who_looks_at_losses_gets_those_of_methods_of_ones_own_that_are_tried() -> None:
    model, watch = make_model(), Watch()
    model.__class__ = Runs
    assert isinstance(model, Runs)
    model.noted = []
    model.loss_watches.append(watch)
    loop = MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    loop.try_batches()
    assert watch.taken == []
    loop.run_training()
    assert len(watch.taken) == loop.position.step


class Evaluating(nn.Linear):
    """Cannot be trained."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return super().forward(x)


def test_modules_that_are_frozen_in_evaluation_stay_so_for_methods_of_ones_own() -> None:
    model = make_model(trunk=Evaluating(4, 5).eval())
    model.__class__ = Runs
    assert isinstance(model, Runs)
    model.noted = []
    loop = MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    loop.run_training()
    assert loop.end == "finished"


class Direct(MultiTaskModel):
    """Asks modules by itself."""

    def run(self, batch: Any, train: bool, stream: Any = None) -> dict[str, Any]:
        self.network["trunk"](batch["x"])
        return super().run(batch, train, stream)


def test_what_modules_raise_that_a_method_of_ones_own_calls_is_told() -> None:
    model = make_model(trunk=nn.Linear(3, 5))
    model.__class__ = Direct
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)]).try_batches()


@pytest.mark.parametrize("width", [4, 3])
def test_modules_that_cannot_be_evaluated_are_tried_by_methods_of_ones_own_as_in_training(width: int) -> None:
    model = make_model(trunk=Training(width, 5))
    model.__class__ = Runs
    assert isinstance(model, Runs)
    model.noted = []
    loop = MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    if width == 4:
        loop.run_training()
        return
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        loop.try_batches()


class Watching:
    """Counts what modules do."""

    def __init__(self) -> None:
        self.calls = 0

    def see(self, *_: Any) -> None:
        self.calls += 1


@pytest.mark.parametrize("width", [4, 3])
@pytest.mark.parametrize("watch", ["hook", "hook of all", "hook before", "forward of its own"])
def test_modules_that_somebody_watches_are_tried_and_tell_of_it(watch: str, width: int) -> None:
    trunk, watching = nn.Linear(width, 5), Watching()
    model = make_model(trunk=trunk)
    handles: list[Any] = []
    if watch == "hook":
        trunk.register_forward_hook(watching.see)
    elif watch == "hook before":
        trunk.register_forward_pre_hook(watching.see)
    elif watch == "hook of all":
        handles.append(nn.modules.module.register_module_forward_pre_hook(watching.see))
    else:
        forward = trunk.forward
        trunk.forward = lambda x: watching.see() or forward(x)  # type: ignore[func-returns-value, method-assign]
    loop = MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)])
    try:
        with nullcontext() if width == 4 else pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            loop.try_batches()
    finally:
        for handle in handles:
            handle.remove()
    assert watching.calls or (watch == "hook" and width == 3)


class Writes(AbstractHook):
    """Writes what a module makes to a file, which it opens as soon as the training begins."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__()
        self.path = path
        self.kind = kind
        self.file: Any = None

    def register_mainloop(self, main_loop: MainLoop) -> None:
        super().register_mainloop(main_loop)
        assert isinstance(main_loop.model, MultiTaskModel)
        trunk = main_loop.model.network["trunk"]
        if self.kind == "after":
            trunk.register_forward_hook(self)
        elif self.kind == "before":
            trunk.register_forward_pre_hook(partial(self.write, "before"))
        else:
            self.handle = nn.modules.module.register_module_forward_hook(self.write)

    def before_training(self) -> None:
        self.file = self.path.open("w")

    def after_training(self, success: bool) -> None:
        self.file.close()
        if self.kind == "all":
            self.handle.remove()

    def write(self, *_: Any) -> None:
        self.file.write("a batch\n")

    def __call__(self, *_: Any) -> None:
        self.write()


@pytest.mark.parametrize("kind", ["before", "after", "all"])
def test_what_hooks_of_modules_raise_for_want_of_a_training_is_no_mistake(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert train(make_model(), loader(), hooks=[Writes(tmp_path / "file", kind)]).end == "finished"
    assert "stream 'train', loader 'rows': whether the modules fit will show in the first batch: " in caplog.text
    assert (tmp_path / "file").read_text().startswith("a batch\n")


def test_modules_with_what_would_move_on_are_not_tried(caplog: pytest.LogCaptureFixture) -> None:
    trunk = nn.Linear(4, 5)
    trunk.factors = (0.9**step for step in range(10))  # type: ignore[assignment]
    with caplog.at_level(logging.INFO):
        assert train(make_model(trunk=trunk), loader()).end == "finished"
    assert "will show in the first batch: a generator cannot be copied, and would not stay what it is" in caplog.text


class Stubborn(nn.Linear):
    """Has a mode that nobody sets."""

    @property
    def training(self) -> bool:  # type: ignore[override]
        return True

    @training.setter
    def training(self, value: bool) -> None:
        if not value:
            raise RuntimeError("always trains")

    def train(self, mode: bool = True) -> Stubborn:
        return self


def test_modules_whose_mode_cannot_be_set_are_not_tried(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        loop = train(make_model(trunk=Stubborn(4, 5)), loader(), skip_zeroth_epoch=True)
    assert loop.end == "finished"
    assert "whether the modules fit will show in the first batch: MultiTaskModel raises RuntimeError" in caplog.text


class Locked(nn.Linear):
    """Cannot be copied."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 5)
        self.lock = threading.Lock()


class ByLambda(nn.Module):
    """Has functions that hold it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.layer = nn.Linear(width, 5)
        self.steps = [lambda x: self.norm(x), lambda x: self.layer(x)]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class ByReference(nn.Linear):
    """Has a weak reference to a part of it."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 5)
        self.norm = nn.BatchNorm1d(5)
        self.parts = {"norm": weakref.ref(self.norm)}

    def forward(self, x: Tensor) -> Tensor:
        norm = self.parts["norm"]()
        assert norm is not None
        out: Tensor = norm(super().forward(x))
        return out


class Scratch:
    """A file that goes with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __del__(self) -> None:
        self.path.unlink()


class WithScratch(nn.Linear):
    """Needs a file as long as it is there."""

    def __init__(self, width: int, path: Path) -> None:
        super().__init__(width, 5)
        self.scratch = [Scratch(path)]

    def forward(self, x: Tensor) -> Tensor:
        assert self.scratch[0].path.exists()
        return super().forward(x)


@pytest.mark.parametrize("kind", ["lock", "lambda", "reference", "end"])
def test_modules_that_cannot_be_copied_are_tried_themselves(kind: str, tmp_path: Path) -> None:
    kinds = {"lock": Locked, "lambda": ByLambda, "reference": ByReference}

    def make(width: int) -> MultiTaskModel:
        trunk = WithScratch(width, tmp_path / str(width)) if kind == "end" else kinds[kind](width)
        return make_model(trunk=trunk)

    model = make(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)]).try_batches()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert train(model, loader()).end == "finished"
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|running_mean should contain 4 elements"):
        MainLoop(make(3), DatasetOf(loader()), [StopAfter(epochs=1)]).try_batches()


def test_modules_that_work_together_with_other_processes_are_not_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = make_model(trunk=nn.parallel.DistributedDataParallel(nn.Linear(4, 5)))
        with caplog.at_level(logging.INFO):
            assert train(model, loader()).end == "finished"
    finally:
        distributed.destroy_process_group()
    assert "in the first batch: a DistributedDataParallel works together with other processes" in caplog.text


def test_modules_with_functions_that_hold_none_are_tried() -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(3, 5)
            factor = 2.0
            self.scale = lambda x: factor * x
            self.other = weakref.ref(Scratch)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.scale(x))

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        MainLoop(make_model(trunk=Scaled()), DatasetOf(loader()), [StopAfter(epochs=1)]).try_batches()


@pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")
def test_flows_are_not_compiled_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("compiled")

    model = make_model(compile={"backend": "eager"})
    train(model, loader())
    loop = MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)])
    monkeypatch.setattr(CompiledPlan, "run", refuse)
    loop.try_batches()
    with pytest.raises(AssertionError, match="compiled"):
        loop.run_training()


def test_modules_that_somebody_has_compiled_are_not_compiled_for_it() -> None:
    compiled: list[int] = []

    def compile_(graph: Any, inputs: Any) -> Any:
        compiled.append(1)
        return graph.forward

    def loop(width: int) -> MainLoop:
        trunk = nn.Sequential(torch.compile(nn.Linear(width, 5), backend=compile_))
        return MainLoop(make_model(trunk=trunk), DatasetOf(loader()), [StopAfter(steps=1)])

    right = loop(4)
    right.try_batches()
    assert not compiled
    right.run_training()
    assert compiled
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        loop(3).try_batches()


def test_outputs_that_nobody_reads_are_not_made_for_it() -> None:
    def say(outputs: Mapping[str, Any]) -> Tensor:
        raise RuntimeError("somebody asks")

    model = make_model()
    flow = model.tasks["kind"].flow
    model.update_task(Task("kind", flow=flow, label="y", loss="cross_entropy", metrics=["accuracy"], output=say))
    data = DatasetOf(loader())
    MainLoop(model, data, [StopAfter(epochs=1)]).try_batches()
    with pytest.raises(RuntimeError, match="somebody asks"):
        MainLoop(model, data, [ScoreTasks(), StopAfter(epochs=1)]).try_batches()


class Named(nn.Linear):
    """Reads the names of the rows' tasks, which only mixed batches have."""

    def forward(self, x: Tensor, whose: list[str]) -> Tensor:  # type: ignore[override]
        assert set(whose) == {"a", "b"}
        return super().forward(x)


@pytest.mark.parametrize("width", [4, 3])
def test_loaders_that_are_mixed_are_tried_as_one_batch(width: int) -> None:
    flow = [Action("features", "trunk", ["x", "whose"])]
    tasks = [Task(n, {}, [*flow, Action(n + "_out", n, "features")], label="y", loss="cross_entropy") for n in "ab"]
    modules = {"trunk": Named(width, 5), "a": nn.Linear(5, 3), "b": nn.Linear(5, 3)}
    model = MultiTaskModel(tasks, modules, **SETTINGS)
    loaders = [loader(tasks={name: "y"}, name=name) for name in "ab"]
    data = DatasetOf(*loaders, streams={"train": {"scheduler": Interleaved(8, task_source="whose")}})
    loop = MainLoop(model, data, [StopAfter(epochs=1)])
    if width == 4:
        loop.try_batches()
        loop.run_training()
        return
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        loop.try_batches()


class Exactly(nn.Linear):
    """Takes batches of one size only."""

    def __init__(self, size: int) -> None:
        super().__init__(4, 5)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == self.size
        return super().forward(x)


@pytest.mark.parametrize(("size", "names"), [(8, "ab"), (8, "abc"), (2, "abc"), (30, "ab")])
def test_mixed_batches_are_tried_in_their_own_size(size: int, names: str) -> None:
    tasks = [Task(n, {}, [Action("f", "trunk", "x"), Action(n + "_out", n, "f")], "y", "cross_entropy") for n in names]
    trunk = Exactly(size)
    model = MultiTaskModel(tasks, {"trunk": trunk, **{name: nn.Linear(5, 3) for name in names}}, **SETTINGS)
    loaders = [loader(tasks={name: "y"}, name=name) for name in names]
    data = DatasetOf(*loaders, streams={"train": {"scheduler": Interleaved(size, drop_last=True)}})
    loop = MainLoop(model, data, [StopAfter(epochs=1)])
    loop.try_batches()
    loop.run_training()
    with pytest.raises(RuntimeError, match=f"module {names[-1]!r}|cannot be multiplied"):
        model.network[names[-1]] = nn.Linear(6, 3)
        MainLoop(model, data, [StopAfter(epochs=1)]).try_batches()


def test_what_is_tried_is_the_batch_that_comes_first() -> None:
    def several(outputs: Mapping[str, Any], label: Tensor) -> Tensor:
        assert len(label.unique()) > 1, "one class alone says nothing"
        return nn.functional.cross_entropy(outputs["logits"], label)

    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    task = Task("kind", {"trunk": nn.Linear(4, 5), "head": nn.Linear(5, 3)}, flow, "y", several)
    model = MultiTaskModel(task, **SETTINGS)
    in_order = columns(y=torch.arange(ROWS) // 8)
    assert train(model, loader(in_order)).end == "finished"
    with pytest.raises(AssertionError, match="one class alone"):
        train(model, loader(in_order, shuffle=False))


def test_rows_that_are_dropped_are_not_tried() -> None:
    few = loader(Subset(columns(), range(4)), split="valid", drop_last=True)
    assert train(make_model(trunk=Exactly(8)), loader(), few, on_empty_stream="ignore").end == "finished"


def test_a_batch_without_rows_is_not_tried() -> None:
    class Folded(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.view(len(x), -1))  # which is not known of no rows

    def kept(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
        left = [row for row in rows if row["x"][0] > 0] if rows[0]["_uids_"] else []
        empty = {"x": torch.zeros(0, 4), "y": torch.zeros(0, dtype=torch.int64), "_uids_": torch.zeros(0)}
        return {name: torch.stack([torch.as_tensor(row[name]) for row in left]) for name in empty} if left else empty

    data = loader(columns(), shuffle=False, collate=kept)
    assert train(make_model(trunk=Folded(4, 5)), data, on_empty_batch="ignore").end == "finished"


def test_modules_that_are_frozen_in_evaluation_are_tried_in_it() -> None:
    trunk = nn.Sequential(Training(4, 5), nn.BatchNorm1d(5).eval())
    model = make_model(trunk=trunk)
    assert model.network.training
    for _ in range(2):  # before the first run sets the mode of all, and after
        twin = model.stand_in(as_trained=True)
        assert twin is not None
        with twin.in_place():
            modes = {name: module.training for name, module in model.network.named_modules() if name}
        assert modes == {"trunk": True, "trunk.0": True, "trunk.1": False, "head": True}
        trunk[0].__class__ = nn.Linear
        model.run(next(iter(loader())), train=False)
        trunk[0].__class__ = Training


def test_modules_that_hooks_will_freeze_are_not_tried_as_in_training() -> None:
    trunk = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))  # which takes no single row in training
    data = DatasetOf(TaskLoader(columns(), {"kind": "y"}, "train", batch_size=1))
    loop = MainLoop(make_model(trunk=trunk), data, [Freeze(modules=["trunk"], eval_mode=True), StopAfter(steps=2)])
    loop.run_training()
    assert loop.end == "finished"


def test_what_goes_on_with_training_need_not_be_evaluated(tmp_path: Path) -> None:
    def loop(steps: int, **options: Any) -> MainLoop:
        hooks = [SaveEvery(steps=1), StopAfter(steps=steps)]
        return MainLoop(make_model(trunk=Training(4, 5)), DatasetOf(loader()), hooks, output_dir=tmp_path, **options)

    loop(2, skip_zeroth_epoch=True).run_training()
    resumed = loop(4)
    resumed.restore(newest_checkpoint(tmp_path / CHECKPOINT_FOLDER))
    resumed.run_training()  # in the middle of an epoch, long after the zeroth, which would evaluate
    assert resumed.position.step == 4
    with pytest.raises(AssertionError, match="nothing is to be had of it"):
        loop(4).try_batches()
