"""Write what is predicted of every sample."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile
from os.path import sep
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, BinaryIO

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.models.prediction_rows import COLUMNS, PredictionRows, Row
from emloop_mtl.types import EpochData, EpochNumber, State
from emloop_mtl.utils.files import make_folder, sync_folder, sync_later
from emloop_mtl.utils.row_format import RowFormat

from ..arguments import check_names
from ..evaluation.evaluate import evaluated_streams
from .failure_guard import FailureGuard
from .gap import Gap
from .output_path import NUMBER, TEXT, OutputPath, check_output_path, check_writable, refuse_shared_paths

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)

FIELDS = ("stream", "epoch")
"""What a path may hold in braces."""


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
        format: str | None = None,
        on_failure: str = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._streams = None if streams is None else check_names(self.name, "streams", streams)
        self._tasks = None if tasks is None else check_names(self.name, "tasks", tasks)
        self._path = self._checked_path(path)
        self._guard = FailureGuard(self, on_failure, "predictions")
        try:
            self._format = RowFormat(RowFormat.of_file(Path(path)) if format is None else format, COLUMNS)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}", error.path) from error
        self._file: BinaryIO | None = None
        self._is_kept = False
        """Whether a checkpoint speaks of the file under way."""
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
        self._close()
        self._stream: str | None = None
        self._rows = PredictionRows(self._tasks)
        self._end = self._sum = 0

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
        for index, stream in enumerate(self._streams or ()):
            try:
                main_loop.check_stream(stream)
            except ConfigError as error:
                raise ConfigError(f"{self.name}: {error}", ("streams", index)) from error
        if main_loop.output_dir is None and not Path(self._path).is_absolute():
            text = f"{self.name}: path {self._path!r} is relative to the output folder, but there is none"
            raise ConfigError(f"{text}; set --output-dir or the main loop's output_dir, or an absolute path", ("path",))
        refuse_shared_paths(self, "path")

    def output_paths(self) -> Sequence[OutputPath]:
        """Return where the files of the streams are."""
        known = getattr(self.main_loop.dataset, "stream_names", None)
        streams = self._streams
        if streams is None and known is not None:
            streams = [stream for stream in known() if stream != self.main_loop.train_stream_name]
        found = []
        either: Sequence[str | None] = streams or [None]
        for stream in either:
            parts: list[str | Gap] = []
            if not Path(self._path).is_absolute():
                parts.append(f"{self.main_loop.output_dir or '.'}{sep}")
            for text, name, spec, conversion in Formatter().parse(self._path):
                field = "{0" + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
                parts.append(text)
                if name == "epoch":
                    parts.append(Gap(rf".*{NUMBER.pattern}.*", field.format(1)) if spec else NUMBER)
                elif name == "stream":
                    parts.append(TEXT if stream is None else field.format(stream))
            found.append(OutputPath.of(parts, self._path))
        return found

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
        path = Path(self.main_loop.output_dir or "", self._path)
        fixed = Path(*takewhile(lambda part: "{" not in part, path.parent.parts))
        check_writable(self.name, "path", fixed, path)
        self._guard.begin()
        self._is_unsure = False
        if self._stream is not None:
            self._reopen(self._stream)

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
        self._close()
        if not self._is_kept:
            assert self._stream is not None
            self._partial(self._stream).unlink(missing_ok=True)
            self._forget_epoch()

    def state_dict(self) -> dict[str, State]:
        """Return which files of the epoch are written, and how far the one under way is."""
        if self._file is not None:
            self._write(self._rows.rest())
        if self._file is not None:
            self._sync_when_saved()
        return {
            "epoch": self._epoch,
            "done": list(self._done),
            "lost": list(self._lost),
            "stream": self._stream,
            "samples": self._rows.count,
            "end": self._end,
            "sum": self._sum,
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        self._epoch, self._done, self._stream = state["epoch"], list(state["done"]), state["stream"]
        self._lost = list(state["lost"])
        self._rows = PredictionRows(self._tasks, state["samples"])
        self._end, self._sum = state["end"], state["sum"]

    # -------------------------------------------------------------------------------------------------- one file

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
        if self._guard.goes_on:
            if not self._guard.attempt(partial(self._open, path, stream), path):
                self._lose()
                return
        else:
            try:
                self._open(path, stream)
            except OSError as error:
                text = f"{self.name}: cannot write {path}: {error.strerror}"
                raise ConfigError(text, (*self.config_path, "path")) from error
        self._is_kept = False
        self._write_bytes(self._format.header)

    def _open(self, path: Path, stream: str) -> None:
        make_folder(path.parent)
        if path.is_dir():
            raise IsADirectoryError(0, "is a folder", str(path))
        self._file = self._partial(stream).open("wb")

    def _reopen(self, stream: str) -> None:
        """Go on where the checkpoint was written; a file that was finished after it counts as well."""
        path, partial = self._file_of(stream), self._partial(stream)
        for candidate in (partial, path):
            start = _beginning(candidate, self._end)
            if start is not None and zlib.crc32(start) == self._sum:
                self._file = partial.open("r+b" if candidate == partial else "w+b")
                if candidate == path:
                    self._file.write(start)
                self._file.seek(self._end)
                self._file.truncate()
                self._is_kept = True
                return
        log.warning("%s: %s cannot be completed, since what was written of it is gone", self.name, path)

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # of a full disk, which has been told of
                self._file.close()
            self._file = None

    def _finish(self) -> None:
        if self._file is not None:
            self._write(self._rows.rest())
        if self._file is not None:
            self._guarded(self._give_name)
        self._drop_file()

    def _give_name(self) -> None:
        assert self._file is not None
        assert self._stream is not None
        self._flush()()
        self._file.close()
        self._file = None
        path = self._file_of(self._stream)
        self._partial(self._stream).replace(path)
        sync_folder(path.parent)
        self._done.append(self._stream)
        self._guard.works(path)

    def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            self._write_bytes(self._format.encode(rows))

    def _write_bytes(self, data: bytes) -> None:
        assert self._file is not None
        self._guarded(partial(self._file.write, data))
        if self._file is not None:
            self._end += len(data)
            self._sum = zlib.crc32(data, self._sum)

    def _flush(self) -> Callable[[], None]:
        """Hand all rows over to the system, and return what waits until they are on disk."""
        assert self._file is not None
        self._file.flush()
        return sync_later(self._file.fileno(), self.name, self._file.name)

    def _sync_when_saved(self) -> None:
        """Have the rows flushed to disk before the checkpoint that speaks of them."""
        assert self._file is not None
        path = self._file.name

        def keep() -> None:
            sync = self._flush()

            def act() -> None:
                with self._guard.writing(path):
                    sync()

            self.main_loop.before_saved(act)
            self._is_kept = True

        self._guarded(keep)

    def _guarded(self, act: Callable[[], object]) -> None:
        """Do something with the file under way; if it fails and the training goes on, there will be no such file."""
        assert self._stream is not None
        if not self._guard.attempt(act, self._partial(self._stream)):
            self._lose()

    def _lose(self) -> None:
        """Give up the file under way."""
        assert self._stream is not None
        self._lost.append(self._stream)
        self._close()
        if not self._is_kept:
            with suppress(OSError):
                self._partial(self._stream).unlink(missing_ok=True)
        self._drop_file()

    def _is_wanted(self, stream: str) -> bool:
        return stream != self.main_loop.train_stream_name if self._streams is None else stream in self._streams

    def _file_of(self, stream: str) -> Path:
        return Path(self.main_loop.output_dir or "", self._path.format(stream=stream, epoch=self._epoch))

    def _partial(self, stream: str) -> Path:
        path = self._file_of(stream)
        return path.with_name(f".{path.name}.partial")

    def _checked_path(self, path: str) -> str:
        check_output_path(self.name, "path", path)
        try:
            parts = [(name, spec or "") for _, name, spec, _ in Formatter().parse(path) if name is not None]
            if any(re.search(r"\{|\d{3}", spec) for _, spec in parts):
                raise ValueError("a field is filled to at most 99 characters")
            fields = [name for name, _ in parts]
            unknown = [name for name in fields if name not in FIELDS]
            if not unknown:
                path.format(stream="valid", epoch=1)
        except ValueError as error:
            text = f"{self.name}: path {path!r}: {error}; it may hold {{stream}} and {{epoch}}"
            raise ConfigError(text, ("path",)) from error
        for name in unknown:
            text = f"{self.name}: path {path!r}: unknown field {name!r}{nearest(name, FIELDS)}"
            raise ConfigError(text, ("path",))
        return path


def _beginning(path: Path, size: int) -> bytes | None:
    """Return the first bytes of a file, None if it is not there or shorter."""
    try:
        with path.open("rb") as file:
            data = file.read(size)
    except OSError:
        return None
    return data if len(data) == size else None
