"""Before a training its model is tried on the first batch of every loader, and nothing changes by that."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset, Subset

from emloop_mtl import (
    AbstractModel,
    Action,
    BackboneHeadsModel,
    ColumnDataset,
    Head,
    JointLearning,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.cli import main
from emloop_mtl.errors import DataError, EmloopError
from emloop_mtl.hooks import Evaluate, Freeze, ScoreTasks, StopAfter
from emloop_mtl.models.compiled_plan import CompiledPlan
from emloop_mtl.schedulers import Interleaved, RoundRobin
from emloop_mtl.testing import RecordEvents
from emloop_mtl.utils.random import permutation

ROWS = 24
SETTINGS: Any = {"device": "cpu", "optimizer": {"class": "sgd", "lr": 0.1}}


class DatasetOf(MultiTaskDataset):
    """A dataset of given loaders."""

    def __init__(self, *loaders: TaskLoader, **settings: Any) -> None:
        super().__init__(**settings)
        self._loaders = list(loaders)

    def loaders(self) -> list[TaskLoader]:
        return self._loaders


class Noisy(nn.Module):
    """Has batch statistics, counts its calls, and draws random numbers even where it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.2))
        self.register_buffer("called", torch.zeros(()))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.called += 1  # in its place
        noise = torch.randn(()) + random.random() + np.random.rand()
        out: Tensor = self.layers(x) + noise + 0.01 * self.calls + 0.01 * self.called
        return out


class Watchful(nn.Linear):
    """A head that collects a metric by itself, as AllenNLP's do."""

    def __init__(self) -> None:
        super().__init__(5, 3)
        self.seen = 0

    def forward(self, features: Tensor) -> Tensor:
        self.seen += len(features)
        return super().forward(features)

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        return {"seen": self.seen}


def columns(name: str = "rows", **labels: Any) -> ColumnDataset:
    x = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
    return ColumnDataset(name, {"x": x}, labels or {"y": torch.arange(ROWS) % 3})


def loader(data: Any = None, split: str = "train", tasks: Any = None, **settings: Any) -> TaskLoader:
    return TaskLoader(columns() if data is None else data, tasks or {"kind": "y"}, split, batch_size=8, **settings)


def make_model(trunk: nn.Module | None = None, head: nn.Module | None = None, **options: Any) -> MultiTaskModel:
    modules = {"trunk": trunk or nn.Linear(4, 5), "head": head or nn.Linear(5, 3)}
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    task = Task("kind", modules, flow, label="y", loss="cross_entropy", metrics=["accuracy"])
    return MultiTaskModel(task, **SETTINGS, **options)


def train(model: AbstractModel, *loaders: TaskLoader, hooks: Any = (), **options: Any) -> MainLoop:
    data = DatasetOf(*loaders)
    others = [name for name in ("valid", "test") if any(each.split == name for each in loaders)]
    evaluating = [Evaluate(others)] if others else []
    loop = MainLoop(model, data, [*evaluating, ScoreTasks(), *hooks, StopAfter(epochs=2)], **options)
    loop.run_training()
    return loop


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_modules_that_do_not_fit_are_told_before_any_hook_begins(split: str) -> None:
    class Fussy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if (x == 7).any():
                raise RuntimeError("no sevens")
            return super().forward(x)

    loaders = [loader(split=name) for name in ("train", "valid", "test")]
    spoilt = next(each for each in loaders if each.split == split)
    spoilt.dataset = ColumnDataset("rows", {"x": torch.full((ROWS, 4), 7.0)}, {"y": torch.arange(ROWS) % 3})
    record = RecordEvents()
    with pytest.raises(RuntimeError, match="no sevens") as caught:
        train(make_model(trunk=Fussy(4, 5)), *loaders, hooks=[record])
    assert any("task 'kind', action 'features', module 'trunk'" in note for note in caught.value.__notes__)
    assert set(record.names) <= {"register_mainloop", "after_training"}


