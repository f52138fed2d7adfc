"""Writes what the weights of a run predict."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ..abstract_hook import AbstractHook
from ..config.config import Config
from ..config.create import create_training
from ..config.evaluation import evaluation_config
from ..data.batch import Batch
from ..errors import ConfigError, nearest
from ..models.prediction_rows import COLUMNS, PredictionRows
from ..types import EpochData, EpochNumber
from ..utils.row_format import RowFormat
from .building import building
from .evaluating import describe_weights, give_weights, open_evaluated, run_stream
from .row_sink import RowSink

log = logging.getLogger(__name__)


def predict_run(
    run_dir: Path,
    stream: str,
    overrides: Sequence[str],
    tag: str | None,
    tasks: Sequence[str],
    output: Path | None,
    format_name: str | None,
    trust: bool,
) -> None:
    """Write the rows of a stream, predicted with the weights of a run.

    :param tasks: names of the tasks to tell of; none for all
    :param output: the file; None for stdout
    :param format_name: by default what the file's suffix says
    """
    config, checkpoint, options = open_evaluated(run_dir, overrides, tag, trust)
    sink = RowSink(None if output == Path("-") else output)
    format_name = format_name or RowFormat.of_file(sink.path or Path("stdout"))
    evaluated = _without_hooks(config, stream, ["ShowProgress"] if sink.leaves_stderr else [])
    with sink, redirect_stdout(sys.stderr):  # what the run's own code prints must not stand between the rows
        writer = _WriteRows(sink, RowFormat(format_name, COLUMNS), tasks)
        with building(evaluated):
            training = create_training(evaluated, more_hooks=[writer], **options)
        _check_tasks(training.model, tasks)
        give_weights(training, checkpoint)
        run_stream(training, stream, checkpoint)
    text = f"{writer.written} rows for {writer.samples} samples of stream {stream!r}"
    log.info("%s, predicted by %s", text, run_dir if checkpoint is None else describe_weights(checkpoint))
    if left := (evaluated.data.get("main_loop") or {}).get("fixed_batch_size"):
        log.warning("batches of other than %i samples are left out; main_loop.fixed_batch_size=null lets all in", left)


class _WriteRows(AbstractHook):
    """Write the rows of every batch as soon as they are on the host."""

    def __init__(self, sink: RowSink, row_format: RowFormat, tasks: Collection[str]) -> None:
        super().__init__()
        self._sink = sink
        self._format = row_format
        self._tasks = tasks
        self._rows = PredictionRows(tasks or None)
        self._carried: set[str] = set()
        self.written = 0

    @property
    def samples(self) -> int:
        return self._rows.count

    def requires(self) -> Collection[str | EpochNumber]:
        tasks = self._tasks or self.main_loop.model.tasks  # type: ignore[attr-defined]
        return [f"{task}/{kind}" for task in tasks for kind in ("pred", "prob")]

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        return ()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        self._sink.write(self._format.header)

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._carried.update(batch_data.tasks)
        self._write(self._rows.take(batch_data))

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self._write(self._rows.rest())
        for task in self._tasks:
            if task not in self._carried:
                log.warning("no batch carries the task %r", task)

    def _write(self, rows: Sequence[dict[str, object]]) -> None:
        if rows:
            self._sink.write(self._format.encode(rows))
            self.written += len(rows)


def _check_tasks(model: Any, tasks: Sequence[str]) -> None:
    known = getattr(model, "tasks", None)
    if not isinstance(known, Mapping):
        kind = type(model).__name__
        raise ConfigError(f"predict needs a model with 'tasks', such as MultiTaskModel; {kind} has none")
    for task in tasks:
        if task not in known:
            raise ConfigError(f"--task: the model has no task {task!r}{nearest(task, known)}")


def _without_hooks(config: Config, stream: str, instead: list[str]) -> Config:
    """Return the config with which a stream is predicted.

    :param instead: the hooks that act
    """
    with config.located():
        evaluated = evaluation_config(config, stream)
    positions = {path: where for path, where in evaluated.positions.items() if path[:1] != ("hooks",)}
    return evaluated.replaced({**evaluated.data, "hooks": list(instead)}, positions)
