"""Checkpoints whose streams, loop or random state are broken or made up, and data that are not what they were."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl import Mixed, MultiTaskDataset, RoundRobin, Sequential
from emloop_mtl.checkpoint import Checkpoint, newest_checkpoint
from emloop_mtl.data import ColumnDataset, StreamWrapper, TaskLoader, TaskStream
from emloop_mtl.errors import CheckpointError, ConfigError, DataError
from emloop_mtl.hooks import Evaluate, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeModel, SaveAndFail
from emloop_mtl.utils.random import check_random_state, get_random_state, host_state, same_host_state


class Data(MultiTaskDataset):
    def loaders(self) -> list[TaskLoader]:
        columns = ColumnDataset("a", {"x": torch.arange(6)})
        return [
            TaskLoader(columns, batch_size=2),
            TaskLoader([{"x": 1}, {"x": 2}], name="b", batch_size=1),
            TaskLoader(columns, split="valid", batch_size=2),
        ]


def make_loop(folder: Path, fail_at: int | None = None) -> MainLoop:
    hooks = [Evaluate(streams=["valid"]), SaveAndFail(fail_at=fail_at), StopAfter(epochs=2)]
    return MainLoop(FakeModel(), Data(seed=1), hooks, output_dir=folder)


@pytest.fixture(scope="module", params=["in a training epoch", "in an evaluation"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("run")
    # The zeroth epoch has 5 batches of train, 3 of valid and its end; the first one as many.
    with pytest.raises(RuntimeError, match="failed at moment"):
        make_loop(folder, fail_at=13 if request.param == "in a training epoch" else 17).run_training()
    found = newest_checkpoint(folder / "checkpoints")
    assert (found.state["streams"]["evaluated"] is None) == (request.param == "in a training epoch")
    return found


def places(state: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield where
    if isinstance(state, dict):
        for key, value in state.items():
            yield from places(value, (*where, key))
    elif isinstance(state, list):
        for index, value in enumerate(state):
            yield from places(value, (*where, index))


STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**30,
    2**63,
    0.5,
    float("nan"),
    "",
    "train",
    b"\0",
    [],
    [1],
    (),
    {},
    {"a": 1},
    {1: 2},
)
TENSORS = (torch.zeros(0), torch.zeros(16, dtype=torch.uint8), torch.full((625,), 2**33), torch.tensor(-1))


def broken(state: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return the state with something in it replaced, left out or added."""
    state = copy.deepcopy(state)
    part = chance.choice(["streams", "loop", "random"])
    where = chance.choice([(part, *place) for place in places(state[part])])
    owner: Any = state
    for key in where[:-1]:
        owner = owner[key]
    match chance.randrange(6):
        case 0 if isinstance(owner, dict):
            del owner[where[-1]]
        case 1 if isinstance(owner, dict):
            owner[chance.choice(["new", 7])] = chance.choice(STRANGE)
        case _:
            owner[where[-1]] = chance.choice(STRANGE + TENSORS)
    return state


def check_broken(checkpoint: Checkpoint, folder: Path, seed: int) -> str | None:
    """Restore a broken state and go on; return what was said, if anything was, and the training ended there."""
    loop = make_loop(folder)
    state = broken(checkpoint.state, random.Random(seed))
    before = host_state()
    try:
        loop.restore(replace(checkpoint, state=state))
    except (CheckpointError, ConfigError) as error:  # the latter for a stream that does not exist
        assert same_host_state(before, host_state())
        return str(error)
    try:
        loop.run_training()
    except (CheckpointError, ConfigError, DataError) as error:  # of streams, or a place in them, that do not exist
        return str(error)
    return None


@pytest.mark.parametrize("first", [0, 100, 200])
def test_a_broken_state_is_refused_in_one_line(checkpoint: Checkpoint, tmp_path: Path, first: int) -> None:
    said = [check_broken(checkpoint, tmp_path / str(seed), seed) for seed in range(first, first + 20)]
    told = [text for text in said if text is not None]
    assert len(told) >= 10  # what is not refused is as harmless as another number of samples
    assert not any("\n" in text for text in told)


