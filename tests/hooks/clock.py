"""A time that passes only where a test says so."""

from __future__ import annotations

from typing import Any

from emloop_mtl.abstract_hook import AbstractHook


class Clock:
    """Stands for the time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Spend(AbstractHook):
    """Spend seconds after batches and after epochs."""

    def __init__(self, clock: Clock, batch: float, epoch: float) -> None:
        super().__init__()
        self._clock, self._batch, self._epoch = clock, batch, epoch

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Any) -> None:
        self._clock.now += self._batch

    def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
        self._clock.now += self._epoch


class Announce(Spend):
    """Spend seconds before epochs, too."""

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        self._clock.now += self._epoch
