"""Metrics that cannot score what their task predicts are told before a training, and only these."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from emloop_mtl import Action, MainLoop, MultiTaskModel, Task
from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.cli import main
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import Evaluate, ScoreTasks, StopAfter
from emloop_mtl.testing import RecordEvents
from emloop_mtl.types import EpochData

from .trial import ROWS, SETTINGS, DatasetOf, columns, loader, make_model

CLASSES = torch.arange(ROWS) // 8
"""In an order in which a batch holds one class."""

VALUES = torch.linspace(-1, 1, ROWS)

KINDS: dict[str, tuple[str, Any, int]] = {
    "classes": ("cross_entropy", CLASSES, 3),
    "two classes": ("binary_cross_entropy_with_logits", (torch.arange(ROWS) // 12).float(), 1),
    "values": ("mse", VALUES, 1),
    "positive values": ("mse", VALUES + 2, 1),
    "several values": ("mse", torch.stack([VALUES, -VALUES, VALUES**2], 1), 3),
    "sets": ("binary_cross_entropy_with_logits", nn.functional.one_hot(CLASSES, 3).float(), 3),
}


class Positive(nn.Linear):
    """Predicts numbers above 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).exp()


def make_loop(kind: str, metric: Any, *hooks: Any, hook: Any = None, batch_size: int = 8, **options: Any) -> MainLoop:
    loss, labels, width = KINDS[kind]
    head = (Positive if kind == "positive values" else nn.Linear)(5, width)
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    task = Task("kind", {"trunk": nn.Linear(4, 5), "head": head}, flow, label="y", loss=loss, metrics=[metric])
    data = loader(columns(y=labels), shuffle=False)
    data.batch_size = batch_size
    listed = [*hooks, hook or ScoreTasks(), StopAfter(epochs=1)]
    return MainLoop(MultiTaskModel(task, **SETTINGS), DatasetOf(data), listed, **options)


def of_sklearn(name: str) -> str:
    return "sklearn.metrics." + name


@pytest.mark.parametrize(
    ("kind", "metric", "text"),
    [
        ("classes", "mean_absolute_error", r"labels of shape \(8,\) do not fit what is predicted, \(8, 3\)"),
        ("several values", "pearson_correlation", r"needs one number per row, but labels have the shape \(8, 3\)"),
        ("sets", "spearman_correlation", r"needs one number per row, but labels have the shape \(8, 3\)"),
        ("values", of_sklearn("f1_score"), "continuous is not supported"),
        ("several values", of_sklearn("accuracy_score"), "continuous"),
        ("sets", of_sklearn("f1_score"), "average='binary'"),
    ],
)
def test_a_metric_that_can_score_no_such_rows_is_told_before_any_hook_begins(kind: str, metric: str, text: str) -> None:
    record = RecordEvents()
    name = metric.rpartition(".")[2]
    with pytest.raises(DataError, match=f"^stream 'train', loader 'rows': task 'kind': .*{name}.*{text}"):
        make_loop(kind, metric, record).run_training()
    assert set(record.names) <= {"register_mainloop", "after_training"}


def test_a_function_that_makes_no_number_is_told_before_any_hook_begins() -> None:
    record = RecordEvents()
    with pytest.raises(ConfigError, match="task 'kind': metric 'confusion_matrix' must return a number or a mapping"):
        make_loop("classes", of_sklearn("confusion_matrix"), record).run_training()
    assert set(record.names) <= {"register_mainloop", "after_training"}


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("classes", {"class": of_sklearn("roc_auc_score"), "multi_class": "ovr"}),
        ("classes", of_sklearn("log_loss")),
        ("classes", {"class": of_sklearn("f1_score"), "average": "macro"}),
        ("classes", of_sklearn("cohen_kappa_score")),
        ("classes", of_sklearn("d2_tweedie_score")),
        ("two classes", of_sklearn("roc_auc_score")),
        ("two classes", of_sklearn("f1_score")),
        ("two classes", of_sklearn("hinge_loss")),
        ("values", of_sklearn("r2_score")),
        ("positive values", of_sklearn("mean_squared_log_error")),
        ("positive values", of_sklearn("mean_gamma_deviance")),
        ("several values", of_sklearn("mean_squared_error")),
        ("sets", of_sklearn("roc_auc_score")),
        ("sets", of_sklearn("label_ranking_average_precision_score")),
        ("sets", {"class": of_sklearn("f1_score"), "average": "samples", "zero_division": 0}),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_metric_that_scores_all_rows_is_not_refused_for_what_few_say(kind: str, metric: Any, batch_size: int) -> None:
    loop = make_loop(kind, metric, batch_size=batch_size)
    loop.run_training()
    assert loop.end == "finished"


