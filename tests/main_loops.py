"""What tests of the main loop share: batches, and what happens in the middle of a training."""

import os
import signal
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.errors import TrainingTerminated
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.abstract_model import AbstractModel
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents
from emloop_mtl.types import EpochData, TimeProfile


def batches(*sizes: int, **attributes: Any) -> list[Batch]:
    return [Batch({"x": list(range(size))}, **attributes) for size in sizes]


class At(AbstractHook):
    """Does something at the n-th call of an event."""

    def __init__(self, event: str, count: int, action: Callable[[], Any]) -> None:
        super().__init__()
        self._left = {event: count}
        self._action = action

    def _call(self, event: str) -> None:
        if event in self._left:
            self._left[event] -= 1
            if self._left[event] == 0:
                self._action()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._call(stream_name)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self._call("after_epoch")

    def after_epoch_profile(self, epoch_id: int, profile: TimeProfile, streams: list[str]) -> None:
        self._call("profile")

    def after_training(self, success: bool) -> None:
        self._call("after_training")

    def requires(self) -> Collection[str]:
        return ()


def terminate() -> None:
    raise TrainingTerminated("enough")


def fail() -> None:
    raise RuntimeError("broken")


def end_of(hook: AbstractHook, tmp_path: Path, **arguments: Any) -> tuple[RecordEvents, BaseException | None]:
    record = RecordEvents()
    dataset = FakeDataset(train=batches(1, 1, 1), valid=batches(1, 1))
    hooks = [hook, At("after_epoch", 9, fail), record]  # no run shall go on for ever
    loop = MainLoop(FakeModel(), dataset, hooks, extra_streams=["valid"], output_dir=tmp_path, **arguments)
    try:
        loop.run_training()
    except BaseException as error:
        return record, error
    return record, None


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt_twice() -> None:
    interrupt()
    interrupt()


class Plain(AbstractModel):
    """Fits a mean by hand, without torch."""

    def __init__(self) -> None:
        self.mean = 0.0

    @property
    def input_names(self) -> list[str]:
        return ["x"]

    @property
    def output_names(self) -> list[str]:
        return ["error"]

    def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Mapping[str, Any]:
        error = np.asarray(batch["x"]) - self.mean
        if train:
            self.mean += 0.5 * float(error.mean())
        return {"error": error}
