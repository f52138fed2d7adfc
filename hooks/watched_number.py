"""A number of the epoch that a hook watches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, get_args

from emloop_mtl.constants import ALL_STREAMS
from emloop_mtl.epoch_book import find_number
from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.types import EpochData, EpochNumber, Mode, State

from .evaluation.evaluate import evaluated_streams

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class WatchedNumber:
    """A number of every epoch, and whether less or more of it is better.

    :param hook: name of the hook that watches, for messages
    :param stream: the stream that the number is of
    :param variable: its variable, such as ``loss`` or ``digit/digits/accuracy``
    :param mode: ``min`` if less is better, ``max`` if more is
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    :raise ConfigError: for another mode
    """

    def __init__(self, hook: str, stream: str, variable: str, mode: Mode, aggregation: str | None = None) -> None:
        if mode not in get_args(Mode):
            raise ConfigError(f"{hook}: mode must be 'min' or 'max', not {mode!r}", ("mode",))
        self.number = EpochNumber(variable, stream, aggregation)
        self._hook = hook
        self._mode = mode

    def __str__(self) -> str:
        aggregation = f" ({self.number.aggregation})" if self.number.aggregation is not None else ""
        return f"{self.number.variable}{aggregation} of stream {self.number.stream}"

    @property
    def identity(self) -> dict[str, State]:
        """What tells it from other numbers in the state of a hook."""
        return {**self.number._asdict(), "mode": self._mode}

    def check_stream(self, main_loop: MainLoop) -> None:
        """Check that the stream exists; log a warning if nothing listed evaluates it.

        :raise ConfigError: naming the streams that exist
        """
        stream = self.number.stream
        if stream is None or stream == ALL_STREAMS:
            return
        try:
            main_loop.check_stream(stream)
        except ConfigError as error:
            raise ConfigError(f"{self._hook}: {error}", ("stream",)) from error
        if stream != main_loop.train_stream_name and stream not in evaluated_streams(main_loop):
            # no error: a hook of the user's may append it, or a script run it by hand
            text = "%s watches stream %r, but neither Evaluate nor main_loop.extra_streams lists it"
            log.warning(text, self._hook, stream)

    def read(self, epoch_data: EpochData) -> float | None:
        """Return the number, or None where the epoch has none or it is nan.

        :raise ConfigError: if the variable has several numbers, none of them the wanted one
        """
        value = find_number(epoch_data, self.number)
        if value is not None:
            return None if isnan(value) else value
        numbers = epoch_data.get(self.number.stream or "", {}).get(self.number.variable)
        if isinstance(numbers, Mapping):
            wanted = self.number.aggregation or "mean"
            text = f"{self._hook}: the variable {self.number.variable!r} has no aggregation {wanted!r}"
            raise ConfigError(text + nearest(wanted, numbers), ("aggregation",))
        return None

    def is_better(self, value: float, than: float) -> bool:
        """Return whether ``value`` is strictly better."""
        return value < than if self._mode == "min" else value > than
