# ruff: noqa: E501
# An answer to a mistake is one line, however long.
"""Slices that a config declares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from emloop_mtl import create_training
from emloop_mtl.cli import main

MODULE = """
import torch
from emloop_mtl import ColumnDataset, MultiTaskDataset, TaskLoader

class Points(MultiTaskDataset):
    def loaders(self):
        for split, size in {"train": 60, "valid": 40}.items():
            x = torch.randn(size, 4, generator=torch.Generator().manual_seed(size))
            data = ColumnDataset("points", {"x": x}, {"kind": (x[:, 0] > 0).long(), "area": x[:, 1]})
            yield TaskLoader(data, {"kind": "kind", "area": "area"}, split, batch_size=20)

def low(x):
    return x[:, 2] < 0

def high(x):
    return x[:, 2] > 1

def broken(x):
    return x

def lacks(y):
    return y > 0
"""

CONFIG = """\
dataset: {class: points_in_slices.Points}
model:
  class: MultiTaskModel
  device: cpu
  tasks:
    class: slice_tasks
    modules:
      trunk: {class: torch.nn.Linear, in_features: 4, out_features: 8}
      kind_head: {class: torch.nn.Linear, in_features: 8, out_features: 2}
      area_head: {class: torch.nn.Linear, in_features: 8, out_features: 1}
    tasks:
      kind:
        flow: [{name: features, module: trunk, inputs: x}, {name: kinds, module: kind_head, inputs: features}]
        label: kind
        loss: cross_entropy
        metrics: [accuracy]
      area:
        flow: [{name: features, module: trunk, inputs: x}, {name: areas, module: area_head, inputs: features}]
        label: area
        loss: mse
        metrics: [mean_squared_error]
    slices:
      kind: [points_in_slices.low, {class: SlicingFunction, function: points_in_slices.high, name: tall}]
    indicator_metrics: [f1, {class: fbeta, beta: 2}]
hooks:
  - Evaluate: {streams: [valid]}
  - ScoreTasks
  - SaveLatest
  - StopAfter: {epochs: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "points_in_slices.py").write_text(MODULE)
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("points_in_slices", None)


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), prog_name="emloop-mtl")


def test_a_config_declares_slices_of_one_task_beside_another(folder: Path) -> None:
    training = create_training("config.yaml", "out")
    training.main_loop.run_training()
    parts = [
        f"kind_slice:{part}" for part in ("low", "tall", "ind_low", "ind_tall", "pred_base", "pred_low", "pred_tall")
    ]
    assert set(training.model.tasks) == {"kind", "area", *parts}
    scores = training.main_loop.epoch_data["valid"]
    assert {"kind_slice:ind_tall/points/f2", "kind_slice:tall/points/accuracy"} <= scores.keys()


def test_a_run_with_slices_is_trained_evaluated_and_predicted_by_the_command_line(folder: Path) -> None:
    done = run("train", "config.yaml", "-o", "runs", "hooks.StopAfter.epochs=2", "main_loop.fixed_epoch_size=2")
    assert done.exit_code == 0, done.output
    [path] = (folder / "runs").iterdir()
    for words in (["eval", "valid", str(path)], ["predict", "valid", str(path), "-o", "out.csv"]):
        done = run(*words)
        assert done.exit_code == 0, done.output
    assert "kind_slice:tall" in (folder / "out.csv").read_text()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "points_in_slices.low,",
            "points_in_slices.lo,",
            "config.yaml:23:14: model.tasks.slices.kind[0]: module 'points_in_slices' has no 'lo'; did you mean 'low'?",
        ),
        (
            "points_in_slices.low,",
            "low,",
            "config.yaml:23:14: model.tasks.slices.kind[0]: task 'kind': slices[0]: a slicing function is a function of sources, in YAML its dotted path, not 'low'",
        ),
        (
            "      kind: [points",
            "      kin: [points",
            "config.yaml:23:7: model.tasks.slices.kin: there is no task 'kin'; did you mean 'kind'?",
        ),
        (
            "name: tall}",
            "name: low}",
            "config.yaml:23:36: model.tasks.slices.kind[1]: task 'kind': two slices are called 'low'; give one of them another name",
        ),
        (
            "name: tall}",
            "nam: tall}",
            "config.yaml:23:94: model.tasks.slices.kind[1]: SlicingFunction: unknown argument 'nam'; did you mean 'name'?",
        ),
        (
            "points_in_slices.low,",
            "points_in_slices.lacks,",
            "config.yaml:23:14: model.tasks.slices.kind[0]: slice 'lacks': data 'points' has no source 'y'; known are: _uids_, area, kind, x",
        ),
        (
            "points_in_slices.low,",
            "points_in_slices.broken,",
            "config.yaml:23:14: model.tasks.slices.kind[0]: slice 'broken' of data 'points': the function returned shape [60, 4], where a bool for each of 60 rows is needed; set by_row: true if it is one of a single row",
        ),
        (
            "beta: 2}]",
            "bet: 2}]",
            "config.yaml:24:44: model.tasks.indicator_metrics[1]: fbeta: unknown argument 'bet'; did you mean 'beta'?",
        ),
        (
            "module: kind_head",
            "module: kindhead",
            "config.yaml:13:60: model.tasks.tasks.kind.flow[1]: task 'kind': slices need a head, the last action; module 'kindhead' must be one of the task, or stand under 'modules' beside 'tasks'; did you mean 'kind_head'?",
        ),
        (
            "    indicator_metrics: [f1, {class: fbeta, beta: 2}]\n",
            "    weight: -2\n",
            "config.yaml:24:5: model.tasks.weight: weight must be a number >= 0, not -2",
        ),
    ],
    ids=["function", "plain name", "task", "twice", "argument", "source", "result", "metric", "head", "weight"],
)
def test_a_mistake_is_one_line_with_its_place(folder: Path, old: str, new: str, line: str) -> None:
    assert old in CONFIG
    (folder / "config.yaml").write_text(CONFIG.replace(old, new, 1))
    done = run("train", "config.yaml", "-o", "runs")
    said = done.output.strip().splitlines()
    assert len(said) == 1, done.output
    assert said[0].removeprefix("Error: ") == line
    assert done.exit_code == 2
    assert not (folder / "runs").exists() or not any((folder / "runs").iterdir())
