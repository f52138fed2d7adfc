"""The labels of slices as columns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...constants import TRAIN_STREAM
from ...data.column_dataset import ColumnDataset
from ...data.multi_task_dataset import MultiTaskDataset
from ...data.subsets import rows_of, whole
from ...data.task_loader import TaskLoader
from ...errors import ConfigError
from ...utils.shown import shown
from ..task import Task
from .slice_names import indicator_name, missing_label, predictor_name, score_name
from .slicing_function import BASE, SlicingFunction, read_slices

_LOGGER = logging.getLogger(__name__)


def add_slice_labels(
    data: MultiTaskDataset | Iterable[TaskLoader], task: Task, slices: Sequence[Callable[..., Any]]
) -> None:
    """Label the rows of slices, and let loaders carry the slice tasks of a task.

    The data of every loader that carries the task with labels get two columns for each slice:
    ``<task>_slice:ind_<slice>``, which rows belong to it, and ``<task>_slice:pred_<slice>``, the task's labels, missing
    outside of the slice. A loader that has no labelled row of a slice is warned of and leaves out what cannot be learnt
    or scored there.

    :param data: a dataset, or loaders, whose data are columns
    :param task: the task that has slices, as it was or as ``slice_tasks`` has returned it
    :param slices: slicing functions, or functions of sources
    :raise ConfigError: for data that are no columns, names that are taken, a slicing function that does not return a
        bool for each row, or a slice that has no labelled row at all
    """
    functions = read_slices(slices)
    carriers = [(loader, label) for loader in _loaders_of(data) if (label := _label_of(loader, task)) is not None]
    if not carriers:
        raise ConfigError(f"no loader carries labels of task {task.name!r}, so there is nothing to take slices of")
    read = [_columns_of(loader) for loader, _ in carriers]
    trained = {id(columns) for (loader, _), columns in zip(carriers, read, strict=True) if loader.split == TRAIN_STREAM}
    members: dict[tuple[int, str], dict[str, Tensor]] = {}
    for (_, label), columns in zip(carriers, read, strict=True):
        if (key := (id(columns), label)) not in members:
            members[key] = _add_columns(columns, task, label, functions, id(columns) in trained)
    for index, each in enumerate(functions):
        if not any(found[each.name].any() for found in members.values()):
            text = f"slice {each.name!r} of task {task.name!r} has no labelled row in any loader"
            raise ConfigError(text, ("slices", index))
    for (loader, label), columns in zip(carriers, read, strict=True):
        _add_tasks(loader, task, label, members[id(columns), label])


def _loaders_of(data: Any) -> list[TaskLoader]:
    if isinstance(data, TaskLoader):
        return [data]
    if isinstance(data, MultiTaskDataset):
        # Streams may share a loader.
        return list(dict.fromkeys(loader for stream in data.task_streams.values() for loader in stream.loaders))
    if not isinstance(data, Iterable):
        raise ConfigError(f"slices need a MultiTaskDataset, or its loaders, not {shown(data)}")
    loaders = list(data)
    for loader in loaders:
        if not isinstance(loader, TaskLoader):
            raise ConfigError(f"slices need a MultiTaskDataset, or its loaders, not {shown(loader)}")
    return loaders


def _label_of(loader: TaskLoader, task: Task) -> str | None:
    """Return the source of a task's labels in a loader; None if it does not carry the task, or no labels of it."""
    if loader.tasks:
        return loader.tasks.get(task.name)
    return task.label if task.label in (loader.sources or ()) else None


def _columns_of(loader: TaskLoader) -> ColumnDataset:
    columns = whole(loader.dataset)
    if not isinstance(columns, ColumnDataset):
        text = f"slices need a ColumnDataset, not a {type(columns).__name__}; label its slices in the data themselves"
        raise ConfigError(f"loader {loader.name!r}: {text}")
    return columns


def _add_columns(
    data: ColumnDataset, task: Task, label: str, slices: Sequence[SlicingFunction], is_trained: bool
) -> dict[str, Tensor]:
    """Add the labels of all slices that the data have, and return which rows of each are labelled, bool [n]."""
    labels = _column(data, label)
    if not isinstance(labels, Tensor):
        raise ConfigError(f"data {data.name!r}: the labels {label!r} are no numbers, so that slices cannot have them")
    missing = missing_label(task)
    if math.isnan(missing) and not labels.is_floating_point():
        labels = labels.to(torch.get_default_dtype())
    elif not labels.is_floating_point():
        labels = labels.long()  # a bool or an unsigned number cannot be negative
    marked = labels.isnan() if math.isnan(missing) else labels == missing
    labelled = ~(marked.flatten(1).all(1) if marked.ndim > 1 else marked).cpu()
    found: dict[str, Tensor] = {}
    added: dict[str, Tensor] = {}
    for index, each in enumerate(slices):
        try:
            rows = each.rows_of(data)
        except ConfigError as error:
            raise ConfigError(str(error), ("slices", index)) from error
        found[each.name] = rows & labelled
        has_rows = bool(found[each.name].any())
        if has_rows or is_trained:
            added[indicator_name(task.name, each.name)] = rows
        if has_rows:
            outside = ~rows.to(labels.device).view(-1, *[1] * (labels.ndim - 1))
            added[predictor_name(task.name, each.name)] = labels.masked_fill(outside, missing)
    # Several models, as those of an ensemble, may be made for one dataset.
    data.add_labels({name: values for name, values in added.items() if not _holds(data, name, values)})
    return found


def _holds(data: ColumnDataset, name: str, values: Tensor) -> bool:
    """Whether the data have a label of a name with these very values."""
    if name not in data.labels:
        return False
    column = _column(data, name)
    same = column.dtype is values.dtype and column.shape == values.shape
    # not equal to itself is nan
    return same and bool(((column == values) | ((column != column) & (values != values))).all())


def _column(data: ColumnDataset, source: str) -> Any:
    """Return all values of a source."""
    batch: dict[str, Any] = {}
    next(column for column in data.columns if source in column.sources).add_to(batch, torch.arange(len(data)))
    return batch[source]


def _add_tasks(loader: TaskLoader, task: Task, label: str, members: dict[str, Tensor]) -> None:
    """Let a loader carry the tasks of the slices that its rows have; of one that names no tasks, the labels tell."""
    rows = rows_of(loader.dataset, torch.arange(len(loader.dataset)))
    is_training = loader.split == TRAIN_STREAM
    carried: dict[str, str | None] = {predictor_name(task.name, BASE): label}
    for name, found in members.items():
        indicator, predictor = indicator_name(task.name, name), predictor_name(task.name, name)
        has_rows = bool(found[rows].any())
        if not has_rows:
            text = "nothing is learnt of it there" if is_training else "it is not scored there"
            where = name, task.name, loader.name, loader.split, text
            _LOGGER.warning("slice %r of task %r: loader %r, split %r, has no labelled row of it; %s", *where)
        if has_rows or is_training:
            carried[indicator] = indicator
        if has_rows:
            carried[predictor] = predictor
            if not is_training:
                carried[score_name(task.name, name)] = predictor
    if loader.tasks:
        loader.tasks.update(carried)
