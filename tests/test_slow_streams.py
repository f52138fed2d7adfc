"""Streams that the model waits for are named in the log."""

import logging
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl import slow_streams
from emloop_mtl.data import AbstractDataset
from emloop_mtl.hooks import StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.slow_streams import SlowStreams
from emloop_mtl.tasks import Action, Task

ADVICE = "num_workers: auto of a loader lets processes read, if that is faster"


def profile(name: str, waited: float, ran: float, hooks: float) -> dict[str, list[float]]:
    """Return seconds in two batches."""
    seconds = {"read_batch": waited, "eval_batch": ran, "after_batch_hooks": hooks}
    return {f"{activity}_{name}": [value / 2, value / 2] for activity, value in seconds.items()}


@pytest.mark.parametrize(
    ("waited", "ran", "hooks", "share"),
    [
        (6.0, 10.0, 4.0, "30 % of its 20 s"),
        (6.0, 11.0, 4.0, None),  # 29 %
        (43.0, 56.0, 1.0, "43 % of its 100 s"),
        (5.0, 0.0, 0.0, "100 % of its 5 s"),
        (4.9, 0.0, 0.0, None),  # a toy
        (0.0, 0.0, 0.0, None),
    ],
)
def test_a_stream_is_named_with_its_share(
    waited: float, ran: float, hooks: float, share: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    SlowStreams(buffer=2).tell(profile("train", waited, ran, hooks), ["train"])
    expected = [] if share is None else [f"stream 'train': {share} went by in waiting for data; {ADVICE}"]
    assert [record.message for record in caplog.records] == expected


def test_each_stream_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    streams = SlowStreams(buffer=0)
    slow, fast = profile("train", 9, 1, 0) | profile("valid", 9, 1, 0), profile("valid", 1, 9, 0)
    for each, names in [(fast, ["valid"]), (slow, ["train"]), (slow, ["train", "valid"]), (slow, ["train", "valid"])]:
        streams.tell(each, names)
    assert [record.message.split(":")[0] for record in caplog.records] == ["stream 'train'", "stream 'valid'"]
    assert all(
        "main_loop.buffer reads ahead in a thread, num_workers: auto" in record.message for record in caplog.records
    )


def test_the_main_loop_tells_at_the_end_of_an_epoch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Data(AbstractDataset):
        def train_stream(self) -> list[dict[str, Any]]:
            return [{"x": torch.zeros(2, 3), "y": torch.zeros(2, dtype=torch.int64)}] * 3

    monkeypatch.setattr(slow_streams, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(slow_streams, "LEAST_SHARE", 0.0)
    task = Task("t", {"head": nn.Linear(3, 2)}, [Action("o", "head", "x")], label="y", loss="cross_entropy")
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    caplog.set_level(logging.WARNING)
    MainLoop(model, Data(), [StopAfter(epochs=2)]).run_training()
    [message] = [record.message for record in caplog.records if record.name == slow_streams.__name__]
    assert message.startswith("stream 'train': ")
