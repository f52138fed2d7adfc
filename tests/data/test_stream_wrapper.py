"""Epochs, going on exactly, isolation, threads and errors."""

import gc
import io
import logging
import random
import signal
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emloop_mtl.data import Batch, ColumnDataset, StreamWrapper, TaskLoader, TaskStream
from emloop_mtl.errors import CheckpointError, ConfigError, DataError
from emloop_mtl.schedulers import Mixed, RoundRobin, Sequential
from emloop_mtl.utils.random import seed_everything


def columns(name: str, size: int) -> ColumnDataset:
    return ColumnDataset(name, {"x": torch.arange(size)})


class Augmented(torch.utils.data.Dataset[Any]):
    """Rows that draw global random numbers."""

    name = "augmented"

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return {"x": torch.tensor([index, random.random(), np.random.rand(), torch.rand(()).item()])}


def drawing() -> Iterator[Any]:
    """A generator that draws from every global generator, and yields a different number of batches in each pass."""
    for i in range(random.randint(1, 5)):
        size = 1 + np.random.randint(3)
        yield {"x": torch.rand(size) + i}


def calm() -> Iterator[Any]:
    yield {"x": torch.zeros(2)}
    yield Batch({"x": torch.ones(1)}, ends_step=False)
    yield Batch({"x": torch.ones(3)})


STREAMS: dict[str, Callable[[], Callable[[], Any]]] = {
    "round robin": lambda: _tasks(RoundRobin(shuffle=True)),
    "mixed": lambda: _tasks(Mixed(fillup=True)),
    "unknown length": lambda: _tasks(Sequential(), unknown=True),
    "augmented": lambda: lambda: TaskStream([TaskLoader(Augmented(), batch_size=2)]),
    "list": lambda: lambda: [{"x": [i] * (1 + i % 3)} for i in range(5)],
    "drawn list": lambda: lambda: [{"x": [random.random()]} for _ in range(4)],
    "generator": lambda: drawing,
    "calm generator": lambda: calm,
}


