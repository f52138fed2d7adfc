import logging
import os
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint, remove_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.errors import CheckpointError, ConfigError, DataError, TrainingTerminated
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.abstract_model import AbstractModel
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, run_hook
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


# --------------------------------------------------------------------------------------------- epochs and events


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


def test_an_evaluation_saves_nothing(tmp_path: Path) -> None:
    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")

    dataset = FakeDataset(train=batches(1), valid=batches(1, 1))
    loop = MainLoop(FakeModel(), dataset, [Save(), At("after_epoch", 2, terminate)], output_dir=tmp_path)
    loop.run_training()
    before = list_checkpoints(tmp_path / "checkpoints")
    interrupting = MainLoop(FakeModel(), dataset, [Save(), At("valid", 1, interrupt)], output_dir=tmp_path)
    for evaluated in (loop, interrupting):
        evaluated.run_evaluation("valid")
        assert list_checkpoints(tmp_path / "checkpoints") == before
    assert interrupting.end == "interrupted"


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


# ----------------------------------------------------------------------------------------------- what is refused


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


# ------------------------------------------------------------------------------------------------ how a run ends


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


ENDS = [
    # event, action, other hooks of that event, after_epoch of the epoch, success, end, error
    pytest.param("after_epoch", terminate, True, True, True, "finished", None, id="termination after an epoch"),
    pytest.param("profile", terminate, True, True, True, "finished", None, id="termination after a profile"),
    pytest.param("train", terminate, True, False, True, "finished", None, id="termination after a batch"),
    pytest.param("train", interrupt, True, False, True, "interrupted", None, id="SIGINT while training"),
    pytest.param("valid", stop, True, False, True, "interrupted", None, id="SIGTERM while evaluating"),
    pytest.param("train", fail, False, False, False, "failed", RuntimeError, id="another error"),
    pytest.param("train", interrupt_twice, False, False, False, "failed", KeyboardInterrupt, id="a second SIGINT"),
]


@pytest.mark.parametrize(("event", "action", "others", "epoch_ends", "success", "end", "error"), ENDS)
def test_ends(
    event: str,
    action: Callable[[], None],
    others: bool,
    epoch_ends: bool,
    success: bool,
    end: str,
    error: type[BaseException] | None,
    tmp_path: Path,
) -> None:
    count = 2 if event in ("after_epoch", "profile") else 5
    record, raised = end_of(At(event, count, action), tmp_path)
    assert (type(raised) if raised is not None else None) is error
    assert record.events[-1] == ("after_training", {"success": success})
    assert record.main_loop.end == end
    before_end = record.names[-2]
    if epoch_ends:
        assert before_end == "after_epoch_profile"
    else:
        assert before_end == "after_batch"
        seen = [event["stream_name"] for name, event in record.events if name == "after_batch"]
        assert seen.count(event) == (count if others else count - 1)


def test_a_second_sigint_is_not_after_training_successful(tmp_path: Path) -> None:
    _, raised = end_of(At("train", 4, interrupt_twice), tmp_path)
    assert isinstance(raised, KeyboardInterrupt)
    assert not (tmp_path / "checkpoints").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("action", [interrupt, stop])
