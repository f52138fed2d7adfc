"""Scoring takes no more memory the more there is to score."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.tasks.metrics import METRICS, kept_rows
from emloop_mtl.tasks.waiting_scores import MOST_BATCHES

OF_VALUES = ["mean_absolute_error", "mean_squared_error", "pearson_correlation", "r2"]
KEEPING = ["average_precision", "pearson_spearman", "roc_auc", "spearman_correlation"]
OF_SETS = [name for name in METRICS if name.endswith("_samples")]
OF_CLASSES = sorted({*METRICS} - {*OF_VALUES, *KEEPING, *OF_SETS, "fbeta"})
COUNTED = sorted({*OF_CLASSES} - {"log_loss", "brier_score", "calibration_error"})
SIZE = 8


def make_model(metrics: dict[str, list[Any]]) -> MultiTaskModel:
    losses = {"kind": ("cross_entropy", 4), "marks": ("binary_cross_entropy_with_logits", 3), "size": ("mse", 1)}
    tasks, modules = [], {}
    for name, (loss, width) in losses.items():
        modules[f"{name}_head"] = nn.Linear(5, width)
        flow = [Action(f"{name}_out", f"{name}_head", "x")]
        tasks.append(Task(name, flow=flow, label=name, loss=loss, metrics=metrics[name]))
    return MultiTaskModel(tasks, modules, device="cpu")


def batch_of(generator: torch.Generator) -> Batch:
    kinds, marks = torch.randint(4, (SIZE,), generator=generator), torch.randint(2, (SIZE, 3), generator=generator)
    values = {"kind": kinds, "marks": marks.float(), "size": torch.rand(SIZE, generator=generator)}
    x = torch.rand(SIZE, 5, generator=generator)
    return Batch({"x": x, **values}, tasks={name: name for name in values}, data_name="points", split="valid")


def memory() -> int:
    """Return the bytes of all dense tensors that there are."""
    gc.collect()  # what other tests have left goes now or never
    tensors = [each for each in gc.get_objects() if type(each) is Tensor]
    return sum(each.nbytes for each in tensors if each.layout is torch.strided)


def memory_during(metrics: dict[str, list[Any]], after: Sequence[int]) -> list[int]:
    """Return by how much tensors exceed what was there before, after so many batches have been scored."""
    model, generator = make_model(metrics), torch.Generator().manual_seed(0)
    begin, found = memory(), []

    def batches() -> Iterator[Batch]:
        for index in range(max(after) + 1):
            if index in after:
                found.append(memory() - begin)
            yield batch_of(generator)

    model.score({"valid": batches()})
    return found


# With a metric whose scores cannot be counted together no batch waits for others.
@pytest.mark.long
@pytest.mark.parametrize("alone", [True, False], ids=["one by one", "together"])
def test_scores_of_sufficient_statistics_take_no_more_memory_the_more_rows_there_are(alone: bool) -> None:
    metrics: dict[str, list[Any]] = {
        "kind": [
            *(OF_CLASSES if alone else COUNTED),
            {"class": "fbeta", "beta": 2},
            {"class": "f1", "average": "per_class"},
        ],
        "marks": ["f1_macro", "hamming_loss", *(OF_SETS if alone else [])],
        "size": OF_VALUES if alone else [],
    }
    early, late = memory_during(metrics, [1 + 2 * MOST_BATCHES, 1 + 8 * MOST_BATCHES])  # as many wait then
    assert late <= early + 2048  # a number more for each of 384 batches would be 3072 bytes


@pytest.mark.long
def test_others_keep_no_more_of_a_row_than_they_need() -> None:
    metrics = {"kind": ["roc_auc"], "marks": ["average_precision"], "size": ["spearman_correlation"]}
    needed = (4 + 4 * 4) + (3 * 4 + 3 * 4) + (4 + 4)
    early, late = memory_during(metrics, [kept_rows.MOST_BATCHES, 3 * kept_rows.MOST_BATCHES])
    rows = SIZE * 2 * kept_rows.MOST_BATCHES
    assert late - early == pytest.approx(needed * rows, abs=8192)  # tensors that nobody needs any more come and go
