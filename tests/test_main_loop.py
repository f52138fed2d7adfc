"""Epochs, streams and events of the main loop."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.errors import ConfigError
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, run_hook

from .main_loops import At, Plain, batches, terminate


def test_a_training_fires_the_events_in_order() -> None:
    record = run_hook(epochs=1)
    assert record.names == [
        "before_training",
        *("before_epoch", *["after_batch"] * 4, "after_epoch", "after_epoch_profile"),
        *("before_epoch", *["after_batch"] * 4, "after_epoch", "after_epoch_profile"),
        "after_training",
    ]
    epochs = [event for name, event in record.events if name == "before_epoch"]
    assert epochs == [
        {"epoch_id": 0, "train_streams": [], "eval_streams": ["train", "valid"]},
        {"epoch_id": 1, "train_streams": ["train"], "eval_streams": ["valid"]},
    ]
    assert [event["epoch_id"] for name, event in record.events if name == "after_epoch"] == [0, 1]


def test_the_events_in_the_docstring_are_those_that_fire() -> None:
    told = [line.strip() for line in (MainLoop.__doc__ or "").splitlines()]
    fired = list(dict.fromkeys(run_hook(epochs=1).names))
    assert [line for line in told if line in fired] == fired


def test_the_zeroth_epoch_trains_nothing_and_can_be_skipped() -> None:
    model = FakeModel()
    run_hook(epochs=2, model=model)
    assert (model.trained, model.evaluated) == (4, 2 + 3 * 2)
    record = run_hook(epochs=1, skip_zeroth_epoch=True)
    assert [event["epoch_id"] for name, event in record.events if name == "after_epoch"] == [1]


def test_hooks_receive_sources_and_outputs_in_one_batch() -> None:
    record = run_hook(outputs={"loss": lambda batch: sum(batch["x"])})
    batch = next(event["batch_data"] for name, event in record.events if name == "after_batch")
    assert dict(batch) == {"x": [1, 2], "loss": 3}
    assert batch.size == 2


def test_streams_that_hooks_append_are_evaluated_once() -> None:
    class Append(AbstractHook):
        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            eval_streams += ["test", "valid", "test"]

    dataset = FakeDataset(train=batches(1), valid=batches(1), test=batches(1))
    record = run_hook(Append(), dataset=dataset, extra_streams=["valid"])
    streams = [event["stream_name"] for name, event in record.events if name == "after_batch"]
    assert streams == ["train", "valid", "test", "train", "valid", "test"]
    assert list(record.epochs[1]) == ["train", "valid", "test"]


def test_a_stream_that_a_hook_appends_must_exist_before_the_epoch_begins() -> None:
    class Append(AbstractHook):
        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            if train_streams:
                eval_streams.append("tets")

    model = FakeModel()
    with pytest.raises(ConfigError, match="no stream 'tets'.*did you mean 'test'"):
        run_hook(Append(), model=model, dataset=FakeDataset(train=batches(1), test=batches(1)))
    assert model.trained == 0


def test_position_counts_steps_samples_passes_and_epochs() -> None:
    dataset = FakeDataset(train=[*batches(2, ends_step=False), *batches(3, 4)])
    record = run_hook(epochs=2, dataset=dataset)
    assert tuple(record.main_loop.position) == (2, 4, 2, 18)
    assert record.main_loop.training_epochs_done == 2


def test_length_is_known_before_the_first_batch() -> None:
    lengths = []

    class Ask(AbstractHook):
        def before_training(self) -> None:
            loop = self.main_loop
            lengths.append((loop.epoch_steps, loop.pass_steps, loop.total_steps))

    run_hook(Ask(), epochs=3)
    assert lengths == [(2, 2, 6)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2, [2, 2, 2]), (4, [4, 4, 4]), ({"samples": 5}, [3, 2, 3]), ({"passes": 0.5}, [2, 1, 2]), (None, [3, 3, 3])],
)
def test_fixed_epoch_sizes(size: Any, expected: list[int]) -> None:
    seen: list[int] = []

    class Count(AbstractHook):
        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            if train_streams:
                seen.append(0)

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if seen:
                seen[-1] += 1

    run_hook(Count(), epochs=3, dataset=FakeDataset(train=batches(2, 2, 2)), fixed_epoch_size=size)
    assert seen == expected


def test_an_epoch_takes_names_wrappers_and_plain_iterables() -> None:
    record = RecordEvents()
    wrapper = StreamWrapper(lambda: batches(1, 1), name="mine")
    loop = MainLoop(FakeModel(), FakeDataset(train=batches(1)), [record])
    with loop:
        loop.epoch(["train", wrapper, iter(batches(1))], [batches(1)])
        loop.epoch([], ["train"])
    streams = [event["stream_name"] for name, event in record.events if name == "after_batch"]
    assert streams == ["train", "mine", "mine", "unnamed_train_0", "unnamed_eval_0", "train"]
    assert loop.training_epochs_done == 1


def test_batches_of_a_given_wrapper_are_prepared_like_all_others() -> None:
    class Prepares(FakeModel):
        def prepare(self, batch: Batch) -> Batch:
            batch.tasks = {"digit": None}
            return super().prepare(batch)

    record = RecordEvents()
    own = StreamWrapper(lambda: batches(1), name="own", prepare=FakeModel().prepare)
    with (loop := MainLoop(Prepares(), FakeDataset(train=[]), [record])):
        loop.epoch([StreamWrapper(lambda: batches(1), name="mine")], [own])
    seen = [event["batch_data"] for name, event in record.events if name == "after_batch"]
    assert [(batch.tasks, batch.prepared) for batch in seen] == [({"digit": None}, True), ({}, True)]


def test_two_streams_of_one_name_are_refused() -> None:
    loop = MainLoop(FakeModel(), FakeDataset(train=batches(1)))
    with pytest.raises(ConfigError, match="two streams of one epoch are named 'train'"), loop:
        loop.epoch(["train"], [StreamWrapper(lambda: batches(1), name="train")])


def test_evaluation_runs_one_stream_only() -> None:
    class Append(AbstractHook):
        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            eval_streams.append("train")

    model, record = FakeModel(), RecordEvents()
    MainLoop(model, FakeDataset(train=batches(1), valid=batches(1, 1)), [Append(), record]).run_evaluation("valid")
    assert (model.trained, model.evaluated) == (0, 2)
    assert record.names[-1] == "after_training"


def test_an_evaluation_before_the_training_replaces_no_zeroth_epoch() -> None:
    model = FakeModel()
    loop = MainLoop(model, FakeDataset(train=batches(1), valid=batches(1)), [At("after_epoch", 3, terminate)])
    loop.run_evaluation("valid")
    loop.run_training()
    assert (model.trained, model.evaluated) == (1, 2)


def test_the_profile_times_reads_runs_and_hooks() -> None:
    record = run_hook()
    profile = next(event["profile"] for name, event in reversed(record.events) if name == "after_epoch_profile")
    lengths = {name: len(times) for name, times in profile.items()}
    each = {
        f"{kind}_{stream}": 2
        for kind in ("read_batch", "eval_batch", "after_batch_hooks")
        for stream in ("train", "valid")
    }
    assert lengths == {**each, "after_epoch_hooks": 1}


class Generated:
    """As datasets were written for emloop: generators of dicts, no base class."""

    def train_stream(self) -> Iterator[dict[str, Any]]:
        rows = np.random.permutation(8)
        for start in range(0, 8, 4):
            yield {"x": rows[start : start + 4].astype(float)}


def test_a_model_without_torch_trains_on_generators_of_dicts() -> None:
    model = Plain()
    run_hook(model=model, dataset=Generated(), epochs=30)
    # The mean of 0..7 is 3.5; single batches of four lie at most 2 away from it, halved at each step.
    assert 1.5 < model.mean < 5.5


def test_that_a_generator_is_read_without_a_buffer_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    run_hook(model=Plain(), dataset=Generated(), epochs=2, buffer=2)
    assert caplog.text.count("stream 'train' is read without a buffer") == 1


def test_what_a_generator_draws_does_not_depend_on_what_others_draw() -> None:
    class Draw(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            np.random.rand(3)

    first, second = run_hook(dataset=Generated(), model=Plain()), run_hook(Draw(), dataset=Generated(), model=Plain())
    assert [event["batch_data"]["x"].tolist() for name, event in first.events if name == "after_batch"] == [
        event["batch_data"]["x"].tolist() for name, event in second.events if name == "after_batch"
    ]


def test_a_run_of_unknown_length_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        MainLoop(FakeModel(), FakeDataset(train=batches(1)), [At("after_epoch", 3, terminate)]).run_training()
    assert "no hook sets the length of the run" in caplog.text
