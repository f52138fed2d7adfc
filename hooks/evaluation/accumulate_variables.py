"""Keep the values of batch variables over an epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import DataError
from emloop_mtl.types import EpochData, EpochNumber, State

from ..arguments import check_names
from .batch_variable import holds
from .kept_values import KeptValues

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch

Accumulated = dict[str, dict[str, list[Any]]]


class AccumulateVariables(AbstractHook):
    """Keep all values of the listed variables of an epoch, stream by stream.

    They are for hooks that inherit from this one, and for others, which find it in ``main_loop.hooks``.
    ``accumulated[stream][variable]`` is a list of one entry per sample, or per batch where the variable is a single
    number. Entries of tensors and arrays are numpy's. When all hooks have had their ``after_epoch`` they are gone.

    Tensors stay on their device until they are first read, so a step does not wait. The memory for all values of an
    epoch, of all streams, is needed there, and as much again on the host when they are read; a checkpoint in
    mid-epoch holds them too.

    :param variables: names of sources and outputs; those called ``<task>/…`` are taken from batches that carry the task
    :raise ConfigError: if ``variables`` is no list of names

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - AccumulateVariables: {variables: [digit/pred, digit]}
    """

    def __init__(self, variables: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._variables = check_names(self.name, "variables", variables)
        self._reset_accumulator()

    @property
    def accumulated(self) -> Accumulated:
        """Stream -> variable -> its values, fetched from the device if they have not been."""
        values: Accumulated = defaultdict(lambda: defaultdict(list))  # one that no batch has is empty
        for stream, variables in self._kept.items():
            for variable, kept in variables.items():
                values[stream][variable] = kept.rows()
        return values

    @property
    def _accumulator(self) -> Accumulated:
        """What hooks written for emloop call ``accumulated``."""
        return self.accumulated

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the variables."""
        return tuple(self._variables)

    def provides(self) -> Collection[str | EpochNumber] | None:
        """Return nothing; a hook that inherits and acts after epochs may write whatever it does."""
        return () if type(self).after_epoch is AccumulateVariables.after_epoch else None

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Begin anew."""
        self._reset_accumulator()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Keep the variables of a batch."""
        for variable in self._variables:
            if not holds(self, variable, stream_name, batch_data):
                continue
            kept = self._kept.setdefault(stream_name, {}).setdefault(variable, KeptValues())
            try:
                kept.add(batch_data[variable])
            except TypeError as error:
                text = f"the variable {variable!r} of stream {stream_name!r} cannot be accumulated: {error}"
                raise DataError(f"{self.name}: {text}") from error

    def after_epoch(self, epoch_id: int = 0, epoch_data: EpochData | None = None) -> None:
        """Do nothing: later hooks may read the values; called without arguments by hooks written for emloop."""

    def after_epoch_profile(self, epoch_id: int, profile: Any, streams: list[str]) -> None:
        """Forget the values: every hook has had its ``after_epoch``."""
        self._reset_accumulator()

    def state_dict(self) -> dict[str, State]:
        """Return the values of the epoch under way."""
        return {
            stream: {variable: kept.state_dict() for variable, kept in variables.items()}
            for stream, variables in self._kept.items()
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        self._reset_accumulator()
        for stream, variables in state.items():
            for variable, kept in variables.items():
                self._kept.setdefault(stream, {})[variable] = KeptValues()
                self._kept[stream][variable].load_state_dict(kept)

    def _reset_accumulator(self) -> None:
        self._kept: dict[str, dict[str, KeptValues]] = {}
