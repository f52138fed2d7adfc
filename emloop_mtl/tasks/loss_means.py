"""The mean losses of tasks on datasets."""

from __future__ import annotations

from collections.abc import Iterator

from ..types import State
from ..utils.running_means import RunningMeans
from .separate_means import SeparateMeans

MOST_SETS = 64
"""The losses of so many sets of tasks are kept together. Rows of n tasks that are mixed make up to 2^n sets."""

Names = tuple[str, ...]


class LossMeans:
    """The mean losses of tasks, each by itself for every dataset.

    Losses of tasks that come in the same batches are added up together, which takes the fewest operations; where there
    are too many sets of tasks for that, those of further sets task by task.
    """

    def __init__(self) -> None:
        self._sets: dict[tuple[Names, Names], RunningMeans] = {}
        """By datasets and tasks."""
        self._single: dict[tuple[str, str], RunningMeans] = {}
        """By dataset and task, of the sets that are not among those."""

    def of(self, data: Names, tasks: Names) -> RunningMeans | SeparateMeans:
        """Return what takes in the losses of tasks that come together.

        :param data: the dataset of each task
        :param tasks: names of tasks
        """
        key = data, tasks
        if key in self._sets:
            return self._sets[key]
        if len(self._sets) < MOST_SETS:
            return self._sets.setdefault(key, RunningMeans(len(tasks)))
        return SeparateMeans([self._single.setdefault(pair, RunningMeans(1)) for pair in zip(data, tasks, strict=True)])

    def means(self) -> dict[tuple[str, str], float]:
        """Fetch and return the means by task and dataset, without those of which nothing counted."""
        totals: dict[tuple[str, str], float] = {}
        weights: dict[tuple[str, str], int] = {}
        for data, tasks, means in self._all():
            for task, name, total, weight in zip(tasks, data, means.totals(), means.weights, strict=True):
                totals[task, name] = totals.get((task, name), 0.0) + total
                weights[task, name] = weights.get((task, name), 0) + weight
        return {key: total / weights[key] for key, total in totals.items() if weights[key]}

    def state_dict(self) -> list[dict[str, State]]:
        """Return the state, of sets first."""
        return [
            {"data": list(data), "tasks": list(tasks), "means": means.state_dict()}
            for data, tasks, means in self._all()
        ]

    def load_state_dict(self, state: list[dict[str, State]]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._sets, self._single = {}, {}
        for kept in state:
            data, tasks = tuple(kept["data"]), tuple(kept["tasks"])
            means = RunningMeans(len(tasks))
            means.load_state_dict(kept["means"])
            if len(self._sets) < MOST_SETS:
                self._sets[data, tasks] = means
            else:
                self._single[data[0], tasks[0]] = means

    def _all(self) -> Iterator[tuple[Names, Names, RunningMeans]]:
        for (data, tasks), means in self._sets.items():
            yield data, tasks, means
        for (name, task), means in self._single.items():
            yield (name,), (task,), means
