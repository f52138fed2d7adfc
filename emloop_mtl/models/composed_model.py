"""The base of models that are made of trained ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..data.batch import Batch
from ..data.stream_wrapper import StreamWrapper
from ..errors import ConfigError, KeyPath
from ..tasks.task import Task
from ..utils.shown import shown
from .abstract_model import AbstractModel
from .evaluation import predict, score
from .member import Member

if TYPE_CHECKING:
    from ..data.task_loader import TaskLoader
    from ..tasks.global_metrics import GlobalMetric
    from .task_prediction import TaskPrediction


class ComposedModel(AbstractModel):
    """The base of models that are made of trained ones: they evaluate and predict, and cannot be trained.

    :param models: the models, or their runs in the forms that ``open_run`` takes
    :param models_root: a folder that the paths in ``models`` are below; without ``models`` all folders in it are runs
    :param eager_loading: whether the models of runs are all kept. Else each is read from its run when a batch needs it
        and dropped afterwards: no more than one takes memory, and every batch waits until all have been read
    :param device: the device of the models of runs; by default what their configs say
    :param open_run: returns the model of a run, like the function ``open_run``; handed over by the engine
    :param name: what it is called
    :raise ConfigError: if there is no model, or one of the runs cannot be opened
    """

    can_be_trained: ClassVar[bool] = False

    def __init__(
        self,
        models: Sequence[str | Path | AbstractModel] | None = None,
        models_root: str | Path | None = None,
        eager_loading: bool = True,
        device: str | None = None,
        open_run: Callable[..., Any] | None = None,
        name: str = "model",
    ) -> None:
        self.name = name
        self.members = [
            _member(given, path, eager_loading, device, open_run) for given, path in _listed(models, models_root)
        ]
        """The models that it is made of, in their order."""
        self._asked: dict[tuple[str | None, frozenset[str]], StreamWrapper] = {}

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name, without their modules.

        :raise AttributeError: if the models have none
        """
        tasks = self._find_tasks()
        if tasks is None:
            raise AttributeError(f"the models of this {type(self).__name__} have no tasks")
        return tasks

    @property
    def label_names(self) -> Collection[str]:
        """The label sources of all models."""
        return frozenset().union(*(member.label_names for member in self.members))

    def required_sources(self, batch: Batch) -> Collection[str]:
        """Return the sources that the models need of this batch, but for what other models give."""
        try:
            return self._required_sources(batch)
        except ConfigError as error:
            raise error.below(("model",)) from error

    def run(self, batch: Batch, train: bool = False, stream: StreamWrapper | None = None) -> dict[str, Any]:
        """Run a batch through the models and return the outputs.

        :param batch: the batch; where it was prepared, it gets the tasks and the labelled rows that the models find
        :param train: must be False
        :param stream: its stream; ``stream.outputs`` names the outputs that somebody reads
        :raise ConfigError: if it is to be trained on
        """
        if train:
            text = f"{type(self).__name__} is made of trained models and cannot be trained itself; evaluate it"
            raise ConfigError(text, ("model", "class"))
        if not isinstance(batch, Batch) or not batch.prepared:
            batch = self.prepare(batch.copy() if isinstance(batch, Batch) else Batch(batch))
        try:
            return self._run(batch, stream)
        except ConfigError as error:
            raise error.below(("model",)) from error

    def save(self, name_suffix: str) -> str:
        """Refuse, since there is nothing to save.

        :raise ConfigError: always
        """
        raise ConfigError(f"{type(self).__name__} has nothing to save: its models lie in their runs")

    def predict(self, batches: Iterable[Mapping[str, Any]]) -> dict[str, TaskPrediction]:
        """Return what every task says about every row, as ``MultiTaskModel.predict`` does.

        :param batches: a loader, or any iterable of batches
        """
        return predict(self, batches)

    def score(
        self,
        data: TaskLoader | Sequence[TaskLoader] | Mapping[str, Iterable[Mapping[str, Any]]],
        global_metrics: Mapping[str, GlobalMetric] | None = None,
    ) -> dict[str, float]:
        """Return all scores by their flat names, as ``MultiTaskModel.score`` does.

        :param data: a loader or several, whose splits name the streams, or streams of batches by name
        :param global_metrics: name -> function that gets all scores by these names and returns a number
        """
        return score(self, data, global_metrics)

    @abstractmethod
    def _find_tasks(self) -> Mapping[str, Task] | None:
        """Return the tasks that can be scored; None if the models have none."""

    @abstractmethod
    def _required_sources(self, batch: Batch) -> Collection[str]:
        """Return what ``required_sources`` does; paths of errors are below the model."""

    @abstractmethod
    def _run(self, batch: Batch, stream: StreamWrapper | None) -> dict[str, Any]:
        """Return the outputs of a batch that carries what it came with."""

    def _asking(self, stream: StreamWrapper | None, more: Collection[str]) -> StreamWrapper | None:
        """Return a stream that tells models to give what somebody reads and ``more``; None if that is everything."""
        if stream is None or stream.outputs is None:
            return None
        key = stream.name, stream.outputs.union(more)
        if key not in self._asked:
            self._asked[key] = asked = StreamWrapper(lambda: (), name=stream.name)
            asked.outputs = key[1]
        return self._asked[key]


