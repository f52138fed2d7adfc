"""Batches that wait to be scored together give the scores of batches that are scored one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import DataError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.metrics.accuracy import Accuracy
from emloop_mtl.tasks.metrics.align import count
from emloop_mtl.tasks.score_table import ScoreTable
from emloop_mtl.tasks.task import Task
from emloop_mtl.tasks.waiting_scores import MOST_BATCHES, MOST_BYTES, MOST_ENTRIES
from emloop_mtl.utils.running_means import MANY

METRICS = ("accuracy", "f1", "precision", "recall", "f1_macro")


def make(name: str, metrics: Any = METRICS) -> Task:
    flow = [Action("logits", "head", "x")]
    return Task(name, flow=flow, label=f"{name}_y", loss="cross_entropy", metrics=metrics, num_classes=3)


def batch_of(generator: torch.Generator, size: int, *tasks: str, data: str = "d") -> Batch:
    batch = Batch(data_name=data, tasks={task: f"{task}_y" for task in tasks}, size=size)
    for task in tasks:
        prob = torch.rand(size, 3, generator=generator)
        batch[f"{task}_y"] = torch.randint(3, (size,), generator=generator)
        batch.update({f"{task}/prob": prob, f"{task}/pred": prob.argmax(1)})
        batch[f"{task}/loss"] = torch.rand((), generator=generator)
    return batch


def scores_one_by_one(batches: list[Batch], tasks: dict[str, Task]) -> dict[str, float]:
    table = ScoreTable()
    for batch in batches:
        table.add(batch, dict(tasks))  # other tasks, so that nothing is known of the batch before
    return table.result()


def waiting_in(table: ScoreTable) -> int:
    return sum(len(waiting._waiting) for waiting in table._waiting.values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 2 * MOST_BATCHES), st.integers(0, 2 * MOST_BATCHES))
def test_waiting_and_saving_change_no_bit(seed: int, number: int, cut: int) -> None:
    """Batches of several kinds and sizes, with missing labels, saved and restored anywhere."""
    generator = torch.Generator().manual_seed(seed)
    tasks = {"a": make("a"), "b": make("b", ["accuracy"])}
    batches = []
    for index in range(number):
        kind = torch.randint(40, (), generator=generator).item()
        size = 5 if kind == 0 else 8
        batches.append(batch_of(generator, size, *(["a"] if kind % 8 == 1 else ["a", "b"])))
        if kind == 2:
            batches[-1].rows["a"] = torch.arange(0, size, 2)
        if kind == 3:
            batches[-1]["more"] = index
    straight, first, second = ScoreTable(), ScoreTable(), ScoreTable()
    for batch in batches:
        straight.add(batch, tasks)
    for batch in batches[:cut]:
        first.add(batch, tasks)
    second.load_state_dict(first.state_dict(), tasks)
    for batch in batches[cut:]:
        second.add(batch, tasks)
    assert straight.result() == second.result() == scores_one_by_one(batches, tasks)


@pytest.mark.parametrize("number", [1, MANY])
def test_all_but_the_first_batch_wait_however_many_tasks_there_are(number: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = {f"t{index}": make(f"t{index}", ["accuracy"]) for index in range(number)}
    batches = [batch_of(generator, 4, *tasks) for _ in range(MOST_BATCHES + 3)]
    table, waiting = ScoreTable(), []
    for batch in batches:
        table.add(batch, tasks)
        waiting.append(waiting_in(table))
    assert waiting == [*range(MOST_BATCHES), 0, 1, 2]
    assert table.result() == scores_one_by_one(batches, tasks)
    assert waiting_in(table) == 0


def test_kinds_with_the_same_losses_and_other_labels_keep_the_order_of_their_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = {"a": make("a")}
    batches = []
    for index in range(50):
        batch = batch_of(generator, 4, "a")
        if index % 3 == 1:
            batch["other_y"], batch.tasks = batch.pop("a_y"), {"a": "other_y"}
        # as exact as the sum, so that another order is rounded to another sum
        batch["a/loss"] = torch.rand((), generator=generator, dtype=torch.float64)
        batches.append(batch)
    table = ScoreTable()
    for batch in batches:
        table.add(batch, tasks)
    assert table.result() == scores_one_by_one(batches, tasks)


@pytest.mark.parametrize("buffers", [1, 2, 3])
def test_memory_of_a_batch_may_be_used_again_for_a_later_one(buffers: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = {"a": make("a")}
    memory = torch.empty(buffers, 4, dtype=torch.long)
    table, batches = ScoreTable(), []
    for index in range(20):
        batch = batch_of(generator, 4, "a")
        memory[index % buffers].copy_(batch["a_y"])
        batches.append(batch)
        table.add(Batch({**batch, "a_y": memory[index % buffers]}, data_name="d", tasks=batch.tasks, size=4), tasks)
    assert table.result() == scores_one_by_one(batches, tasks)


def tags(shape: tuple[int, ...], values: Callable[[], Any]) -> Batch:
    batch = Batch({"a_y": values()}, data_name="d", tasks={"a": "a_y"}, size=shape[0])
    batch.update({"a/pred": torch.zeros(shape, dtype=torch.long), "a/loss": torch.rand(())})
    return batch


def test_large_batches_do_not_wait_for_many() -> None:
    shape, waiting, table = (2, MOST_ENTRIES // 4), [], ScoreTable()
    tasks = {"a": make("a", ["accuracy"])}
    for _ in range(5):
        table.add(tags(shape, lambda: torch.zeros(shape, dtype=torch.long)), tasks)
        waiting.append(waiting_in(table))
    assert waiting == [0, 1, 0, 1, 0]  # two hold MOST_ENTRIES
    assert table.result()["a/d/accuracy"] == 1


def test_labels_that_are_parts_of_something_large_do_not_keep_much_of_it() -> None:
    waiting, table = [], ScoreTable()
    tasks = {"a": make("a", ["accuracy"])}
    for _ in range(5):
        large = torch.zeros(4, MOST_BYTES // 8 // 4 // 3, dtype=torch.long)
        table.add(tags((4,), lambda: large[:, 0]), tasks)  # noqa: B023 - called at once
        waiting.append(waiting_in(table))
    assert waiting == [0, 1, 0, 1, 0]  # three and their predictions would take more than MOST_BYTES


def test_sequences_of_other_lengths_wait_and_are_counted_one_by_one() -> None:
    table, tasks = ScoreTable(), {"a": make("a", ["accuracy"])}
    for length in (3, 3, 5, 2):
        shape = (2, length)
        table.add(tags(shape, lambda: torch.full(shape, length % 2)), tasks)  # noqa: B023 - called at once
    assert waiting_in(table) == 3
    assert table.result()["a/d/accuracy"] == 2 * 2 / (2 * 13)  # only those of length 2 have the predicted label


def test_predictions_that_do_not_fit_are_refused_with_the_name_of_the_task() -> None:
    table, tasks = ScoreTable(), {"a": make("a", ["accuracy"])}
    for _ in range(3):
        table.add(tags((4,), lambda: torch.zeros(4, dtype=torch.long)), tasks)
    wrong = tags((4,), lambda: torch.zeros(4, dtype=torch.long))
    wrong["a/pred"] = torch.zeros(5, dtype=torch.long)
    table.add(wrong, tasks)
    with pytest.raises(DataError, match=r"task 'a': metric 'accuracy': labels of shape"):
        table.result()


def test_losses_with_gradients_do_not_wait() -> None:
    table, tasks = ScoreTable(), {"a": make("a", ["accuracy"])}
    for _ in range(3):
        batch = tags((4,), lambda: torch.zeros(4, dtype=torch.long))
        batch["a/loss"] = torch.ones((), requires_grad=True) * 2
        table.add(batch, tasks)
        assert waiting_in(table) == 0
    assert table.result()["a/d/loss"] == 2


def test_labels_of_several_types_are_not_rounded_to_one() -> None:
    table, tasks = ScoreTable(), {"a": make("a", ["accuracy"])}
    for label in (torch.zeros(1, dtype=torch.long), torch.tensor([2**24 + 1]), torch.zeros(1)):
        batch = tags((1,), lambda: label)  # noqa: B023 - called at once
        batch["a/pred"] = torch.tensor([2**24]) if label.item() else torch.zeros(1, dtype=torch.long)
        table.add(batch, tasks)
    assert waiting_in(table) == 2
    assert table.result()["a/d/accuracy"] == 2 / 3  # float32 knows no number between 2**24 and 2**24 + 2


def test_labels_as_a_list_are_taken_between_tensors() -> None:
    table, tasks = ScoreTable(), {"a": make("a", ["accuracy"])}
    for index in range(4):
        table.add(tags((4,), lambda: [0, 0, 1, 1] if index == 2 else torch.zeros(4, dtype=torch.long)), tasks)  # noqa: B023
    assert table.result()["a/d/accuracy"] == 14 / 16


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
    table, tasks = ScoreTable(), {"a": make("a", [Certain("certain"), StillTogether("together")])}
    for prob in ([0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.7, 0.3]):
        batch = tags((1,), lambda: torch.zeros(1, dtype=torch.long))
        batch["a/prob"] = torch.tensor([prob])
        batch["a/pred"] = batch["a/prob"].argmax(1)
        table.add(batch, tasks)
    assert waiting_in(table) == 3
    scores = table.result()
    assert (scores["a/d/certain"], scores["a/d/together"]) == (2 / 4, 3 / 4)
