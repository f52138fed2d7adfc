"""What objects get in the place of what they consist of."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import multiprocessing
import random
import sys
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from enum import Enum
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from emloop_mtl import AbstractHook, Action, Task
from emloop_mtl.models import own_states
from emloop_mtl.models.cannot_tell import CannotTell
from emloop_mtl.models.own_states import OwnStates
from emloop_mtl.models.state_copies import StateCopies


class Plain:
    """An object like any other."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def part(self) -> Any:
        return vars(self)["value"]


class Slotted(Plain):
    """Has an attribute beside the others."""

    __slots__ = ("beside",)


class Rolls(random.Random):
    """Keeps most of what it is to itself."""


class Notes(AbstractHook):
    """Belongs to a training, with all that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[Any] = []


class Reading(threading.Thread):
    """Reads while others do something else."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Any] = []


class Rows(Dataset[Any]):
    """Data, which may be large."""


class Kind(Enum):
    """There is one of each."""

    ONE = 1


def worn(value: Any, of: Callable[[Any], Any] = lambda plain: plain.value) -> Any:
    """Return what an attribute of an object is while the object has a state of its own."""
    plain, copies = Plain(value=value), StateCopies()
    assert copies.copied(plain) is plain
    assert of(plain) is value
    with copies.states.worn():
        own = of(plain)
    assert of(plain) is value
    return own


CONTAINERS: list[Any] = [
    [1, [2]],
    (1, [2]),
    {"a": [1]},
    OrderedDict(b=[1]),
    {1, 2},
    deque([[1]], maxlen=3),
    SimpleNamespace(a=[1]),
    bytearray(b"ab"),
]


@pytest.mark.parametrize("value", CONTAINERS, ids=lambda value: type(value).__name__)
def test_a_container_is_copied_with_what_is_in_it(value: Any) -> None:
    own = worn(value)
    assert type(own) is type(value)
    assert own == value
    assert own is not value
    inner = [list(vars(each).values()) if isinstance(each, SimpleNamespace) else list(each) for each in (own, value)]
    parts = [(one, other) for one, other in zip(*inner, strict=True) if isinstance(one, list)]
    assert all(one is not other for one, other in parts)
    assert getattr(own, "maxlen", None) == getattr(value, "maxlen", None)


def test_a_default_is_kept() -> None:
    assert worn(defaultdict(int, a=1))["b"] == 0


SHARED: dict[str, Callable[[Path], Any]] = {
    "a lock": lambda _: threading.Lock(),
    "a function": lambda _: worn,
    "a class": lambda _: Plain,
    "a member of an enumeration": lambda _: Kind.ONE,
    "data": lambda _: Rows(),
    "a file": lambda path: io.StringIO(),
    "a thread": lambda _: threading.Thread(),
    "a loader": lambda _: DataLoader(Rows()),
    "a reference": lambda _: weakref.ref(Plain),
    "an array on a disk": lambda path: np.memmap(path / "array", dtype=np.int8, mode="w+", shape=(3,)),
    "an array that nobody may write to": lambda _: np.broadcast_to(np.zeros(1), (3,)),
    "what is partly a lock": lambda _: threading.Event(),
}


@pytest.mark.parametrize("kind", SHARED)
def test_what_cannot_be_copied_or_should_not_stays_itself(kind: str, tmp_path: Path) -> None:
    value = SHARED[kind](tmp_path)
    assert worn(value) is value
    beside = worn({"shared": value, "own": []})
    assert beside["shared"] is value


def test_what_is_beside_something_that_cannot_be_copied_is_copied() -> None:
    value = [threading.Lock(), [1], Plain(value=[2])]
    own = worn(value)
    assert own[0] is value[0]
    assert own[1] == [1]
    assert own[1] is not value[1]


