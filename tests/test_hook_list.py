import logging
from collections.abc import Collection
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data.batch import Batch
from emloop_mtl.epoch_book import EpochBook
from emloop_mtl.errors import CheckpointError, ConfigError, TrainingTerminated
from emloop_mtl.hook_list import HookList
from emloop_mtl.types import EpochData, EpochNumber


class Say(AbstractHook):
    """Notes its name at every event, and raises where it is told to."""

    def __init__(self, log: list[str], word: str, error: BaseException | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._log, self._word, self._error = log, word, error

    def _say(self) -> None:
        self._log.append(self._word)
        if self._error is not None:
            raise self._error

    def before_training(self) -> None:
        self._say()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._say()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self._say()

    def after_training(self, success: bool) -> None:
        self._say()


class Remember(AbstractHook):
    """Keeps a state."""

    def __init__(self, value: int = 0) -> None:
        super().__init__()
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


class Offer(AbstractHook):
    """Provides and requires what it is told to."""

    def __init__(self, provides: Collection[Any] | None = (), requires: Collection[Any] | None = ()) -> None:
        super().__init__()
        self._provides, self._requires = provides, requires

    def after_batch(self, stream_name: str, batch_data: Batch) -> None: ...

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None: ...

    def provides(self) -> Collection[Any] | None:
        return self._provides

    def requires(self) -> Collection[Any] | None:
        return self._requires


class Quiet(Offer):
    """Provides and requires nothing, under another name."""


def test_arguments_of_an_event_may_stand_in_any_order() -> None:
    seen: list[tuple[Any, ...]] = []

    class Turned(AbstractHook):
        def after_batch(self, batch_data: Any, stream_name: str) -> None:
            seen.append((stream_name, batch_data))

    class Named(AbstractHook):
        def after_batch(self, *, stream_name: str, batch_data: Any) -> None:
            seen.append((stream_name, batch_data))

    class Open(AbstractHook):
        def after_batch(self, stream_name: str, **others: Any) -> None:
            seen.append((stream_name, others["batch_data"]))

    batch = Batch({"x": [1]})
    HookList([Turned(), Named(), Open()]).after_batch("train", batch)
    assert seen == [("train", batch)] * 3


def test_hooks_act_in_the_order_of_the_list() -> None:
    log: list[str] = []
    hooks = HookList([Say(log, "a"), Say(log, "b")])
    hooks.after_batch("train", Batch())
    assert log == ["a", "b"]


def test_termination_lets_the_others_see_the_event_and_the_first_wish_counts() -> None:
    log: list[str] = []
    first, second = TrainingTerminated("first"), TrainingTerminated("second")
    hooks = HookList([Say(log, "a", first), Say(log, "b", second), Say(log, "c")])
    assert hooks.after_batch("train", Batch()) is first
    assert hooks.after_epoch(1, EpochBook()) is first
    assert log == ["a", "b", "c"] * 2


def test_any_other_error_ends_the_event() -> None:
    log: list[str] = []
    hooks = HookList([Say(log, "a", RuntimeError("no")), Say(log, "b")])
    with pytest.raises(RuntimeError, match="no"):
        hooks.after_batch("train", Batch())
    assert log == ["a"]


def test_only_started_hooks_are_told_of_the_end() -> None:
    log: list[str] = []
    hooks = HookList([Say(log, "a"), Say(log, "b", RuntimeError("cannot start")), Say(log, "c")])
    with pytest.raises(RuntimeError, match="cannot start"):
        hooks.before_training()
    hooks.after_training(success=False)
    assert log == ["a", "b", "a", "b"]


def test_hooks_are_guarded_from_each_other_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    failing = Say(log, "a")
    hooks = HookList([failing, Say(log, "b")])
    hooks.before_training()
    failing._error = RuntimeError("cannot end")
    with pytest.raises(RuntimeError, match="cannot end"), caplog.at_level(logging.ERROR):
        hooks.after_training(success=True)
    assert log == ["a", "b", "a", "b"]
    assert "Say failed in after_training" in caplog.text


def test_events_that_nobody_overrides_call_nobody() -> None:
    hooks = HookList([Remember()])
    assert all(hooks.acting_at(event) == [] for event in ("after_batch", "after_epoch", "before_epoch"))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"after_epochs": lambda self: None}, "there is no event 'after_epochs'; did you mean 'after_epoch'"),
        ({"before_batch": lambda self: None}, "there is no event 'before_batch'"),
        ({"after_epoch": lambda self, epoch_id: None}, r"after_epoch must take the arguments \(epoch_id, epoch_data\)"),
    ],
)
def test_wrong_events_are_found_at_construction(methods: dict[str, Any], message: str) -> None:
    hook = type("Wrong", (AbstractHook,), methods)()
    hook.config_path = ("hooks", 3, "Wrong")
    with pytest.raises(ConfigError, match=message) as caught:
        HookList([hook])
    assert caught.value.path == ("hooks", 3, "Wrong")


def test_hooks_written_for_emloop_may_leave_arguments_to_kwargs() -> None:
    class Old(AbstractHook):
        def after_epoch(self, **_: Any) -> None: ...

    assert len(HookList([Old()])) == 1


def test_what_is_no_hook_is_refused() -> None:
    with pytest.raises(ConfigError, match="str is no hook"):
        HookList(["SaveBest"])  # type: ignore[list-item]


def test_unknown_arguments_are_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="Say: unknown argument 'wrd'; did you mean 'word'") as caught:
        Say([], "a", wrd="b")
    assert caught.value.path == ("wrd",)
    assert Say([], "a", model=1, dataset=2, output_dir=3)._word == "a"


