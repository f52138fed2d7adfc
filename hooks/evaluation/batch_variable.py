"""Which variables a batch must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import DataError, nearest

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch


def holds(hook: AbstractHook, variable: str, stream: str, batch: Batch) -> bool:
    """Return whether a batch holds a variable that a hook reads.

    :param hook: the hook
    :param variable: a source or output; one called ``<task>/…`` is missing from batches that do not carry the task,
        and ``<task>/loss`` from those without its labels
    :param stream: where the batch comes from
    :raise DataError: if it is missing for no such reason
    """
    if variable in batch:
        return True
    task, slash, output = variable.partition("/")
    model = hook.main_loop.model
    if slash and (task in getattr(model, "tasks", ()) or task in getattr(model, "removed_tasks", ())):
        if task not in batch.tasks or (output == "loss" and batch.tasks[task] is None):
            return False
    text = f"a batch of stream {stream!r} lacks the variable {variable!r}"
    raise DataError(f"{hook.name}: {text}{nearest(variable, batch)}")
