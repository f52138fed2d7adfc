"""A dataset whose streams are made of loaders."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..constants import TRAIN_STREAM
from ..errors import ConfigError, nearest
from ..schedulers import AbstractTaskScheduler, RoundRobin, Sequential
from .abstract_dataset import STREAM_SUFFIX, AbstractDataset
from .stream_method import StreamMethod
from .task_loader import TaskLoader
from .task_stream import TaskStream

SETTINGS = ("scheduler", "splits")


class MultiTaskDataset(AbstractDataset):
    """A dataset that implements ``loaders()`` and has one stream per split of theirs.

    The stream ``train`` goes through its scheduler, ``RoundRobin`` if none is configured; the others take every
    batch of loader after loader. Methods ``<name>_stream`` written by hand stand beside these streams.

    :param seed: what orders derive from, 0 if nothing sets it; a loader may have a seed of its own
    :param streams: stream name -> ``scheduler`` (a task scheduler) and ``splits`` (the splits it takes, by default
        the one of its name), each optional; streams that are not named stay as they are
    :raise ConfigError: for an unknown argument or setting

    .. code-block:: yaml

        class: digits.Digits
        seed: 7
        streams:
          train: {scheduler: {class: RoundRobin, fillup: true}}
          all: {splits: [valid, test]}
    """

    _seed: int | None = None
    _settings: Mapping[str, Mapping[str, Any]] = {}
    _streams: dict[str, TaskStream] | None = None

    def __init__(
        self, seed: int | None = None, streams: Mapping[str, Mapping[str, Any]] | None = None, **unknown: Any
    ) -> None:
        super().__init__()
        if unknown:
            name = next(iter(unknown))
            known = [
                key
                for key, value in inspect.signature(type(self)).parameters.items()
                if value.kind != value.VAR_KEYWORD
            ]
            raise ConfigError(
                f"{type(self).__name__}: unknown argument {name!r}{nearest(name, {*known, 'seed', 'streams'})}", (name,)
            )
        self._seed = seed
        self._settings = {} if streams is None else streams
        for stream, settings in self._settings.items():
            _check_settings(stream, settings)

    def set_default_seed(self, seed: int) -> None:
        """Derive orders from ``seed`` unless the dataset was made with one; before a stream is first asked for."""
        if self._seed is None:
            self._seed = seed

    @abstractmethod
    def loaders(self) -> Sequence[TaskLoader]:
        """Return the loaders of all splits; called once, when a stream is first asked for."""

    @property
    def num_batches(self) -> Mapping[str, int]:
        lengths = {name: stream.num_batches for name, stream in self.task_streams.items()}
        return {name: length for name, length in lengths.items() if length is not None}

    @property
    def stream_settings(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings of streams, by the stream's name, as far as there are any."""
        return self._settings

    @property
    def task_streams(self) -> Mapping[str, TaskStream]:
        """The streams that are made of loaders, by name.

        :raise ConfigError: if the loaders or the settings of the streams are wrong
        """
        if self._streams is None:
            self._streams = self._make_streams()
        return self._streams

    def stream_names(self) -> list[str]:
        return sorted({*super().stream_names(), *self.task_streams})

    def stream(self, name: str) -> Callable[[], Any] | None:
        own = super().stream(name)
        if own is not None or name not in self.task_streams:
            return own
        return StreamMethod(self.task_streams[name])

    def __getattr__(self, name: str) -> Any:
        # Only asked for what no class defines, so that dataset.<split>_stream() works as if it were written out.
        if name.endswith(STREAM_SUFFIX) and not name.startswith("_"):
            method = self.stream(name.removesuffix(STREAM_SUFFIX))
            if method is not None:
                return method
        # Repeats the failed look-up, so that an AttributeError inside a property or loaders() keeps its own text.
        return super().__getattribute__(name)

    def _make_streams(self) -> dict[str, TaskStream]:
        splits: dict[str, list[TaskLoader]] = {}
        returned: Any = self.loaders()
        if not isinstance(returned, Iterable):
            given = "None" if returned is None else f"an object of class {type(returned).__name__}"
            raise ConfigError(f"{type(self).__name__}.loaders() returned {given}, not a list of TaskLoaders")
        loaders = list(returned)
        if not loaders:
            raise ConfigError(f"{type(self).__name__}.loaders() returned no loader")
        for loader in loaders:
            if not isinstance(loader, TaskLoader):
                given = f"an object of class {type(loader).__name__}"
                raise ConfigError(f"{type(self).__name__}.loaders() returned {given}, not a TaskLoader")
            if loader.seed is None:
                loader.seed = self._seed or 0
            splits.setdefault(loader.split, []).append(loader)
        return {name: self._make_stream(name, splits) for name in dict.fromkeys((*splits, *self._settings))}

    def _make_stream(self, name: str, splits: Mapping[str, list[TaskLoader]]) -> TaskStream:
        settings = self._settings.get(name, {})
        wanted = settings.get("splits", [name])
        chosen: list[TaskLoader] = []
        for split in [wanted] if isinstance(wanted, str) else wanted:
            if split not in splits:
                raise ConfigError(
                    f"stream {name!r}: no loader has the split {split!r}{nearest(split, splits)}; "
                    f"streams.{name}.splits names the splits it takes",
                    ("streams", name),
                )
            chosen += splits[split]
        scheduler = settings.get("scheduler")
        if scheduler is None:
            scheduler = RoundRobin() if name == TRAIN_STREAM else Sequential(every_batch=True)
        try:
            return TaskStream(chosen, scheduler, self._seed or 0)
        except ConfigError as error:
            # What it says of no argument of the scheduler is about the loaders.
            raise error.below(("streams", name, "scheduler") if error.path else ()) from error.__cause__


def _check_settings(stream: str, settings: Any) -> None:
    path = ("streams", stream)
    if not isinstance(settings, Mapping):
        raise ConfigError(f"streams.{stream}: a mapping with {' and '.join(map(repr, SETTINGS))} is needed", path)
    for key in settings:
        if key not in SETTINGS:
            raise ConfigError(f"streams.{stream}: unknown setting {key!r}{nearest(key, SETTINGS)}", (*path, key))
    scheduler = settings.get("scheduler")
    if scheduler is not None and not isinstance(scheduler, AbstractTaskScheduler):
        raise ConfigError(
            f"streams.{stream}.scheduler: a task scheduler is needed, such as {{class: RoundRobin}}, "
            f"not a {type(scheduler).__name__}",
            (*path, "scheduler"),
        )
    splits = settings.get("splits", [stream])
    if not splits or not isinstance(splits, (str, list, tuple)) or not all(isinstance(split, str) for split in splits):
        raise ConfigError(
            f"streams.{stream}.splits: a name of a split, or a list of such, is needed", (*path, "splits")
        )
