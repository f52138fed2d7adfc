"""The plainest loops in PyTorch that do the work of the workloads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from .clock import now
from .trained import Trained
from .workloads import (
    BATCH_SIZE,
    OPTIMIZERS,
    Batch,
    Workload,
    as_columns,
    head_name,
    label_name,
    make_batches,
    make_modules,
    task_name,
)

OPTIMIZER_CLASSES = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}


def train(
    workload: Workload,
    optimizer_name: str,
    steps: int,
    epochs: int,
    folder: Path,
    fused: bool | None = None,
    batches: Iterable[Batch] | None = None,
    more_tasks: int = 0,
) -> Trained:
    """Train; after each epoch evaluate, write a line of JSON and save weights and optimizer.

    :param folder: where to write
    :param fused: whether the optimizer is to be the fused one; None for torch's default
    :param batches: what to train on instead of the workload's own batches, at least as long as the training
    :param more_tasks: heads of tasks that no batch carries
    """
    torch.set_num_threads(1)
    modules = make_modules(workload, more_tasks)
    trunk, heads = modules["trunk"], [modules[head_name(index)] for index in range(workload.tasks)]
    arguments: dict[str, Any] = OPTIMIZERS[optimizer_name] | ({} if fused is None else {"fused": fused})
    optimizer = OPTIMIZER_CLASSES[optimizer_name](modules.parameters(), **arguments)
    train_batches, valid_batches = make_batches(workload, "train"), make_batches(workload, "valid")
    stream = iter(batches) if batches is not None else cycle(train_batches)
    loader = _data_loader(train_batches) if workload.feeding == "columns" and batches is None else None
    found = Trained(steps)
    for epoch in range(1, epochs + 1):
        sums = [torch.zeros((), dtype=torch.float64) for _ in range(workload.tasks + 1)]
        began = now()
        if loader is not None:
            _train_from_loader(trunk, heads[0], optimizer, loader, steps, sums[-1])
        elif workload.feeding == "turns":
            _train_in_turn(trunk, heads, optimizer, stream, steps, sums)
        elif workload.feeding == "joint":
            _train_jointly(trunk, heads, optimizer, stream, steps, sums)
        elif workload.tasks == 1:
            _train_one_task(trunk, heads[0], optimizer, stream, steps, sums[-1])
        else:
            _train_many_tasks(trunk, heads, optimizer, stream, steps, sums)
        found.train_seconds.append(now() - began)
        loss = sums[-1].item() / (steps * (workload.tasks if workload.feeding == "joint" else 1))
        found.scores = _evaluate(trunk, heads, valid_batches)
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            task_losses = {task_name(index): value.item() / steps for index, value in enumerate(sums[:-1])}
            file.write(json.dumps({"epoch": epoch, "loss": loss, **task_losses, **found.scores}) + "\n")
        torch.save({"weights": modules.state_dict(), "optimizer": optimizer.state_dict()}, folder / "latest.pt")
        found.epoch_seconds.append(now() - began)
        found.losses.append(loss)
    found.weights = modules.state_dict()
    return found


def _train_one_task(
    trunk: nn.Module, head: nn.Module, optimizer: Optimizer, stream: Iterator[Batch], steps: int, total: Tensor
) -> None:
    for batch in islice(stream, steps):
        loss = cross_entropy(head(trunk(batch["x"])), batch["label_0"])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        total += loss.detach()


def _data_loader(batches: list[Batch]) -> DataLoader[tuple[Tensor, ...]]:
    columns = as_columns(batches)
    generator = torch.Generator().manual_seed(3)
    rows = TensorDataset(columns["x"], columns["label_0"])
    return DataLoader(rows, batch_size=BATCH_SIZE, shuffle=True, generator=generator)


def _train_from_loader(
    trunk: nn.Module,
    head: nn.Module,
    optimizer: Optimizer,
    loader: DataLoader[tuple[Tensor, ...]],
    steps: int,
    total: Tensor,
) -> None:
    done = 0
    while done < steps:
        for x, label in islice(loader, steps - done):
            loss = cross_entropy(head(trunk(x)), label)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
            done += 1


def _train_in_turn(
    trunk: nn.Module,
    heads: list[nn.Module],
    optimizer: Optimizer,
    stream: Iterator[Batch],
    steps: int,
    sums: list[Tensor],
) -> None:
    total = sums[-1]
    turns = cycle([(head, label_name(index), sums[index]) for index, head in enumerate(heads)])
    for batch, (head, label, task_sum) in zip(islice(stream, steps), turns, strict=False):
        loss = cross_entropy(head(trunk(batch["x"])), batch[label])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        value = loss.detach()
        task_sum += value
        total += value


def _train_jointly(
    trunk: nn.Module,
    heads: list[nn.Module],
    optimizer: Optimizer,
    stream: Iterator[Batch],
    steps: int,
    sums: list[Tensor],
) -> None:
    total = sums[-1]
    turns = [(head, label_name(index), sums[index]) for index, head in enumerate(heads)]
    for _ in range(steps):
        for batch, (head, label, task_sum) in zip(islice(stream, len(turns)), turns, strict=True):
            loss = cross_entropy(head(trunk(batch["x"])), batch[label])
            loss.backward()  # type: ignore[no-untyped-call]
            value = loss.detach()
            task_sum += value
            total += value
        optimizer.step()
        optimizer.zero_grad()


def _train_many_tasks(
    trunk: nn.Module,
    heads: list[nn.Module],
    optimizer: Optimizer,
    stream: Iterator[Batch],
    steps: int,
    sums: list[Tensor],
) -> None:
    total = sums[-1]
    tasks = [(head, label_name(index), sums[index]) for index, head in enumerate(heads)]
    for batch in islice(stream, steps):
        features = trunk(batch["x"])
        losses = [cross_entropy(head(features), batch[label]) for head, label, _ in tasks]
        loss = losses[0]
        for other in losses[1:]:
            loss = loss + other
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        for (_, _, task_sum), task_loss in zip(tasks, losses, strict=True):
            task_sum += task_loss.detach()
        total += loss.detach()


@torch.no_grad()
def _evaluate(trunk: nn.Module, heads: list[nn.Module], batches: list[Batch]) -> dict[str, float]:
    """Return accuracy and mean loss of every task."""
    counts = [0] * len(heads)
    correct = [torch.zeros((), dtype=torch.int64) for _ in heads]
    losses = [torch.zeros((), dtype=torch.float64) for _ in heads]
    for batch in batches:
        features = trunk(batch["x"])
        for index, head in enumerate(heads):
            label = batch.get(label_name(index))
            if label is not None:
                logits = head(features)
                counts[index] += len(label)
                correct[index] += (logits.argmax(1) == label).sum()
                losses[index] += cross_entropy(logits, label) * len(label)
    scores = {}
    for index, count in enumerate(counts):
        scores[f"{task_name(index)}/accuracy"] = correct[index].item() / count
        scores[f"{task_name(index)}/loss"] = losses[index].item() / count
    return scores
