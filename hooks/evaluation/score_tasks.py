"""Score every task on every dataset."""

from __future__ import annotations

import copy
import logging
from collections import ChainMap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.constants import ALL_STREAMS
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.global_metrics import GlobalMetrics
from emloop_mtl.tasks.metrics import CustomMetric
from emloop_mtl.tasks.score_table import AVERAGES, MODEL_LOSS, ScoreTable
from emloop_mtl.tasks.task import Task
from emloop_mtl.types import EpochData, EpochNumber, State
from emloop_mtl.utils.flat_names import flatten

from ..arguments import check_names, check_streams

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.data.task_loader import TaskLoader
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class ScoreTasks(AbstractHook):
    """Compute the losses and metrics of every task, and their averages.

    For each stream it writes ``<task>/<data>/<metric>``, their mean ``<task>/<data>/average``, ``<task>/<data>/loss``,
    and over all tasks and datasets ``model/all/micro_average`` (of metrics), ``model/all/macro_average`` (of averages)
    and ``model/all/loss``. The averages over all evaluated streams stand under the stream name ``all``. While a
    stream is trained on only its losses are taken, from the batches as they are trained on.

    A global metric is a number of all scores together. After an epoch that evaluates a stream, its function gets all
    that this hook writes, by flat names such as ``digit/digits/valid/accuracy`` and ``model/all/all/loss``. The number
    is written under the stream name ``all`` and its own name, and is called just that in files and services. In an
    epoch without a stream that the function reads there is no such number.

    :param streams: names of the streams to score; by default all
    :param train: score batches that are trained on as well, which computes probabilities in training
    :param global_metrics: name -> function of all scores that returns a number, in YAML by its dotted path; it gets the
        numbers of the functions before it, too
    :raise ConfigError: if the model has no tasks, or a stream does not exist

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ScoreTasks
    """

    def __init__(
        self,
        streams: Sequence[str] | None = None,
        train: bool = False,
        global_metrics: Mapping[str, Callable[[dict[str, float]], Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._global_metrics = GlobalMetrics(global_metrics)
        self._streams = None if streams is None else check_names(self.name, "streams", streams)
        self._train = train
        self._tasks: Mapping[str, Task] = {}
        self._known_tasks: Mapping[str, Task] = {}
        """The tasks, and behind them those at the beginning: one may be removed while there are scores of it."""
        self._trained_tasks: Mapping[str, Task] = {}
        self._train_streams: list[str] = []
        self._tables: dict[str, ScoreTable] = {}
        self._takers: dict[str, tuple[Callable[[Batch, Mapping[str, Task]], None], Mapping[str, Task]]] = {}
        """What takes in the batches of each stream, and the tasks that are scored."""
        self._told: set[str] = set()
        """Global metrics of which a warning was given."""

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the tasks and check the streams."""
        super().register_mainloop(main_loop)
        tasks = getattr(main_loop.model, "tasks", None)
        if not isinstance(tasks, Mapping):
            kind = type(main_loop.model).__name__
            raise ConfigError(f"{self.name} needs a model with 'tasks', such as MultiTaskModel; {kind} has none")
        self._tasks, self._known_tasks = tasks, ChainMap(tasks, dict(tasks))  # type: ignore[arg-type]
        check_streams(self, self._streams)
        if self._train and self._streams is not None and main_loop.train_stream_name not in self._streams:
            text = f"train: true scores {main_loop.train_stream_name!r}, which streams does not list"
            raise ConfigError(f"{self.name}: {text}", ("train",))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the tasks' losses and what their metrics read."""
        return {*self._losses(), *(name for task in self._tasks.values() for name in task.eval_outputs)}

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        """Return the tasks' losses; what metrics read only with ``train``."""
        return self.requires() if self._train else self._losses()

    def provides(self) -> Collection[str | EpochNumber] | None:
        """Return the numbers of all streams if their loaders, tasks and metrics are known beforehand."""
        metrics = [metric for task in self._tasks.values() for metric in _metrics(task)]
        if any(isinstance(metric, CustomMetric) or not metric.names_are_known for metric in metrics):
            return None  # it may report other names than its own
        streams = self._all_streams()
        if streams is None:
            return None
        numbers: list[EpochNumber] = []
        for stream in streams:
            variables = self._variables(stream)
            if variables is None:
                return None
            numbers += [EpochNumber(variable, stream) for variable in variables]
        averages = {number.variable for number in numbers} & {*AVERAGES, MODEL_LOSS}
        return [*numbers, *(EpochNumber(variable, ALL_STREAMS) for variable in (*averages, *self._global_metrics))]

    def try_batch(self, stream_name: str, batch_data: Batch, train: bool) -> None:
        """Score a batch by itself, as far as a part of the rows tells what the metrics say of all."""
        if (self._train or not train) and (self._streams is None or stream_name in self._streams):
            table = ScoreTable()
            table.add(batch_data, self._known_tasks)
            table.try_functions()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Begin anew, and note which streams are trained on."""
        self._begin(train_streams)

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Take in a batch."""
        try:
            add, tasks = self._takers[stream_name]
        except KeyError:
            if self._streams is not None and stream_name not in self._streams:
                return
            table = self._tables.setdefault(stream_name, ScoreTable())
            add, tasks = self._takers[stream_name] = table.add, self._scored_tasks(stream_name)
        try:
            add(batch_data, tasks)
        except DataError as error:
            raise error.within(f"{self.name}: stream {stream_name!r}") from error

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Write the scores."""
        pages = {stream: table.result() for stream, table in self._tables.items()}
        evaluated = [table for stream, table in self._tables.items() if stream not in self._train_streams]
        if evaluated:
            pages[ALL_STREAMS] = ScoreTable.summary(evaluated)
        for stream, scores in pages.items():
            epoch_data.setdefault(stream, {}).update(scores)
        self._tables, self._takers = {}, {}
        if evaluated and self._global_metrics:
            epoch_data[ALL_STREAMS].update(self._compute_global_metrics(pages))

    def state_dict(self) -> dict[str, State]:
        """Return what has been taken in of the epoch under way."""
        tables = {stream: table.state_dict() for stream, table in self._tables.items()}
        return {"train_streams": list(self._train_streams), "tables": tables}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        self._begin(state["train_streams"])
        for stream, table in state["tables"].items():
            self._tables[stream] = ScoreTable()
            self._tables[stream].load_state_dict(table, self._scored_tasks(stream))

    def _begin(self, train_streams: Sequence[str]) -> None:
        self._train_streams = list(train_streams)
        self._tables, self._takers = {}, {}
        self._trained_tasks = self._known_tasks if self._train else _Unscored(self._known_tasks)

    def _scored_tasks(self, stream: str) -> Mapping[str, Task]:
        return self._trained_tasks if stream in self._train_streams else self._known_tasks

    def _all_streams(self) -> Sequence[str] | None:
        """Return the streams that are scored in some epoch, or can be; None if they are not known."""
        if self._streams is not None:
            return self._streams
        names: Callable[[], Sequence[str]] | None = getattr(self.main_loop.dataset, "stream_names", None)
        return None if names is None else names()

    def _compute_global_metrics(self, pages: EpochData) -> dict[str, float]:
        absent = set(self._all_streams() or ()) - pages.keys()
        numbers = self._global_metrics.compute(flatten(pages), absent, () if self._train else self._train_streams)
        for name in self._global_metrics:
            if name not in numbers and name not in self._told:
                text = "%s: global metric %r has no number while a stream that it reads is not evaluated (%s)"
                log.warning(text, self.name, name, ", ".join(sorted(absent)))
                self._told.add(name)
        return numbers

    def _losses(self) -> set[str]:
        return {f"{name}/loss" for name, task in self._tasks.items() if task.loss is not None}

    def _variables(self, stream: str) -> list[str] | None:
        info = self.main_loop.stream_info(stream)
        if info is None:
            return None
        data_names: dict[str, list[str]] = {}
        for loader in info.loaders:
            tasks = loader.tasks or self._guessed_tasks(loader)
            if not tasks:
                return None
            for task in tasks:
                names = data_names.setdefault(task, []) if task in self._tasks else []
                if (name := info.data_name(loader, task)) not in names:
                    names.append(name)
        # the train stream's metrics of the zeroth epoch are no numbers to wait for
        only_losses = stream == self.main_loop.train_stream_name and not self._train
        return ScoreTable.variables(_Unscored(self._tasks) if only_losses else self._tasks, data_names)

    def _guessed_tasks(self, loader: TaskLoader) -> Collection[str]:
        """Return the tasks that the model takes the batches of a loader to carry; none if that is not known."""
        guess = getattr(self.main_loop.model, "tasks_of", None)
        return () if guess is None or loader.sources is None else guess(dict.fromkeys(loader.sources))


def _metrics(task: Task) -> Collection[Any]:
    return () if task.scorer is None else task.scorer.metrics


class _Unscored(Mapping[str, Task]):
    """Tasks without their scorers; there may come more."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks

    def __getitem__(self, name: str) -> Task:
        twin = copy.copy(self._tasks[name])
        twin.scorer = None
        return twin

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)
