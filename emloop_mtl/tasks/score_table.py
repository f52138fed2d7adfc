"""The scores of all tasks on one stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..constants import UID_SOURCE
from ..data.batch import Batch
from ..data.per_kind import PerKind
from ..errors import ConfigError, DataError, nearest
from ..types import State
from ..utils.pick import pick
from ..utils.running_means import RunningMeans
from .loss_means import LossMeans
from .metrics.picked_uids import PickedUids
from .scorer import Scorer
from .select_rows import select_rows
from .separate_means import SeparateMeans
from .task import Task
from .tokens import select_tokens
from .waiting_scores import WaitingScores

AVERAGES = ("model/all/micro_average", "model/all/macro_average")
"""The mean over all metrics, and the mean over the averages of tasks and datasets."""

MODEL_LOSS = "model/all/loss"
"""The mean over the losses of tasks and datasets, each counted once."""

UNNAMED_DATA = "data"
"""Stands for the dataset in variables where a batch names none."""


class _Scored(NamedTuple):
    """What takes in the scores of one task from the batches of one kind."""

    task: Task
    scorer: Scorer
    label: str
    takes_uids: bool
    prob: str
    pred: str


class _Kind(NamedTuple):
    """What takes in the batches of one kind."""

    tasks: tuple[str, ...]
    """Those with a loss."""
    pick_losses: Callable[[Batch], Sequence[Tensor]]
    losses: RunningMeans | SeparateMeans | None
    scored: tuple[_Scored, ...]
    waiting: WaitingScores
    apart: tuple[_Scored, ...]
    """What cannot wait, of batches of which the rest does."""


class ScoreTable:
    """Collects losses and scores of one stream batch by batch, without waiting for the device.

    Every task has on every dataset a loss, weighted by labelled rows, and a scorer of its own.
    """

    def __init__(self) -> None:
        self._scorers: dict[tuple[str, str], Scorer | None] = {}
        """By task and dataset, of all that have occurred."""
        self._losses = LossMeans()
        self._tasks: Mapping[str, Task] = {}
        self._kinds = PerKind(self._find_kind)
        self._waiting: dict[tuple[tuple[str, ...], tuple[str, ...]], WaitingScores] = {}
        """What waits, by the tasks whose losses come together, with the dataset of each in front."""
        self._result: dict[str, float] | None = None

    def add(self, batch: Batch, tasks: Mapping[str, Task]) -> None:
        """Take in a batch that has been run; it must hold the outputs that ``Task.eval_outputs`` names.

        :param batch: its sources and ``<task>/loss``, ``<task>/prob`` and ``<task>/pred``, on any device
        :param tasks: task name -> task, of all tasks in the batch
        :raise ConfigError: if an output is missing that a metric needs
        :raise DataError: if the batch belongs to a task that is not known
        """
        self._result = None
        if tasks is not self._tasks:
            self._take_in()
            self._tasks, self._kinds, self._waiting = tasks, PerKind(self._find_kind), {}
        kind = self._kinds.of(batch)
        if kind.waiting.add(batch):
            for scored in kind.apart:
                self._add_scores(scored, batch)
            return
        kind.waiting.take_in()
        tasks_with_loss, pick_losses, means, scores, waiting, _ = kind
        if means is not None:
            rows, size = batch.rows, batch.size
            if size is None:
                size = _count_rows(batch)
            is_whole = not (rows or batch.shares)
            means.add(pick_losses(batch), size if is_whole else _weights(batch, tasks_with_loss, size))
        for scored in scores:
            self._add_scores(scored, batch)
        waiting.begin(batch)

    def try_functions(self) -> None:
        """Check that functions of scikit-learn can score rows of the kind that was taken in.

        :raise DataError: naming the task, and the metric that cannot
        :raise ConfigError: naming the task, and a metric that does not score at all
        """
        for (task, _), scorer in self._scorers.items():
            if scorer is not None:
                try:
                    scorer.try_functions()
                except (ConfigError, DataError) as error:
                    raise _of_task(task, error) from error

    def result(self) -> dict[str, float]:
        """Fetch and return ``task/data/loss``, ``task/data/<metric>``, ``task/data/average`` and ``model/all/…``.

        A task without loss or labels has nan in their place, which goes on into the averages. Averages of metrics are
        absent if no task has a scorer. Only the first call after a batch fetches anything.
        """
        if self._result is None:
            self._take_in()
            scores: dict[str, float] = {}
            losses = self._losses.means()
            for (task, data), scorer in self._scorers.items():
                scores[f"{task}/{data}/loss"] = losses.get((task, data), math.nan)
                if scorer is not None:
                    try:
                        found = scorer.compute()
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
        self._take_in()
        return {
            "scorers": [
                {"task": task, "data": data, "scorer": None if scorer is None else scorer.state_dict()}
                for (task, data), scorer in self._scorers.items()
            ],
            "losses": self._losses.state_dict(),
        }

    def load_state_dict(self, state: dict[str, State], tasks: Mapping[str, Task]) -> None:
        """Go on from what ``state_dict`` returned.

        :param tasks: task name -> task, of all tasks in the state
        :raise ConfigError: if a task is not known, or its metrics were others then
        """
        self.__init__()  # type: ignore[misc]
        for kept in state["scorers"]:
            name = kept["task"]
            if name not in tasks:
                raise ConfigError(f"there is no task {name!r} to restore scores of{nearest(name, tasks)}")
            scorer = self._scorer(tasks[name], kept["data"])
            if (scorer is None) != (kept["scorer"] is None):
                raise ConfigError(f"task {name!r} has a scorer now or had one then, not both; it cannot be restored")
            if scorer is not None:
                scorer.load_state_dict(kept["scorer"])
        self._losses.load_state_dict(state["losses"])

    def _find_kind(self, batch: Batch) -> _Kind:
        scored: list[_Scored] = []
        for name, label in batch.tasks.items():
            if name not in self._tasks:
                raise DataError(f"there is no task {name!r}{nearest(name, self._tasks)}")
            task = self._tasks[name]
            scorer = self._scorer(task, batch.data_name_of(name) or UNNAMED_DATA)
            if scorer is not None and label is not None:
                for output in task.eval_outputs:
                    if output not in batch:
                        text = f"its metrics need {output!r}, which the batch does not hold"
                        raise ConfigError(f"task {name!r}: {text}")
                scored.append(_Scored(task, scorer, label, scorer.takes_uids, f"{name}/prob", f"{name}/pred"))
        tasks = tuple(name for name in batch.tasks if f"{name}/loss" in batch)
        data = tuple(batch.data_name_of(name) or UNNAMED_DATA for name in tasks)
        means = self._losses.of(data, tasks) if tasks else None
        together: list[_Scored] = []
        apart: list[_Scored] = []
        for each in scored:
            parts = each.scorer.split() if each.pred in batch else (Scorer(), each.scorer)
            for found, scorer in zip((together, apart), parts, strict=True):
                if scorer.metrics:
                    found.append(each._replace(scorer=scorer))
        waiting = self._find_waiting(data, tasks, means, together)
        return _Kind(tasks, pick([f"{name}/loss" for name in tasks]), means, tuple(scored), waiting, tuple(apart))

    def _find_waiting(
        self,
        data: tuple[str, ...],
        tasks: tuple[str, ...],
        means: RunningMeans | SeparateMeans | None,
        together: Sequence[_Scored],
    ) -> WaitingScores:
        """Return where batches of a kind may wait; losses of the same tasks are taken in in the order of coming."""
        waiting = WaitingScores(
            [(each.label, each.pred, partial(_update, each.task.name, each.scorer)) for each in together],
            [f"{name}/loss" for name in tasks],
            means if isinstance(means, RunningMeans) else None,
        )
        if isinstance(means, SeparateMeans):  # whose losses come in several kinds of batches
            waiting.close()
            return waiting
        before = self._waiting.setdefault((data, tasks), waiting)
        if before.names == waiting.names:
            return before
        before.close()
        waiting.close()
        return waiting

    def _take_in(self) -> None:
        for waiting in self._waiting.values():
            waiting.take_in()

    def _scorer(self, task: Task, data: str) -> Scorer | None:
        key = task.name, data
        if key not in self._scorers:
            ignored = None if task.loss is None else task.loss.ignored_label
            self._scorers[key] = None if task.scorer is None else task.scorer.fresh(task.num_classes, ignored)
        return self._scorers[key]

    @staticmethod
    def _add_scores(scored: _Scored, batch: Batch) -> None:
        task, scorer, source, takes_uids, prob_name, pred_name = scored
        label, prob, pred = batch[source], batch.get(prob_name), batch.get(pred_name)
        if not isinstance(label, Tensor):
            label = torch.as_tensor(label)
        uids = batch.get(UID_SOURCE) if takes_uids else None
        if task.tokens is not None:
            rows = batch.rows.get(task.name)
            uids = None if uids is None else _of_tokens(uids, label, rows)
            label, prob, pred = (select_tokens(value, rows) for value in (label, prob, pred))
        elif batch.rows and task.name in batch.rows:
            rows, size = batch.rows[task.name], label.shape[0]
            label, prob, pred = (select_rows(value, rows, size) for value in (label, prob, pred))
            uids = select_rows(uids, rows, size) if isinstance(uids, Tensor) else uids and PickedUids(uids, rows)
        _update(task.name, scorer, label, prob, pred, uids)


def _update(task: str, scorer: Scorer, label: Tensor, prob: Any, pred: Any, uids: Any = None) -> None:
    try:
        scorer.update(label, prob, pred, uids)
    except (ConfigError, DataError) as error:
        raise _of_task(task, error) from error


def _of_tokens(uids: Any, label: Tensor, rows: Tensor | None) -> Any:
    """Return the identifiers of the sequences of tokens, one for each token."""
    width = label.shape[1]
    tokens = torch.arange(label.shape[0] * width, device=label.device) if rows is None else rows
    rows = tokens.div(max(1, width), rounding_mode="floor")
    return uids.index_select(0, rows.to(uids.device)) if isinstance(uids, Tensor) else PickedUids(uids, rows)


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
    """Return an error of a metric as one that names the task."""
    text = f"task {task!r}: {error}"
    return ConfigError(text) if isinstance(error, ConfigError) else DataError(text)


def _weights(batch: Batch, tasks: Sequence[str], size: int) -> tuple[int, ...]:
    """Return how many labelled rows each task has in a batch, or rows that it is about."""
    rows, shares = batch.rows, batch.shares
    return tuple(
        rows[task].shape[0] if task in rows else shares[task].host.shape[0] if task in shares else size
        for task in tasks
    )


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
