"""Which of a model's tasks a batch is for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..data.batch import Batch
from ..errors import ConfigError, KeyPath, nearest
from ..tasks.task_network import TaskNetwork
from .removed_tasks import RemovedTasks


class BatchTasks:
    """Tells which of a model's tasks a batch is for, and with which labels.

    :param network: the modules and tasks
    :param section: the argument that declares the tasks
    """

    def __init__(self, network: TaskNetwork, section: str) -> None:
        self._network = network
        self._section = section
        self.removed = RemovedTasks()
        """The tasks that the model no longer has."""

    def named(self, batch: Batch) -> dict[str, str | None] | None:
        """Return the tasks that the loader of a batch names, those that are removed left out; None if it names none.

        :return: task name -> label source
        """
        if batch.tasks:
            return self.removed.left_of(batch)
        # One that was prepared carries no tasks only where all of them were removed.
        return {} if batch.kind is not None and not batch.kind.tasks else None

    def carried(self, batch: Batch) -> dict[str, str | None]:
        """Return the tasks that are named; of a batch that names none, those whose labels it holds."""
        named = self.named(batch)
        return self.held_by(batch) if named is None else named

    def held_by(self, batch: Mapping[str, Any]) -> dict[str, str | None]:
        """Return the tasks whose labels a batch holds; of one without any label, all tasks, unlabelled."""
        tasks = list(self._network.tasks.items())  # at once, since they may be changed while a thread prepares batches
        labelled: dict[str, str | None] = {name: task.label for name, task in tasks if task.label in batch}
        unlabelled: dict[str, str | None] = {name: None for name, task in tasks if task.label is None or not labelled}
        runnable = {
            name: label for name, label in {**labelled, **unlabelled}.items() if self._network.finds_inputs(name, batch)
        }
        return {name: runnable[name] for name, _ in tasks if name in runnable} or labelled or unlabelled

    def token_sources(self, names: Iterable[str]) -> set[str]:
        """Return the sources of sequences whose tokens have labels, of these tasks."""
        return {tokens.source for name in names if (tokens := self._network.task(name).tokens) is not None}

    def check_tokens(self, names: Iterable[str], sources: Collection[str], path: KeyPath = ()) -> None:
        """Check that the sequences whose tokens have labels are among the sources.

        :param path: where in the config the model is
        :raise ConfigError: naming the task whose sequences are not
        """
        for name in names:
            tokens = self._network.task(name).tokens
            if tokens is not None and tokens.source not in sources:
                text = f"task {name!r}: tokens: there is no source {tokens.source!r}{nearest(tokens.source, sources)}"
                raise ConfigError(text, (*path, self._section, name, "tokens"))
