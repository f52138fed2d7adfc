"""The hooks of one training: checked, fired in order, saved and restored together."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .abstract_hook import EVENTS, AbstractHook
from .epoch_book import EpochBook, find_entry
from .errors import CheckpointError, ConfigError, TrainingTerminated, nearest
from .hook_times import HookTimes
from .types import EpochNumber, State, TimeProfile
from .utils.model_note import ModelNote

if TYPE_CHECKING:
    from .data.batch import Batch
    from .main_loop import MainLoop

log = logging.getLogger(__name__)

Required = Collection[str | EpochNumber]


class HookList:
    """All hooks of a training, in the order in which they act.

    Only the events that a hook overrides are called. ``TrainingTerminated`` raised by a hook does not keep the
    others from seeing the event; the first one is returned to the caller.

    :param hooks: the hooks in order
    :raise ConfigError: for what is not a hook, a misspelt event, an event with other arguments than the protocol's,
        and two stateful hooks of one name
    """

    def __init__(self, hooks: Iterable[AbstractHook]) -> None:
        self._hooks = list(hooks)
        self._started = 0
        self._unproven: list[tuple[AbstractHook, EpochNumber]] = []
        for hook in self._hooks:
            _check_events(hook)
        self._check_twins()
        self._acting = {event: [hook for hook in self._hooks if _overrides(hook, event)] for event in EVENTS}
        self._after_batch = [_by_position(hook.after_batch) for hook in self._acting["after_batch"]]
        self.times = HookTimes([hook.name for hook in self._acting["after_batch"]])
        """What each hook has taken in the epoch under way, or in the one that has just ended."""

    def __iter__(self) -> Iterator[AbstractHook]:
        return iter(self._hooks)

    def __len__(self) -> int:
        return len(self._hooks)

    def acting_at(self, event: str) -> list[AbstractHook]:
        """Return the hooks that override ``event``, in order."""
        return list(self._acting[event])

    def register(self, main_loop: MainLoop) -> None:
        """Introduce the main loop to every hook."""
        for hook in self._hooks:
            try:
                hook.register_mainloop(main_loop)
            except ConfigError as error:
                raise _located(error, hook) from error.__cause__

    def before_training(self) -> None:
        """Start every hook; those started are told of the end even if a later one fails to start."""
        self._started = 0
        for hook in self._hooks:
            self._started += 1
            try:
                hook.before_training()
            except ConfigError as error:
                raise _located(error, hook) from error.__cause__

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Announce an epoch; hooks may append to ``eval_streams``."""
        self.times.begin()
        for hook in self._acting["before_epoch"]:
            began = perf_counter()
            hook.before_epoch(epoch_id=epoch_id, train_streams=train_streams, eval_streams=eval_streams)
            seconds = perf_counter() - began
            self.times.before_epoch += seconds
            self.times.add(hook.name, seconds)

    def after_batch(self, stream_name: str, batch_data: Batch) -> TrainingTerminated | None:
        """Hand a batch to every hook and return the first wish to terminate."""
        times = self.times
        if not times.left or stream_name != times.stream:
            return self._timed_after_batch(stream_name, batch_data)
        times.left -= 1
        end: TrainingTerminated | None = None
        for act in self._after_batch:
            try:
                act(stream_name, batch_data)
            except TrainingTerminated as wish:
                end = end or wish
        return end

    def _timed_after_batch(self, stream_name: str, batch_data: Batch) -> TrainingTerminated | None:
        end: TrainingTerminated | None = None
        seconds: list[float] = []
        began = perf_counter()
        for act in self._after_batch:
            try:
                act(stream_name, batch_data)
            except TrainingTerminated as wish:
                end = end or wish
            ended = perf_counter()
            seconds.append(ended - began)
            began = ended
        self.times.add_batch(stream_name, seconds)
        return end

    def after_epoch(self, epoch_id: int, epoch_data: EpochBook) -> TrainingTerminated | None:
        """Hand the numbers of an epoch to every hook and return the first wish to terminate.

        :raise ConfigError: if a hook writes over another hook's number, or waits for one that nothing writes
        """
        end: TrainingTerminated | None = None
        for hook in self._acting["after_epoch"]:
            epoch_data.writer = hook
            began = perf_counter()
            try:
                hook.after_epoch(epoch_id=epoch_id, epoch_data=epoch_data)
            except TrainingTerminated as wish:
                end = end or wish
            except ConfigError as error:
                raise _located(error, hook) from error.__cause__
            self.times.add(hook.name, perf_counter() - began)
        self._prove(epoch_data)
        return end

    def after_epoch_profile(self, epoch_id: int, profile: TimeProfile, streams: list[str]) -> TrainingTerminated | None:
        """Hand the time profile of an epoch to every hook and return the first wish to terminate."""
        end: TrainingTerminated | None = None
        for hook in self._acting["after_epoch_profile"]:
            try:
                hook.after_epoch_profile(epoch_id=epoch_id, profile=profile, streams=streams)
            except TrainingTerminated as wish:
                end = end or wish
        return end

    def after_training(self, success: bool) -> None:
        """Tell every started hook of the end, each guarded from the errors of the others.

        :raise Exception: the first error of a hook, unless the training had failed already
        """
        first: Exception | None = None
        for hook in self._hooks[: self._started]:
            try:
                hook.after_training(success=success)
            except TrainingTerminated as wish:
                log.debug("%s wishes to end a training that has ended: %s", hook.name, wish)
            except Exception as error:
                log.exception("%s failed in after_training", hook.name)
                first = first or error
        self._started = 0
        if first is not None and success:
            raise first

    def max_steps(self) -> int | None:
        """Return the smallest limit that a hook sets to the whole run, None if none does."""
        return min((steps for hook in self._hooks if (steps := hook.max_steps()) is not None), default=None)

    def checkpoint_bytes(self) -> int:
        """Return how many bytes the tensors of all states will have, as far as known before the training."""
        return sum(hook.checkpoint_bytes() for hook in self._hooks)

    @property
    def may_add_tasks(self) -> bool:
        """Whether there are hooks of somebody else's, of which nobody knows what they do before the first batch."""
        return any(type(hook).__module__.split(".")[0] != __package__ for hook in self._hooks)

    @property
    def may_change_modes(self) -> bool:
        """Whether modules may not be in training where a batch is trained on."""
        return self.may_add_tasks or any(hook.changes_modes for hook in self._hooks)

    @property
    def are_ours(self) -> bool:
        """Whether all hooks that act after batches are of this package."""
        return all(
            type(hook).__module__.split(".")[0] == __package__ and "after_batch" not in vars(hook)
            for hook in self._acting["after_batch"]
        )

    def try_batch(self, stream_name: str, batch_data: Batch, train: bool) -> None:
        """Hand every hook that looks for it a batch that is tried before a training."""
        for hook in self._hooks:
            try:
                hook.try_batch(stream_name, batch_data, train)
            except ConfigError as error:
                if ModelNote.on(error) is not None:  # it has its place in the model
                    raise
                raise _located(error, hook) from error.__cause__

    def outputs(self, train: bool) -> frozenset[str] | None:
        """Return the batch variables that hooks read; None if one that sees batches does not say."""
        names: set[str] = set()
        for hook in self._hooks:
            required = hook.requires_in_training() if train else hook.requires()
            if required is None:
                if _overrides(hook, "after_batch"):
                    return None
            else:
                names.update(name for name in required if isinstance(name, str))
        return frozenset(names)

    def check_wiring(self, known: Collection[str] | None) -> None:
        """Check that what a hook requires is there, or written by a hook before it.

        :param known: names of all sources and outputs that batches hold; None if they are not known beforehand
        :raise ConfigError: naming the hook, what it lacks, and the later hook that provides it if there is one
        """
        self._unproven = []
        for index, hook in enumerate(self._hooks):
            for wanted in sorted(hook.requires() or (), key=str):
                if isinstance(wanted, str) and (known is None or wanted in known):
                    continue
                if _is_offered([offer for other in self._hooks[:index] for offer in other.provides() or ()], wanted):
                    continue
                self._check_later(index, hook, wanted)
                self._check_unknown(index, hook, wanted, known)

    def _check_later(self, index: int, hook: AbstractHook, wanted: str | EpochNumber) -> None:
        for later in self._hooks[index + 1 :]:
            if _is_offered(later.provides() or (), wanted):
                raise _located(
                    ConfigError(
                        f"{hook.name} requires {_describe(wanted)}, which {later.name} provides only later: "
                        f"list {later.name} before {hook.name}"
                    ),
                    hook,
                )

    def _check_unknown(
        self, index: int, hook: AbstractHook, wanted: str | EpochNumber, known: Collection[str] | None
    ) -> None:
        event = "after_epoch" if isinstance(wanted, EpochNumber) else "after_batch"
        earlier = self._hooks[:index]
        if any(other.provides() is None and _overrides(other, event) for other in earlier):
            if isinstance(wanted, EpochNumber):
                self._unproven.append((hook, wanted))
            return
        offers = {offer for other in earlier for offer in other.provides() or ()}
        if isinstance(wanted, EpochNumber):
            aggregations = sorted(str(aggregation) for aggregation in _aggregations(offers, wanted))
            if aggregations:
                text = f"{hook.name} requires {_describe(wanted)}, which has the aggregations {', '.join(aggregations)}"
                raise _located(ConfigError(f"{text}: set 'aggregation' to one of them", ("aggregation",)), hook)
            names = {offer.variable for offer in offers if isinstance(offer, EpochNumber)}
            text = f"{hook.name} requires {_describe(wanted)}, which no hook before it provides"
            raise _located(ConfigError(f"{text}{nearest(wanted.variable, names)}", hook.argument_of(wanted)), hook)
        names = {offer for offer in offers if isinstance(offer, str)} | set(known or ())
        text = f"{hook.name} requires the variable {wanted!r}, which neither a source nor the model provides"
        raise _located(ConfigError(f"{text}{nearest(wanted, names)}"), hook)

    def _prove(self, epoch_data: EpochBook) -> None:
        waiting, self._unproven = self._unproven, []
        for hook, wanted in waiting:
            if wanted.stream is not None and wanted.stream not in epoch_data:
                self._unproven.append((hook, wanted))
            elif find_entry(epoch_data, wanted) is None:
                streams = [wanted.stream] if wanted.stream is not None else list(epoch_data)
                names = {variable for stream in streams for variable in epoch_data[stream]}
                text = f"{hook.name} requires {_describe(wanted)}, which nothing has written in the first epoch"
                raise _located(ConfigError(f"{text}{nearest(wanted.variable, names)}", hook.argument_of(wanted)), hook)

    def state_dict(self) -> dict[str, State]:
        """Return the state of every hook that keeps one, by hook name.

        :raise CheckpointError: if a hook returns no dict, which it could hardly go on from
        """
        states: dict[str, State] = {}
        for hook in self._hooks:
            if _keeps_state(hook):
                state: Any = hook.state_dict()
                states[hook.name] = state
                if not isinstance(state, dict):
                    text = f"hook {hook.name}: its state_dict must return a dict, not {type(state).__name__}"
                    raise CheckpointError(text)
        return states

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Restore the hooks.

        :raise CheckpointError: if the state holds a hook that the config does not list, or a hook cannot read its own
        """
        stateful = {hook.name: hook for hook in self._hooks if _keeps_state(hook)}
        without = {hook.name for hook in self._hooks if not hook.keeps_state}
        for name in state:
            if name not in stateful and name not in without:
                raise CheckpointError(
                    f"the checkpoint holds the state of a hook {name!r} that the config does not list"
                    f"{nearest(name, stateful)}"
                )
        for name, hook in stateful.items():
            if name in state:
                try:
                    hook.load_state_dict(state[name])
                except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    raise CheckpointError(f"hook {name} cannot go on from its state: {reason}") from error
            else:
                log.warning("hook %s starts afresh: the checkpoint holds no state of it", name)

    def _check_twins(self) -> None:
        seen: dict[str, AbstractHook] = {}
        for hook in self._hooks:
            if not _keeps_state(hook):
                continue
            if hook.name in seen:
                raise _located(
                    ConfigError(f"two hooks that keep state are named {hook.name!r}: tell them apart with 'name: …'"),
                    hook,
                )
            seen[hook.name] = hook


def _by_position(after_batch: Callable[..., None]) -> Callable[[str, Batch], None]:
    """Return the event as a function that is called without naming its arguments; to name them takes a third longer."""
    first = list(inspect.signature(after_batch).parameters.values())[:2]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if tuple(each.name for each in first if each.kind in kinds) == _ARGUMENTS["after_batch"]:
        return after_batch
    return lambda stream_name, batch_data: after_batch(stream_name=stream_name, batch_data=batch_data)


def _overrides(hook: AbstractHook, method: str) -> bool:
    return getattr(getattr(hook, method), "__func__", None) is not getattr(AbstractHook, method)


def _keeps_state(hook: AbstractHook) -> bool:
    return hook.keeps_state and _overrides(hook, "state_dict")


def _located(error: ConfigError, hook: AbstractHook) -> ConfigError:
    return error.below(hook.config_path) if error.path[: len(hook.config_path)] != hook.config_path else error


def _describe(wanted: str | EpochNumber) -> str:
    if isinstance(wanted, str):
        return f"the variable {wanted!r}"
    stream = f" of stream {wanted.stream!r}" if wanted.stream is not None else ""
    aggregation = f" ({wanted.aggregation})" if wanted.aggregation is not None else ""
    return f"the number {wanted.variable!r}{aggregation}{stream}"


def _is_offered(offers: Required, wanted: str | EpochNumber) -> bool:
    if isinstance(wanted, str):
        return wanted in offers
    aggregations = _aggregations(offers, wanted)
    if wanted.aggregation is not None:
        return wanted.aggregation in aggregations
    # As find_number reads it: the bare number, else the mean, else the only aggregation there is.
    return len(aggregations) == 1 or not aggregations.isdisjoint((None, "mean"))


def _aggregations(offers: Required, wanted: EpochNumber) -> set[str | None]:
    """Return the aggregations in which the wanted variable is offered; None stands for the bare number."""
    return {
        offer.aggregation
        for offer in offers
        if isinstance(offer, EpochNumber)
        and offer.variable == wanted.variable
        and (offer.stream is None or wanted.stream is None or offer.stream == wanted.stream)
    }


_ARGUMENTS: dict[str, tuple[str, ...]] = {
    event: tuple(inspect.signature(getattr(AbstractHook, event)).parameters)[1:] for event in EVENTS
}


def _check_events(hook: Any) -> None:
    if not isinstance(hook, AbstractHook):
        raise ConfigError(f"{type(hook).__name__} is no hook: derive it from AbstractHook")
    for attribute in dir(type(hook)):
        if attribute.startswith(("before_", "after_")) and attribute not in EVENTS:
            if callable(getattr(type(hook), attribute)):
                text = f"{hook.name}: there is no event {attribute!r}{nearest(attribute, EVENTS)}"
                raise _located(ConfigError(text), hook)
    for event in EVENTS:
        act: Callable[..., Any] = getattr(hook, event)
        try:
            inspect.signature(act).bind(**dict.fromkeys(_ARGUMENTS[event]))
        except TypeError as error:
            text = f"{hook.name}.{event} must take the arguments ({', '.join(_ARGUMENTS[event])}): {error}"
            raise _located(ConfigError(text), hook) from error
