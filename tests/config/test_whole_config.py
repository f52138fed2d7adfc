# ruff: noqa: E501
# An answer to a mistake is one line, however long.

"""The config of the manual's first page, with the parts of the package that it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.config.create import create_training
from emloop_mtl.config.located_error import LocatedError

Write = Callable[..., Path]

DIGITS = """
import torch

from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.tasks.task import Task


class Digits(MultiTaskDataset):
    def __init__(self, batch_size: int, **kwargs):
        super().__init__(**kwargs)
        self.batch_size = batch_size

    def loaders(self):
        images = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
        columns = ColumnDataset("digits", {"image": images}, {"digit": torch.arange(12) % 3})
        return [
            TaskLoader(columns, {"digit": "digit"}, split, batch_size=self.batch_size) for split in ("train", "valid")
        ]


def digit_loss(outputs, label):
    return torch.nn.functional.cross_entropy(outputs["logits"], label)


def tasks(dataset):
    flow = [{"name": "logits", "module": "head", "inputs": "image"}]
    return [Task("digit", {"head": torch.nn.Linear(4, 3)}, flow, label="digit", loss="cross_entropy")]
"""

CONFIG = """
    seed: 7
    dataset:
      class: digits.Digits
      batch_size: 4
      streams:
        train: {scheduler: {class: RoundRobin, fillup: true}}
    model:
      class: MultiTaskModel
      name: digits
      device: cpu
      optimizer: {class: adamw, lr: 0.001, weight_decay: 0.01}
      update: {clip_norm: 1.0, accumulate: 2}
      modules:
        trunk: {class: torch.nn.Sequential, args: [{class: torch.nn.Linear, in_features: 4, out_features: 8}, {class: torch.nn.ReLU}]}
        digit_head: {class: torch.nn.Linear, in_features: 8, out_features: 3}
      tasks:
        digit:
          flow:
            - {name: features, module: trunk, inputs: image}
            - {name: logits, module: digit_head, inputs: features}
          label: digit
          loss: cross_entropy
          output: softmax
          metrics: [accuracy, f1_macro]
    hooks:
      - Evaluate: {streams: [valid]}
      - StopAfter: {epochs: 2}
"""


@pytest.fixture
def path(write: Write) -> Path:
    Path("digits.py").write_text(DIGITS)
    return write(CONFIG)


def parameters(model: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.network.parameters()]


def test_a_config_trains_and_its_seed_repeats_it(path: Path) -> None:
    trained = []
    for _ in range(2):
        training = create_training(path)
        before = parameters(training.model)
        training.main_loop.run_training()
        assert training.main_loop.position.step == 6  # two epochs of three batches
        trained.append(parameters(training.model))
        assert all(not torch.equal(one, other) for one, other in zip(before, trained[-1], strict=True))
    assert all(torch.equal(one, other) for one, other in zip(*trained, strict=True))


def test_a_loss_may_be_a_function_and_tasks_too(path: Path) -> None:
    training = create_training(path, overrides=["model.tasks.digit.loss=digits.digit_loss"])
    training.main_loop.run_training()
    training = create_training(path, overrides=["model.tasks=digits.tasks", "model.modules=null"])
    assert list(training.model.tasks) == ["digit"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("dataset.bach_size=3", "dataset: digits.Digits: unknown argument 'bach_size'; did you mean 'batch_size'?"),
        ("dataset.streams.train.scheduler.class=RoundRobbin", "dataset.streams.train.scheduler.class: unknown class 'RoundRobbin'; did you mean 'RoundRobin'?"),
        ("dataset.streams.train.scheduler.filup=true", "dataset.streams.train.scheduler: RoundRobin: unknown argument 'filup'; did you mean 'fillup'?"),
        ("model.modles={}", "model: MultiTaskModel: unknown argument 'modles'; did you mean 'modules'?"),
        ("model.optimizer.lrr=1", "model.optimizer: AdamW: unknown argument 'lrr'; did you mean 'lr'?"),
        ("model.tasks.digit.metric=[accuracy]", "model.tasks.digit: Task: unknown argument 'metric'; did you mean 'metrics'?"),
        ("model.tasks.digit.weight=high", "model.tasks.digit.weight: expected float, got 'high'"),
        ("model.modules.digit_head.out_features=x", "model.modules.digit_head.out_features: expected int, got 'x'"),
        ("model.tasks.digit.loss=digits.digit_los", "model.tasks.digit.loss: module 'digits' has no 'digit_los'; did you mean 'digit_loss'?"),
        ("hooks.Evaluate.steams=[valid]", "hooks[0] Evaluate: unknown argument 'steams'; did you mean 'streams'?"),
    ],
)  # fmt: skip
def test_mistakes_in_its_depths_are_found_before_anything_is_built(path: Path, override: str, expected: str) -> None:
    with pytest.raises(LocatedError) as caught:
        create_training(path, overrides=[override])
    assert str(caught.value) == f"command line: {override}: {expected}"
