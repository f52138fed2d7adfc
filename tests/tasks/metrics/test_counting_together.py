"""Batches that wait to be counted together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from emloop_mtl.errors import DataError
from emloop_mtl.tasks.metrics import create_metric
from emloop_mtl.tasks.metrics.accuracy import Accuracy
from emloop_mtl.tasks.metrics.align import count
from emloop_mtl.tasks.metrics.sum_metric import MOST_BATCHES, MOST_BYTES, MOST_ENTRIES, SumMetric

NAMES = ("accuracy", "f1", "precision", "recall")


def rows_of(generator: torch.Generator, *shape: int) -> Any:
    return torch.randint(3, shape, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_the_score_is_that_of_all_rows_at_once(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    metric, at_once = create_metric(name), create_metric(name)
    sizes = [8] * (2 * MOST_BATCHES) + [3] + [8] * 5
    batches = [(rows_of(generator, size), rows_of(generator, size)) for size in sizes]
    for label, pred in batches:
        metric.update(label, None, pred)
    labels, preds = (torch.cat(column) for column in zip(*batches, strict=True))
    at_once.update(labels, None, preds)
    assert metric.compute() == metric.compute() == at_once.compute()


def test_a_state_holds_what_waits_and_saving_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [(rows_of(generator, 4), rows_of(generator, 4)) for _ in range(20)]
    straight, first, second = (create_metric("accuracy") for _ in range(3))
    for label, pred in batches:
        straight.update(label, None, pred)
    for label, pred in batches[:7]:
        first.update(label, None, pred)
    second.update(*(batches[0][0], None, batches[0][1]))  # what restoring forgets
    second.load_state_dict(first.state_dict())
    for label, pred in batches[7:]:
        second.update(label, None, pred)
    assert second.compute() == straight.compute()


def test_large_batches_do_not_wait_for_many() -> None:
    metric = create_metric("accuracy")
    assert isinstance(metric, SumMetric)
    label = torch.zeros(2, MOST_ENTRIES // 4, dtype=torch.long)
    waiting = []
    for _ in range(5):
        metric.update(label.clone(), None, label)
        waiting.append(len(metric._waiting))
    assert waiting == [0, 1, 0, 1, 0]  # two hold MOST_ENTRIES
    assert metric.compute() == {"accuracy": 1.0}


def test_a_batch_that_does_not_fit_is_refused_when_it_comes() -> None:
    metric = create_metric("accuracy")
    for _ in range(3):
        metric.update(torch.zeros(4, dtype=torch.long), None, torch.zeros(4, dtype=torch.long))
    with pytest.raises(DataError, match="labels of shape"):
        metric.update(torch.zeros(4, dtype=torch.long), None, torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize("buffers", [1, 2, 3])
def test_memory_of_a_batch_may_be_used_again_for_a_later_one(buffers: int) -> None:
    generator = torch.Generator().manual_seed(0)
    metric, at_once = create_metric("accuracy"), create_metric("accuracy")
    memory = torch.empty(buffers, 4, dtype=torch.long)
    for index in range(20):
        label, pred = memory[index % buffers], rows_of(generator, 4)
        label.copy_(rows_of(generator, 4))
        metric.update(label, None, pred)
        at_once.update(label.clone(), None, pred)
    assert metric.compute() == at_once.compute()


def test_labels_that_are_parts_of_something_large_do_not_keep_much_of_it() -> None:
    metric = create_metric("accuracy")
    assert isinstance(metric, SumMetric)
    waiting = []
    for _ in range(5):
        large = torch.zeros(4, MOST_BYTES // 8 // 4 // 3, dtype=torch.long)
        metric.update(large[:, 0], None, torch.zeros(4, dtype=torch.long))
        waiting.append(len(metric._waiting))
    assert waiting == [0, 1, 0, 1, 0]  # three and their predictions would take more than MOST_BYTES


def test_a_class_with_sums_of_its_own_gets_every_batch_with_its_probabilities() -> None:
    class Certain(Accuracy):
        def sums(self, label: Any, prob: Any, pred: Any) -> Any:
            return count((label == pred) & (prob.amax(1) > 0.5), kept=None)

    class StillTogether(Accuracy):
        counts_together = True

        def sums(self, label: Any, prob: Any, pred: Any) -> Any:
            return super().sums(label, prob, pred)

    assert not Certain.counts_together
    assert StillTogether.counts_together
    metric = Certain("certain")
    for prob in ([0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]):
        metric.update(torch.zeros(1, dtype=torch.long), torch.tensor([prob]), torch.tensor([prob]).argmax(1))
    assert metric.compute() == {"certain": 2 / 4}
