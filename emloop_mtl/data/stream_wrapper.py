"""A stream as the main loop walks it."""

from __future__ import annotations

import logging
import sys
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from types import TracebackType
from typing import Any

from ..errors import CheckpointError, ConfigError
from ..types import EpochData, State, TimeProfile
from .batch import Batch
from .epoch_size import SETTING, EpochSize
from .read_ahead import ReadAhead
from .stream_changes import find_change, is_same_scheduler
from .stream_position import StreamPosition
from .stream_reader import Item, StreamReader

log = logging.getLogger(__name__)


class StreamWrapper:
    """A stream that is restarted when it is finished, cut into epochs, read ahead and can be gone on with anywhere.

    Iterating yields one epoch; iterating again goes on after what was consumed. What it says of itself, and its
    state, speak of batches that were consumed, not of those that were read ahead.

    A plain stream (a generator, say) sees random generators of its own instead of the global ones of ``random``,
    numpy and torch on the host, so nobody else's draws change it; it is resumed by reading it again. Unless it is
    ``deterministic`` it is read in the main thread, whatever the buffer.

    :param stream_fn: called for every pass, returns a ``TaskStream`` or any iterable of mappings
    :param buffer_size: batches to read and prepare ahead in a thread, 0 for none
    :param epoch_size: steps of an epoch, ``{"samples": n}`` or ``{"passes": x}``; None or -1 for one pass
    :param name: name of the stream
    :param profile: gets the seconds waited for each batch, under ``read_batch_<name>``
    :param prepare: called with every batch where it is made, possibly in the thread
    :param deterministic: whether the stream draws no global random numbers; by default the attribute of that name
        of the function or of its dataset
    :param seed: what the randomness of a plain stream derives from
    :raise ConfigError: for a negative buffer or an epoch size that is none
    """

    def __init__(
        self,
        stream_fn: Callable[[], Any],
        buffer_size: int = 0,
        epoch_size: int | Mapping[str, float] | None = None,
        name: str | None = None,
        profile: TimeProfile | None = None,
        *,
        prepare: Callable[[Batch], Batch] | None = None,
        deterministic: bool | None = None,
        seed: int = 0,
    ) -> None:
        if buffer_size < 0:
            raise ConfigError(f"main_loop.buffer: {buffer_size} is less than 0", ("main_loop", "buffer"))
        self.outputs: frozenset[str] | None = None
        """Names of the outputs that somebody will read; None for all of them."""
        self.is_undisturbed = False
        """Whether only code of this package runs between its batches; what other code changes has to be looked for."""
        self.walk: object | None = None
        """An object for each time it is iterated; None before the first."""
        self.is_waiting = False
        """Whether the next batch is waited for; until it has come, ``state_dict`` speaks of those before it."""
        self.told: set[str | None] = set()
        """Names of streams that were said to be read without a buffer; wrappers may share it, to say it once."""
        self._epoch_size = EpochSize(epoch_size)
        self._reader = StreamReader(stream_fn, name, prepare, deterministic, seed)
        self._buffer_size = buffer_size
        self._profile = profile
        self._activity = f"read_batch_{name}"
        self._position = StreamPosition()
        self._reading: ReadAhead[Item] | Generator[Item, None, None] | None = None
        self._endless = False

    @property
    def name(self) -> str | None:
        """Name of the stream."""
        return self._reader.name

    @name.setter
    def name(self, name: str) -> None:
        self._reader.name = name
        self._activity = f"read_batch_{name}"

    def set_default_prepare(self, prepare: Callable[[Batch], Batch]) -> None:
        """Let ``prepare`` be called with every batch unless another function was given for it."""
        if self._reader.prepare is None:
            self._reader.prepare = prepare

    @property
    def passes(self) -> int:
        """Number of finished passes."""
        return self._position.passes

    @property
    def batches(self) -> int:
        """Batches consumed since the start."""
        return self._position.batches

    @property
    def steps(self) -> int:
        """Steps consumed since the start."""
        return self._position.steps

    @property
    def samples(self) -> int:
        """Samples consumed since the start."""
        return self._position.samples

    @property
    def is_between_steps(self) -> bool:
        """Whether the batch consumed last has ended its step."""
        return self._position.step_batches == 0

    @property
    def num_steps_per_pass(self) -> int | None:
        """Steps of one pass, None where they are not known."""
        return self._reader.facts(self.passes).num_steps

    @property
    def num_batches_per_pass(self) -> int | None:
        """Batches of one pass, None where they are not known."""
        return self._reader.facts(self.passes).num_batches

    @property
    def epoch_steps(self) -> int | None:
        """Steps of one epoch, None where they are not known or not always the same.

        :raise ConfigError: if the epoch size needs the length of a pass, and that is not known
        """
        pass_steps = self.num_steps_per_pass
        self._epoch_size.check(pass_steps)
        return self._epoch_size.steps(pass_steps)

    @property
    def ends_epoch(self) -> bool:
        """Whether the epoch under way ends with the batch consumed last, as far as that is known before the next."""
        return self._position.inside and self._epoch_size.is_reached(self._position, self.num_steps_per_pass)

    def steps_of(self, epochs: int) -> int | None:
        """Return how many steps the first ``epochs`` epochs have together, None where that is not known."""
        return self._epoch_size.steps_of(epochs, self.num_steps_per_pass)

    @property
    def allow_buffering(self) -> AbstractContextManager[None]:
        """A context without effect, for emloop's models: reading ahead needs no permission here."""
        return nullcontext()

    def __enter__(self) -> StreamWrapper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep what was read ahead: the next epoch goes on with it."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of one epoch, or the rest of one that was left or resumed in its middle.

        :raise DataError: naming stream and batch, for data that cannot be used
        :raise ConfigError: if the epoch size needs the length of a pass, and that is not known
        """
        self.walk = object()
        position, is_reached = self._position, self._epoch_size.is_reached
        pass_steps = self.num_steps_per_pass
        self._epoch_size.check(pass_steps)
        position.begin_epoch()
        while not is_reached(position, pass_steps):
            batch, ends_pass = self._next()
            if batch is not None:
                size = batch.size
                position.consume((batch.count() or 0) if size is None else size, batch.ends_step)
            if ends_pass:
                # Reading ahead stops by itself at a pass without batches.
                if not self._endless or position.pass_batches == 0:
                    self._stop_reading()
                position.end_pass()
            if batch is not None:
                yield batch
        position.end_epoch()

    def close(self) -> None:
        """Stop reading and drop what was read ahead; iterating again goes on after what was consumed."""
        self._stop_reading()

    def __del__(self) -> None:
        # While Python ends its threads are frozen, and waiting for one would never end.
        if not sys.is_finalizing() and getattr(self, "_reading", None) is not None:
            self._stop_reading()

    def after_epoch(self, epoch_data: EpochData) -> None:
        """Let the task scheduler learn from an epoch of the training."""
        scheduler = self._reader.facts(self.passes).scheduler
        if scheduler is not None and scheduler.learns:
            scheduler.after_epoch(epoch_data, self.passes + (self._position.pass_batches > 0))

    def state_dict(self) -> dict[str, State]:
        """Return what was consumed, the state of the task scheduler, and what the stream is made of."""
        facts = self._reader.facts(self.passes)
        return {
            **self._position.state_dict(),
            "epoch_size": str(self._epoch_size),
            "name": self.name,
            "stream": None if facts.scheduler is None else facts.scheduler.state_dict(),
            "pass_length": facts.num_steps,
            "made_of": self._reader.description(self.passes),
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on exactly after what had been consumed when ``state_dict`` was called.

        What the stream is made of may have changed between two passes only.

        :raise CheckpointError: if the stream was iterated before, or the state is of another stream, or none at all
        """
        if self.walk is not None:
            raise CheckpointError(f"stream {self.name!r} has been iterated; a state can only be loaded before that")
        if type(state) is not dict:
            raise CheckpointError(f"the state of stream {self.name!r} is a {type(state).__name__}")
        counters = dict(state)
        name, scheduler_state, pass_length, made_of, before = (
            counters.pop(key, None) for key in ("name", "stream", "pass_length", "made_of", "epoch_size")
        )
        now = str(self._epoch_size)
        try:
            position = StreamPosition.of_state(counters)
            if name != self.name:
                raise CheckpointError(f"it was stream {name!r} that was read")
            if before != now:
                text = f"{SETTING} was {before} and cannot be {now} now: a run keeps the one it began with"
                raise CheckpointError(text)
            facts = self._reader.facts(position.passes)
            if (facts.scheduler is None) != (scheduler_state is None):
                raise CheckpointError(
                    "it is not the kind of stream that was saved; "
                    "loaders with a task scheduler and plain streams cannot take each other's place"
                )
            change = find_change(made_of, self._reader.description(position.passes))
            if change is not None:
                self._go_on_changed(change, position, pass_length, facts.num_steps)
            if facts.scheduler is not None and is_same_scheduler(made_of, self._reader.description(position.passes)):
                if type(scheduler_state) is not dict:
                    raise CheckpointError(f"the state of its scheduler is a {type(scheduler_state).__name__}")
                facts.scheduler.load_state_dict(scheduler_state)
        except (CheckpointError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = str(error) if isinstance(error, CheckpointError) else f"{type(error).__name__}: {error}"
            text = " ".join(reason.split())
            raise CheckpointError(f"stream {self.name!r} cannot go on: {text}") from error
        self._position = position

    def _go_on_changed(self, change: str, position: StreamPosition, before: State, now: int | None) -> None:
        if position.pass_batches:
            remedy = "undo that, or go on from a checkpoint between two passes"
            raise CheckpointError(f"{change}; in the middle of a pass all must be as it was; {remedy}")
        if before != now and self._epoch_size.is_in_passes:
            raise CheckpointError(f"{change}; {SETTING} counts passes, which had {before} steps and have {now}")
        log.warning("stream %r goes on changed: %s", self.name, change)

    def _next(self) -> Item:
        began = perf_counter()
        self.is_waiting = True
        try:
            item = next(self._reading or self._start_reading())
            self.is_waiting = False
        except BaseException as error:
            self.is_waiting = False
            # Whoever interrupts while a batch is waited for may do so because it never comes.
            self._stop_reading(wait=not isinstance(error, KeyboardInterrupt))
            raise
        if self._profile is not None and item[0] is not None:
            times = self._profile.get(self._activity)
            if times is None:  # a quarter of the memory of a list
                times = self._profile[self._activity] = array("d")
            times.append(perf_counter() - began)
        return item

    def _start_reading(self) -> Iterator[Item]:
        reader, number = self._reader, self._position.passes
        buffered = self._buffer_size > 0
        if buffered and (obstacle := reader.obstacle_to_a_thread(number)):
            buffered = False
            if self.name not in self.told:
                self.told.add(self.name)
                log.warning("stream %r is read without a buffer: %s", self.name, obstacle)
        # Beyond a pass the stream's function would be called in the thread, where it may draw random numbers;
        # and an epoch that is a pass ends there anyway.
        scheduler = reader.facts(number).scheduler
        learns = scheduler is not None and scheduler.learns
        self._endless = buffered and reader.deterministic and self._epoch_size.is_fixed and not learns
        items = reader.read(self._position, self._endless)
        self._reading = ReadAhead(items, self._buffer_size, f"read-ahead-{self.name}") if buffered else items
        return self._reading

    def _stop_reading(self, wait: bool = True) -> None:
        reading, self._reading = self._reading, None
        if isinstance(reading, ReadAhead):
            reading.close(wait)
        elif reading is not None:
            reading.close()
