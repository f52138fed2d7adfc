"""A backbone and heads in YAML."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from emloop_mtl import BackboneHeadsModel, Head
from emloop_mtl.cli import main
from emloop_mtl.config.build import build
from emloop_mtl.config.create import create_training
from emloop_mtl.config.located_error import LocatedError
from emloop_mtl.config.yaml_text import read_yaml

Write = Callable[..., Path]

MODULES = """
import torch
from torch import nn

from emloop_mtl import ColumnDataset, Head, MultiTaskDataset, TaskLoader


class Data(MultiTaskDataset):
    def loaders(self):
        x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
        labels = {"kind": torch.arange(12) % 3, "size": x.sum(1)}
        features = {"x": x, "task": [("kind", "size")[row % 2] for row in range(12)]}
        data = ColumnDataset("d", features, labels)
        return [TaskLoader(data, split=split, batch_size=4) for split in ("train", "valid")]


class Size(nn.Module):
    def __init__(self, width, name="unset"):
        super().__init__()
        self.layer, self.name = nn.Linear(width, 1), name

    def forward(self, features, size=None):
        value = self.layer(features).squeeze(1)
        return {"probs": value} if size is None else {"probs": value, "loss": (value - size).square().mean()}


def make_heads(dataset, width=8):
    assert isinstance(dataset, Data)
    return {"kind": Head(nn.Linear(width, 3), loss="cross_entropy"), "size": Size(width)}


def fill(tensor, value):
    tensor.fill_(value)
"""

CONFIG = """
    seed: 7
    dataset: {class: reviews.Data}
    model:
      class: BackboneHeadsModel
      device: cpu
      backbone: {class: torch.nn.Linear, in_features: 4, out_features: 8}
      heads:
        kind:
          module: {class: torch.nn.Linear, in_features: 8, out_features: 3}
          loss: cross_entropy
          metrics: [accuracy]
        size: {class: reviews.Size, width: 8}
      loss_weights: {size: 0.1}
      arg_name_mapping: {backbone: {x: input}}
      initializer:
        - ["^kind.bias", {class: reviews.fill, value: 0.5}]
        - [backbone.bias, {class: constant, val: 2}]
        - ["^size", prevent]
        - [bias, zeros]
    hooks:
      - Evaluate: {streams: [valid]}
      - ScoreTasks
      - StopAfter: {epochs: 2}
"""


@pytest.fixture
def path(write: Write) -> Path:
    Path("reviews.py").write_text(MODULES)
    return write(CONFIG)


def test_a_config_of_a_backbone_and_heads_trains_and_its_seed_repeats_it(path: Path) -> None:
    ends = []
    for _ in range(2):
        training = create_training(path)
        before = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
        assert before["kind.bias"].tolist() == [0.5] * 3
        assert before["backbone.bias"].tolist() == [2.0] * 8
        assert before["size.layer.bias"].tolist() != [0.0]
        training.main_loop.run_training()
        ends.append(training.model.state_dict())
        assert not any(torch.equal(before[name], tensor) for name, tensor in ends[-1].items())
    assert all(torch.equal(one, ends[1][name]) for name, one in ends[0].items())


def test_a_head_of_ones_own_does_not_get_its_name(path: Path) -> None:
    assert create_training(path).model.network["size"].name == "unset"


@pytest.mark.parametrize("heads", ["reviews.make_heads", "{class: reviews.make_heads, width: 8}"])
def test_heads_may_come_from_a_function(path: Path, heads: str) -> None:
    training = create_training(path, overrides=[f"model.heads={heads}"])
    assert list(training.model.tasks) == ["kind", "size"]
    training.main_loop.run_training()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.heads.size.widht=3", "model.heads.size: reviews.Size: unknown argument 'widht'; did you mean 'width'?"),
        ("model.heads.kind.los=mse", "model.heads.kind: Head: unknown argument 'los'; did you mean 'loss'?"),
        ("model.heads.size=3", "model.heads.size: expected the arguments of Head as a mapping, got 3"),
        ("model.heads=[]", "model.heads: expected mapping, got a list of 0"),
        ("model.allowed_arguments={size: 5}", "model.allowed_arguments.size: expected list of str, got 5"),
        ("model.initializer=zeros", "model.initializer: expected list, got 'zeros'"),
        ("model.initializer=[[bias, {class: constant}]]", "constant_ needs its argument 'val'"),
        ("model.initializer=[[bias, {class: constnt, val: 1}]]", "no 'constnt'; did you mean 'constant'?"),
        (
            "model.arg_name_mapping={backbone: {x: input, size: input}}",
            "stream 'train', loader 'd': the backbone: 'x' and 'size' both go to its argument 'input' in one batch",
        ),
        ("model.task_source=x", "source 'x' must hold the name of a head for each row"),
        ("model.task_source=taks", "task_source: no loader holds a source 'taks'; did you mean 'task'?"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(path: Path, override: str, says: str) -> None:
    with pytest.raises((LocatedError, ValueError)) as caught:
        create_training(path, overrides=[override]).main_loop.run_training()
    assert says in str(caught.value)


@pytest.mark.parametrize("source", ["x", "size"])
def test_a_source_that_tells_no_heads_is_told_with_the_place_of_its_setting(path: Path, source: str) -> None:
    with path.open("a") as file:
        file.write("main_loop: {on_unused_sources: ignore}\n")
    text = path.read_text().replace("model:\n", f"model:\n  task_source: {source}\n")
    path.write_text(text)
    line = text.splitlines().index(f"  task_source: {source}") + 1
    result = CliRunner().invoke(main, ["train", str(path)])
    assert result.exit_code == 2
    told = result.output.strip().splitlines()[-1]
    assert f":{line}:3: model.task_source: stream 'train', loader 'd': source '{source}' must hold" in told


def example_of(kind: type) -> Any:
    """Return the YAML of a docstring."""
    text = (inspect.getdoc(kind) or "").partition(".. code-block:: yaml\n")[2]
    return read_yaml(dedent(text), lambda *_: "docstring")[0]


def test_the_examples_of_the_docstrings_can_be_built() -> None:
    model = build(example_of(BackboneHeadsModel)["model"], kind="model")
    assert list(model.tasks) == ["kind"]
    heads = build({"class": "BackboneHeadsModel", "backbone": {"class": "torch.nn.Flatten"}, **example_of(Head)})
    assert list(heads.tasks) == ["digit"]
