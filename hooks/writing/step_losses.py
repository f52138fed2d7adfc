"""The losses of training steps, which wait on the device until they are written."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from emloop_mtl.types import Position, State

from ..frequency import ends_nth_step
from ..numbers import fetch_numbers, is_loss

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop

LEARNING_RATE = "learning_rate"
"""What the learning rate is called in files and services."""

MOST_WAITING = 4096
"""Losses kept on the device before they are fetched; each takes up to 512 bytes there."""

MOST_SECONDS = 10.0
"""How long losses that are due may wait, so that a long epoch can be watched; to fetch them makes one step wait."""


class _Due(NamedTuple):
    """The losses of the steps between two records: where the training stood, its stream, and means by variable.

    ``rates`` are the learning rates of the last of these steps, by name.
    """

    position: Position
    stream: str
    means: dict[str, float]
    rates: Mapping[str, float]


class _Window:
    """The losses between two records: sums by variable, and what is still to be fetched: variable, weight and loss.

    Sums grow batch by batch in float64, so that it does not matter when the losses are fetched.
    """

    def __init__(self, sums: Mapping[str, tuple[int, float]] | None = None) -> None:
        self.sums = dict(sums or {})
        self.waiting: list[tuple[str, int, Any]] = []

    def add(self, variable: str, weight: int, loss: float) -> None:
        weights, total = self.sums.get(variable, (0, 0.0))
        self.sums[variable] = weights + weight, total + weight * loss

    def means(self) -> dict[str, float]:
        return {variable: total / weights for variable, (weights, total) in self.sums.items()}


class StepLosses:
    """Collects the losses of every training step, and gives their means over every n steps.

    :param every: how many steps; records are due after steps whose number is a multiple of it
    :param variables: the losses to collect; None for all of the model
    """

    def __init__(self, every: int, variables: Collection[str] | None = None) -> None:
        self._every = every
        self._variables = variables
        self._window = _Window()
        self._due: list[tuple[Position, str, Mapping[str, float], _Window]] = []
        self._count = 0
        self._fetched = time.monotonic()

    def of_model(self, main_loop: MainLoop) -> list[str]:
        """Return the names of the losses that are collected."""
        return [name for name in main_loop.model.output_names if is_loss(name) and self._is_wanted(name)]

    def note(self, main_loop: MainLoop, stream: str, batch: Batch) -> bool:
        """Note the losses of a batch that was trained on, without reading them.

        :return: whether it is time to take what is due
        """
        size = batch.size or 0
        self._note("loss", batch, size)
        for task in batch.tasks:
            rows = batch.rows.get(task)
            self._note(f"{task}/loss", batch, size if rows is None else len(rows))
        is_late = False
        if ends_nth_step(main_loop, batch, self._every):
            position = main_loop.position
            position = position._replace(epoch=position.epoch + 1)  # the number of the one under way
            self._due.append((position, stream, learning_rates(main_loop), self._window))
            self._window = _Window()
            is_late = time.monotonic() - self._fetched > MOST_SECONDS
        return is_late or self._count >= MOST_WAITING

    def take(self) -> list[_Due]:
        """Fetch all losses at once, and return those that are due."""
        windows = [*(window for *_, window in self._due), self._window]
        numbers = iter(fetch_numbers(loss for window in windows for _, _, loss in window.waiting))
        for window in windows:
            for variable, weight, _ in window.waiting:
                number = next(numbers)
                window.add(variable, weight, math.nan if number is None else number)
            window.waiting.clear()
        due, self._due, self._count = self._due, [], 0
        self._fetched = time.monotonic()
        return [_Due(position, stream, window.means(), rates) for position, stream, rates, window in due]

    def state_dict(self) -> dict[str, State]:
        """Return the sums of the losses that no record has yet; to be called after ``take``."""
        return dict(self._window.sums)

    def load_state_dict(self, state: Mapping[str, State]) -> None:
        """Go on from these sums."""
        self._window, self._due, self._count = _Window(state), [], 0

    def _is_wanted(self, variable: str) -> bool:
        return self._variables is None or variable in self._variables

    def _note(self, variable: str, batch: Batch, weight: int) -> None:
        loss = batch.get(variable)
        if loss is None or not weight or getattr(loss, "ndim", 0) > 0 or not self._is_wanted(variable):
            return
        detach = getattr(loss, "detach", None)
        self._window.waiting.append((variable, weight, loss if detach is None else detach()))
        self._count += 1


def learning_rates(main_loop: MainLoop) -> dict[str, float]:
    """Return the learning rates of the last update: ``learning_rate``, or one for each parameter group."""
    learning_rate = getattr(main_loop.model, "learning_rate", None)
    rates: list[float] = getattr(learning_rate, "current", [])
    if len(rates) == 1:
        return {LEARNING_RATE: rates[0]}
    return {f"{LEARNING_RATE}/group_{index}": rate for index, rate in enumerate(rates)}
