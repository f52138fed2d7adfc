"""What the main loop refuses or leaves out: batches, streams, sources, arguments."""

from typing import Any

import pytest

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, run_hook

from .main_loops import batches


@pytest.mark.parametrize("action", ["error", "warn", "ignore"])
def test_empty_batches(action: str, caplog: pytest.LogCaptureFixture) -> None:
    dataset = FakeDataset(train=batches(1, 0, 1))
    if action == "error":
        with pytest.raises(
            DataError, match="stream 'train', batch 1: the batch is empty; set main_loop.on_empty_batch"
        ):
            run_hook(dataset=dataset)
        return
    record = run_hook(dataset=dataset, on_empty_batch=action)
    assert record.names.count("after_batch") == 4
    assert ("the batch is empty" in caplog.text) == (action == "warn")


@pytest.mark.parametrize("action", ["error", "warn", "ignore"])
def test_empty_streams(action: str, caplog: pytest.LogCaptureFixture) -> None:
    dataset = FakeDataset(train=batches(1), valid=[])
    if action == "error":
        with pytest.raises(DataError, match="stream 'valid' is empty; set main_loop.on_empty_stream"):
            run_hook(dataset=dataset, extra_streams=["valid"])
        return
    run_hook(dataset=dataset, extra_streams=["valid"], on_empty_stream=action)
    assert ("stream 'valid' is empty" in caplog.text) == (action == "warn")


@pytest.mark.parametrize("action", ["error", "warn", "ignore"])
def test_unused_sources(action: str, caplog: pytest.LogCaptureFixture) -> None:
    dataset = FakeDataset(train=[{"x": [1], "y": [2], "x_mask": [0], "_uids_": [0]}] * 2)
    if action == "error":
        with pytest.raises(DataError, match="the model does not read 'y'; set main_loop.on_unused_sources"):
            run_hook(dataset=dataset, on_unused_sources=action)
        return
    run_hook(dataset=dataset, on_unused_sources=action)
    assert caplog.text.count("does not read 'y'") == (action == "warn")


@pytest.mark.parametrize("action", ["error", "warn", "ignore"])
def test_unknown_arguments(action: str, caplog: pytest.LogCaptureFixture) -> None:
    arguments: dict[str, Any] = {"on_incorrect_config": action, "on_empty_batc": "warn"}
    if action == "error":
        with pytest.raises(ConfigError, match="unknown argument 'on_empty_batc'; did you mean 'on_empty_batch'"):
            MainLoop(FakeModel(), FakeDataset(train=[]), **arguments)
        return
    MainLoop(FakeModel(), FakeDataset(train=[]), **arguments)
    assert ("unknown argument" in caplog.text) == (action == "warn")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_empty_batch": "raise"}, "main_loop.on_empty_batch: 'raise' is none of ignore, warn, error"),
        ({"fixed_batch_size": 0}, "main_loop.fixed_batch_size: 0 is less than 1"),
        ({"buffer": -1}, "main_loop.buffer: -1 is less than 0"),
        ({"buffer": "3"}, "main_loop.buffer: '3' is no whole number"),
        ({"fixed_epoch_size": 0}, "main_loop.fixed_epoch_size: 0 steps are no epoch"),
        ({"extra_streams": "test"}, r"main_loop.extra_streams: a list of names is needed, such as \[test\]"),
        ({"train_stream_name": "trian"}, "no stream 'trian' .*did you mean 'train'"),
        ({"extra_streams": ["valdi"]}, "no stream 'valdi'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MainLoop(FakeModel(), FakeDataset(train=[], test=[]), **arguments)


def test_the_train_stream_cannot_be_an_extra_stream() -> None:
    with pytest.raises(ConfigError, match="extra_streams: 'train' is trained on; .*train_eval"):
        MainLoop(FakeModel(), FakeDataset(train=[]), extra_streams=["train"])


def test_missing_sources() -> None:
    with pytest.raises(
        DataError, match="stream 'train', batch 0: the model needs the source 'image'; did you mean 'imag'"
    ):
        run_hook(model=FakeModel(inputs=["image"]), dataset=FakeDataset(train=[{"imag": [1]}]))


@pytest.mark.parametrize("other", [Batch({"y": [1]}), Batch({"x": [1]}, tasks={"far": None})])
def test_sources_are_checked_for_every_kind_of_batch(other: Batch) -> None:
    class Needs(FakeModel):
        def required_sources(self, batch: Batch) -> list[str]:
            return ["z"] if "far" in batch.tasks else ["x"]

    with pytest.raises(DataError, match="stream 'train', batch 1(, task 'far')?: the model needs the source '[xz]'"):
        run_hook(model=Needs(), dataset=FakeDataset(train=[{"x": [1]}, other]))


def test_sources_of_different_lengths() -> None:
    dataset = FakeDataset(train=[{"x": [1]}, Batch({"x": [1, 2], "y": [1]}, tasks={"t": "y"}, data_name="d")])
    message = "stream 'train', batch 1, loader 'd', task 't': sources differ in length: 'x' has 2 entries, 'y' has 1"
    with pytest.raises(DataError, match=message):
        run_hook(dataset=dataset, on_unused_sources="ignore")


def test_a_source_without_length() -> None:
    with pytest.raises(DataError, match="source 'x' must hold one entry per sample, but has no length"):
        run_hook(dataset=FakeDataset(train=[{"x": 1}]))


def test_inputs_and_outputs_are_disjoint() -> None:
    with pytest.raises(DataError, match="stream 'train': 'x': both a source and an output of the model; rename one"):
        run_hook(outputs={"x": 1})


def test_a_model_that_returns_no_mapping() -> None:
    class Forgets(FakeModel):
        def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Any:
            return None

    with pytest.raises(TypeError, match="run returned a NoneType; a mapping of output names is needed"):
        run_hook(model=Forgets())


def test_batches_of_another_size_are_left_out() -> None:
    record = run_hook(dataset=FakeDataset(train=batches(2, 3, 2)), fixed_batch_size=2, epochs=1)
    assert [event["batch_data"].size for name, event in record.events if name == "after_batch"] == [2] * 4


def test_left_out_batches_make_the_length_unknown() -> None:
    dataset = FakeDataset(train=batches(2, 3, 2))
    loop = run_hook(dataset=dataset, fixed_batch_size=2).main_loop
    assert (loop.epoch_steps, loop.pass_steps, loop.steps_of(2), loop.total_steps) == (None,) * 4
    assert loop.position.step == 2


def test_a_stream_that_is_trained_on_ends_its_last_step() -> None:
    dataset = FakeDataset(train=[*batches(1), *batches(1, 1, ends_step=False)])
    with pytest.raises(DataError, match="stream 'train' ended in the middle of a step; .* ends_step = True"):
        run_hook(dataset=dataset)


def test_a_step_whose_last_batch_is_left_out_ends_with_the_one_before() -> None:
    step = [*batches(2, ends_step=False), *batches(2, ends_step=False), *batches(1)]
    record = run_hook(dataset=FakeDataset(train=step), fixed_batch_size=2, skip_zeroth_epoch=True)
    ends = [event["batch_data"].ends_step for name, event in record.events if name == "after_batch"]
    assert ends == [False, True]
    assert record.main_loop.position.step == 1
