"""The scores of all tasks on one stream."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..constants import UID_SOURCE
from ..data.batch import Batch
from ..errors import ConfigError, DataError, nearest
from ..types import State
from ..utils.running_mean import RunningMean
from .metrics.picked_uids import PickedUids
from .scorer import Scorer
from .select_rows import select_rows
from .task import Task

AVERAGES = ("model/all/micro_average", "model/all/macro_average")
"""The mean over all metrics, and the mean over the averages of tasks and datasets."""

MODEL_LOSS = "model/all/loss"
"""The mean over the losses of tasks and datasets, each counted once."""

UNNAMED_DATA = "data"
"""Stands for the dataset in variables where a batch names none."""


class _Entry:
    """What is collected for one task on one dataset."""

    def __init__(self, task: Task) -> None:
        ignored = None if task.loss is None else task.loss.ignored_label
        self.loss = RunningMean()
        self.scorer: Scorer | None = None if task.scorer is None else task.scorer.fresh(task.num_classes, ignored)


class ScoreTable:
    """Collects losses and scores of one stream batch by batch, without waiting for the device.

    Every task has on every dataset a loss, weighted by labelled rows, and a scorer of its own.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._result: dict[str, float] | None = None

    def add(self, batch: Batch, tasks: Mapping[str, Task]) -> None:
        """Take in a batch that has been run; it must hold the outputs that ``Task.eval_outputs`` names.

        :param batch: its sources and ``<task>/loss``, ``<task>/prob`` and ``<task>/pred``, on any device
        :param tasks: task name -> task, of all tasks in the batch
        :raise ConfigError: if an output is missing that a metric needs
        :raise DataError: if the batch belongs to a task that is not known
        """
        self._result = None
        for name, source in batch.tasks.items():
            if name not in tasks:
                raise DataError(f"there is no task {name!r}{nearest(name, tasks)}")
            entry = self._entry(tasks[name], batch.data_name or UNNAMED_DATA)
            rows = batch.rows.get(name)
            loss = batch.get(f"{name}/loss")
            if loss is not None:
                entry.loss.add(loss, _count_rows(batch) if rows is None else rows.shape[0])
            if entry.scorer is not None and source is not None:
                self._add_scores(entry.scorer, tasks[name], batch, batch[source], rows)

    def result(self) -> dict[str, float]:
        """Fetch and return ``task/data/loss``, ``task/data/<metric>``, ``task/data/average`` and ``model/all/…``.

        A task without loss or labels has nan in their place, which goes on into the averages. Averages of metrics are
        absent if no task has a scorer. Only the first call after a batch fetches anything.
        """
        if self._result is None:
            scores: dict[str, float] = {}
            for (task, data), entry in self._entries.items():
                scores[f"{task}/{data}/loss"] = entry.loss.result()
                if entry.scorer is not None:
                    try:
                        found = entry.scorer.compute()
                    except (ConfigError, DataError) as error:
                        raise _of_task(task, error) from error
                    scores.update({f"{task}/{data}/{name}": value for name, value in found.items()})
                    scores[f"{task}/{data}/average"] = _mean(found.values())
            self._result = scores | average_scores([scores])
        return dict(self._result)

    @staticmethod
    def summary(tables: Iterable[ScoreTable]) -> dict[str, float]:
        """Return the averages ``model/all/…`` over several streams, each task and dataset counted once per stream."""
        return average_scores(table.result() for table in tables)

    @staticmethod
    def variables(tasks: Mapping[str, Task], data_names: Mapping[str, Collection[str]]) -> list[str]:
        """Return the variables that ``result`` will hold; a custom metric is taken to report under its own name.

        :param tasks: task name -> task
        :param data_names: task name -> the datasets that it is evaluated on
        """
        variables: list[str] = []
        scored = False
        for task, names in data_names.items():
            scorer = tasks[task].scorer
            kinds = ("loss",) if scorer is None else ("loss", *scorer.names, "average")
            scored = scored or (scorer is not None and len(names) > 0)
            variables += [f"{task}/{data}/{kind}" for data in names for kind in kinds]
        return [*variables, *(AVERAGES if scored else ()), *([MODEL_LOSS] if variables else ())]

    def state_dict(self) -> dict[str, State]:
        """Return what has been collected, as plain data and tensors."""
        return {
            "entries": [
                {
                    "task": task,
                    "data": data,
                    "loss": entry.loss.state_dict(),
                    "scorer": None if entry.scorer is None else entry.scorer.state_dict(),
                }
                for (task, data), entry in self._entries.items()
            ]
        }

    def load_state_dict(self, state: dict[str, State], tasks: Mapping[str, Task]) -> None:
        """Go on from what ``state_dict`` returned.

        :param tasks: task name -> task, of all tasks in the state
        :raise ConfigError: if a task is not known, or its metrics were others then
        """
        self._entries = {}
        self._result = None
        for kept in state["entries"]:
            name = kept["task"]
            if name not in tasks:
                raise ConfigError(f"there is no task {name!r} to restore scores of{nearest(name, tasks)}")
            entry = self._entry(tasks[name], kept["data"])
            entry.loss.load_state_dict(kept["loss"])
            if (entry.scorer is None) != (kept["scorer"] is None):
                raise ConfigError(f"task {name!r} has a scorer now or had one then, not both; it cannot be restored")
            if entry.scorer is not None:
                entry.scorer.load_state_dict(kept["scorer"])

    def _entry(self, task: Task, data: str) -> _Entry:
        if (task.name, data) not in self._entries:
            self._entries[task.name, data] = _Entry(task)
        return self._entries[task.name, data]

    def _add_scores(self, scorer: Scorer, task: Task, batch: Batch, label: Any, rows: Tensor | None) -> None:
        for name in task.eval_outputs:
            if name not in batch:
                raise ConfigError(f"task {task.name!r}: its metrics need {name!r}, which the batch does not hold")
        prob, pred = (batch.get(f"{task.name}/{kind}") for kind in ("prob", "pred"))
        label = label if isinstance(label, Tensor) else torch.as_tensor(label)
        uids = batch.get(UID_SOURCE) if scorer.takes_uids else None
        if rows is not None:
            size = label.shape[0]
            label, prob, pred = (select_rows(value, rows, size) for value in (label, prob, pred))
            uids = select_rows(uids, rows, size) if isinstance(uids, Tensor) else uids and PickedUids(uids, rows)
        try:
            scorer.update(label, prob, pred, uids)
        except (ConfigError, DataError) as error:
            raise _of_task(task.name, error) from error


