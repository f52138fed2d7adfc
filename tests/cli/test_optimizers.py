"""Optimizers by short name and dotted path, and parameter groups, from YAML to a resumed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from emloop_mtl.checkpoint import newest_checkpoint

from .conftest import Command
from .same_runs import differences, state

MODULE = '''
import os
import signal

import torch

from emloop_mtl import AbstractHook, ColumnDataset, MultiTaskDataset, TaskLoader


class Words(MultiTaskDataset):
    def loaders(self):
        generator = torch.Generator().manual_seed(0)
        for task in ("a", "b"):
            x = torch.randint(9, (20, 3), generator=generator)
            label = torch.randint(2, (20,), generator=generator)
            yield TaskLoader(ColumnDataset(task, {"x": x}, {task: label}), {task: task}, batch_size=5)


class Calm(torch.optim.Adam):
    """Adam at half the rate."""

    def __init__(self, parameters, rate, betas=(0.9, 0.999)):
        super().__init__(parameters, lr=rate / 2, betas=betas)


def groups(network):
    heads = [*network["a_head"].parameters(), *network["b_head"].parameters()]
    return [{"params": network["words"].parameters()}, {"params": heads, "lr": 0.2}]


def words_alone(network):
    network.requires_grad_(False)
    network["words"].requires_grad_(True)
    return [{"params": network.parameters()}]


def forgetful(network):
    return [{"params": network["words"].parameters()}]


class Interrupt(AbstractHook):
    """Interrupt the run after a step."""

    def __init__(self, step, **kwargs):
        super().__init__(**kwargs)
        self._step = step

    def after_batch(self, stream_name, batch_data):
        if batch_data.ends_step and self.main_loop.position.step == self._step and self.main_loop.is_training:
            os.kill(os.getpid(), signal.SIGINT)
'''

CONFIG = """
seed: 3
dataset: {class: words.Words}
model:
  class: MultiTaskModel
  name: words
  device: cpu
  optimizer: adam
  update: {clip_norm: 0.5}
  modules:
    words: {class: torch.nn.EmbeddingBag, num_embeddings: 9, embedding_dim: 4, sparse: false}
    noise: {class: torch.nn.Dropout, p: 0.3}
    a_head: {class: torch.nn.Linear, in_features: 4, out_features: 2}
    b_head: {class: torch.nn.Linear, in_features: 4, out_features: 2}
  tasks:
    a:
      flow: [&sums {name: sums, module: words, inputs: x}, &noisy {name: noisy, module: noise, inputs: sums}, {name: a_out, module: a_head, inputs: noisy}]
      label: a
      loss: cross_entropy
    b:
      flow: [*sums, *noisy, {name: b_out, module: b_head, inputs: noisy}]
      label: b
      loss: cross_entropy
hooks:
  - SaveLatest
  - Warmup: {steps: 2}
  - words.Interrupt: {step: -1}
  - StopAfter: {steps: 11}
"""  # noqa: E501 - a line of YAML

SPARSE = "model.modules.words.sparse=true"

CASES = {
    "short name": ["model.optimizer=bert_adam"],
    "groups": [
        "model.optimizer={class: bert_adam, lr: 0.1, betas: [0.8, 0.99], parameters: words.groups}",
        "model.update.accumulate=2",
    ],
    "dotted path": [
        "model.optimizer={class: words.Calm, rate: 0.1, betas: [0.8, 0.99], parameters: words.groups}",
        "model.update.accumulate=2",
    ],
    "lbfgs": [
        "model.optimizer={class: lbfgs, max_iter: 3, line_search_fn: strong_wolfe}",
        "dataset.streams={train: {scheduler: {class: Mixed}}}",
    ],
    "sparse_adam": [
        "model.optimizer={class: sparse_adam, lr: 0.1, parameters: words.words_alone}",
        SPARSE,
        "model.update.accumulate=2",
    ],
    "sparse momentum": ["model.optimizer={class: sgd, lr: 0.1, momentum: 0.9}", SPARSE, "model.update.accumulate=2"],
}


@pytest.fixture(autouse=True)
def words(folder: Path) -> None:
    (folder / "words.py").write_text(MODULE)
    (folder / "config.yaml").write_text(CONFIG)


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
@pytest.mark.parametrize("step", [1, 4, 9])
def test_an_interrupted_run_goes_on_as_if_it_was_not(
    folder: Path, command: Command, overrides: list[str], step: int
) -> None:
    done = command("train", "config.yaml", *overrides, "--output-dir", "whole")
    assert done.exit_code == 0, done.stderr
    cut = f"hooks.Interrupt.step={step}"
    interrupted = command("train", "config.yaml", *overrides, cut, "--output-dir", "run")
    assert interrupted.exit_code == 130, interrupted.stderr
    assert newest_checkpoint(folder / "run/checkpoints").position.step == step
    resumed = command("resume", "run")
    assert resumed.exit_code == 0, resumed.stderr
    ends = [state(newest_checkpoint(folder / run / "checkpoints")) for run in ("run", "whole")]
    assert list(differences(*ends)) == []


@pytest.mark.parametrize(
    ("optimizer", "answer"),
    [
        ("adamx", "model.optimizer: unknown class 'adamx'; did you mean 'adamax'?"),
        ("words.Clam", "model.optimizer: module 'words' has no 'Clam'; did you mean 'Calm'?"),
        ("{class: words.Calm}", "model.optimizer: Calm: missing argument 'rate'"),
        ("{class: sgd, lr: -1}", "model.optimizer: optimizer SGD: Invalid learning rate: -1"),
        (
            "{class: sgd, parameters: words.forgetful}",
            "model.optimizer.parameters: optimizer.parameters: 'a_head.weight' requires gradients and is in no group",
        ),
        ("sparse_adam", "model.optimizer: optimizer SparseAdam: 'words.weight' has dense gradients"),
    ],
)
def test_a_mistake_is_one_line(command: Command, optimizer: str, answer: str) -> None:
    said = command("train", "config.yaml", f"model.optimizer={optimizer}")
    assert said.exit_code == 2
    assert len(said.stderr.strip().splitlines()) == 1
    assert answer in said.stderr


def test_a_run_folder_may_not_name_any_optimizer(folder: Path, command: Command) -> None:
    """Neither class nor groups; what the run's own modules define may be named."""
    done = command("train", "config.yaml", "model.optimizer={class: words.Calm, rate: 0.1, parameters: words.groups}")
    assert done.exit_code == 0, done.stderr
    (run,) = (folder / "log").iterdir()
    config = run / "config.yaml"
    good = config.read_text()
    record = run / "run.yaml"  # a run of which something is left to do: nothing is built of one that has ended
    record.write_text("".join(line for line in record.read_text().splitlines(True) if not line.startswith("ended")))
    for line in ("parameters: words.groups", "class: words.Calm"):
        assert line in good
        config.write_text(good.replace(line, f"{line.split()[0]} os.system"))
        said = command("resume", run)
        assert said.exit_code == 2
        assert f"model.optimizer.{line.split(':')[0]}: 'os' is not trusted: without --trust " in said.stderr
    config.write_text(good)
    assert command("resume", run).exit_code == 0
