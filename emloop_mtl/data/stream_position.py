"""Where the consumer of a stream stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import CheckpointError
from ..types import State
from ..utils.shown import shown

LARGEST = 2**63 - 1
"""No counter gets there."""


@dataclass(slots=True)
class StreamPosition:
    """What was consumed of a stream, at every moment enough to go on with the next batch.

    :param passes: finished passes
    :param pass_batches: batches of the present pass
    :param pass_steps: finished steps of the present pass
    :param pass_samples: samples of the present pass
    :param step_batches: batches of the step that is not finished
    :param batches: batches since the start
    :param steps: finished steps since the start
    :param samples: samples since the start
    :param epochs: finished epochs
    :param epoch_steps: finished steps of the present epoch
    :param epoch_passes: passes that were finished when the present epoch began
    :param inside: whether an epoch has begun and not ended
    :param barren: whether a pass of the present epoch brought nothing that an epoch could be measured by
    """

    passes: int = 0
    pass_batches: int = 0
    pass_steps: int = 0
    pass_samples: int = 0
    step_batches: int = 0
    batches: int = 0
    steps: int = 0
    samples: int = 0
    epochs: int = 0
    epoch_steps: int = 0
    epoch_passes: int = 0
    inside: bool = False
    barren: bool = False

    def begin_epoch(self) -> None:
        """Begin an epoch, unless one is open."""
        if not self.inside:
            self.inside = True
            self.barren = False
            self.epoch_steps = 0
            self.epoch_passes = self.passes

    def end_epoch(self) -> None:
        """End the open epoch."""
        self.inside = False
        self.epochs += 1

    def end_pass(self) -> None:
        """Stand at the beginning of the next pass."""
        self.barren = self.pass_steps == 0 or self.pass_samples == 0
        self.passes += 1
        self.pass_batches = self.pass_steps = self.pass_samples = self.step_batches = 0

    def consume(self, size: int, ends_step: bool) -> None:
        """Count a batch of ``size`` samples."""
        self.batches += 1
        self.samples += size
        self.pass_batches += 1
        self.pass_samples += size
        if ends_step:
            self.steps += 1
            self.pass_steps += 1
            self.epoch_steps += 1
            self.step_batches = 0
        else:
            self.step_batches += 1

    @classmethod
    def of_state(cls, state: State) -> StreamPosition:
        """Return the position that ``state_dict`` was called of.

        :raise CheckpointError: if the state is none of that
        """
        kinds = {name: type(value) for name, value in asdict(cls()).items()}
        names = kinds.keys()
        if type(state) is not dict or state.keys() != names:
            found = state.keys() if type(state) is dict else set()
            wrong = sorted(map(repr, names ^ found))[0]
            raise CheckpointError(f"the state is none of ours: {wrong} is {'unknown' if names < found else 'missing'}")
        for name, value in state.items():
            if type(value) is not kinds[name] or not 0 <= value <= LARGEST:
                raise CheckpointError(f"the state is none of ours: {name} is {shown(value)}")
        return cls(**state)

    def state_dict(self) -> dict[str, Any]:
        """Return the counters as plain data."""
        return asdict(self)