class Unknown(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        for i in range(3):
            yield {"x": i}


def _tasks(scheduler: Any, unknown: bool = False) -> Callable[[], TaskStream]:
    loaders = [TaskLoader(columns("a", 7), batch_size=2), TaskLoader(columns("b", 4), batch_size=3)]
    if unknown:
        loaders.append(TaskLoader(Unknown(), name="c", batch_size=2))
    stream = TaskStream(loaders, scheduler, 3)
    return lambda: stream


def wrap(kind: str, **options: Any) -> StreamWrapper:
    return StreamWrapper(
        STREAMS[kind](), name="s", seed=5, deterministic=True if kind == "calm generator" else None, **options
    )


def disturb() -> None:
    random.random()
    np.random.rand()
    torch.rand(1)


def content(batch: Batch) -> Any:
    value = batch["x"]
    return batch.data_name, value.tolist() if isinstance(value, torch.Tensor) else value, batch.ends_step, batch.size


def plain(state: Any) -> Any:
    """The state as it comes back from a safe file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def run(wrapper: StreamWrapper, epochs: int, noisy: bool = False) -> list[list[Any]]:
    """The content of epochs, each batch with the counters and the state while it is consumed."""
    trace = []
    for _ in range(epochs):
        epoch = []
        for batch in wrapper:
            if noisy:
                disturb()
            counters = wrapper.passes, wrapper.batches, wrapper.steps, wrapper.samples
            epoch.append((content(batch), counters, wrapper.state_dict()))
        trace.append(epoch)
    wrapper.close()
    return trace


sizes = st.one_of(
    st.none(),
    st.integers(1, 12),
    st.builds(lambda n: {"samples": n}, st.integers(1, 25)),
    st.builds(lambda x: {"passes": x}, st.sampled_from([0.25, 0.5, 1, 1.5])),
)
EPOCHS = 5


@given(st.sampled_from(sorted(STREAMS)), sizes, st.sampled_from([0, 0, 1, 4]), st.sampled_from([0, 2]), st.data())
def test_a_stream_can_be_gone_on_with_anywhere(
    kind: str, size: Any, buffer: int, buffer_after: int, data: st.DataObject
) -> None:
    in_passes = isinstance(size, dict) and "passes" in size
    if in_passes and wrap(kind).num_steps_per_pass is None:
        with pytest.raises(ConfigError, match=r"main_loop\.fixed_epoch_size"):
            next(iter(wrap(kind, epoch_size=size)))
        return
    whole = run(wrap(kind, epoch_size=size, buffer_size=buffer), EPOCHS)
    flat = [(epoch, index) for epoch, batches in enumerate(whole) for index in range(len(batches))]
    assert len(flat) >= EPOCHS
    epoch, index = data.draw(st.sampled_from(flat))
    resumed = wrap(kind, epoch_size=size, buffer_size=buffer_after)
    resumed.load_state_dict(plain(whole[epoch][index][2]))
    rest = run(resumed, EPOCHS - epoch, noisy=True)
    assert rest == [whole[epoch][index + 1 :], *whole[epoch + 1 :]]


@given(st.sampled_from(sorted(STREAMS)), sizes, st.sampled_from([0, 3]), st.integers(1, 3))
def test_a_stream_can_be_gone_on_with_between_epochs(kind: str, size: Any, buffer: int, epochs: int) -> None:
    if isinstance(size, dict) and "passes" in size and wrap(kind).num_steps_per_pass is None:
        return
    whole = run(wrap(kind, epoch_size=size), EPOCHS)
    first = wrap(kind, epoch_size=size, buffer_size=buffer)
    for _ in range(epochs):
        for _ in first:
            disturb()
    state = plain(first.state_dict())
    first.close()
    second = wrap(kind, epoch_size=size, buffer_size=buffer)
    second.load_state_dict(state)
    assert run(second, EPOCHS - epochs) == whole[epochs:]


@cache
def uncut_content(kind: str) -> list[Any]:
    return [batch[0] for epoch in run(wrap(kind), 40) for batch in epoch]


@given(st.sampled_from(sorted(STREAMS)), sizes, st.sampled_from([0, 2]))
def test_cutting_moves_no_batch_and_epochs_end_where_they_should(kind: str, size: Any, buffer: int) -> None:
    wrapper = wrap(kind, epoch_size=size, buffer_size=buffer)
    pass_steps = wrapper.num_steps_per_pass
    if isinstance(size, dict) and "passes" in size and pass_steps is None:
        return
    trace = run(wrapper, EPOCHS)
    flat = [batch for epoch in trace for batch in epoch]
    uncut = uncut_content(kind)
    assert [batch[0] for batch in flat] == uncut[: len(flat)]
    if size is None:
        assert [epoch[-1][1][0] for epoch in trace] == [
            # The end of a pass of unknown length shows when there is no next batch.
            k + 1 if pass_steps is not None else k
            for k in range(EPOCHS)
        ]
        return
    for k, epoch in enumerate(trace, 1):
        *before, last = [(steps, samples) for (_, _, ends, _), (_, _, steps, samples), _ in epoch if ends]
        if isinstance(size, int):
            reached = [steps >= k * size for steps, _ in (*before, last)]
        elif "samples" in size:
            reached = [samples >= k * size["samples"] for _, samples in (*before, last)]
        else:
            assert pass_steps is not None
            reached = [steps >= k * size["passes"] * pass_steps for steps, _ in (*before, last)]
        assert reached == [False] * len(before) + [True]


@given(st.sampled_from(sorted(STREAMS)), sizes, st.sampled_from([0, 2]))
def test_the_last_batch_of_an_epoch_is_known_for_it(kind: str, size: Any, buffer: int) -> None:
    wrapper = wrap(kind, epoch_size=size, buffer_size=buffer)
    if isinstance(size, dict) and "passes" in size and wrapper.num_steps_per_pass is None:
        return
    is_known = size is not None or wrapper.num_steps_per_pass is not None
    for _ in range(EPOCHS):
        assert not wrapper.ends_epoch
        told = [wrapper.ends_epoch for _ in wrapper]
        assert told == [False] * (len(told) - 1) + [is_known]
    assert not wrapper.ends_epoch
    wrapper.close()


def test_without_a_size_an_epoch_is_a_pass_and_passes_differ() -> None:
    trace = run(wrap("round robin"), 3)
    assert [sorted(x for batch in epoch for x in batch[0][1]) for epoch in trace] == [
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6]
    ] * 3
    assert len({str([batch[0] for batch in epoch]) for epoch in trace}) == 3
    generated = run(wrap("generator"), 3)
    assert len({str([batch[0] for batch in epoch]) for epoch in generated}) == 3


def test_a_plain_generator_is_undisturbed_by_its_consumer_and_disturbs_nobody() -> None:
    seed_everything(0)
    calm_trace = run(wrap("generator", epoch_size=4), 3)
    after = random.random(), np.random.rand(), torch.rand(1).item()
    assert run(wrap("generator", epoch_size=4), 3, noisy=True) == calm_trace
    seed_everything(0)
    assert after == (random.random(), np.random.rand(), torch.rand(1).item())
    other_seed = StreamWrapper(drawing, epoch_size=4, name="s", seed=6)
    assert [batch[0] for epoch in run(other_seed, 3) for batch in epoch] != [b[0] for e in calm_trace for b in e]


def test_a_torch_data_loader_is_isolated_too() -> None:
    def stream() -> Any:
        return torch.utils.data.DataLoader([{"x": i} for i in range(6)], batch_size=2, shuffle=True)  # type: ignore[arg-type]

    calm_trace = run(StreamWrapper(stream, name="s"), 2)
    disturb()
    assert run(StreamWrapper(stream, name="s"), 2, noisy=True) == calm_trace
    assert calm_trace[0] != calm_trace[1]


def test_fast_forward_says_so(caplog: pytest.LogCaptureFixture) -> None:
    first = wrap("generator", epoch_size=2)
    assert len(list(first)) == 2
    second = wrap("generator", epoch_size=2)
    second.load_state_dict(first.state_dict())
    with caplog.at_level(logging.INFO):
        list(second)
    assert [record.getMessage() for record in caplog.records if record.name.endswith("reading_again")] == (
        [f"stream 's': its first {first.state_dict()['pass_batches']} batches are read again to go on after them"]
    )


def test_a_state_is_loaded_before_iterating_and_into_the_same_kind() -> None:
    wrapper = wrap("list")
    state = wrapper.state_dict()
    next(iter(wrapper))
    with pytest.raises(CheckpointError, match="stream 's' has been iterated"):
        wrapper.load_state_dict(state)
    with pytest.raises(CheckpointError, match="not the kind of stream"):
        wrap("mixed").load_state_dict(state)
    with pytest.raises(CheckpointError, match="none of ours"):
        wrap("list").load_state_dict({"bogus": 1})


def test_a_stream_that_has_become_shorter_is_an_error() -> None:
    state = wrap("calm generator").state_dict() | {"pass_batches": 4, "inside": True}
    wrapper = wrap("calm generator")
    wrapper.load_state_dict(state)
    with pytest.raises(DataError, match="stream 's', batch 4: the stream ended after 3 batches, but 4 were read"):
        list(wrapper)
    for kind, length in (("list", 5), ("round robin", 6)):
        wrapper = wrap(kind)
        wrapper.load_state_dict(wrap(kind).state_dict() | {"pass_batches": 9, "pass_steps": 9, "inside": True})
        with pytest.raises(DataError, match=f"stream 's' has {length} batches, but 9 were read of it before"):
            list(wrapper)


# ------------------------------------------------------------------------------------------------------------- batches


def test_mappings_are_wrapped_and_batches_copied() -> None:
    own = Batch({"x": [1, 2]}, data_name="n", ends_step=False)
    made = list(StreamWrapper(lambda: [{"x": [1]}, own], name="s"))
    assert [type(batch) for batch in made] == [Batch, Batch]
    assert made[1] is not own
    assert (made[1].data_name, made[1].ends_step, made[1].size) == ("n", False, 2)
    made[1]["loss"] = 1
    assert "loss" not in own


def test_prepare_is_called_once_per_batch_that_is_not_prepared() -> None:
    ready = Batch({"x": [1]})
    ready.prepared = True
    seen: list[Batch] = []

    def prepare(batch: Batch) -> Batch:
        seen.append(batch)
        twin = batch.copy()
        twin["prepared"] = [True]
        return twin

    made = list(StreamWrapper(lambda: [{"x": [0]}, ready], name="s", prepare=prepare))
    assert len(seen) == 1
    assert ["prepared" in batch for batch in made] == [True, False]


@pytest.mark.parametrize("buffer", [0, 2])
def test_data_errors_name_stream_batch_and_loader(buffer: int) -> None:
    def refuse(batch: Batch) -> Batch:
        if 3 in batch["x"]:
            raise DataError("task 't': no")
        return batch

    stream = TaskStream([TaskLoader(columns("a", 6), split="v", batch_size=2)])
    wrapper = StreamWrapper(lambda: stream, buffer, name="valid", prepare=refuse)
    batches = iter(wrapper)
    next(batches)
    with pytest.raises(DataError, match=r"^stream 'valid', batch 1, loader 'a': task 't': no$") as caught:
        next(batches)
    assert str(caught.value.__cause__) == "task 't': no"
    wrapper.close()


def test_data_errors_of_samples_name_the_loader() -> None:
    stream = TaskStream([TaskLoader([{"x": 1}, {"y": 1}], name="odd", split="v", batch_size=2)])
    with pytest.raises(DataError, match=r"^stream 'valid', batch 0: loader 'odd': source 'x' is in some"):
        list(StreamWrapper(lambda: stream, name="valid"))


def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(DataError, match="stream 's', batch 1: a batch is a mapping .*, not a int"):
        list(StreamWrapper(lambda: iter([{"x": [1]}, 2]), name="s"))
    with pytest.raises(DataError, match="stream 's' is a int; an iterable"):
        list(StreamWrapper(lambda: 3, name="s"))


def test_a_loader_may_be_a_stream() -> None:
    loader = TaskLoader(columns("a", 20), batch_size=20)
    wrapper = StreamWrapper(lambda: loader, name="s")
    first, second = list(wrapper), list(wrapper)
    assert wrapper.num_batches_per_pass == 1
    assert first[0]["x"].tolist() != second[0]["x"].tolist()


@pytest.mark.parametrize("size", [None, 3, {"samples": 3}])
@pytest.mark.parametrize("buffer", [0, 2])
@pytest.mark.parametrize("empty", [list, lambda: iter([]), lambda: TaskStream([])])
def test_an_empty_stream_makes_empty_epochs(size: Any, buffer: int, empty: Any) -> None:
    wrapper = StreamWrapper(empty, buffer, size, name="s", deterministic=True)
    assert list(wrapper) == list(wrapper) == []
    wrapper.close()


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (Batch({"x": []}), {"samples": 3}),
        (Batch({"x": [1]}, ends_step=False), 3),
        (Batch({"x": torch.tensor(1)}), {"samples": 2}),
    ],
)
@pytest.mark.parametrize("buffer", [0, 1])
def test_a_pass_that_cannot_be_measured_ends_the_epoch(batch: Batch, size: Any, buffer: int) -> None:
    wrapper = StreamWrapper(lambda: [batch] * 2, buffer, size, name="s")
    assert [len(list(wrapper)), len(list(wrapper))] == [2, 2]
    wrapper.close()


def test_a_stream_that_dries_up_ends_the_epoch() -> None:
    passes = iter([[{"x": [1]}], []])
    wrapper = StreamWrapper(lambda: iter(next(passes)), epoch_size=5, name="s")
    assert len(list(wrapper)) == 1


# ------------------------------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    ("kind", "size", "steps", "batches", "epoch_steps"),
    [
        ("round robin", None, 6, 6, 6),
        ("mixed", {"passes": 0.5}, 4, 8, 2),
        ("mixed", {"passes": 0.3}, 4, 8, None),
        ("mixed", 3, 4, 8, 3),
        ("list", {"samples": 3}, 5, 5, None),
        ("unknown length", None, None, None, None),
        ("generator", 7, None, None, 7),
        ("generator", None, None, None, None),
    ],
)
def test_lengths(kind: str, size: Any, steps: Any, batches: Any, epoch_steps: Any) -> None:
    wrapper = wrap(kind, epoch_size=size)
    assert (wrapper.num_steps_per_pass, wrapper.num_batches_per_pass) == (steps, batches)
    assert wrapper.epoch_steps == epoch_steps


def test_lengths_cost_no_extra_call_of_the_stream_function() -> None:
    calls = []

    def stream() -> Any:
        calls.append(1)
        return [{"x": [1]}]

    wrapper = StreamWrapper(stream, name="s")
    assert wrapper.epoch_steps == 1
    list(wrapper)
    wrapper.state_dict()
    assert len(calls) == 1
    list(wrapper)
    assert len(calls) == 2


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match=r"main_loop\.buffer: -1"):
        StreamWrapper(list, -1)
    with pytest.raises(ConfigError, match=r"main_loop\.fixed_epoch_size"):
        StreamWrapper(list, 0, 0)
    with pytest.raises(ConfigError, match=r"main_loop\.fixed_epoch_size: a size in passes"):
        _ = StreamWrapper(drawing, 0, {"passes": 1}).epoch_steps


# ------------------------------------------------------------------------------------------------------------- threads


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead-")]


@pytest.mark.parametrize("kind", sorted(STREAMS))
def test_threads_end_with_close(kind: str) -> None:
    wrapper = wrap(kind, buffer_size=2, epoch_size=3)
    with wrapper:
        next(iter(wrapper))
    threaded = kind not in ("generator", "augmented", "unknown length")
    assert len(readers()) == threaded
    wrapper.close()
    assert readers() == []


def test_a_forgotten_wrapper_leaves_no_thread() -> None:
    wrapper = wrap("list", buffer_size=2)
    next(iter(wrapper))
    assert len(readers()) == 1
    del wrapper
    gc.collect()
    assert readers() == []


def test_what_was_read_ahead_is_kept_between_epochs() -> None:
    read: list[int] = []

    class Counting(ColumnDataset):
        deterministic = True

        def __getitems__(self, indices: Any) -> dict[str, Any]:
            read.extend(indices.tolist())
            return super().__getitems__(indices)

    stream = TaskStream([TaskLoader(Counting("a", {"x": torch.arange(8)}), split="v", batch_size=1)])
    wrapper = StreamWrapper(lambda: stream, 4, 2, name="s")
    for _ in range(4):
        with wrapper:
            assert len(list(wrapper)) == 2
    wrapper.close()
    assert read == list(range(8))


def test_a_thread_may_read_from_worker_processes() -> None:
    def trace(buffer: int, **options: Any) -> Any:
        stream = TaskStream([TaskLoader(Augmented(), batch_size=2, **options)])
        return run(StreamWrapper(lambda: stream, buffer, 4, name="s"), 2)

    assert trace(2, num_workers=1) == trace(0)


@pytest.mark.parametrize(("kind", "remedy"), [("generator", "attribute deterministic"), ("augmented", "num_workers")])
def test_streams_that_may_draw_are_read_without_a_buffer(
    kind: str, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrapper = wrap(kind, buffer_size=2)
    with caplog.at_level(logging.WARNING):
        list(wrapper)
        list(wrapper)
    [record] = caplog.records
    assert "stream 's' is read without a buffer: " in record.getMessage()
    assert remedy in record.getMessage()


def test_determinism_can_be_declared_by_function_dataset_or_argument() -> None:
    class Dataset:
        deterministic = True

        def train_stream(self) -> Any:
            return calm()

    def function() -> Any:
        return calm()

    function.deterministic = True  # type: ignore[attr-defined]
    for wrapper in (
        StreamWrapper(Dataset().train_stream, 1, name="s"),
        StreamWrapper(function, 1, name="s"),
        StreamWrapper(calm, 1, name="s", deterministic=True),
    ):
        next(iter(wrapper))
        assert len(readers()) == 1
        wrapper.close()


def test_any_error_of_the_thread_arrives_and_reading_can_go_on() -> None:
    failing = [True]

    def prepare(batch: Batch) -> Batch:
        if batch["x"] == [2] and failing.pop():
            failing.append(False)
            raise KeyError("transient")
        return batch

    wrapper = StreamWrapper(lambda: [{"x": [i]} for i in range(4)], 3, name="s", prepare=prepare)
    seen = []
    with pytest.raises(KeyError, match="transient"):
        for batch in wrapper:
            seen.append(batch["x"][0])
    assert readers() == []
    seen += [batch["x"][0] for batch in wrapper]
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("buffer", [0, 2])
def test_waiting_for_batches_is_profiled(buffer: int) -> None:
    profile: dict[str, list[float]] = {}
    wrapper = wrap("list", buffer_size=buffer, profile=profile)
    list(wrapper)
    assert len(profile["read_batch_s"]) == 5
    assert all(seconds >= 0 for seconds in profile["read_batch_s"])
    profile.clear()
    list(wrapper)
    assert len(profile["read_batch_s"]) == 5


def test_what_emloop_models_and_the_main_loop_use() -> None:
    wrapper = wrap("list")
    with wrapper.allow_buffering:
        assert wrapper.outputs is None
    wrapper.name = "other"
    assert wrapper.name == "other"


def test_an_interrupt_does_not_wait_for_a_batch_that_never_comes() -> None:
    never = threading.Event()

    class Hanging(ColumnDataset):
        deterministic = True

        def __getitems__(self, indices: Any) -> dict[str, Any]:
            never.wait()
            return super().__getitems__(indices)

    stream = TaskStream([TaskLoader(Hanging("d", {"x": [1]}), batch_size=1)])
    wrapper = StreamWrapper(lambda: stream, buffer_size=1, deterministic=True)
    alarm = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    alarm.start()
    with pytest.raises(KeyboardInterrupt):
        next(iter(wrapper))
    assert len(readers()) == 1
    never.set()
    for thread in readers():
        thread.join()