def average_scores(results: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the averages ``model/all/…`` over everything in the results of one or several streams.

    :param results: what ``ScoreTable.result`` returned; averages over tasks in it are not averaged again
    """
    metrics: list[float] = []
    averages: list[float] = []
    losses: list[float] = []
    for scores in results:
        for variable, value in scores.items():
            if variable in (*AVERAGES, MODEL_LOSS):
                continue
            kind = variable.rpartition("/")[2]
            {"loss": losses, "average": averages}.get(kind, metrics).append(value)
    means: dict[str, float] = {}
    if averages:
        means.update(zip(AVERAGES, (_mean(metrics), _mean(averages)), strict=True))
    if losses:
        means[MODEL_LOSS] = _mean(losses)
    return means


def _of_task(task: str, error: ConfigError | DataError) -> ConfigError | DataError:
    """Return an error of a metric as one that names the task, and leads to it in the config."""
    text = f"task {task!r}: {error}"
    return ConfigError(text, ("model", "tasks", task)) if isinstance(error, ConfigError) else DataError(text)


def _count_rows(batch: Batch) -> int:
    if batch.size is not None:
        return batch.size
    rows = next((value for value in batch.values() if _is_column(value)), None)
    if rows is None:
        raise DataError("the batch has no source whose rows could be counted")
    return len(rows)


def _is_column(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, Tensor | np.ndarray) and value.ndim > 0)


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return sum(kept) / len(kept) if kept else math.nan
