"""Columns whose labels need not be checked batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..errors import DataError
from ..tasks.task import Task
from .device_copy import as_tensor

if TYPE_CHECKING:
    from ..data.batch import Batch
    from ..data.tensor_column import TensorColumn

MOST_ELEMENTS = 2**24
"""Longer columns are checked batch by batch: at once they would hold up the first batch, and take memory for it."""

NOT_CHECKED = -1


class CheckedColumns:
    """Checks the labels of a column in memory once, for all batches that are copies of its rows.

    A column of which every row has a label that its task can use says so for each of its batches. One that lacks
    labels, or holds others, does not: its batches are checked one by one, so that errors name what they always do.
    """

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[TensorColumn, dict[tuple[Task, str], tuple[int | None, bool]]] = (
            WeakKeyDictionary()
        )

    def hold(self, batch: Batch, label: tuple[Task, str]) -> bool:
        """Tell whether all labels of a batch are known to be usable; False says nothing.

        :param batch: the batch, its values not yet prepared
        :param label: a task and the source of its labels
        """
        if batch.origin is None:
            return False
        origin, sources = batch.origin
        place = origin.answers.get(label)
        if place is None:
            task, source = label
            place, column = origin.find(source) or (NOT_CHECKED, None)
            if column is None or not self._is_usable(column, task, source):
                place = NOT_CHECKED
            origin.answers[label] = place
        if place == NOT_CHECKED:
            return False
        source, value = sources[place]
        return batch[source] is value and value._version == 0

    def _is_usable(self, column: TensorColumn, task: Task, source: str) -> bool:
        found = self._found.setdefault(column, {})
        version, usable = found.get((task, source), (None, False))
        if version is None or version != column.version:
            found[task, source] = column.version, (usable := _check(column, task, source))
        return usable


def _check(column: TensorColumn, task: Task, source: str) -> bool:
    # A check of somebody's own may find in a whole column what it would not find in its batches.
    if type(task).check_labels is not Task.check_labels or column.values.numel() > MOST_ELEMENTS:
        return False
    try:
        return task.check_labels(as_tensor(column.values), source) is None
    except DataError:
        return False
