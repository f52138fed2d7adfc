"""The streams of a training: made when asked for, wrapped, and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from .data.abstract_dataset import AbstractDataset, get_stream
from .data.batch import Batch
from .data.epoch_size import EpochSize
from .data.stream_reader import StreamReader
from .data.stream_wrapper import StreamWrapper
from .data.task_stream import TaskStream
from .errors import CheckpointError, ConfigError, DataError, TrainingTerminated
from .models.abstract_model import AbstractModel
from .types import EpochData, State, Stream, TimeProfile
from .utils.model_note import ModelNote
from .utils.shown import shown

AnyStream: TypeAlias = str | StreamWrapper | Stream
"""A stream as the main loop takes it: a name, a wrapper, or any iterable of batches."""


class Streams:
    """Hands out wrapped streams of a dataset.

    The stream that is trained on goes on from epoch to epoch; every evaluation gets a walk of its own, so that
    evaluating never moves a training.

    :param dataset: provides a stream ``<name>`` by a method ``<name>_stream()``
    :param model: prepares every batch where it is made
    :param train_stream_name: the stream that ``epoch_size`` cuts
    :param epoch_size: see ``StreamWrapper``
    :param buffer: batches to read ahead
    :param profile: where reads are timed
    :param seed: for the isolated randomness of plain generator streams
    """

    def __init__(
        self,
        dataset: Any,
        model: AbstractModel,
        train_stream_name: str,
        epoch_size: int | Mapping[str, float] | None,
        buffer: int,
        profile: TimeProfile,
        seed: int,
    ) -> None:
        self._dataset = dataset
        self._model = model
        self._train_stream_name = train_stream_name
        self._epoch_size = epoch_size
        EpochSize(epoch_size)  # finds what is wrong with it before any stream is asked for
        self._settings: dict[str, Any] = {
            "buffer_size": buffer,
            "profile": profile,
            "prepare": model.prepare,
            "seed": seed,
        }
        self._open: dict[str, StreamWrapper] = {}
        self._checked: dict[str, None] = {}
        self._checked_tasks: list[Any] | None = None
        """The tasks that the model had when it was found out whether the streams hold what they learn."""
        self._evaluated: StreamWrapper | None = None
        self._left_evaluation: State = None
        self._told: set[str | None] = set()

    def get(self, name: str) -> StreamWrapper:
        """Return the stream that is trained on under this name.

        :raise ConfigError: if the dataset has no such stream
        """
        if name not in self._open:
            self._open[name] = self._wrap(name)
        return self._open[name]

    @property
    def evaluated(self) -> StreamWrapper | None:
        """The walk of the evaluation that is under way."""
        return self._evaluated

    @property
    def checked(self) -> list[str]:
        """The names of streams that were checked, since somebody will have them run."""
        return list(self._checked)

    @contextmanager
    def evaluation(self, name: str, resumed: bool = False) -> Iterator[StreamWrapper]:
        """Provide a walk of its own through the stream ``name``, closed at the end.

        :param resumed: go on with the evaluation that was left in its middle, if one was
        """
        stream = self._wrap(name)
        left, self._left_evaluation = self._left_evaluation, None
        if resumed and left is not None:
            stream.load_state_dict(left)
        self._evaluated = stream
        try:
            with stream:
                yield stream
        except TrainingTerminated:
            self._left_evaluation = stream.state_dict()
            raise
        finally:
            self._evaluated = None
            stream.close()

    def adopt(self, streams: Iterable[AnyStream], base_name: str, taken: Mapping[str, Any]) -> dict[str, StreamWrapper]:
        """Return streams given by name, as wrappers or as plain iterables, by their names.

        :param base_name: unnamed streams are called ``unnamed_<base_name>_<number>``
        :param taken: streams whose names are taken
        :raise ConfigError: if two streams have one name
        """
        adopted: dict[str, StreamWrapper] = {}
        unnamed = 0
        for given in streams:
            if isinstance(given, str):
                stream = self._wrap(given)
            elif isinstance(given, StreamWrapper):
                stream = given
                stream.set_default_prepare(self._model.prepare)
            else:
                stream = StreamWrapper(_returning(given), **self._settings)
            name = stream.name
            if name is None:
                name = stream.name = f"unnamed_{base_name}_{unnamed}"
                unnamed += 1
            if name in adopted or name in taken:
                raise ConfigError(f"two streams of one epoch are named {name!r}")
            adopted[name] = stream
        return adopted

    def info(self, name: str) -> TaskStream | None:
        """Return loaders, sources and lengths of a stream, None where a stream does not tell them.

        :raise ConfigError: if the dataset has no such stream
        """
        tell = getattr(get_stream(self._dataset, name), "info", None)
        told = tell() if callable(tell) else None
        return told if isinstance(told, TaskStream) else None

    def first_batches(self, name: str) -> Iterator[Batch]:
        """Yield what comes first of a stream, with something of each loader, read for this alone and not prepared.

        :raise DataError: naming stream and loader, for samples that make no batch
        """
        provide = get_stream(self._dataset, name)
        yield from StreamReader(provide, name, None, None, self._settings["seed"]).first_batches()

    def check(self, name: str) -> None:
        """Check that a stream exists and, as far as it tells beforehand, holds all that the model needs.

        :raise ConfigError: naming stream, loader, task and source
        """
        for probe in self._probes(name):
            where = f"stream {name!r}, loader {probe.data_name!r}"
            try:
                self._model.check_sources(probe)
            except ConfigError as error:
                path = ("model", *error.path) if error.path else ()
                raise ConfigError(f"{where}: {error}", path) from error
        self._checked[name] = None

    def check_tasks(self) -> None:
        """Check that the streams hold what the model is to learn; all of them must tell their sources beforehand.

        :raise ConfigError: naming what never occurs, or stream, loader and row of one that is known to be of no use
        """
        self._checked_tasks = self._tasks()
        try:
            self._model.check_tasks([probe for name in self._names() for probe in self._probes(name)])
        except ConfigError as error:
            raise error.below(("model",)) from error.__cause__
        for name in self._names():
            info = self.info(name)
            for loader in () if info is None else info.loaders:
                try:
                    self._model.check_loader(loader)
                except DataError as error:
                    note = ModelNote.on(error)
                    path = () if note is None else ("model", *note.paths[0])
                    raise ConfigError(f"stream {name!r}, loader {loader.name!r}: {error}", path) from error

    def check_new_tasks(self) -> None:
        """Check again what ``check_tasks`` does, if that was checked and the model has got other tasks since then.

        :raise ConfigError: as ``check_tasks`` does
        """
        known = self._checked_tasks
        if known is not None and any(all(task is not other for other in known) for task in self._tasks()):
            self.check_tasks()

    def _tasks(self) -> list[Any]:
        tasks = getattr(self._model, "tasks", None)
        return list(tasks.values()) if isinstance(tasks, Mapping) else []

    def _names(self) -> Sequence[str]:
        return self._dataset.stream_names() if isinstance(self._dataset, AbstractDataset) else [self._train_stream_name]

    def _probes(self, name: str) -> list[Batch]:
        """Return a batch without values for every loader of a stream that tells its sources."""
        info = self.info(name)
        if info is None:
            return []
        return [
            Batch(
                dict.fromkeys([*loader.sources, *info.added_sources]),
                tasks=loader.tasks,
                data_name=loader.name,
                split=loader.split,
            )
            for loader in info.loaders
            if loader.sources is not None
        ]

    def known_sources(self) -> set[str] | None:
        """Return the sources of all streams, None if some stream does not tell its sources beforehand."""
        sources: set[str] = set()
        for name in self._names():
            info = self.info(name)
            if info is None or info.sources is None:
                return None
            sources.update(info.sources)
        return sources

    def after_epoch(self, epoch_data: EpochData) -> None:
        """Let the task schedulers of streams that are trained on learn from an epoch.

        :raise ConfigError: if one cannot
        """
        for name, stream in self._open.items():
            try:
                stream.after_epoch(epoch_data)
            except ConfigError as error:
                raise error.below(("dataset", "streams", name, "scheduler")) from error.__cause__

    def state_dict(self) -> dict[str, State]:
        """Return where the train stream and an evaluation under way stand."""
        return {
            "train": self.get(self._train_stream_name).state_dict(),
            "evaluated": self._left_evaluation if self._evaluated is None else self._evaluated.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Make the train stream, and the next evaluation, go on where they stood.

        :raise CheckpointError: naming the stream that cannot
        """
        if type(state) is not dict or state.keys() != {"train", "evaluated"}:
            raise CheckpointError(f"no streams have written {shown(state)}")
        self.close()
        self._open.clear()
        self.get(self._train_stream_name).load_state_dict(state["train"])
        left = state["evaluated"]
        if left is not None:
            name = left.get("name") if type(left) is dict else None
            if type(name) is not str:
                raise CheckpointError(f"no evaluation has written {shown(left)}")
            # Now rather than when it is its turn, which may be after an epoch of training.
            self._wrap(name).load_state_dict(left)
        self._left_evaluation = left

    def close(self) -> None:
        """Stop reading ahead; a training that is run once more goes on after what was consumed."""
        for stream in self._open.values():
            stream.close()

    def _wrap(self, name: str) -> StreamWrapper:
        epoch_size = self._epoch_size if name == self._train_stream_name else None
        stream = StreamWrapper(get_stream(self._dataset, name), epoch_size=epoch_size, name=name, **self._settings)
        stream.told = self._told
        return stream


def _returning(batches: Stream) -> Callable[[], Stream]:
    return lambda: batches