def test_streams_that_nobody_will_run_are_not_tried() -> None:
    narrow = ColumnDataset("rows", {"x": torch.ones(ROWS, 3)}, {"y": torch.arange(ROWS) % 3})
    data = DatasetOf(loader(), loader(narrow, split="test"))
    MainLoop(make_model(), data, [StopAfter(epochs=1)]).try_batches()
    for hooks, options in (([Evaluate(["test"])], {}), ([], {"extra_streams": ["test"]})):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            MainLoop(make_model(), data, [*hooks, StopAfter(epochs=1)], **options).try_batches()


def test_a_label_that_no_first_row_has_is_told_before_the_first_batch() -> None:
    record = RecordEvents()
    labels = torch.zeros(ROWS, dtype=torch.int64)
    labels[20] = 3
    expected = "stream 'train', loader 'rows': task 'kind', source 'y': label 3 in row 20 is out of range 0..2"
    with pytest.raises(EmloopError, match=expected):
        train(make_model(), loader(columns(y=labels)), hooks=[record])
    assert "before_epoch" not in record.names


def test_labels_of_rows_that_no_loader_has_may_be_anything() -> None:
    labels = torch.zeros(ROWS, dtype=torch.int64)
    labels[20] = 3
    assert train(make_model(), loader(Subset(columns(y=labels), range(20)))).end == "finished"
    with pytest.raises(EmloopError, match="label 3 in row 2 is out of range 0..2"):
        train(make_model(), loader(Subset(columns(y=labels), range(18, 24))))


CONFIG = """\
dataset:
  class: data.Rows
model:
  class: MultiTaskModel
  device: cpu
  modules:
    trunk:
      class: torch.nn.Linear
      in_features: 4
      out_features: 5
    head: {class: torch.nn.Linear, in_features: 5, out_features: 3}
  tasks:
    kind:
      flow:
        - {name: features, module: trunk, inputs: x}
        - {name: logits, module: head, inputs: features}
      label: y
      loss: cross_entropy
hooks:
  - StopAfter: {epochs: 1}
"""

MODULE = """\
import torch
from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

class Rows(MultiTaskDataset):
    def loaders(self):
        rows = ColumnDataset("rows", {"x": torch.randn(24, 4)}, {"y": torch.arange(24) // 8})
        return [TaskLoader(rows, {"kind": "y"}, "train", batch_size=8)]
"""

MISTAKES = {
    "an input that is too narrow": (
        ("in_features: 4", "in_features: 3"),
        "config.yaml:7:5: model.modules.trunk: RuntimeError: ",
        "in task 'kind', action 'features', module 'trunk'",
    ),
    "a head that does not fit the trunk": (
        ("in_features: 5", "in_features: 6"),
        "config.yaml:11:5: model.modules.head: RuntimeError: ",
        "in task 'kind', action 'logits', module 'head'",
    ),
    "a head with too few classes": (
        ("out_features: 3", "out_features: 2"),
        "config.yaml:17:7: model.tasks.kind.label: stream 'train', loader 'rows': task 'kind', source 'y': label 2",
        "in row 16 is out of range 0..1",
    ),
    "an item of what is one value": (
        ("inputs: features", "inputs: 'features[1]'"),
        "config.yaml:16:40: model.tasks.kind.flow[1].inputs: task 'kind', action 'logits', inputs 'features[1]'",
        "only [0], which is the whole, can be taken",
    ),
}


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_its_place_and_nothing_has_begun(
    mistake: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before, after), place, reason = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.py").write_text(MODULE)
    (tmp_path / "config.yaml").write_text(CONFIG.replace(before, after))
    done = CliRunner().invoke(main, [command, "config.yaml"])
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(place), lines[0]
    assert reason in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["config.yaml", "data.py"]


@pytest.mark.parametrize("command", ["train", "check"])
def test_rows_without_labels_are_told_by_every_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = "[{'x': torch.zeros(4)} for _ in range(24)]"
    lines = MODULE.splitlines()
    lines[-2:] = [f'        return [TaskLoader({read}, {{"kind": None}}, "train", name="rows", batch_size=8)]']
    (tmp_path / "data.py").write_text("\n".join(lines))
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = CliRunner().invoke(main, [command, "config.yaml"])
    assert done.exit_code != 0
    assert "stream 'train', loader 'rows': task 'kind': the batch cannot be trained on" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["config.yaml", "data.py"]


