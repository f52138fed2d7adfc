"""The tasks that a model no longer has."""

from __future__ import annotations

import logging
from collections.abc import Collection

from ..data.batch import Batch

_LOGGER = logging.getLogger(__name__)


class RemovedTasks:
    """Leaves tasks out of batches whose loaders still name them, after these were removed from a model."""

    def __init__(self) -> None:
        self._sources: dict[str, frozenset[str]] = {}
        """Task name -> the sources that it has read, which batches go on holding."""
        self._told: set[tuple[str, ...]] = set()

    @property
    def names(self) -> Collection[str]:
        """The names of these tasks."""
        return self._sources.keys()

    @property
    def sources(self) -> set[str]:
        """All that these tasks have read."""
        return set().union(*self._sources.values())

    def add(self, name: str, sources: Collection[str]) -> None:
        """Leave a task out from now on.

        :param sources: what it has read
        """
        self._sources[name] = frozenset(sources)

    def discard(self, name: str) -> None:
        """No longer leave a task out, since there is one of that name again."""
        self._sources.pop(name, None)

    def left_of(self, batch: Batch) -> dict[str, str | None]:
        """Return those tasks that a batch names which were not removed; says it, once, where none is left."""
        if not self._sources:
            return batch.tasks
        left = {name: label for name, label in batch.tasks.items() if name not in self._sources}
        names = tuple(batch.tasks)
        if not left and names not in self._told:
            self._told.add(names)
            text = "%s carries only tasks that were removed (%s): nothing is learnt from such batches"
            _LOGGER.warning(text, batch.place or "a batch", ", ".join(map(repr, names)))
        return left