@pytest.mark.parametrize(
    ("part", "value", "text"),
    [
        ("streams", None, "no streams have written None"),
        ("loop", {"zeroth_done": True}, "the main loop has written no {'zeroth_done': True}"),
        ("random", {}, "its random state is none of ours: KeyError: 'numpy'"),
    ],
)
def test_a_part_that_is_none_is_told_with_the_checkpoint(
    checkpoint: Checkpoint, tmp_path: Path, part: str, value: Any, text: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        make_loop(tmp_path).restore(replace(checkpoint, state=checkpoint.state | {part: value}))
    assert str(caught.value) == f"{checkpoint.path}: {text}"


def test_an_evaluation_that_cannot_go_on_is_refused_before_anything_is_trained(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    streams = copy.deepcopy(checkpoint.state["streams"])
    streams["evaluated"] = {**(streams["evaluated"] or streams["train"]), "name": "valid", "pass_steps": -1}
    with pytest.raises(CheckpointError, match="stream 'valid' cannot go on: .*pass_steps is -1"):
        make_loop(tmp_path).restore(replace(checkpoint, state=checkpoint.state | {"streams": streams}))


@pytest.mark.parametrize(
    ("counter", "value", "text"),
    [
        ("pass_steps", -1, "pass_steps is -1"),
        ("pass_steps", True, "pass_steps is True"),
        ("batches", 2**63, "batches is 9223372036854775808"),
        ("inside", 1, "inside is 1"),
        ("steps", torch.zeros(30), "steps is tensor([0., 0., 0., "),
    ],
)
def test_a_counter_that_is_none_is_named(counter: str, value: Any, text: str) -> None:
    wrapper = StreamWrapper(list, name="s")
    state = wrapper.state_dict() | {counter: value}
    with pytest.raises(CheckpointError) as caught:
        wrapper.load_state_dict(state)
    assert str(caught.value).startswith(f"stream 's' cannot go on: the state is none of ours: {text}")
    assert "\n" not in str(caught.value)


def test_a_place_outside_of_numpys_numbers_is_not_tried() -> None:
    state = get_random_state()
    check_random_state(state)
    state["numpy"]["state"]["pos"] = 10**6  # numpy reads there
    before = host_state()
    with pytest.raises(CheckpointError, match="numpy's generator stands outside"):
        check_random_state(state)
    assert same_host_state(before, host_state())


# ------------------------------------------------------------------------------------------------------------- changes


def make_stream(
    change: Callable[[dict[str, Any]], None] | None = None, scheduler: Any = None, seed: int = 1, split: str = "train"
) -> TaskStream:
    """A stream of two loaders after a change of their arguments."""
    arguments: dict[str, Any] = {
        "a": {"dataset": [{"x": n} for n in range(6)], "batch_size": 2, "split": split},
        "b": {"dataset": Divided(), "batch_size": 1, "split": split},
    }
    if change is not None:
        change(arguments)
    loaders = [TaskLoader(options.pop("dataset"), name=name, **options) for name, options in arguments.items()]
    return TaskStream(loaders, scheduler or RoundRobin(), seed)


class Divided(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from ({"x": n} for n in range(5))


def load(stream: TaskStream, taken: int, name: str = "s", size: Any = None) -> StreamWrapper:
    """Read some batches of the stream as it was, and load the state into the one that is given."""
    was = make_stream()
    before = StreamWrapper(lambda: was, name="s", epoch_size=size)
    batches = iter(before)
    for _ in range(taken):
        next(batches)
    wrapper = StreamWrapper(lambda: stream, name=name, epoch_size=size)
    wrapper.load_state_dict(before.state_dict())
    return wrapper


def set_option(loader: str, option: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda arguments: arguments[loader].update({option: value})


def rename(arguments: dict[str, Any]) -> None:
    arguments["c"] = arguments.pop("b")


def turn_round(arguments: dict[str, Any]) -> None:
    arguments["a"] = arguments.pop("a")


CHANGES: dict[str, tuple[TaskStream, str]] = {
    "batch size": (make_stream(set_option("a", "batch_size", 3)), "batch_size of loader 'a' was 2 and is 3"),
    "rows": (make_stream(set_option("a", "dataset", [{"x": 1}] * 7)), "number of rows of loader 'a' was 6 and is 7"),
    "drop": (make_stream(set_option("a", "drop_last", True)), "drop_last of loader 'a' was False and is True"),
    "shuffle": (make_stream(set_option("a", "shuffle", False)), "shuffle of loader 'a' was True and is False"),
    "n_batches": (make_stream(set_option("a", "n_batches", 2)), "n_batches of loader 'a' was None and is 2"),
    "loader's seed": (make_stream(set_option("b", "seed", 9)), "seed of loader 'b' was 0 and is 9"),
    "processes": (
        make_stream(set_option("b", "num_workers", 2)),
        "number of processes that divide the iterable dataset of loader 'b' was 1 and is 2",
    ),
    "renamed": (make_stream(rename), "loader 'b' is gone, loader 'c' is new"),
    "removed": (make_stream(lambda arguments: arguments.__delitem__("a")), "loader 'a' is gone"),
    "added": (
        make_stream(lambda arguments: arguments.update(c={"dataset": [{"x": 0}], "batch_size": 1})),
        "loader 'c' is new",
    ),
    "order": (make_stream(turn_round), "the order of its loaders was 'a', 'b' and is 'b', 'a'"),
    "scheduler": (make_stream(scheduler=Sequential()), "class of its scheduler was 'RoundRobin' and is 'Sequential'"),
    "seed": (make_stream(seed=2), "its seed was 1 and is 2"),
    "split": (make_stream(split="valid"), "split of loader 'a' was 'train' and is 'valid'"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_in_the_middle_of_a_pass_nothing_may_change(kind: str) -> None:
    stream, change = CHANGES[kind]
    with pytest.raises(CheckpointError) as caught:
        load(stream, taken=3)
    text = "in the middle of a pass all must be as it was; undo that, or go on from a checkpoint between two passes"
    assert str(caught.value) == f"stream 's' cannot go on: {change}; {text}"


@pytest.mark.parametrize("kind", CHANGES)
def test_between_two_passes_a_change_is_told(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    stream, change = CHANGES[kind]
    wrapper = load(stream, taken=0)
    assert [record.getMessage() for record in caplog.records] == [f"stream 's' goes on changed: {change}"]
    expected = [batch["x"].tolist() for batch in stream.iterate(0)]
    assert [batch["x"].tolist() for batch in wrapper] == expected


def test_what_changes_no_batch_is_no_change(caplog: pytest.LogCaptureFixture) -> None:
    for change in (set_option("a", "num_workers", 2), set_option("b", "num_workers", 1)):
        wrapper = load(make_stream(change), taken=3)
        expected = [batch["x"].tolist() for batch in make_stream().iterate(0)]
        assert [batch["x"].tolist() for batch in wrapper] == expected[3:]
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_passes_of_another_length_cannot_be_counted_on() -> None:
    def make(rows: int) -> StreamWrapper:
        stream = TaskStream([TaskLoader([{"x": 1}] * rows, name="a", batch_size=2)])
        return StreamWrapper(lambda: stream, epoch_size={"passes": 1.5}, name="s")

    state = make(8).state_dict()
    text = "number of rows of loader 'a' was 8 and is 10; main_loop.fixed_epoch_size counts passes, which had 4 steps"
    with pytest.raises(CheckpointError, match=text):
        make(10).load_state_dict(state)
    make(8).load_state_dict(state)


def test_another_stream_is_refused() -> None:
    with pytest.raises(CheckpointError, match="stream 'other' cannot go on: it was stream 's' that was read"):
        load(make_stream(), taken=0, name="other")


def test_a_generator_that_draws_cannot_go_on_with_another_seed() -> None:
    def drawing() -> Iterator[Any]:
        yield from ({"x": [random.random()]} for _ in range(3))

    def wrap(seed: int, deterministic: bool) -> StreamWrapper:
        return StreamWrapper(drawing, name="s", seed=seed, deterministic=deterministic)

    for deterministic in (False, True):
        before = wrap(1, deterministic)
        next(iter(before))
        state = before.state_dict()
        if deterministic:
            wrap(2, deterministic).load_state_dict(state)
        else:
            with pytest.raises(CheckpointError, match="its seed was 1 and is 2"):
                wrap(2, deterministic).load_state_dict(state)


def test_a_scheduler_is_not_given_the_state_of_another_kind() -> None:
    class Learnt(Sequential):
        learnt = 0

        def state_dict(self) -> dict[str, Any]:
            return {"learnt": 3}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.learnt = state["learnt"]

    def wrap(scheduler: Any) -> StreamWrapper:
        stream = make_stream(scheduler=scheduler)
        return StreamWrapper(lambda: stream, name="s")

    learnt = Learnt()
    wrap(learnt).load_state_dict(wrap(Learnt()).state_dict())
    assert learnt.learnt == 3
    wrap(Mixed()).load_state_dict(wrap(Learnt()).state_dict())
    state = wrap(Mixed()).state_dict() | {"stream": {"learnt": 3}}
    with pytest.raises(CheckpointError, match="stream 's' cannot go on: Mixed keeps no state, but has one"):
        wrap(Mixed()).load_state_dict(state)
    with pytest.raises(CheckpointError, match="stream 's' cannot go on: KeyError: 'learnt'"):
        wrap(Learnt()).load_state_dict(wrap(Learnt()).state_dict() | {"stream": {}})


@pytest.mark.soak
def test_many_broken_states_are_refused_in_one_line(checkpoint: Checkpoint, tmp_path: Path) -> None:
    said = [check_broken(checkpoint, tmp_path / str(seed), seed) for seed in range(1000, 1400)]
    assert not any("\n" in text for text in said if text is not None)