def flow_model() -> MultiTaskModel:
    torch.manual_seed(0)
    return make_model(trunk=Noisy(), head=Watchful())


def heads_model() -> MultiTaskModel:
    torch.manual_seed(0)
    head = Head(Watchful(), loss="cross_entropy", label="y", metrics=["accuracy"])
    mapping = {"kind": {"backbone": "features"}}
    return BackboneHeadsModel(Noisy(), {"kind": head}, arg_name_mapping=mapping, **SETTINGS)


def joint_model() -> MultiTaskModel:
    torch.manual_seed(0)
    head = Head(Watchful(), loss="cross_entropy", label="y", metrics=["accuracy"])
    mapping = {"kind": {"backbone": "features"}}
    return JointLearning(Noisy(), {"kind": head}, activations=["layers.0"], arg_name_mapping=mapping, **SETTINGS)


STYLES = {"flow": flow_model, "backbone and heads": heads_model, "joint learning": joint_model}


@pytest.mark.parametrize("style", STYLES)
def test_nothing_changes_by_it(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[MultiTaskModel, dict[str, Any], Any]:
        model = STYLES[style]()
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        loop = train(model, loader(), loader(split="valid"))
        return model, loop.epoch_data, (float(torch.rand(())), random.random(), np.random.rand())

    stood_in: list[Any] = []
    stand_in = MultiTaskModel.stand_in
    monkeypatch.setattr(MultiTaskModel, "stand_in", lambda self, **_: stood_in.append(twin := stand_in(self)) or twin)
    model, scores, draws = run()
    monkeypatch.setattr(MultiTaskModel, "stand_in", AbstractModel.stand_in)
    other, other_scores, other_draws = run()
    assert draws == other_draws
    assert scores == other_scores
    weights = other.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    # two streams with three batches each in the zeroth epoch and in two more; what was tried is counted elsewhere
    assert [counts(each) for each in (model, other)] == [(18, 18 * 8)] * 2
    assert [counts(twin) for twin in stood_in] == [(3, 3 * 8)]  # one of them as a batch that is trained on, too
    if isinstance(model, BackboneHeadsModel):
        assert model.get_metrics() == {"kind/seen": 18 * 8}


def counts(model: MultiTaskModel) -> tuple[int, int]:
    modules = list(model.network.modules())
    calls = [module.calls for module in modules if isinstance(module, Noisy)]
    return sum(calls), sum(module.seen for module in modules if isinstance(module, Watchful))


@pytest.mark.parametrize("style", STYLES)
def test_a_stand_in_has_equal_weights_and_shares_those_that_are_not_trained(style: str) -> None:
    model = STYLES[style]()
    frozen = next(model.network.parameters()).requires_grad_(False)
    twin = model.stand_in()
    assert twin is not None
    weights = dict(model.network.named_parameters())
    own = dict(twin.network.named_parameters())
    assert own.keys() == weights.keys()
    assert all(torch.equal(parameter, weights[name]) for name, parameter in own.items())
    assert [name for name, parameter in own.items() if parameter is weights[name]] == [
        name for name, parameter in weights.items() if parameter is frozen
    ]
    memory = {value.data_ptr() for value in model.network.state_dict().values()} - {frozen.data_ptr()}
    assert memory.isdisjoint(value.data_ptr() for value in twin.network.state_dict().values())
    assert not set(model.network.modules()) & set(twin.network.modules())


def test_what_a_model_of_ones_own_keeps_is_not_copied() -> None:
    class WithData(MultiTaskModel):
        """Keeps what nobody wants to have twice in memory."""

        data: Any

    model = make_model()
    model.__class__ = WithData
    assert isinstance(model, WithData)
    model.data = [torch.zeros(10)]
    twin = model.stand_in()
    assert isinstance(twin, WithData)
    assert twin.data is model.data


def test_a_training_is_tried_once() -> None:
    data = DatasetOf(loader())
    model = make_model(trunk=Noisy())
    reads: list[int] = []
    rows = loader().dataset
    data._loaders[0].dataset = rows
    loop = MainLoop(model, data, [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    first_rows = TaskLoader.first_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskLoader, "first_rows", lambda self, count=None: reads.append(1) or first_rows(self, count))
        loop.try_batches()
        loop.run_training()
        loop.run_evaluation("train")
    assert len(reads) == 1


class Counted(Dataset[Any]):
    """Rows that are counted where they are read, and that draw random numbers."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        return {"x": torch.randn(4), "y": index % 3}


class Walked(IterableDataset[Any]):
    """Rows that come in their own order."""

    def __init__(self) -> None:
        self.walks = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.walks += 1
        yield from Counted()  # type: ignore[misc]


def tried(data: Any, **settings: Any) -> None:
    MainLoop(make_model(), DatasetOf(loader(data, **settings)), [StopAfter(epochs=1)]).try_batches()


def test_rows_that_are_read_here_anyway_are_tried_and_draw_nothing_from_others() -> None:
    data = Counted()
    loop = MainLoop(make_model(), DatasetOf(loader(data)), [StopAfter(epochs=1)])
    before = torch.get_rng_state()
    loop.try_batches()
    assert data.read == permutation(ROWS, 0, "Counted", "train", 0)[:8].tolist()  # those of the first batch
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_that_other_processes_read_and_rows_of_an_iterable_are_not_read_for_it() -> None:
    data, walked = Counted(), Walked()
    tried(data, num_workers=1)
    tried(walked)
    assert data.read == []
    assert walked.walks == 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        train(make_model(trunk=nn.Linear(3, 5)), loader(walked))
    assert any("module 'trunk'" in note for note in caught.value.__notes__)


def test_columns_are_tried_whoever_reads_them() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model = make_model(trunk=nn.Linear(3, 5))
        MainLoop(model, DatasetOf(loader(num_workers=2)), [StopAfter(epochs=1)]).try_batches()


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
def test_a_model_that_runs_batches_in_its_own_way_is_not_tried(kind: type[MultiTaskModel]) -> None:
    model = make_model(trunk=nn.Linear(3, 5))
    model.__class__ = kind
    assert model.stand_in() is None
    labels = torch.arange(ROWS) % (3 if kind is OwnRun else 6)
    assert train(model, loader(columns(y=labels))).end == "finished"


@pytest.mark.parametrize("name", ["run", "prepare"])
def test_a_model_whose_methods_somebody_has_replaced_is_not_tried(name: str) -> None:
    model = make_model()
    setattr(model, name, getattr(model, name))
    assert model.stand_in() is None


@pytest.mark.parametrize("watch", ["hook", "hook of all", "forward of its own"])
def test_modules_that_somebody_watches_are_not_tried(watch: str) -> None:
    trunk = nn.Linear(4, 5)
    calls: list[Any] = []
    handles: list[Any] = []
    if watch == "hook":
        trunk.register_forward_hook(lambda *_: calls.append(1))
    elif watch == "hook of all":
        handles.append(nn.modules.module.register_module_forward_hook(lambda *_: calls.append(1)))
    else:
        forward = trunk.forward
        trunk.forward = lambda x: calls.append(1) or forward(x)  # type: ignore[method-assign]
    try:
        model = make_model(trunk=trunk)
        MainLoop(model, DatasetOf(loader()), [StopAfter(epochs=1)]).try_batches()
    finally:
        for handle in handles:
            handle.remove()
    assert calls == []


def test_modules_that_cannot_be_copied_are_told_of_and_trained(caplog: pytest.LogCaptureFixture) -> None:
    class Locked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 5)
            self.lock = threading.Lock()

    with caplog.at_level(logging.INFO):
        assert train(make_model(trunk=Locked()), loader()).end == "finished"
    assert "whether the modules fit will show in the first batch: they cannot be copied" in caplog.text


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


def test_rows_that_make_no_batch_are_told_with_stream_and_loader() -> None:
    samples = [{"x": torch.ones(4), "y": 0}, {"x": torch.ones(3), "y": 1}]
    data = DatasetOf(TaskLoader(samples, {"kind": "y"}, "train", name="samples", batch_size=2))
    with pytest.raises(DataError, match="^stream 'train': loader 'samples': source 'x'"):
        MainLoop(make_model(), data, [StopAfter(epochs=1)]).try_batches()


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


def test_mixed_batches_are_not_tried_where_a_loader_cannot_be_read() -> None:
    tasks = [Task(n, {}, [Action("f", "trunk", "x"), Action(n + "_out", n, "f")], "y", "cross_entropy") for n in "ab"]
    model = MultiTaskModel(tasks, {"trunk": Exactly(8), "a": nn.Linear(5, 3), "b": nn.Linear(5, 3)}, **SETTINGS)
    walked = Walked()
    loaders = [loader(tasks={"a": "y"}, name="a"), loader(walked, tasks={"b": "y"}, name="b")]
    data = DatasetOf(*loaders, streams={"train": {"scheduler": Interleaved(8)}})
    MainLoop(model, data, [StopAfter(epochs=1)]).try_batches()
    assert walked.walks == 0


def test_what_a_scheduler_of_ones_own_makes_of_batches_is_not_tried() -> None:
    class Wider(RoundRobin):
        """Gives each batch what no loader holds."""

        def steps(self, *args: Any, **options: Any) -> Iterator[Any]:
            for step in super().steps(*args, **options):
                for batch in step:
                    batch["wide"] = torch.cat([batch["x"], batch["x"]], 1)
                yield step

    flow = [Action("features", "trunk", "wide"), Action("logits", "head", "features")]
    task = Task("kind", {"trunk": nn.Linear(8, 5), "head": nn.Linear(5, 3)}, flow, "y", "cross_entropy")
    data = DatasetOf(loader(Counted()), streams={"train": {"scheduler": Wider()}})
    loop = MainLoop(MultiTaskModel(task, **SETTINGS), data, [StopAfter(epochs=1)])
    loop.run_training()
    assert loop.end == "finished"


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


def test_labels_that_are_made_anew_of_those_in_columns_are_checked_batch_by_batch() -> None:
    class FromOne(ColumnDataset):
        """Has classes that are counted from 1."""

        def __getitems__(self, indices: Any) -> dict[str, Any]:
            batch = super().__getitems__(indices)
            return {**batch, "y": batch["y"] - 1}

    data = FromOne("rows", {"x": torch.randn(ROWS, 4)}, {"y": torch.arange(ROWS) % 3 + 1})
    assert train(make_model(), loader(data)).end == "finished"


def test_too_little_memory_for_weights_twice_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Any] = []

    class Large(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            if len(calls) == 1:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    with caplog.at_level(logging.INFO):
        assert train(make_model(trunk=Large(4, 5)), loader()).end == "finished"
    assert "whether the modules fit will show in the first batch: out of memory" in caplog.text


@pytest.mark.parametrize("kind", [torch.uint16, torch.uint32, torch.uint64])
def test_classes_that_torch_cannot_compare_are_told_of(kind: torch.dtype) -> None:
    with pytest.raises(EmloopError, match=f"source 'y': labels of classes cannot be {kind}, .* make them int64"):
        train(make_model(), loader(columns(y=(torch.arange(ROWS) % 3).to(kind))))


class Training(nn.Linear):
    """Cannot be evaluated."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.training, "nothing is to be had of it"
        return super().forward(x)


def test_what_can_only_be_trained_is_no_mistake_where_nothing_evaluates_it() -> None:
    data = DatasetOf(loader(), loader(split="test"))

    def loop(trunk: nn.Module, **options: Any) -> MainLoop:
        return MainLoop(make_model(trunk=trunk), data, [StopAfter(epochs=1)], **options)

    only_trains = loop(Training(4, 5), skip_zeroth_epoch=True)
    only_trains.run_training()
    assert only_trains.end == "finished"
    with pytest.raises(AssertionError, match="nothing is to be had"):
        loop(Training(4, 5)).try_batches()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        loop(Training(3, 5), skip_zeroth_epoch=True).try_batches()


def test_modules_that_are_frozen_in_evaluation_are_tried_in_it() -> None:
    trunk = nn.Sequential(Training(4, 5), nn.BatchNorm1d(5).eval())
    model = make_model(trunk=trunk)
    assert model.network.training
    for _ in range(2):  # before the first run sets the mode of all, and after
        twin = model.stand_in(as_trained=True)
        assert twin is not None
        modes = {name: module.training for name, module in twin.network.named_modules() if name}
        assert modes == {"trunk": True, "trunk.0": True, "trunk.1": False, "head": True}
        trunk[0].__class__ = nn.Linear
        model.run(next(iter(loader())), train=False)
        trunk[0].__class__ = Training


class Unlabelled(Counted):
    """Rows without labels, which only reading shows."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": super().__getitem__(index)["x"]}


class Losing(nn.Module):
    """A head that computes its own loss, where it gets labels, or only where it is trained."""

    def __init__(self, in_evaluation: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.in_evaluation = in_evaluation

    def forward(self, features: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layer(features)
        if y is None or not (self.training or self.in_evaluation):
            return {"logits": logits}
        return {"logits": logits, "loss": nn.functional.cross_entropy(logits, y)}


def losing_model(**settings: Any) -> BackboneHeadsModel:
    mapping = {"backbone": {"x": "input"}, "kind": {"backbone": "features"}}
    return BackboneHeadsModel(nn.Linear(4, 5), {"kind": Losing(**settings)}, arg_name_mapping=mapping, **SETTINGS)


UNTRAINABLE: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "a source that is not there": (make_model, {}, "it holds no label for the task: there is no source 'y'"),
    "a loader that names none": (make_model, {"kind": None}, "it holds no label for the task: there is no source 'y'"),
    "a head without its loss": (
        losing_model,
        {"kind": None},
        "head 'kind' returns no 'loss' for a batch that is trained",
    ),
    "no head with a loss": (losing_model, {}, "no head gives a loss for a batch that is trained on"),
}


@pytest.mark.parametrize("mistake", UNTRAINABLE)
def test_rows_that_cannot_be_trained_on_are_told_before_any_hook_begins(mistake: str) -> None:
    make, tasks, expected = UNTRAINABLE[mistake]
    record = RecordEvents()
    data = DatasetOf(TaskLoader(Unlabelled(), tasks, "train", batch_size=8))
    with pytest.raises(EmloopError, match=expected):
        MainLoop(make(), data, [record, StopAfter(epochs=1)]).run_training()
    assert "before_training" not in record.names
    evaluated = DatasetOf(loader(), TaskLoader(Unlabelled(), tasks, "valid", batch_size=8))
    MainLoop(make_model(), evaluated, [StopAfter(epochs=1)]).try_batches()


def test_losses_that_there_are_in_training_only_are_enough() -> None:
    assert (
        train(losing_model(in_evaluation=False), loader(tasks={"kind": None}), loader(split="valid")).end == "finished"
    )


def test_modules_that_hooks_will_freeze_are_not_tried_as_in_training() -> None:
    trunk = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))  # which takes no single row in training
    data = DatasetOf(TaskLoader(columns(), {"kind": "y"}, "train", batch_size=1))
    loop = MainLoop(make_model(trunk=trunk), data, [Freeze(modules=["trunk"], eval_mode=True), StopAfter(steps=2)])
    loop.run_training()
    assert loop.end == "finished"


def test_losses_that_need_gradients_are_tried_with_them_where_nothing_is_evaluated_first() -> None:
    def penalized(outputs: Mapping[str, Any], label: Tensor) -> Tensor:
        logits = outputs["logits"]
        (slope,) = torch.autograd.grad(logits.sum(), outputs["features"], create_graph=True)
        return nn.functional.cross_entropy(logits, label) + slope.square().mean()

    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    modules = {"trunk": nn.Linear(4, 5), "head": nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))}
    model = MultiTaskModel(Task("kind", modules, flow, "y", penalized), **SETTINGS)
    data = DatasetOf(loader())
    loop = MainLoop(model, data, [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    loop.run_training()
    assert loop.end == "finished"
    with pytest.raises(RuntimeError, match="does not require grad"):
        MainLoop(model, data, [StopAfter(epochs=1)]).try_batches()
