"""Means of losses of tasks, whatever sets of them come together."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from emloop_mtl.tasks.loss_means import MOST_SETS, LossMeans

TASKS = "abcdefg"
SETS = [names for size in range(1, len(TASKS) + 1) for names in combinations(TASKS, size)] * 3


def fed(means: LossMeans, begin: int, end: int) -> None:
    """Take in a loss of each task of the sets between two, with weights, of which one in four is 0."""
    for number in range(begin, end):
        tasks = SETS[number]
        losses = [torch.tensor(0.1 * number + ord(task)) for task in tasks]
        weights = tuple((number + ord(task)) % 4 for task in tasks)
        means.of(("d",) * len(tasks), tasks).add(losses, weights)


def test_means_of_more_sets_of_tasks_than_are_kept_together_are_those_of_each_task_by_itself() -> None:
    assert len(SETS) > 3 * MOST_SETS
    means = LossMeans()
    fed(means, 0, len(SETS))
    found = means.means()
    for task in TASKS:
        entries = [
            (float(torch.tensor(0.1 * number + ord(task))), (number + ord(task)) % 4)
            for number, tasks in enumerate(SETS)
            if task in tasks
        ]
        expected = sum(loss * weight for loss, weight in entries) / sum(weight for _, weight in entries)
        assert found[task, "d"] == pytest.approx(expected, abs=1e-9)  # float64 sums of some hundred numbers near 100
    assert len(means.state_dict()) == MOST_SETS + len(TASKS)


@pytest.mark.parametrize("moment", [17, MOST_SETS, 2 * MOST_SETS + 1])
def test_means_go_on_from_their_state_to_the_bit(moment: int) -> None:
    straight, first, second = LossMeans(), LossMeans(), LossMeans()
    fed(straight, 0, len(SETS))
    fed(first, 0, moment)
    second.load_state_dict(first.state_dict())
    fed(second, moment, len(SETS))
    assert second.means() == straight.means()