def test_objects_stay_themselves_and_have_other_attributes() -> None:
    inner = Plain(value=[1], lock=threading.Lock())
    outer, copies = Plain(value=inner, other=(inner,)), StateCopies()
    copies.copied(outer)
    with copies.states.worn():
        assert outer.value is inner
        assert outer.other[0] is inner
        inner.value.append(2)
        inner.new = 3
    assert inner.value == [1]
    assert not hasattr(inner, "new")
    with copies.states.worn():  # what was changed is there again
        assert inner.value == [1, 2]
        assert inner.new == 3


def test_what_is_met_twice_is_one() -> None:
    part: list[Any] = [1]
    ring: list[Any] = [part, part]
    ring.append(ring)
    own = worn(ring)
    assert own[0] is own[1]
    assert own[2] is own
    outer: list[Any] = []
    pair = (outer, part)
    outer.append(pair)
    mirrored = worn(pair)
    assert mirrored[0][0] is mirrored


def test_methods_are_those_of_the_copies() -> None:
    generator, array = random.Random(1), np.random.default_rng(1)
    copies = StateCopies()
    values = [generator.random, array.normal, [].append, Plain(value=1).part, functools.partial(generator.random)]
    plain = Plain(values=values, plain=str.upper, made=dict.fromkeys)
    copies.copied(plain)
    with copies.states.worn():
        first = [plain.values[0](), plain.values[1](), plain.values[4]()]
        plain.values[2](1)
        assert plain.values[3].__self__ is values[3].__self__  # type: ignore[attr-defined]
        assert plain.plain is str.upper
        assert plain.made("a") == {"a": None}
    assert values[2].__self__ == []  # type: ignore[attr-defined]
    assert [generator.random(), array.normal()] == first[:2]


class Counts:
    """Can be iterated, and consists of what can be copied."""

    def __init__(self) -> None:
        self.next = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.next += 1
        return self.next


def test_an_iterator_is_copied() -> None:
    assert next(worn(iter([1, 2]))) == 1
    counts, copies = Counts(), StateCopies()
    copies.copied(counts)
    with copies.states.worn():
        assert next(counts) == 1
    assert next(counts) == 1


@pytest.mark.parametrize("inside", [False, True])
def test_one_that_would_move_on_is_refused(inside: bool) -> None:
    steps = (number for number in range(3))
    with pytest.raises(CannotTell, match="a generator cannot be copied, and would not stay what it is"):
        worn([steps] if inside else steps)


class Ends:
    """Does something at its end."""

    ended = 0

    def __del__(self) -> None:
        type(self).ended += 1


def test_nothing_ends_with_a_copy() -> None:
    value = SimpleNamespace(parts=[{"end": Ends()}])
    worn(value)
    assert Ends.ended == 0


def test_objects_that_are_more_than_their_attributes_are_copied() -> None:
    slotted = Slotted(value=[1])
    slotted.beside = 2  # type: ignore[attr-defined]
    own = worn(slotted)
    assert own is not slotted
    assert own.value == [1]
    assert own.value is not slotted.value
    assert own.beside == 2
    rolls = Rolls(1)
    assert worn(rolls).random() == rolls.random()


def test_parts_of_a_training_stay_what_they_are() -> None:
    hook = Notes()
    plain, copies = Plain(value=hook), StateCopies()
    copies.copied(plain)
    with copies.states.worn():
        plain.value.notes.append(1)
    assert hook.notes == [1]


def test_what_other_threads_use_stays_what_it_is() -> None:
    copies, reading, event = StateCopies(), Reading(), threading.Event()
    copies.copied(Plain(value=[reading, event]))
    with copies.states.worn():
        reading.read.append(1)
        event.set()
    assert reading.read == [1]
    assert event.is_set()


def test_tasks_stay_themselves_wherever_the_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[Task.__module__], "__file__", "/env/lib/site-packages/emloop_mtl/tasks/task.py")
    task = Task("kind", {"head": nn.Linear(2, 2)}, [Action("out", "head", "x")])
    assert worn(task) is task


class Shapes(tuple[int, ...]):
    """A kind of tuple."""