def test_twins_that_keep_state_need_names() -> None:
    with pytest.raises(ConfigError, match="two hooks that keep state are named 'Remember'"):
        HookList([Remember(), Remember()])
    twin = Remember(2)
    twin.name = "Second"
    hooks = HookList([Remember(1), twin])
    assert hooks.state_dict() == {"Remember": {"value": 1}, "Second": {"value": 2}}


def test_state_comes_back_to_the_hook_it_belongs_to() -> None:
    hook = Remember()
    HookList([hook, Offer()]).load_state_dict({"Remember": {"value": 7}})
    assert hook.value == 7


def test_state_without_its_hook_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="state of a hook 'Remembr' .*did you mean 'Remember'"):
        HookList([Remember()]).load_state_dict({"Remembr": {}})


def test_a_hook_without_state_starts_afresh_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    HookList([Remember()]).load_state_dict({})
    assert "hook Remember starts afresh" in caplog.text


NUMBER = EpochNumber("accuracy", "valid")


@pytest.mark.parametrize(
    "hooks",
    [
        [Offer(provides=[NUMBER]), Offer(requires=[NUMBER])],
        [Offer(provides=[EpochNumber("accuracy")]), Offer(requires=[NUMBER])],
        [Offer(provides=["extra"]), Offer(requires=["extra", "image"])],
        [Offer(provides=None), Offer(requires=[NUMBER, "extra"])],
        [Offer(provides=[NUMBER._replace(aggregation="max")]), Offer(requires=[NUMBER])],
        [Offer(provides=[NUMBER._replace(aggregation=a) for a in ("max", "mean")]), Offer(requires=[NUMBER])],
    ],
)
def test_what_is_provided_before_may_be_required(hooks: list[AbstractHook]) -> None:
    HookList(hooks).check_wiring({"image"})
    with pytest.raises(ConfigError, match="Offer requires"):
        HookList(hooks[1:]).check_wiring({"image"})


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (
            [Offer(requires=[NUMBER]), Quiet(provides=[NUMBER])],
            "Offer requires the number 'accuracy' of stream 'valid', which Quiet provides only later: list Quiet",
        ),
        (
            [Quiet(provides=[EpochNumber("accurancy")]), Offer(requires=[NUMBER])],
            "which no hook before it provides; did you mean 'accurancy'",
        ),
        ([Offer(requires=["imag"])], "requires the variable 'imag', which .* did you mean 'image'"),
        ([Quiet(provides=[EpochNumber("accuracy", "train")]), Offer(requires=[NUMBER])], "no hook before it provides"),
        (
            [Quiet(provides=[NUMBER._replace(aggregation=a) for a in ("max", "min")]), Offer(requires=[NUMBER])],
            "which has the aggregations max, min: set 'aggregation' to one of them",
        ),
        (
            [Quiet(provides=[NUMBER]), Offer(requires=[NUMBER._replace(aggregation="max")])],
            r"the number 'accuracy' \(max\) of stream 'valid'",
        ),
    ],
)
def test_what_is_missing_is_found_before_the_first_batch(hooks: list[AbstractHook], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HookList(hooks).check_wiring({"image"})


def test_undeclared_providers_postpone_the_check_to_the_first_epoch_of_the_stream() -> None:
    hooks = HookList([Offer(provides=None), Offer(requires=[NUMBER])])
    hooks.check_wiring(set())
    hooks.after_epoch(0, EpochBook(["train"]))
    with pytest.raises(ConfigError, match="which nothing has written in the first epoch"):
        hooks.after_epoch(1, EpochBook(["valid"]))


def test_a_postponed_number_that_comes_is_fine() -> None:
    hooks = HookList([Offer(provides=None), Offer(requires=[NUMBER])])
    hooks.check_wiring(set())
    book = EpochBook(["valid"])
    book["valid"]["accuracy"] = 1.0
    assert hooks.after_epoch(1, book) is None
    assert hooks.after_epoch(2, EpochBook(["valid"])) is None


def test_outputs_are_what_hooks_declare_and_everything_if_one_does_not() -> None:
    assert HookList([Offer(requires=["digit/prob"]), Offer(requires=[NUMBER])]).outputs(train=False) == {"digit/prob"}
    assert HookList([Offer(requires=None)]).outputs(train=True) is None
    assert HookList([Remember()]).outputs(train=True) == frozenset()


def test_a_state_that_a_hook_cannot_read_names_the_hook() -> None:
    class Reads(Remember):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            state["absent"]

    with pytest.raises(CheckpointError, match="hook Reads cannot go on from its state: KeyError: 'absent'"):
        HookList([Reads()]).load_state_dict({"Reads": {}})


@pytest.mark.parametrize("state", [None, [1]])
def test_a_state_that_is_no_dict_names_the_hook(state: Any) -> None:
    class Forgets(Remember):
        def state_dict(self) -> dict[str, Any]:
            return state  # type: ignore[no-any-return]

    with pytest.raises(CheckpointError, match=r"hook Forgets: its state_dict must return a dict, not (NoneType|list)"):
        HookList([Forgets()]).state_dict()


def test_a_hook_without_a_state_for_now_is_not_asked_for_one() -> None:
    stateless = Remember()
    stateless.keeps_state = False
    assert HookList([stateless, Remember()]).state_dict().keys() == {"Remember"}  # nor need it another name
    HookList([stateless]).load_state_dict({"Remember": {"from": "before"}})


def test_the_smallest_limit_is_the_runs_length() -> None:
    class Limit(AbstractHook):
        def __init__(self, steps: int | None) -> None:
            super().__init__()
            self._steps = steps

        def max_steps(self) -> int | None:
            return self._steps

    assert HookList([Limit(None), Limit(9), Limit(5)]).max_steps() == 5
    assert HookList([Limit(None)]).max_steps() is None
