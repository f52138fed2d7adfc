"""Compute means and other statistics of batch variables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data.per_kind import PerKind
from emloop_mtl.errors import ConfigError, DataError, nearest
from emloop_mtl.types import EpochData, EpochNumber, State

from ..arguments import check_names, check_streams
from .batch_variable import holds
from .statistic import AGGREGATIONS, Statistic

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


class _Tap(NamedTuple):
    """What takes a variable from the batches of one kind."""

    variable: str
    task: str | None
    """The task that it is the loss of."""
    means: Sequence[Callable[[tuple[Tensor], int], None]]
    """What adds a single number to the mean."""
    others: Sequence[Statistic]


class ComputeStats(AbstractHook):
    """Compute statistics of sources and outputs over each epoch, stream by stream.

    A variable with one value per batch, a loss for example, is averaged with the number of samples as weight,
    ``<task>/loss`` with the number of the task's labelled rows or tokens; other aggregations run over the values of the
    batches. A variable with values per sample is aggregated over all of them. The numbers are written to
    ``epoch_data[stream][variable][aggregation]``. Variables ``<task>/…`` are computed from the batches that carry
    the task.

    :param variables: names of variables, or mappings of a name to its aggregations; without these ``mean`` is
        computed. Aggregations are numpy's functions that make one number of an array (``max``, ``median``, ``std``,
        ``nanmean``, …), ``nanfraction`` and ``nancount``
    :param streams: names of the streams to do so for; by default all
    :raise ConfigError: for an unknown aggregation or stream

    .. code-block:: yaml

        hooks:
          - ComputeStats: {variables: [loss, {loss: [min, max]}]}
    """

    def __init__(
        self,
        variables: Sequence[str | Mapping[str, Any]],
        streams: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._variables = self._read(variables)
        self._streams = None if streams is None else check_names(self.name, "streams", streams)
        self._forget()

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the streams."""
        super().register_mainloop(main_loop)
        check_streams(self, self._streams)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the variables."""
        return tuple(self._variables)

    def provides(self) -> Collection[str | EpochNumber]:
        """Return the numbers of all streams."""
        streams: Sequence[str | None] = self._streams or [None]
        return [
            EpochNumber(variable, stream, aggregation)
            for variable, aggregations in self._variables.items()
            for aggregation in aggregations
            for stream in streams
        ]

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Begin anew."""
        self._forget()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Take the variables of a batch."""
        kinds = self._kinds.get(stream_name)
        if kinds is None:
            if self._streams is not None and stream_name not in self._streams:
                return
            kinds = self._kinds[stream_name] = PerKind(partial(self._find_taps, stream_name))
        for tap in kinds.of(batch_data):
            variable, task, means, others = tap
            value = batch_data[variable]
            if not isinstance(value, Tensor) or value.dim() or value.is_complex():
                self._take(stream_name, tap, batch_data)
                continue
            rows = batch_data.rows
            weight = len(rows[task]) if rows and task in rows else batch_data.size
            if weight:
                for add in means:
                    add((value,), weight)
                for statistic in others:
                    statistic.add(value.detach(), weight)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Write the numbers."""
        for stream, variables in self._statistics.items():
            numbers = epoch_data.setdefault(stream, {})
            for variable, statistics in variables.items():
                numbers[variable] = {name: statistic.result() for name, statistic in statistics.items()}
        self._forget()

    def state_dict(self) -> dict[str, State]:
        """Return what has been taken of the epoch under way."""
        return {
            stream: {
                variable: {name: statistic.state_dict() for name, statistic in statistics.items()}
                for variable, statistics in variables.items()
            }
            for stream, variables in self._statistics.items()
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        self._forget()
        for stream, variables in state.items():
            for variable, statistics in variables.items():
                for name in statistics.keys() & self._variables.get(variable, ()):
                    self._of(stream, variable)[name].load_state_dict(statistics[name])

    def _forget(self) -> None:
        self._statistics: dict[str, dict[str, dict[str, Statistic]]] = {}
        self._kinds: dict[str, PerKind[list[_Tap]]] = {}

    def _of(self, stream: str, variable: str) -> dict[str, Statistic]:
        variables = self._statistics.setdefault(stream, {})
        if variable not in variables:
            variables[variable] = {name: Statistic(name) for name in self._variables[variable]}
        return variables[variable]

    def _find_taps(self, stream: str, batch: Batch) -> list[_Tap]:
        taps = []
        for variable in self._variables:
            if holds(self, variable, stream, batch):
                statistics = self._of(stream, variable).values()
                task = variable.removesuffix("/loss")
                means = [statistic.means.add for statistic in statistics if statistic.means is not None]
                others = [statistic for statistic in statistics if statistic.means is None]
                taps.append(_Tap(variable, task if task != variable else None, means, others))
        return taps

    def _take(self, stream: str, tap: _Tap, batch: Batch) -> None:
        try:
            values = _as_tensor(batch[tap.variable])
        except (TypeError, ValueError, RuntimeError) as error:
            text = f"the variable {tap.variable!r} of stream {stream!r} cannot be aggregated: {error}"
            raise DataError(f"{self.name}: {text}") from error
        weight = len(batch.rows[tap.task]) if tap.task in batch.rows else batch.size or 0
        if values.numel() == 0 or (values.dim() == 0 and weight == 0):
            return
        for statistic in self._of(stream, tap.variable).values():
            statistic.add(values, weight)

    def _read(self, variables: Any) -> dict[str, list[str]]:
        if isinstance(variables, str | Mapping) or not isinstance(variables, Iterable):
            raise ConfigError(f"{self.name}: variables must be a list, not {variables!r}", ("variables",))
        wanted: dict[str, list[str]] = {}
        for index, entry in enumerate(variables):
            if not isinstance(entry, str | Mapping):
                text = f"variables must be names or mappings of a name to its aggregations, not {entry!r}"
                raise ConfigError(f"{self.name}: {text}", ("variables", index))
            for variable, names in ({entry: ["mean"]} if isinstance(entry, str) else entry).items():
                known = wanted.setdefault(variable, [])
                for name in [names] if isinstance(names, str) else names or ["mean"]:
                    if name not in AGGREGATIONS:
                        text = f"unknown aggregation {name!r} of {variable!r}{nearest(name, AGGREGATIONS)}"
                        raise ConfigError(f"{self.name}: {text}", ("variables", index))
                    if name not in known:
                        known.append(name)
        if not wanted:
            raise ConfigError(f"{self.name}: variables must name at least one variable", ("variables",))
        return wanted


def _as_tensor(value: Any) -> Tensor:
    """Return numbers as a tensor, where they are.

    :raise TypeError: if they are no real numbers; also ValueError or RuntimeError
    """
    if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
        values = torch.stack(list(value))
    else:
        values = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    if values.is_complex():
        raise TypeError("it holds complex numbers")
    return values.detach()
