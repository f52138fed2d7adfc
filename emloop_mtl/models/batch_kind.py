"""What batches with the same sources and tasks have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .label_join import LabelJoin
from .runs_batches import RunsBatches


class BatchKind:
    """What the model finds out once about all batches with the same sources and tasks.

    :param network: the network that they are run by
    :param version: the network's version that all this was found out of
    :param tasks: task name -> its label source, None for a task without labels
    :param labels: the tasks whose labels are checked one by one before they are run, and their label sources
    :param unchecked: the names of tasks whose labels are checked by their losses
    :param joins: the tasks that are run as one, and their labels
    :param moved: the sources that the device gets
    :param tokens: those of the tasks whose labels are those of tokens, by name
    :param padded: tasks that take what labels are padded with for labels, and their label sources
    """

    __slots__ = (
        *("known", "named"),
        *("_network", "_version", "is_inferred", "is_mixed", "is_settled", "joins", "labels", "moved", "runs", "tasks"),
        *("masks", "padded_labels", "token_labels", "unchecked"),
    )

    def __init__(
        self,
        network: TaskNetwork,
        version: int,
        tasks: Mapping[str, str | None],
        labels: Sequence[tuple[Task, str]],
        unchecked: Collection[str],
        joins: Sequence[LabelJoin],
        moved: Sequence[str],
        tokens: Mapping[str, Task],
        padded: Sequence[tuple[Task, str]],
    ) -> None:
        self._network = network
        self._version = version
        self.tasks = dict(tasks)
        self.labels = tuple((task, label) for task, label in labels if task.name not in tokens)
        self.token_labels = tuple((task, label) for task, label in labels if task.name in tokens)
        """The same of tasks of tokens."""
        self.padded_labels = tuple(padded)
        self.masks = {name: task.tokens.mask for name, task in tokens.items() if task.tokens is not None}
        """Task of tokens -> the source that is True where sequences are padded."""
        self.unchecked = frozenset(unchecked)
        self.joins = tuple(joins)
        self.moved = tuple(moved)
        self.runs: dict[frozenset[str] | None, RunsBatches] = {}
        """How they are run, by the names of the outputs that somebody reads, None for all."""
        self.known: tuple[Task, ...] = ()
        """The tasks themselves."""
        self.named: dict[str, str | None] = {}
        """What the batches named before tasks that were removed were left out."""
        self.is_inferred = False
        """Whether nobody has named the tasks, so that they follow from the sources."""
        self.is_mixed = False
        """Whether they are mixed of several loaders, or tasks are about some of their rows only."""
        self.is_settled = False
        """Whether it was decided which of the tasks are trained as one."""

    def is_of(self, network: TaskNetwork) -> bool:
        """Whether it still holds for ``network``, whose tasks may have changed meanwhile."""
        return self._network is network and self._version == network.version