def test_an_interrupted_run_is_saved_at_the_border_and_goes_on_there(
    action: Callable[[], None], tmp_path: Path
) -> None:
    end_of(At("train", 4, action), tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert tuple(checkpoint.position) == (0, 1, 0, 1)
    assert not checkpoint.finished
    model, resumed = FakeModel(), RecordEvents()
    dataset = FakeDataset(train=batches(1, 1, 1), valid=batches(1, 1))
    loop = MainLoop(model, dataset, [At("after_epoch", 1, terminate), resumed], extra_streams=["valid"])
    loop.restore(checkpoint)
    loop.run_training()
    assert model.trained == 3
    assert [event["stream_name"] for name, event in resumed.events if name == "after_batch"] == ["train"] * 2 + [
        "valid"
    ] * 2
    assert tuple(loop.position) == (1, 3, 1, 3)


def test_an_interrupted_evaluation_goes_on_at_its_next_batch(tmp_path: Path) -> None:
    end_of(At("valid", 3, interrupt), tmp_path)
    resumed = RecordEvents()
    dataset = FakeDataset(train=batches(1, 1, 1), valid=batches(1, 2))
    loop = MainLoop(FakeModel(), dataset, [At("after_epoch", 1, terminate), resumed], extra_streams=["valid"])
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    assert [event["batch_data"].size for name, event in resumed.events if name == "after_batch"] == [2]
    assert resumed.names.count("before_epoch") == 0


@pytest.mark.parametrize("event", ["train", "valid"])
def test_an_interrupted_training_that_is_run_once_more_goes_on(event: str) -> None:
    record = RecordEvents()
    dataset = FakeDataset(train=batches(1, 2, 3), valid=batches(7, 8))
    hooks = [At(event, 1, interrupt), At("after_epoch", 2, terminate), record]
    loop = MainLoop(FakeModel(), dataset, hooks, extra_streams=["valid"], skip_zeroth_epoch=True)
    loop.run_training()
    assert loop.end == "interrupted"
    loop.run_training()
    assert loop.end == "finished"
    sizes = [event["batch_data"].size for name, event in record.events if name == "after_batch"]
    assert sizes == [1, 2, 3, 7, 8] * 2
    assert tuple(loop.position) == (2, 6, 2, 12)


def test_each_evaluated_stream_can_be_saved_in_its_middle(tmp_path: Path) -> None:
    class Save(AbstractHook):
        seen: ClassVar[list[str]] = []

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            self.stream = stream_name
            self.main_loop.request_save("latest")

        def state_dict(self) -> dict[str, Any]:
            self.seen.append(self.stream)
            return {}

    dataset = FakeDataset(train=batches(1), valid=batches(1), test=batches(1))
    run_hook(Save(), dataset=dataset, extra_streams=["valid", "test"], output_dir=tmp_path)
    assert Save.seen == ["train", "valid", "test"] * 2


class Under(AbstractHook):
    """Has streams evaluated under two contexts, and other weights saved; writes down what happens."""

    def __init__(self, fail_in: str | None = None) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._fail_in = fail_in

    def register_mainloop(self, main_loop: MainLoop) -> None:
        super().register_mainloop(main_loop)
        main_loop.evaluate_under(lambda: self._context("outer"))
        main_loop.evaluate_under(lambda: self._context("inner"))
        main_loop.save_weights_as(lambda weights: {name: value + 100 for name, value in weights.items()})

    @contextmanager
    def _context(self, name: str) -> Iterator[None]:
        self.seen.append(f"+{name}")
        if self._fail_in == f"+{name}":
            fail()
        try:
            yield
        finally:
            self.seen.append(f"-{name}")

    def requires(self) -> Collection[str]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self.seen.append(stream_name)
        if stream_name == "valid" and self.seen.count("valid") == 1 and self._fail_in is None:
            self.main_loop.request_save("middle")
            self.main_loop.when_saved(lambda: self.seen.append("saved"))
        if stream_name == self._fail_in:
            fail()


def test_streams_are_evaluated_under_contexts_which_are_left_to_save_and_in_the_end(tmp_path: Path) -> None:
    hook = Under()
    dataset = FakeDataset(train=batches(1), valid=batches(1, 1))
    run_hook(hook, dataset=dataset, epochs=1, extra_streams=["valid"], skip_zeroth_epoch=True, output_dir=tmp_path)
    into, out = ["+outer", "+inner"], ["-inner", "-outer"]
    assert hook.seen == ["train", *into, "valid", *out, "saved", *into, "valid", *out]
    checkpoint = newest_checkpoint(tmp_path / "checkpoints", "middle")
    assert checkpoint.weights == {"trained": 101}


@pytest.mark.parametrize(("where", "seen"), [("valid", ["valid", "-inner", "-outer"]), ("+inner", ["-outer"])])
def test_contexts_are_left_after_an_error(where: str, seen: list[str]) -> None:
    hook = Under(fail_in=where)
    dataset = FakeDataset(train=batches(1), valid=batches(1))
    with pytest.raises(RuntimeError, match="broken"):
        run_hook(hook, dataset=dataset, extra_streams=["valid"], skip_zeroth_epoch=True)
    assert hook.seen == ["train", "+outer", "+inner", *seen]


def test_a_save_that_was_killed_between_two_tags_is_completed(tmp_path: Path) -> None:
    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")
            if epoch_id == 1:
                self.main_loop.request_save("best")

    def loop() -> MainLoop:
        hooks = [Save(), At("after_epoch", 2, terminate)]
        return MainLoop(FakeModel(), FakeDataset(train=batches(1)), hooks, output_dir=tmp_path)

    loop().run_training()
    folder = tmp_path / "checkpoints"
    best = newest_checkpoint(folder, "best")
    remove_checkpoint(best.path)
    (folder / f".tmp-{best.path.name}").mkdir()
    loop().restore(newest_checkpoint(folder))
    again = newest_checkpoint(folder, "best")
    assert (again.path, again.position, again.weights) == (best.path, best.position, best.weights)
    assert sorted(path.name for path in folder.iterdir()) == ["best-00000002", "latest-00000002"]


@pytest.mark.parametrize("event", ["before_training", "before_epoch"])
def test_a_termination_before_an_event_is_a_regular_end_too(event: str) -> None:
    hook = type("Stop", (AbstractHook,), {event: lambda self, **_: terminate()})()
    record = RecordEvents()
    loop = MainLoop(FakeModel(), FakeDataset(train=batches(1)), [record, hook])
    loop.run_training()
    assert record.names == ["before_training", *["before_epoch"] * (event == "before_epoch"), "after_training"]
    assert loop.end == "finished"


def test_a_termination_after_the_end_changes_nothing() -> None:
    record = RecordEvents()
    hooks = [At("after_epoch", 1, terminate), At("after_training", 1, terminate), record]
    MainLoop(FakeModel(), FakeDataset(train=batches(1)), hooks).run_training()
    assert record.main_loop.end == "finished"
    assert record.events[-1] == ("after_training", {"success": True})


def test_a_step_is_finished_before_a_termination_takes_effect() -> None:
    record = RecordEvents()
    dataset = FakeDataset(train=[*batches(1, ends_step=False), *batches(1), *batches(1)])
    loop = MainLoop(FakeModel(), dataset, [At("train", 1, terminate), record], skip_zeroth_epoch=True)
    loop.run_training()
    assert record.names.count("after_batch") == 2
    assert loop.position.step == 1


def test_a_save_is_written_once_all_hooks_have_finished_the_event(tmp_path: Path) -> None:
    class Late(AbstractHook):
        value = 0

        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.value = epoch_id

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")

    run_hook(Save(), Late(), epochs=2, output_dir=tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.state["hooks"]["Late"] == {"value": 2}
    assert checkpoint.finished
    assert tuple(checkpoint.position) == (2, 4, 2, 8)


def test_a_checkpoint_that_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    class Other(FakeModel):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise RuntimeError("missing:\n\tweight")

    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")

    run_hook(Save(), output_dir=tmp_path, fixed_epoch_size=2)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"latest-0000000\d: does not fit the model: missing: weight$"):
        MainLoop(Other(), FakeDataset(train=[])).restore(checkpoint)
    message = "main_loop.fixed_epoch_size was 2 steps and cannot be 3 steps now: a run keeps the one it began with"
    with pytest.raises(CheckpointError, match=message):
        MainLoop(FakeModel(), FakeDataset(train=[]), fixed_epoch_size=3).restore(checkpoint)


def test_a_finished_run_that_is_resumed_trains_nothing(tmp_path: Path) -> None:
    from emloop_mtl.hooks import SaveLatest, StopAfter

    def loop(steps: int) -> tuple[MainLoop, FakeModel]:
        model, dataset = FakeModel(), FakeDataset(train=batches(1, 1, 1))
        return MainLoop(model, dataset, [SaveLatest(), StopAfter(steps=steps)], output_dir=tmp_path), model

    loop(4)[0].run_training()
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.finished
    assert checkpoint.position.step == 4
    for steps in (4, 6):
        resumed, model = loop(steps)
        resumed.restore(checkpoint)
        resumed.run_training()
        assert (resumed.position.step, model.trained, resumed.end) == (steps, steps, "finished")


@pytest.mark.parametrize("limit", [{"epochs": 1}, {"steps": 2}, {"minutes": 1e-9}])
def test_a_finished_run_of_unknown_length_trains_nothing_more(limit: dict[str, Any], tmp_path: Path) -> None:
    from emloop_mtl.hooks import SaveLatest, StopAfter

    class Two:
        def train_stream(self) -> Iterator[dict[str, Any]]:
            return ({"x": [number]} for number in range(2))

    def loop() -> tuple[MainLoop, FakeModel]:
        model = FakeModel()
        return MainLoop(model, Two(), [SaveLatest(), StopAfter(**limit)], output_dir=tmp_path), model

    first, model = loop()
    first.run_training()
    resumed, again = loop()
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert (resumed.end, again.trained, again.evaluated) == ("finished", model.trained, 0)
    assert resumed.position == first.position


def test_saving_needs_a_folder_and_a_model_with_state(tmp_path: Path) -> None:
    loop = MainLoop(FakeModel(), FakeDataset(train=[]))
    with pytest.raises(ConfigError, match="give the main loop an output_dir"):
        loop.request_save("latest")
    loop = MainLoop(Plain(), FakeDataset(train=[]), output_dir=tmp_path)
    with pytest.raises(ConfigError, match="checkpoints need 'state_dict' and 'load_state_dict' of Plain"):
        loop.request_save("latest")


def test_an_error_of_a_hook_at_the_end_fails_the_run() -> None:
    record = RecordEvents()
    hooks = [At("after_epoch", 1, terminate), At("after_training", 1, fail), record]
    loop = MainLoop(FakeModel(), FakeDataset(train=batches(1)), hooks)
    with pytest.raises(RuntimeError, match="broken"):
        loop.run_training()
    assert loop.end == "failed"
    assert record.names[-1] == "after_training"


# ------------------------------------------------------------------------------------ without torch, from emloop


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


def test_a_signal_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        end_of(At("train", 4, stop), tmp_path)
    assert "SIGTERM: ending at the next border" in caplog.text
    assert "Training interrupted: caught SIGTERM" in caplog.text