def fresh(batch: Batch) -> Batch:
    """Return a copy of a batch as if nobody had prepared it."""
    twin = batch.copy()
    twin.prepared, twin.kind, twin.stacked = False, None, {}
    return twin


def adopt(batch: Batch, ran: Batch, tasks: Collection[str]) -> None:
    """Let a batch know what a model has found out about some of its tasks: labels, and the rows that have them.

    :param ran: the same batch as the model has prepared it
    :param tasks: names of the tasks
    """
    for name in tasks:
        if name in ran.tasks:
            batch.tasks[name] = label = ran.tasks[name]
            if label is not None and label in ran:
                batch[label] = ran[label]
            if name in ran.rows:
                batch.rows[name] = ran.rows[name]
            if name in ran.shares:
                batch.shares[name] = ran.shares[name]
            if name in ran.masks:
                batch.masks = {**batch.masks, name: ran.masks[name]}


def _listed(models: object, models_root: str | Path | None) -> list[tuple[Any, KeyPath]]:
    """Return the models and runs that are given, each with its place below the section of the model."""
    root = None if models_root is None else Path(models_root)
    if models is None:
        if root is None:
            raise ConfigError("set 'models' to the folders of runs, or 'models_root' to a folder that holds them")
        if not root.is_dir():
            raise ConfigError(
                f"{root}: {'is a file, no folder' if root.exists() else 'no such folder'}", ("models_root",)
            )
        runs = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not runs:
            raise ConfigError(f"{root}: there is no run in it", ("models_root",))
        return [(path, ("models_root",)) for path in runs]
    if isinstance(models, str | Path) or not isinstance(models, Sequence):
        raise ConfigError(f"expected a list of models, got {models!r}", ("models",))
    if not models:
        raise ConfigError("the list is empty; at least one model is needed", ("models",))
    return [
        (root / given if root is not None and isinstance(given, str | Path) else given, ("models", index))
        for index, given in enumerate(models)
    ]


def _member(given: Any, path: KeyPath, keep: bool, device: str | None, open_run: Callable[..., Any] | None) -> Member:
    if not isinstance(given, str | Path):
        if not isinstance(given, AbstractModel):
            raise ConfigError(f"expected the folder of a run, or a model, got {shown(given)}", path)
        return Member(f"{path[-1]} ({type(given).__name__})", path, lambda: given, keep=True)
    if open_run is None:
        text = f"{str(given)!r} is a path, and there is nothing that could open it here"
        raise ConfigError(f"{text}; give open_run, or what open_run({str(given)!r}) returns", path)
    build = partial(open_run, given) if device is None else partial(open_run, given, device=device)
    return Member(repr(str(given)), path, build, keep)