def test_what_few_rows_say_is_no_warning() -> None:
    loop = make_loop("values", of_sklearn("r2_score"), batch_size=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loop.try_batches()
        assert told == []
        of_one_row = loop.model.tasks["kind"].scorer  # type: ignore[attr-defined]
        of_one_row.score([0.5], preds=[0.25])
        assert [str(each.message)[:8] for each in told] == ["R^2 scor"]


def test_a_function_of_ones_own_is_called_with_all_rows_only() -> None:
    sizes: list[int] = []

    def score(golds: Any, preds: Any) -> float:
        sizes.append(len(golds))
        return float(np.mean(golds == preds))

    loop = make_loop("classes", score)
    loop.try_batches()
    assert sizes == []
    loop.run_training()
    assert sizes == [ROWS]


def test_streams_that_are_not_scored_are_not_tried_so() -> None:
    make_loop("sets", "pearson_correlation", skip_zeroth_epoch=True).try_batches()  # trained on only
    with pytest.raises(DataError, match="task 'kind': metric 'pearson_correlation'"):
        make_loop("sets", "pearson_correlation", hook=ScoreTasks(train=True), skip_zeroth_epoch=True).try_batches()
    data = DatasetOf(loader(columns(y=CLASSES)), loader(columns(y=CLASSES), "valid"))
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    modules = {"trunk": nn.Linear(4, 5), "head": nn.Linear(5, 3)}
    task = Task("kind", modules, flow, label="y", loss="cross_entropy", metrics=["mean_absolute_error"])
    for streams, told in ((["valid"], "valid"), (["train"], "train"), (None, "train")):
        hooks = [ScoreTasks(streams), StopAfter(epochs=1)]
        with pytest.raises(
            DataError, match=f"stream '{told}', loader 'rows': task 'kind': metric 'mean_absolute_error'"
        ):
            MainLoop(MultiTaskModel(task, **SETTINGS), data, hooks).try_batches()


def test_nothing_is_scored_twice() -> None:
    class Note(AbstractHook):
        """Keeps a number of each epoch."""

        accuracies: list[Any]

        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.accuracies = [*getattr(self, "accuracies", []), epoch_data["train"].get("kind/rows/accuracy")]

    def run(try_batches: bool) -> list[Any]:
        note = Note()
        torch.manual_seed(0)
        loop = MainLoop(
            make_model(),
            DatasetOf(loader(columns(y=CLASSES))),
            [ScoreTasks(), note, StopAfter(epochs=1)],
            try_batches=try_batches,
        )
        loop.run_training()
        return note.accuracies

    assert run(True) == run(False)


class Look(AbstractHook):
    """Notes what it is asked to try, and refuses what holds a word."""

    def __init__(self, refused: str = "") -> None:
        super().__init__()
        self.seen: list[tuple[str, int, bool]] = []
        self.refused = refused

    def try_batch(self, stream_name: str, batch_data: Batch, train: bool) -> None:
        assert not train
        self.seen.append((stream_name, len(batch_data["x"]), "kind/pred" in batch_data))
        if self.refused == stream_name:
            raise DataError("no such batch, please")

    def before_training(self) -> None:
        self.seen.append(("begins", 0, False))


def test_hooks_are_asked_before_they_begin() -> None:
    look = Look()
    data = DatasetOf(loader(), loader(split="valid"))
    loop = MainLoop(make_model(), data, [look, Evaluate(["valid"]), ScoreTasks(), StopAfter(epochs=1)])
    loop.run_training()
    assert look.seen == [("train", 8, True), ("valid", 8, True), ("begins", 0, False)]
    look = Look("valid")
    with pytest.raises(DataError, match="^stream 'valid', loader 'rows': no such batch, please"):
        MainLoop(make_model(), data, [look, Evaluate(["valid"]), StopAfter(epochs=1)]).run_training()
    assert ("begins", 0, False) not in look.seen


def test_a_mistake_that_a_hook_finds_so_has_its_place_in_the_config() -> None:
    class Refuse(AbstractHook):
        """Does not like its argument."""

        config_path = ("hooks", 3)

        def try_batch(self, stream_name: str, batch_data: Batch, train: bool) -> None:
            raise ConfigError("of no use for these rows", ("limit",))

    with pytest.raises(ConfigError, match="^of no use for these rows$") as caught:
        MainLoop(make_model(), DatasetOf(loader()), [Refuse(), StopAfter(epochs=1)]).try_batches()
    assert caught.value.path == ("hooks", 3, "limit")


CONFIG = """\
dataset:
  class: data.Rows
model:
  class: MultiTaskModel
  device: cpu
  modules:
    trunk: {class: torch.nn.Linear, in_features: 4, out_features: 3}
  tasks:
    kind:
      flow:
        - {name: logits, module: trunk, inputs: x}
      label: y
      loss: mse
      metrics:
        - mean_squared_error
        - METRIC
hooks:
  - ScoreTasks
  - StopAfter: {epochs: 1}
"""

MODULE = """\
import torch
from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

class Rows(MultiTaskDataset):
    def loaders(self):
        rows = ColumnDataset("rows", {"x": torch.randn(24, 4)}, {"y": torch.randn(24, 3)})
        return [TaskLoader(rows, {"kind": "y"}, "train", batch_size=8)]
"""


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize("metric", ["pearson_correlation", "sklearn.metrics.f1_score"])
def test_it_is_one_line_with_the_place_of_the_metric(
    metric: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.py").write_text(MODULE)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("METRIC", metric))
    done = CliRunner().invoke(main, [command, "config.yaml"])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    place = "config.yaml:16:11: model.tasks.kind.metrics[1]: stream 'train', loader 'rows': task 'kind': "
    assert line.startswith(f"{place}metric '{metric.rpartition('.')[2]}'")
    change = f"model.tasks.kind.metrics=[{metric}]"
    done = CliRunner().invoke(main, [command, "config.yaml", change])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"command line: {change}: model.tasks.kind.metrics[0]: stream 'train'")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["config.yaml", "data.py"]
