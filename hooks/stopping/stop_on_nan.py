"""End the training when a number is nan."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.constants import UID_SOURCE
from emloop_mtl.data.batch_place import BatchPlace
from emloop_mtl.data.per_kind import PerKind
from emloop_mtl.errors import ConfigError, NotFiniteError, nearest
from emloop_mtl.types import EpochData, EpochNumber, State
from emloop_mtl.utils.pick import pick

from ..arguments import check_count, check_names, check_word
from ..evaluation.batch_variable import holds
from ..numbers import any_numbers_of, is_loss, warn_of_missed_numbers
from ..words import OnUnchecked
from .labelled_losses import LabelledLosses
from .non_finite import Check, checks_of, fetch_bad
from .trained_values import checks_of_training
from .waiting_batches import WaitingBatches

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)

CHECK_EVERY = 100
"""Batches between two fetchings."""


class StopOnNaN(AbstractHook):
    """End the training with an error when a loss, or another variable, is nan.

    The end is an error, exit code 1, since nothing good comes after it: the run counts as ``failed``, so that no hook
    takes it for finished, and the checkpoints stay as they were. Nothing is saved that has not been looked at, trained
    weights included, which must be finite; so the last checkpoint can be resumed, with a lower learning rate for
    example.

    Batches are looked at without waiting for the device; the first bad one is named exactly even if it is found later.
    A batch lacks a variable of a task that it does not carry; that is in order.

    :param variables: names of batch variables or of the epoch's numbers; by default the losses of both: ``loss`` and
        all that ends in ``/loss``. A number may be nan for lack of data: so scores are looked at on demand only, and
        the losses of tasks only if a batch of the epoch had labels
    :param on_unknown_type: what to do about a value that cannot be looked at, such as text: ``ignore``, ``warn`` once,
        or ``error``
    :param stop_on_inf: whether infinity ends the training, too
    :param after_batch: look at the variables of every batch, trained on or evaluated
    :param after_epoch: look at the numbers of every epoch
    :param check_every: with ``after_batch``, fetch the findings after so many batches, by default 100, beside the ends
        of epochs and whenever a checkpoint is written. Each fetching waits for the device once, less than a hundredth
        of the time of 100 batches; more batches would be trained on in vain
    :raise ConfigError: if nothing is to be looked at, or an argument is wrong

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - ComputeStats: {variables: [loss]}
          - StopOnNaN: {after_batch: true, stop_on_inf: true}
    """

    training_only = True

    def __init__(
        self,
        variables: Sequence[str] | None = None,
        on_unknown_type: OnUnchecked = "ignore",
        stop_on_inf: bool = False,
        after_batch: bool = False,
        after_epoch: bool = True,
        check_every: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_word(self.name, "on_unknown_type", on_unknown_type, OnUnchecked)
        if not (after_batch or after_epoch):
            text = "nothing is looked at: set after_batch or after_epoch to true"
            raise ConfigError(f"{self.name}: {text}", ("after_epoch",))
        self._variables = None if variables is None else check_names(self.name, "variables", variables)
        self._on_unknown_type = on_unknown_type
        self._stop_on_inf = stop_on_inf
        self._after_batch = after_batch
        self._after_epoch = after_epoch
        self._check_every = CHECK_EVERY if check_every is None else check_count(self.name, "check_every", check_every)
        if check_every is not None and not after_batch:
            text = "check_every says when batches are looked at: set after_batch to true, or leave it out"
            raise ConfigError(f"{self.name}: {text}", ("check_every",))
        self._of_batches: list[str] = []
        self._epoch = 0
        self._batches: dict[str, int] = {}
        """Stream -> its batches in this epoch."""
        self._labelled = LabelledLosses()
        self._held: dict[str, PerKind[tuple[list[str], Callable[[Batch], Sequence[Any]]]]] = {}
        """Stream -> those of the variables that each kind of batch holds, and what takes them."""
        self._notes_losses = after_epoch and variables is None
        self._waiting = WaitingBatches(stop_on_inf, self._known)
        self._warned: set[str] = set()

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the losses."""
        super().register_mainloop(main_loop)
        if not self._after_batch:
            return
        outputs = list(main_loop.model.output_names)
        # those of the tasks first: they say more than their sum
        losses = sorted(filter(is_loss, outputs), key="loss".__eq__)
        names = {*outputs, *main_loop.model.input_names, *main_loop.model.label_names}
        self._of_batches = (
            losses
            if self._variables is None
            else [name for name in self._variables if name in names or not self._after_epoch]
        )
        if not self._of_batches and self._variables is None:
            text = f"the model has no output 'loss' that could be looked at{nearest('loss', outputs)}"
            raise ConfigError(f"{self.name}: {text}; name others under 'variables'", ("variables",))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the variables: of batches, and as numbers of the epoch those that no batch has."""
        if self._main_loop is None:
            return ()
        numbers = [name for name in self._variables or () if name not in self._of_batches]
        return [*self._of_batches, *(any_numbers_of(self, numbers) if numbers else ())]

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Check that there are numbers to look at.

        :raise ConfigError: if no hook writes any
        """
        if not self._after_epoch:
            return
        warn_of_missed_numbers(self)
        if self._after_batch:
            return
        for hook in self.main_loop.hooks:
            if hook is self:
                text = "no hook before it writes numbers that it could look at: list ComputeStats or ScoreTasks before"
                raise ConfigError(f"{self.name}: {text} it, or set after_batch to true")
            provided = hook.provides()
            if provided is None or any(isinstance(offer, EpochNumber) for offer in provided):
                return

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Count batches anew."""
        self._epoch, self._batches, self._held = epoch_id, {}, {}
        self._labelled.begin()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Look at a batch.

        :raise NotFiniteError: if it, or one before it, is bad, as far as that is known without waiting
        """
        if self._notes_losses:
            self._labelled.add(stream_name, batch_data)
        if not self._after_batch:
            return
        index = self._batches.get(stream_name, 0)
        self._batches[stream_name] = index + 1
        held = self._held.get(stream_name)
        if held is None:
            held = self._held[stream_name] = PerKind(partial(self._find_held, stream_name))
        variables, pick_values = held.of(batch_data)
        is_found = self._waiting.add(self._place(stream_name, index, batch_data), variables, pick_values(batch_data))
        if is_found or len(self._waiting) >= self._check_every:
            self._read()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Look at what is left of the batches, then at the numbers of the epoch.

        :raise NotFiniteError: if something is bad
        """
        self._read()
        if not self._after_epoch:
            return
        found: list[tuple[str, str, str]] = []
        checks: list[Tensor | bool] = []
        tasks = getattr(self.main_loop.model, "tasks", ())
        for stream, numbers in epoch_data.items():
            losses = self._labelled.among(numbers, stream, tasks)
            for variable in losses if self._variables is None else self._variables:
                value = numbers.get(variable, 0)
                for aggregation, number in value.items() if isinstance(value, Mapping) else [("", value)]:
                    for check in self._known(checks_of(number, self._stop_on_inf), variable, stream):
                        found.append((stream, variable, aggregation))
                        checks.append(check)
        results = fetch_bad(checks, self._stop_on_inf)
        for (stream, variable, aggregation), (bad, what) in zip(found, results, strict=True):
            if bad:
                raise NotFiniteError(
                    f"{self.name}: the number {variable!r}{f' ({aggregation})' if aggregation else ''} of stream "
                    f"{stream!r} is {what} in epoch {epoch_id}{self._origin(variable)}; "
                    "list other numbers under 'variables' if it may be"
                )

    def after_training(self, success: bool) -> None:
        """Look at what is left of the batches; if the training has failed already, log what may be the reason.

        :raise NotFiniteError: if a batch of a training that seemed to have ended well is bad
        """
        if success:
            self._read()
            return
        with contextlib.suppress(RuntimeError):  # a device that has failed cannot be asked
            try:
                self._read()
            except NotFiniteError as error:
                log.error("%s", error)

    def state_dict(self) -> dict[str, State]:
        """Return where in the epoch the training is, having looked at all batches so far.

        :raise NotFiniteError: if one is bad, or a trained weight, so that the checkpoint is not written
        """
        self._read()
        self._check_training()
        return {"epoch": self._epoch, "batches": dict(self._batches), "losses": self._labelled.state_dict()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on counting in the epoch that was under way."""
        self._epoch, self._batches, self._held = state["epoch"], dict(state["batches"]), {}
        self._labelled.load_state_dict(state["losses"])
        self._waiting.forget()

    def _find_held(self, stream: str, batch: Batch) -> tuple[list[str], Callable[[Batch], Sequence[Any]]]:
        """Return which of the variables the batches of a kind hold, and what takes them."""
        must = self._variables is not None
        held = [name for name in self._of_batches if name in batch or (must and holds(self, name, stream, batch))]
        return held, pick(held)

    def _place(self, stream: str, index: int, batch: Batch) -> BatchPlace:
        step = None
        if self.main_loop.is_training:
            step = self.main_loop.position.step + (not batch.ends_step)
        return BatchPlace(self._epoch, stream, step, index, batch.data_name, tuple(batch.tasks), batch.get(UID_SOURCE))

    def _known(self, checks: Iterable[Check], variable: str, stream: str) -> Iterable[Tensor | bool]:
        for check in checks:
            if not isinstance(check, type):
                if check is not False:
                    yield check
                continue
            what = f"{self.name}: a {check.__name__} in {variable!r} of stream {stream!r} cannot be nan"
            if self._on_unknown_type == "error":
                raise ConfigError(f"{what}; set on_unknown_type to 'ignore' or 'warn' to go on", ("on_unknown_type",))
            if self._on_unknown_type == "warn" and variable not in self._warned:
                log.warning("%s", what)
                self._warned.add(variable)

    def _read(self) -> None:
        """Fetch what is waiting and look at it."""
        findings = self._waiting.fetch()
        for place, variable, what in findings:
            variables = {variable: what}
            for other, also, its_what in findings:
                if other is place:
                    variables.setdefault(also, its_what)
            raise NotFiniteError(f"{self.name}: {self._shown(variables)} in {place}")

    def _check_training(self) -> None:
        if self._main_loop is None:
            return
        model = self.main_loop.model
        found = [(name, check) for name, check in checks_of_training(model) if not isinstance(check, type)]
        results = fetch_bad([check for _, check in found], with_infinity=True)
        for (name, _), (bad, what) in zip(found, results, strict=True):
            if bad:
                step = self.main_loop.position.step
                raise NotFiniteError(f"{self.name}: {name} is {what} after step {step}, so that is not saved")

    def _shown(self, variables: Mapping[str, str]) -> str:
        return ", ".join(f"{name!r} is {what}{self._origin(name)}" for name, what in variables.items())

    def _origin(self, variable: str) -> str:
        """Return the task, and in a score's name the dataset, that a variable is of."""
        task, *rest = variable.split("/", 2)
        if not rest or task not in getattr(self.main_loop.model, "tasks", ()):
            return ""
        return f" (task {task!r}{f', loader {rest[0]!r}' if len(rest) > 1 else ''})"
