"""What batches with the same sources and tasks have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .batch_run import BatchRun


class BatchKind:
    """What the model finds out once about all batches with the same sources and tasks.

    :param network: the network, as it is at present, that they are run by
    :param tasks: task name -> its label source, None for a task without labels
    :param labels: the tasks with labels, and their label sources
    :param moved: the sources that the device gets
    """

    __slots__ = ("_network", "_version", "labels", "moved", "runs", "tasks")

    def __init__(
        self,
        network: TaskNetwork,
        tasks: Mapping[str, str | None],
        labels: Sequence[tuple[Task, str]],
        moved: Sequence[str],
    ) -> None:
        self._network = network
        self._version = network.version
        self.tasks = dict(tasks)
        self.labels = tuple(labels)
        self.moved = tuple(moved)
        self.runs: dict[frozenset[str] | None, BatchRun] = {}
        """How they are run, by the names of the outputs that somebody reads, None for all."""

    def is_of(self, network: TaskNetwork) -> bool:
        """Whether it still holds for ``network``, whose tasks may have changed meanwhile."""
        return self._network is network and self._version == network.version
