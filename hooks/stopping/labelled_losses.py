"""Which losses of an epoch are of any labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from emloop_mtl.data.per_kind import PerKind
from emloop_mtl.tasks.score_table import MODEL_LOSS, UNNAMED_DATA
from emloop_mtl.types import State

from ..numbers import is_loss

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch


class LabelledLosses:
    """Notes which tasks had labels in an epoch: the loss of any other is nan because there is nothing to average."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin an epoch."""
        self._labelled: dict[str, set[tuple[str, str]]] = {}
        """Stream -> tasks and datasets that have a loss in this epoch."""
        self._lacking: set[str] = set()
        """Tasks that had a batch without labels, some of which the model may no longer have."""
        self._unlabelled: dict[str, PerKind[set[str]]] = {}
        """Stream -> the tasks of each kind of batch with a loss that was not yet of any labels."""

    def add(self, stream: str, batch: Batch) -> None:
        """Note the tasks with labels in a batch."""
        unlabelled = self._unlabelled.get(stream)
        if unlabelled is None:
            unlabelled = self._unlabelled[stream] = PerKind(_tasks_with_loss)
        tasks = unlabelled.of(batch)
        if tasks:
            rows = batch.rows
            labelled = {task for task in tasks if task not in rows or len(rows[task])}
            tasks -= labelled
            self._lacking |= tasks
            found = {(task, batch.data_name_of(task) or UNNAMED_DATA) for task in labelled}
            self._labelled.setdefault(stream, set()).update(found)

    def among(self, numbers: Iterable[str], stream: str, tasks: Collection[str]) -> Iterator[str]:
        """Yield the losses among the numbers of a stream but for those of tasks that had no labels there.

        :param numbers: the variables of an epoch's numbers
        :param stream: their stream
        :param tasks: the names of the model's tasks
        """
        found = self._labelled.get(stream, set())
        for variable in filter(is_loss, numbers):
            task, *data = variable.split("/", 2)[:-1] or [""]
            is_known = any(name == task and data in ([], [loader]) for name, loader in found)
            # the model's is the mean of others that are looked at, and of what is left out
            if variable != MODEL_LOSS and (is_known or not (task in tasks or task in self._lacking)):
                yield variable

    def state_dict(self) -> dict[str, State]:
        """Return the tasks and datasets by stream, and the tasks that lack labels."""
        labelled = {stream: sorted(found) for stream, found in self._labelled.items()}
        return {"labelled": labelled, "lacking": sorted(self._lacking)}

    def load_state_dict(self, state: Mapping[str, State]) -> None:
        """Go on in the epoch that was under way."""
        self.begin()
        self._labelled = {stream: set(found) for stream, found in state["labelled"].items()}
        self._lacking = set(state["lacking"])


def _tasks_with_loss(batch: Batch) -> set[str]:
    return {task for task in batch.tasks if f"{task}/loss" in batch}
