"""Predicting and scoring without the main loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from ..constants import ALL_STREAMS
from ..data.batch import Batch
from ..data.stream_wrapper import StreamWrapper
from ..data.task_loader import TaskLoader
from ..errors import ConfigError, DataError
from ..tasks.global_metrics import GlobalMetric, GlobalMetrics
from ..tasks.score_table import ScoreTable
from ..utils.flat_names import MODEL_AVERAGES, flatten
from .predicted_batch import PredictedBatch
from .task_prediction import TaskPrediction

if TYPE_CHECKING:
    from .abstract_task_model import AbstractTaskModel
    from .composed_model import ComposedModel


def predict(
    model: AbstractTaskModel | ComposedModel, batches: Iterable[Mapping[str, Any]]
) -> dict[str, TaskPrediction]:
    """Return what every task says about every row of the batches.

    The values of a batch travel to the host while the next one is run.
    """
    collected: dict[str, TaskPrediction] = {}
    waiting: PredictedBatch | None = None
    count = 0
    for batch, outputs in evaluate_batches(model, batches):
        predicted = PredictedBatch(batch, outputs, batch.tasks, count)
        count += predicted.size
        _collect(waiting, collected)
        waiting = predicted
    _collect(waiting, collected)
    return collected


def score(
    model: AbstractTaskModel | ComposedModel,
    data: TaskLoader | Sequence[TaskLoader] | Mapping[str, Iterable[Mapping[str, Any]]],
    global_metrics: Mapping[str, GlobalMetric] | None = None,
) -> dict[str, float]:
    """Return all scores by their flat names: those of tasks, then averages per stream, then those over all streams.

    :param data: a loader or several, whose splits name the streams, or streams of batches by name
    :param global_metrics: name -> function of all scores that returns a number
    :raise ConfigError: for a stream with the name that is reserved for all streams, or a wrong global metric
    """
    functions = GlobalMetrics(global_metrics)
    streams = _streams_of(data)
    if ALL_STREAMS in streams:
        raise ConfigError(f"a stream cannot be called {ALL_STREAMS!r}: averages over all streams stand there")
    tables: dict[str, ScoreTable] = {}
    tasks = model.tasks
    read = frozenset(name for task in tasks.values() for name in task.eval_outputs)
    for name, sources in streams.items():
        tables[name] = ScoreTable()
        for source in sources:
            for batch, outputs in evaluate_batches(model, source, read):
                batch.update(outputs)
                tables[name].add(batch, tasks)
    pages = {name: table.result() for name, table in tables.items()}
    scores = flatten({**pages, ALL_STREAMS: ScoreTable.summary(tables.values())})
    scores = {name: scores[name] for name in sorted(scores, key=_rank)}
    return {**scores, **functions.compute(scores)} if scores else {}


def _rank(name: str) -> int:
    """Return the place of a score among all, in the order in which Emmental reports them."""
    if not name.startswith(MODEL_AVERAGES):
        return 0
    stream, _, kind = name.removeprefix(MODEL_AVERAGES).rpartition("/")
    return 3 if stream == ALL_STREAMS else 1 + (kind == "loss")


def evaluate_batches(
    model: AbstractTaskModel | ComposedModel, batches: Iterable[Mapping[str, Any]], read: frozenset[str] | None = None
) -> Iterator[tuple[Batch, Mapping[str, Any]]]:
    """Yield every batch, prepared, with the model's outputs; the network's mode is left as it was found.

    :param read: names of the outputs that somebody reads beside the losses; None for all
    :raise DataError: naming the batch that cannot be used
    """
    training = {module: module.training for module in _modules_of(model)}
    stream = StreamWrapper(lambda: batches)  # tells the model what is read, as in the main loop
    stream.outputs = read
    is_loader = type(batches) is TaskLoader  # whose batches are nobody else's; a class of one's own may keep them
    try:
        for index, given in enumerate(batches):
            if not isinstance(given, Mapping):
                raise DataError(f"batch {index}: a batch is a mapping of source names, not a {type(given).__name__}")
            batch = given if isinstance(given, Batch) else Batch(given)
            batch = batch.copy() if batch is given and not is_loader else batch
            try:
                batch = batch if batch.prepared else model.prepare(batch)
                yield batch, model.run(batch, train=False, stream=stream)
            except DataError as error:
                raise error.within(f"batch {index}") from error
    finally:
        for module, mode in training.items():
            module.training = mode


def _modules_of(model: Any) -> Iterator[nn.Module]:
    """Yield the modules of a model, and of the models that it is made of."""
    if hasattr(model, "network"):
        yield from model.network.modules()
    for member in getattr(model, "members", ()):
        yield from _modules_of(member.kept)


def _collect(batch: PredictedBatch | None, collected: dict[str, TaskPrediction]) -> None:
    if batch is not None:
        uids, values = batch.read(to_keep=True)
        for task, found in values.items():
            collected.setdefault(task, TaskPrediction(task)).add(uids, found)


def _streams_of(
    data: TaskLoader | Sequence[TaskLoader] | Mapping[str, Iterable[Mapping[str, Any]]],
) -> dict[str, list[Iterable[Mapping[str, Any]]]]:
    """Return the sources of batches by the name of their stream."""
    loaders = [data] if isinstance(data, TaskLoader) else data
    if isinstance(loaders, Mapping):
        return {name: [batches] for name, batches in loaders.items()}
    streams: dict[str, list[Iterable[Mapping[str, Any]]]] = {}
    for loader in loaders:
        if not isinstance(loader, TaskLoader):
            raise DataError(
                f"score takes loaders, or batches by stream name, not a {type(loader).__name__}; "
                "write {'valid': batches}, say"
            )
        streams.setdefault(loader.split, []).append(loader)
    return streams