def test_what_was_half_copied_is_forgotten() -> None:
    part = [threading.Lock(), 1]
    event = threading.Event()
    event.__dict__ = {"part": part, **vars(event)}
    own = worn([event, part, Shapes((1, 2))])
    assert own[0] is event
    assert own[1] == part
    assert own[2] == (1, 2)
    assert isinstance(own[2], Shapes)


class Sealed:
    """Is more than its attributes, and says itself how it is copied."""

    __slots__ = ("copied",)

    def __init__(self, copied: Callable[[], Sealed]) -> None:
        self.copied = copied

    def __deepcopy__(self, memo: object) -> Sealed:
        return self.copied()


def fail_with(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_too_little_memory_is_told(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        worn(Sealed(fail_with(kind())))


UNFIT: dict[str, Callable[[], Any]] = {
    "what cannot be copied, and is more than its attributes": lambda: Sealed(fail_with(TypeError("no copies"))),
    "a queue": Queue,
    "a result that is to come": Future,
    "numbers of several processes": lambda: multiprocessing.Value("i"),
    "a view of memory": lambda: memoryview(bytearray(3)),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_would_be_changed_if_it_were_shared_is_refused(kind: str) -> None:
    with pytest.raises(CannotTell):
        worn([UNFIT[kind]()])


def waiting_for(event: threading.Event) -> Callable[[], None]:
    """Return what waits, and is of this module."""

    def wait() -> None:
        event.wait(60)

    return wait


def test_what_a_thread_may_change_is_refused() -> None:
    done = threading.Event()
    thread = threading.Thread(target=waiting_for(done))
    thread.start()
    try:
        with pytest.raises(CannotTell, match="a thread runs what tests.models.test_state_copies defines"):
            worn(1)
    finally:
        done.set()
        thread.join()
    assert worn(1) == 1


class Mark:
    """Is asked for by ``is``."""

    __slots__ = ()


@pytest.mark.parametrize("mark", [object(), Mark(), dataclasses.MISSING])
def test_marks_stay_themselves(mark: object) -> None:
    assert worn([mark])[0] is mark


class ByName(dict[str, Any]):
    """Has its entries as attributes."""

    def __init__(self, **entries: Any) -> None:
        super().__init__(entries)
        self.__dict__ = self  # type: ignore[assignment]


class Strict(dict[str, Any]):
    """Knows no attributes that are no entries, and takes no new ones."""

    __getattr__ = dict.__getitem__

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError("read only")

    def clear(self) -> None:
        raise TypeError("read only")


class Ordered(OrderedDict[str, Any]):
    """Has attributes beside its entries."""


class Listed(list[Any]):
    """A kind of list."""


class Chosen(set[int]):
    """A kind of set."""


KINDS: list[Any] = [ByName(a=[1]), Strict(a=[1]), Ordered(b=[1], a=[2]), Listed([[1]]), Chosen([1])]


@pytest.mark.parametrize("value", KINDS, ids=lambda value: type(value).__name__)
def test_kinds_of_containers_stay_themselves_and_have_other_entries(value: Any) -> None:
    before, copies = copy.copy(list(value)), StateCopies()
    if isinstance(value, Ordered):
        value.note = [3]  # type: ignore[attr-defined]
    copies.copied(value)
    with copies.states.worn():
        assert list(value) == before
        if isinstance(value, ByName):
            assert value.a is value["a"]
        if isinstance(value, dict):
            dict.__setitem__(value, "new", 1)
            assert not isinstance(value, ByName) or value.new == 1
            next(iter(value.values())).append(2)
            if isinstance(value, Ordered):
                value.note.append(4)  # type: ignore[attr-defined]
                value.move_to_end("b")
        elif isinstance(value, list):
            value[0].append(2)
            value.append(3)
        else:
            value.add(2)
    assert list(value) == before
    if isinstance(value, dict):
        assert next(iter(value.values())) == [1]
        assert not isinstance(value, Ordered) or value.note == [3]  # type: ignore[attr-defined]
    elif isinstance(value, list):
        assert value == [[1]]


class Proxy:
    """Looks like something else."""

    def __init__(self, target: Any) -> None:
        object.__setattr__(self, "target", target)

    def __getattribute__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "target"), name)


class Described:
    """Says something else of its attributes."""

    def __init__(self) -> None:
        self.value = [1]

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"value": "a list"}


