"""Keep a checkpoint of the best state."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError, KeyPath
from emloop_mtl.types import EpochData, EpochNumber, Mode, State

from ..arguments import check_count
from ..watched_number import WatchedNumber
from .save_latest import SaveLatest

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


@dataclass
class _Best:
    """The best value of a number so far, the epoch that had it, and what its checkpoint is kept as."""

    tag: str
    watched: WatchedNumber
    value: float | None = None
    epoch: int | None = None

    def state_dict(self) -> dict[str, State]:
        """Return the best value and its epoch, and of which number they are."""
        return {"of": self.watched.identity, "value": self.value, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, State]) -> bool:
        """Go on comparing with what ``state_dict`` returned; return whether that was of the same number."""
        is_same = bool(state["of"] == self.watched.identity)
        self.value, self.epoch = (state["value"], state["epoch"]) if is_same else (None, None)
        return is_same


class SaveBest(AbstractHook):
    """Save the training whenever a number is better than in all epochs before, always keeping the best only.

    The first number counts as better than none; an epoch without the number, or in which it is nan, is never best.
    With ``also``, further numbers of the stream have a checkpoint each; the first one remains that which
    ``RestoreBest`` and ``emloop-mtl eval`` take by themselves.

    :param stream: the stream that the number is of
    :param variable: its variable, such as ``loss`` or ``model/all/macro_average``
    :param mode: ``min`` if less is better, ``max`` if more is
    :param aggregation: which number of a variable that has several; by default the ``mean`` or the only one
    :param tag: what the checkpoint is kept as; another one for each hook where several are listed
    :param also: further variables, each with its mode; their checkpoints are kept as ``<tag>_<variable>``, with ``_``
        for all that is neither a letter nor a digit
    :param runway: look at no number before this many training steps
    :raise ConfigError: if the run has no output folder, or the model cannot be checkpointed

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss, digit/loss]}
          - SaveBest: {stream: valid, variable: loss, mode: min, also: {digit/loss: min}}
    """

    training_only = True
    renamed: ClassVar[Mapping[str, str]] = {
        "condition": "mode",
        "objective": "mode",
        "model_name": "tag",
        "on_save_failure": "is gone: a checkpoint that cannot be written always ends the training with an error",
    }

    def __init__(
        self,
        stream: str = "valid",
        variable: str = "loss",
        mode: Mode = "min",
        aggregation: str | None = None,
        tag: str = "best",
        also: Mapping[str, Mode] | None = None,
        runway: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(tag, str) or not re.fullmatch(r"\w+", tag) or tag == SaveLatest.TAG:
            raise ConfigError(
                f"{self.name}: {tag!r} cannot be the tag: take a word, but not {SaveLatest.TAG!r}", ("tag",)
            )
        self._bests = {tag: _Best(tag, WatchedNumber(self.name, stream, variable, mode, aggregation))}
        for best in self._further(tag, stream, variable, {} if also is None else also):
            self._bests[best.tag] = best
        self._runway = 0 if runway is None else check_count(self.name, "runway", runway)

    @property
    def tags(self) -> list[str]:
        """What its checkpoints are kept as, that of ``variable`` first."""
        return list(self._bests)

    def epoch_of(self, tag: str) -> int | None:
        """Return the best epoch so far, None if no epoch had the number.

        :param tag: what the checkpoint is kept as
        """
        return self._bests[tag].epoch

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check that the training can be saved, the stream that is watched, and that no other hook has its tags."""
        super().register_mainloop(main_loop)
        main_loop.check_can_save()
        self._first.watched.check_stream(main_loop)
        for other in main_loop.hooks:
            if other is self:
                break
            taken = [tag for tag in self._bests if isinstance(other, SaveBest) and tag in other._bests]
            if taken:
                text = (
                    f"{self.name}: {other.name} keeps a checkpoint as {taken[0]!r}, too: give one of them another tag"
                )
                raise ConfigError(text, ("tag",))

    def argument_of(self, number: EpochNumber) -> KeyPath:
        """Return which argument names a number."""
        also = any(best.watched.number == number for best in list(self._bests.values())[1:])
        return ("also", number.variable) if also else super().argument_of(number)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the numbers that are watched."""
        return [best.watched.number for best in self._bests.values()]

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Save for each number that is better than ever."""
        if self.main_loop.position.step < self._runway:
            return
        for best in self._bests.values():
            try:
                value = best.watched.read(epoch_data)
            except ConfigError as error:
                if best is self._first:
                    raise
                raise ConfigError(str(error), self.argument_of(best.watched.number)) from error
            if value is None or (best.value is not None and not best.watched.is_better(value, than=best.value)):
                continue
            log.info("%s: %s is %g in epoch %i, the best so far", self.name, best.watched, value, epoch_id)
            best.value, best.epoch = value, epoch_id
            self.main_loop.request_save(best.tag)

    def state_dict(self) -> dict[str, State]:
        """Return the best value of each number and its epoch, by the tag of its checkpoint."""
        return {tag: best.state_dict() for tag, best in self._bests.items()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on comparing with the best values of the epochs before; a number that is new has none."""
        for tag, best in self._bests.items():
            if tag in state and not best.load_state_dict(state[tag]):
                log.warning(
                    "%s: '%s' was of another number; of %s, no epoch is the best yet", self.name, tag, best.watched
                )

    @property
    def _first(self) -> _Best:
        return next(iter(self._bests.values()))

    def _further(self, tag: str, stream: str, variable: str, also: Any) -> Iterator[_Best]:
        """Yield what is watched besides the first number."""
        if not isinstance(also, Mapping):
            text = f"{self.name}: also must be variables with their modes, such as {{loss: min}}, not {also!r}"
            raise ConfigError(text, ("also",))
        seen: dict[str, str] = {}
        for name, mode in also.items():
            if not isinstance(name, str) or not name:
                raise ConfigError(f"{self.name}: also names variables, and {name!r} is none", ("also", name))
            own = f"{tag}_" + re.sub(r"\W", "_", name)
            if name == variable:
                raise ConfigError(f"{self.name}: {name!r} is the variable already", ("also", name))
            if own in seen:
                text = (
                    f"{self.name}: {seen[own]!r} and {name!r} would both be kept as {own!r}: list another {self.name}"
                )
                raise ConfigError(text, ("also", name))
            seen[own] = name
            try:
                yield _Best(own, WatchedNumber(self.name, stream, name, mode))
            except ConfigError as error:
                raise ConfigError(str(error), ("also", name)) from error
