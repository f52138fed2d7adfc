"""Log the numbers of every epoch."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple, get_args

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber

from ..arguments import check_names, check_word
from ..numbers import any_numbers_of, fetch_numbers, show_number, warn_of_missed_numbers
from ..words import OnUnlogged

log = logging.getLogger(__name__)

SCORE_PARTS = 3
"""A score's variable is ``task/data/metric``."""


class _Entry(NamedTuple):
    """A number to be logged: its stream, the task (and data) it is of, and what it is called there."""

    stream: str
    variable: str
    task: str
    data: str
    name: str
    value: Any


class LogVariables(AbstractHook):
    """Log the numbers of every epoch, one line per stream and task.

    A line reads ``epoch 3  valid  digit: loss 0.1234  accuracy 0.9712``. The mean is written without saying so, any
    other aggregation as ``loss/max``; a task with scores of several datasets has a line for each.

    :param variables: log these variables only; one that an epoch or a stream does not have is left out there
    :param on_unknown_type: what to do about a value that is no number: ``ignore``, ``warn``, ``error`` or ``str``,
        which logs it as text
    :raise ConfigError: for another action, and for a value that is no number where that is an error

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - LogVariables: {variables: [loss]}
    """

    def __init__(
        self, variables: Sequence[str] | None = None, on_unknown_type: OnUnlogged = "ignore", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_word(self.name, "on_unknown_type", on_unknown_type, OnUnlogged)
        self._variables = None if variables is None else check_names(self.name, "variables", variables)
        self._on_unknown_type = on_unknown_type

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the numbers that were asked for by name."""
        if self._main_loop is None or self._variables is None:
            return ()
        return any_numbers_of(self, self._variables)

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Warn of numbers that come too late."""
        warn_of_missed_numbers(self)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Log the numbers."""
        lines: dict[tuple[str, str], list[str]] = {}
        entries = list(self._entries(epoch_data))
        labels = _labels(entries)
        for entry, number in zip(entries, fetch_numbers(entry.value for entry in entries), strict=True):
            shown = self._shown(entry, number)
            if shown is not None:
                line = lines.setdefault((entry.stream, labels[entry.stream, entry.task, entry.data]), [])
                line.append(f"{entry.name} {shown}")
        stream_width = max((len(stream) for stream, _ in lines), default=0)
        label_width = max((len(label) for _, label in lines), default=0)
        for (stream, label), numbers in lines.items():
            log.info("epoch %i  %-*s  %-*s%s", epoch_id, stream_width, stream, label_width, label, "  ".join(numbers))

    def _entries(self, epoch_data: EpochData) -> Iterator[_Entry]:
        for stream, numbers in epoch_data.items():
            wanted = numbers if self._variables is None else [name for name in self._variables if name in numbers]
            for variable in wanted:
                parts = variable.split("/", SCORE_PARTS - 1)
                task = parts[0] if len(parts) > 1 else ""
                data = parts[1] if len(parts) == SCORE_PARTS else ""
                value = numbers[variable]
                several = value if isinstance(value, Mapping) else {"mean": value}
                for aggregation, number in several.items():
                    name = parts[-1] if aggregation == "mean" else f"{parts[-1]}/{aggregation}"
                    yield _Entry(stream, variable, task, data, name, number)

    def _shown(self, entry: _Entry, number: float | None) -> str | None:
        if number is not None:
            return str(int(number)) if isinstance(entry.value, Integral) else show_number(number)
        if self._on_unknown_type == "str":
            return str(entry.value)
        what = f"{entry.variable!r} of stream {entry.stream!r} is no number ({type(entry.value).__name__})"
        if self._on_unknown_type == "error":
            others = ", ".join(map(repr, get_args(OnUnlogged)[:2]))
            text = f"{self.name}: {what}; set on_unknown_type to {others} or 'str' to go on all the same"
            raise ConfigError(text, ("on_unknown_type",))
        if self._on_unknown_type == "warn":
            log.warning("%s: %s", self.name, what)
        return None


def _labels(entries: Sequence[_Entry]) -> dict[tuple[str, str, str], str]:
    """Return what stands before the numbers of each task: its name, with the data's where there are several."""
    datas: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        datas.setdefault((entry.stream, entry.task), set()).add(entry.data)
    labels = {}
    for (stream, task), found in datas.items():
        for data in found:
            label = f"{task}/{data}" if len(found) > 1 and data else task
            labels[stream, task, data] = label and f"{label}: "
    return labels