def test_objects_that_say_something_else_of_their_attributes_are_copied() -> None:
    own = worn(described := Described())
    assert own is not described


def test_what_installed_packages_with_threads_make_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "__file__", "/env/lib/site-packages/tests/models/test_state_copies.py")
    done = threading.Event()
    thread = threading.Thread(target=waiting_for(done))
    thread.start()
    try:
        copies = StateCopies()
        plain = Plain(value=[1])
        assert copies.copied([plain])[0] is plain
        with copies.states.worn():
            plain.value.append(2)
        assert plain.value == [1, 2]
    finally:
        done.set()
        thread.join()


def test_what_stands_for_something_else_stays_so() -> None:
    target, copies = Plain(value=[1]), StateCopies()
    proxy = Proxy(target)
    copies.copied(proxy)
    with copies.states.worn():
        proxy.value.append(2)
    assert proxy.value is target.value
    assert target.value == [1]


def test_tensors_are_copied_with_what_they_share() -> None:
    memory = torch.arange(4.0)
    own = worn([memory, memory[1:], nn.Parameter(torch.ones(2)) * 2])
    own[0][1] = 7
    assert own[1][0] == 7
    assert memory[1] == 1
    assert own[2].tolist() == [2, 2]


def test_hooks_are_those_that_there_were() -> None:
    module, copies = nn.Linear(2, 2), StateCopies()
    handle = module.register_forward_hook(lambda *_: None)
    copies.add(module.modules())
    with copies.states.worn():
        handle.remove()
        module.register_forward_pre_hook(lambda *_: None)
        assert not module._forward_hooks
    assert len(module._forward_hooks) == 1
    assert not module._forward_pre_hooks
    with copies.states.worn():
        assert not module._forward_hooks
        assert module._forward_pre_hooks
    handle.remove()
    assert not module._forward_hooks


class Interrupts:
    """Interrupts so often where entries are put."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        put = own_states._Entries.put

        def interrupted(entries: Any) -> None:
            if self.left:
                self.left -= 1
                raise KeyboardInterrupt
            put(entries)

        monkeypatch.setattr(own_states._Entries, "put", interrupted)


def two_states() -> tuple[OwnStates, list[Plain], dict[str, int]]:
    """Return states of two objects, and of a mapping between them."""
    states, objects, mapping = OwnStates(), [Plain(value=1), Plain(value=2)], {"a": 1}
    states.add(objects[0], {"value": 3})
    states.add_entries(mapping, [("a", 5)])
    states.add(objects[1], {"value": 4})
    return states, objects, mapping


@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupt_waits_until_all_states_are_put_back(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (states, objects, mapping), interrupts = two_states(), Interrupts(monkeypatch)
    with pytest.raises(KeyboardInterrupt), states.worn():
        assert [*map(Plain.part, objects), mapping] == [3, 4, {"a": 5}]
        interrupts.left = times
    assert [*map(Plain.part, objects), mapping] == [1, 2, {"a": 1}]
    with states.worn():
        assert [*map(Plain.part, objects), mapping] == [3, 4, {"a": 5}]


def test_an_interrupt_before_all_have_their_states_leaves_these_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    (states, objects, mapping), interrupts = two_states(), Interrupts(monkeypatch)
    interrupts.left = 1
    with pytest.raises(KeyboardInterrupt), states.worn():
        raise AssertionError("never comes here")
    assert [*map(Plain.part, objects), mapping] == [1, 2, {"a": 1}]
    with states.worn():
        assert [*map(Plain.part, objects), mapping] == [3, 4, {"a": 5}]
