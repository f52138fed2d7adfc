"""How far and how fast the walk through a stream goes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..numbers import show_number

HALF_LIFE = 5.0
"""Seconds after which a measured speed counts half."""

LOSS_WEIGHT = 0.3
"""How much a loss that was just read counts against those before it."""


class ProgressMeter:
    """Counts the steps of one walk through a stream, and smoothes its speed and its losses.

    :param title: what is written in front, ``epoch 3  train``
    :param total: steps of the walk, None if they are not known
    :param now: when the walk began, in seconds
    :param step: steps that had been done when it began
    """

    def __init__(self, title: str, total: int | None, now: float, step: int = 0) -> None:
        self.title = title
        self.total = total
        self.step = step
        self._began = self._read_at = now
        self._first_step = self._read_step = step
        self._speed: float | None = None
        self._losses: dict[str, float] = {}

    @property
    def share(self) -> float | None:
        """The share of the steps that is done, None if their number is not known or has turned out to be wrong."""
        return None if not self.total or self.step > self.total else self.step / self.total

    def read(self, now: float, losses: Mapping[str, float]) -> None:
        """Take a reading.

        :param now: the time in seconds
        :param losses: loss of the last batch of each task
        """
        seconds, steps = now - self._read_at, self.step - self._read_step
        if seconds > 0 and steps:
            speed = steps / seconds
            weight = 1.0 if self._speed is None else 1 - 0.5 ** (seconds / HALF_LIFE)
            self._speed = speed * weight + (self._speed or 0.0) * (1 - weight)
            self._read_at, self._read_step = now, self.step
        for task, loss in losses.items():
            before = self._losses.get(task, math.nan)
            smooth = math.isfinite(before) and math.isfinite(loss)
            self._losses[task] = before + LOSS_WEIGHT * (loss - before) if smooth else loss

    def tail(self) -> str:
        """Return steps, time left, speed and losses: ``120/938  0:42 left  25.1 steps/s  digit 0.1234``."""
        parts = [f"{self.step}/{self.total}" if self.share is not None else f"step {self.step}"]
        if self.share is not None and self.total is not None and self._speed:
            parts.append(f"{_duration((self.total - self.step) / self._speed)} left")
        if self._speed:
            parts.append(_speed(self._speed))
        return "  ".join([*parts, *self._shown_losses()])

    def summary(self, now: float) -> str:
        """Return what to say when the walk has ended: ``938/938  0:37  25.1 steps/s  digit 0.1234``."""
        seconds = now - self._began
        parts = [f"{self.step}/{self.total}" if self.share is not None else f"{self.step} steps", _duration(seconds)]
        if seconds > 0:
            parts.append(_speed((self.step - self._first_step) / seconds))
        return "  ".join([*parts, *self._shown_losses()])

    def _shown_losses(self) -> list[str]:
        return [f"{task} {show_number(loss)}" for task, loss in self._losses.items()]


def _speed(steps_per_second: float) -> str:
    return f"{steps_per_second:.3g} steps/s" if steps_per_second < 100 else f"{steps_per_second:.0f} steps/s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
