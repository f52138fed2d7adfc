"""Labels of columns that need not be checked batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from torch import Tensor

from ..errors import DataError
from ..tasks.task import Task
from .device_copy import as_tensor

if TYPE_CHECKING:
    from ..data.batch import Batch
    from ..data.tensor_column import TensorColumn

MOST_ELEMENTS = 2**24
"""More are checked batch by batch: at once they would hold up the first batch, and take memory for it."""

NOT_CHECKED = -1


class CheckedColumns:
    """Checks the labels of batches that were read from columns at once, all of them at once.

    A column on a device, which would be waited for, is checked as a whole, once for all batches that are copies of its
    rows. Where labels are missing, or cannot be used, batches are checked one by one, so that errors name what they
    always do.
    """

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[TensorColumn, dict[tuple[Task, str], tuple[int | None, bool]]] = (
            WeakKeyDictionary()
        )

    def __reduce__(self) -> tuple[type[CheckedColumns], tuple[()]]:
        """A copy finds out anew: columns do not travel with a model."""
        return CheckedColumns, ()

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
            found = origin.find(source)
            place = NOT_CHECKED
            if found is not None and can_check_at_once(found[1], task):
                number, copies, column = found
                if column is not None:
                    usable = self._is_usable(column, task, source)
                else:  # one batch alone is checked as ever
                    usable = len(copies) > len(sources[number][1]) and _check(copies, task, source)
                place = number if usable else NOT_CHECKED
            origin.answers[label] = place
        if place == NOT_CHECKED:
            return False
        source, value = sources[place]
        return batch[source] is value and value._version == 0

    def _is_usable(self, column: TensorColumn, task: Task, source: str) -> bool:
        found = self._found.setdefault(column, {})
        version, usable = found.get((task, source), (None, False))
        if version is None or version != column.version:
            usable = can_check_at_once(column.values, task) and _check(column.values, task, source)
            found[task, source] = column.version, usable
        return usable


def can_check_at_once(values: Tensor, task: Task) -> bool:
    """Whether the labels of many batches may be checked together.

    A check of somebody's own may find in many batches what it would not find in each.
    """
    return type(task).check_labels is Task.check_labels and values.numel() <= MOST_ELEMENTS


def _check(values: Tensor, task: Task, source: str) -> bool:
    try:
        return task.check_labels(as_tensor(values), source) is None
    except DataError:
        return False
