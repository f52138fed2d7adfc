"""What does not fit is told before a training begins, and what is right is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.utils.data import Subset

from emloop_mtl import (
    AbstractHook,
    Action,
    BackboneHeadsModel,
    ColumnDataset,
    MainLoop,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.cli import main
from emloop_mtl.errors import DataError, EmloopError
from emloop_mtl.hooks import Freeze, StopAfter
from emloop_mtl.testing import RecordEvents

from .trial import ROWS, SETTINGS, Counted, DatasetOf, Training, columns, loader, make_model, train


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


BY_PROCESSES = """\
import torch
from emloop_mtl import MultiTaskDataset, TaskLoader

class Rows(MultiTaskDataset):
    def loaders(self):
        rows = [{"x": torch.randn(4), "y": row // 8} for row in range(24)]
        return [TaskLoader(rows, {"kind": "y"}, "train", name="rows", batch_size=24, num_workers=2)]
"""


WALKED = """\
import torch
from emloop_mtl import MultiTaskDataset, TaskLoader
from torch.utils.data import IterableDataset

class Read(IterableDataset):
    def __iter__(self):
        for row in range(24):
            yield {"x": torch.randn(4), "y": row // 8}

class Rows(MultiTaskDataset):
    def loaders(self):
        return [TaskLoader(Read(), {"kind": "y"}, "train", name="rows", batch_size=24)]
"""


WITHOUT_LOADERS = """\
import torch
from emloop_mtl import AbstractDataset

class Rows(AbstractDataset):
    def train_stream(self):
        yield {"x": torch.randn(24, 4), "y": torch.arange(24) // 8}
"""


MODULES = {"columns": MODULE, "by processes": BY_PROCESSES, "walked": WALKED, "without loaders": WITHOUT_LOADERS}


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("module", MODULES)
def test_a_mistake_is_one_line_with_its_place_and_nothing_has_begun(
    module: str, mistake: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before, after), place, reason = MISTAKES[mistake]
    if module == "without loaders":
        place = place.replace(", loader 'rows'", ", batch 0")
    if module == "by processes":  # which are in the order of a training
        reason = reason.removeprefix("in row 16 ")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.py").write_text(MODULES[module])
    (tmp_path / "config.yaml").write_text(CONFIG.replace(before, after))
    done = CliRunner().invoke(main, [command, "config.yaml"])
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(place), lines[0]
    assert reason in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["config.yaml", "data.py"]


OWN = """
import threading
import torch
from emloop_mtl import MultiTaskModel

class Normed:
    def __new__(cls, in_features, out_features):
        return torch.nn.utils.weight_norm(torch.nn.Linear(in_features, out_features))

class Locked(torch.nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
        self.lock = threading.Lock()

class Runs(MultiTaskModel):
    def run(self, batch, train, stream=None):
        return super().run(batch, train, stream)

class Prepares(MultiTaskModel):
    def prepare(self, batch):
        return super().prepare(batch)
"""


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("own", ["Normed", "Locked", "Runs", "Prepares"])
def test_a_mistake_is_told_alike_whatever_modules_and_model_are(
    own: str, mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before, after), place, reason = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.py").write_text(MODULE + OWN)
    kind = "MultiTaskModel" if own in ("Runs", "Prepares") else "torch.nn.Linear"
    config = CONFIG.replace(before, after).replace(f"class: {kind}", f"class: data.{own}")
    (tmp_path / "config.yaml").write_text(config)
    done = CliRunner().invoke(main, ["train", "config.yaml"])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(place), line
    # labels that a method of one's own may exchange are checked batch by batch
    assert (reason.removeprefix("in row 16 ") if own in ("Runs", "Prepares") else reason) in line
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


def test_rows_that_make_no_batch_are_told_with_stream_and_loader() -> None:
    samples = [{"x": torch.ones(4), "y": 0}, {"x": torch.ones(3), "y": 1}]
    data = DatasetOf(TaskLoader(samples, {"kind": "y"}, "train", name="samples", batch_size=2))
    with pytest.raises(DataError, match="^stream 'train': loader 'samples': source 'x'"):
        MainLoop(make_model(), data, [StopAfter(epochs=1)]).try_batches()


def test_labels_that_are_made_anew_of_those_in_columns_are_checked_batch_by_batch() -> None:
    class FromOne(ColumnDataset):
        """Has classes that are counted from 1."""

        def __getitems__(self, indices: Any) -> dict[str, Any]:
            batch = super().__getitems__(indices)
            return {**batch, "y": batch["y"] - 1}

    data = FromOne("rows", {"x": torch.randn(ROWS, 4)}, {"y": torch.arange(ROWS) % 3 + 1})
    assert train(make_model(), loader(data)).end == "finished"


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_too_little_memory_for_weights_twice_is_no_mistake(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Any] = []

    class Large(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x)
            if len(calls) == 1:
                raise kind("out of memory")
            return super().forward(x)

    with caplog.at_level(logging.INFO):
        assert train(make_model(trunk=Large(4, 5)), loader()).end == "finished"
    assert "whether the modules fit will show in the first batch: out of memory" in caplog.text


@pytest.mark.parametrize("kind", [torch.uint16, torch.uint32, torch.uint64])
def test_classes_that_torch_cannot_compare_are_told_of(kind: torch.dtype) -> None:
    with pytest.raises(EmloopError, match=f"source 'y': labels of classes cannot be {kind}, .* make them int64"):
        train(make_model(), loader(columns(y=(torch.arange(ROWS) % 3).to(kind))))


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


class Auxiliary(nn.Linear):
    """Has another layer in training."""

    def __init__(self, width: int) -> None:
        super().__init__(4, 5)
        self.other = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out + self.other(x) if self.training else out


class Other(AbstractHook):
    """May do anything before the training."""


@pytest.mark.parametrize("skips", [True, False])
def test_what_fails_in_training_only_is_told_where_no_hook_may_change_that(skips: bool) -> None:
    def loop(trunk: nn.Module, size: int, *hooks: AbstractHook) -> MainLoop:
        data = DatasetOf(TaskLoader(columns(), {"kind": "y"}, "train", batch_size=size))
        return MainLoop(make_model(trunk=trunk), data, [*hooks, StopAfter(epochs=1)], skip_zeroth_epoch=skips)

    loop(Auxiliary(4), 8).try_batches()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        loop(Auxiliary(3), 8).try_batches()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        loop(nn.Linear(3, 5), 8, Other()).try_batches()
    normed = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        loop(normed, 1).try_batches()
    loop(normed, 1, Other()).try_batches()
    loop(normed, 1, Freeze(modules=["trunk"], eval_mode=True)).try_batches()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        loop(normed, 1, Freeze(modules=["trunk"])).try_batches()


def test_losses_that_there_are_in_training_only_are_enough() -> None:
    assert (
        train(losing_model(in_evaluation=False), loader(tasks={"kind": None}), loader(split="valid")).end == "finished"
    )


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
