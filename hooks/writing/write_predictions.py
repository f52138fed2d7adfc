"""Write what is predicted of every sample."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.models.prediction_rows import COLUMNS, PredictionRows, Row
from emloop_mtl.types import EpochData, EpochNumber, State
from emloop_mtl.utils.row_format import Format, RowFormat

from ..arguments import check_names, check_streams
from ..evaluation.evaluate import evaluated_streams
from ..words import OnFailure
from .failure_guard import FailureGuard
from .output_path import OutputPath, check_writable, refuse_shared_paths
from .partial_file import PartialFile
from .path_pattern import PathPattern

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class WritePredictions(AbstractHook):
    """Write one row per sample and task of every evaluated stream: uid, data, task, label, pred and prob.

    A file is written under another name and gets its own when the stream is whole; an older one is replaced. Batches
    that are trained on are never written. As JSON lines, what is missing or not finite is null; in CSV a missing
    cell is empty, and several probabilities are a list in one cell. An evaluation that is resumed in its middle goes
    on with its file.

    :param streams: names of the streams to write; by default all that are evaluated, but not the one trained on
    :param tasks: names of the tasks to write; by default all
    :param path: the file, in the output folder or absolute; ``{stream}`` and ``{epoch}`` stand for the stream's name
        and the number of the epoch (in ``emloop-mtl eval`` that of the weights)
    :param format: ``jsonl`` or ``csv``; by default what the path's suffix says
    :param on_failure: what happens when a file cannot be written in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on without that file
    :raise ConfigError: for an unknown stream, task or format, a path that two streams or hooks would share, or one
        that cannot be written

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - WritePredictions: {streams: [valid], path: "predictions/{stream}_{epoch}.csv"}
    """

    def __init__(
        self,
        streams: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
        path: str = "predictions/{stream}_{epoch}.jsonl",
        format: Format | None = None,
        on_failure: OnFailure = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._streams = None if streams is None else check_names(self.name, "streams", streams)
        self._tasks = None if tasks is None else check_names(self.name, "tasks", tasks)
        self._path = PathPattern(self.name, "path", path)
        self._guard = FailureGuard(self, on_failure, "predictions")
        try:
            self._format = RowFormat(RowFormat.of_file(Path(path)) if format is None else format, COLUMNS)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}", error.path) from error
        self._file: PartialFile | None = None
        self._is_unsure = False
        self._has_warned = False
        self._forget_epoch()

    def _forget_epoch(self) -> None:
        self._epoch: int | None = None
        """The epoch under way; None before it has begun, and where its beginning was not seen."""
        self._done: list[str] = []
        self._lost: list[str] = []
        """The streams of the epoch whose file could not be written."""
        self._drop_file()

    def _drop_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._stream: str | None = None
        self._rows = PredictionRows(self._tasks)
        self._mark = 0, 0
        """Where the file under way was left that is not open."""

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check tasks, streams and path."""
        super().register_mainloop(main_loop)
        known = getattr(main_loop.model, "tasks", None)
        if not isinstance(known, Mapping):
            kind = type(main_loop.model).__name__
            raise ConfigError(f"{self.name} needs a model with 'tasks', such as MultiTaskModel; {kind} has none")
        for index, task in enumerate(self._tasks or ()):
            if task not in known:
                text = f"{self.name}: the model has no task {task!r}{nearest(task, known)}"
                raise ConfigError(text, ("tasks", index))
        check_streams(self, self._streams)
        if main_loop.output_dir is None and not Path(str(self._path)).is_absolute():
            text = f"{self.name}: path {str(self._path)!r} is relative to the output folder, but there is none"
            raise ConfigError(f"{text}; set --output-dir or the main loop's output_dir, or an absolute path", ("path",))
        refuse_shared_paths(self, "path")

    def output_paths(self) -> Sequence[OutputPath]:
        """Return where the files of the streams are."""
        known = getattr(self.main_loop.dataset, "stream_names", None)
        streams = self._streams
        if streams is None and known is not None:
            streams = [stream for stream in known() if stream != self.main_loop.train_stream_name]
        either: Sequence[str | None] = streams or [None]
        return [self._path.output_path(self.main_loop.output_dir, stream) for stream in either]

    def requires(self) -> Collection[str | EpochNumber]:
        """Return predictions and probabilities of the tasks."""
        if self._main_loop is None:
            return ()
        tasks: Iterable[str] = self._tasks or self.main_loop.model.tasks  # type: ignore[attr-defined]
        return [f"{task}/{kind}" for task in tasks for kind in ("pred", "prob")]

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Go on with the file of an evaluation that is resumed.

        :raise ConfigError: if the folder of the files cannot be written, or the disk is full
        """
        folder = self.main_loop.output_dir
        check_writable(self.name, "path", self._path.folder(folder), Path(folder or "", str(self._path)))
        self._guard.begin()
        self._is_unsure = False
        if self._stream is not None:
            file = PartialFile(self.name, self._file_of(self._stream))
            if file.go_on(self._mark):
                self._file = file
            else:
                text = "%s: %s cannot be completed, since what was written of it is gone"
                log.warning(text, self.name, file.path)

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Note the number of the epoch."""
        self._forget_epoch()
        self._epoch = epoch_id
        if train_streams and not self._has_warned:
            self._has_warned = True
            evaluated = evaluated_streams(self.main_loop).union(eval_streams)
            for stream in self._streams or ():
                if stream not in evaluated:
                    text = "%s: neither Evaluate nor main_loop.extra_streams lists %r, so training writes nothing of it"
                    log.warning(text, self.name, stream)

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Write the rows of an evaluated batch.

        :raise ConfigError: if the file cannot be written, or another stream has written it
        """
        if self.main_loop.is_training or not self._is_wanted(stream_name) or stream_name in self._lost:
            return
        if stream_name != self._stream:
            self._finish()
            self._begin(stream_name)
        if self._file is not None:
            self._write(self._rows.take(batch_data))

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Give the last file its name."""
        self._finish()
        self._forget_epoch()

    def after_training(self, success: bool) -> None:
        """Leave no half file, unless a checkpoint speaks of it."""
        if self._file is None:
            return
        self._file.give_up()
        if self._file.is_kept:
            self._mark, self._file = self._file.mark, None
        else:
            self._forget_epoch()

    def state_dict(self) -> dict[str, State]:
        """Return which files of the epoch are written, and how far the one under way is."""
        self._write(self._rows.rest())
        file = self._file
        if file is not None and self._guard.sync_when_saved(file.sync_later, file.written):
            file.is_kept = True
        elif file is not None:
            self._lose()
        end, checksum = self._mark if self._file is None else self._file.mark
        return {
            "epoch": self._epoch,
            "done": list(self._done),
            "lost": list(self._lost),
            "stream": self._stream,
            "samples": self._rows.count,
            "end": end,
            "sum": checksum,
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        self._epoch, self._done, self._stream = state["epoch"], list(state["done"]), state["stream"]
        self._lost = list(state["lost"])
        self._rows = PredictionRows(self._tasks, state["samples"])
        self._mark = state["end"], state["sum"]

    def _begin(self, stream: str) -> None:
        if self._epoch is None:
            if not self._is_unsure:
                log.warning("%s begins with the next epoch: it has not seen this one from its beginning", self.name)
                self._is_unsure = True
            return
        self._stream = stream
        path = self._file_of(stream)
        for other in self._done:
            if self._file_of(other) == path:
                text = f"{self.name}: the streams {other!r} and {stream!r} both write {path}; put {{stream}} into path"
                raise ConfigError(text, (*self.config_path, "path"))
        file = PartialFile(self.name, path)
        if self._guard.goes_on:
            if not self._guard.attempt(file.begin, path):
                self._lose()
                return
        else:
            try:
                file.begin()
            except OSError as error:
                text = f"{self.name}: cannot write {path}: {error.strerror}"
                raise ConfigError(text, (*self.config_path, "path")) from error
        self._file = file
        self._guarded(partial(file.write, self._format.header))

    def _finish(self) -> None:
        self._write(self._rows.rest())
        file = self._file
        if file is not None and self._guarded(file.finish):
            assert self._stream is not None
            self._done.append(self._stream)
            self._guard.works(file.path)
        self._drop_file()

    def _write(self, rows: Sequence[Row]) -> None:
        if self._file is not None and rows:
            self._guarded(partial(self._file.write, self._format.encode(rows)))

    def _guarded(self, act: Callable[[], object]) -> bool:
        """Do something with the file under way; if it fails and the training goes on, there will be no such file."""
        assert self._file is not None
        is_done = self._guard.attempt(act, self._file.written)
        if not is_done:
            self._lose()
        return is_done

    def _lose(self) -> None:
        """Give up the file under way."""
        assert self._stream is not None
        self._lost.append(self._stream)
        if self._file is not None:
            with suppress(OSError):
                self._file.give_up()
        self._drop_file()

    def _is_wanted(self, stream: str) -> bool:
        return stream != self.main_loop.train_stream_name if self._streams is None else stream in self._streams

    def _file_of(self, stream: str) -> Path:
        return self._path.file(self.main_loop.output_dir, stream, self._epoch)
