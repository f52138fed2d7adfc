"""What is done about losses and gradients that are nan or infinite."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotFiniteError
from ..types import State
from .bad_names import bad_names
from .evidence import Evidence
from .finding import TOTAL, Finding, shown
from .gradient_sizes import entry_names, given_gradients, largest_numbers
from .host_check import HostCheck
from .host_flags import MOST, HostFlags
from .kept_buffers import KeptBuffers

log = logging.getLogger(__name__)

SETTING = "model.update.on_nan"

MOST_WARNINGS = 10
"""So many batches are named; from then on, it is told how many there were whenever that has doubled."""

MOST_IN_A_ROW = 100
"""When so many updates were left out one after the other, nothing is learnt any more."""


class FiniteWatch:
    """Looks at the loss and the gradients of every batch that is trained on, without waiting for the device.

    On the CPU a bad batch is known at once, before the update. On another device it is known some batches later at
    most; ``settle`` finds out what is known of all. A batch is held until then.

    With ``error`` a bad one ends the training, with ``warn`` it is told of. With ``skip`` its update is left out, and
    the buffers are put back. Of an accumulation window with a bad batch nothing is left, since its gradients are
    summed up; but the buffers keep what the other batches have made of them.

    :param on_nan: ``error``, ``skip`` or ``warn``
    :param parameters: those that will be trained, by name
    :param network: the network whose buffers may become bad; None for none
    :param output_dir: folder of the run, where bad batches are kept; None for none
    :param is_scaled: whether gradients are scaled, as in fp16, so that they are looked at once that is undone
    """

    def __init__(
        self,
        on_nan: str,
        parameters: Mapping[str, nn.Parameter],
        network: nn.Module | None,
        output_dir: str | Path | None,
        is_scaled: bool,
    ) -> None:
        self.skips = on_nan == "skip"
        """Whether updates are left out."""
        self.skipped = 0
        """How many updates were left out so far."""
        self._on_nan = on_nan
        self._network = network
        self._is_scaled = is_scaled
        self._evidence = Evidence(output_dir)
        self._find_devices(parameters)
        self._waiting: deque[Finding | None] = deque()
        """Batches whose flags are on their way; None where a window has ended."""
        self._buffers = KeptBuffers(network)
        self._window: Tensor | None = None
        """Whether a batch of the open window is bad, on the device; None before the first, and if the host knows."""
        self._is_window_bad = False
        """Whether a batch is bad of the oldest window of which not all is known; which is the open one if all is."""
        self._in_a_row = 0
        self._bad_batches = 0
        self._told: set[str] = set()
        self._told_of_state = False
        self._last: Finding | None = None
        self._never_finite: set[str] = set()
        self._known: set[str] = set()
        """The names of parameters and buffers that were there so far."""
        self._get_to_know(parameters)

    def __getstate__(self) -> dict[str, Any]:
        """A copy of a model has no batches that wait."""
        self.settle()
        return {**vars(self), "_last": None}

    def renew(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Look at other parameters from now on, and at what buffers the network has by now; everything is settled.

        :param parameters: those that will be trained, by name
        """
        self._find_devices(parameters)
        self._get_to_know(parameters)

    def _get_to_know(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Take note of what is not finite to begin with, as a mask of attention is by its nature."""
        bad = self._bad_state(parameters)
        self._never_finite.update(name for name in bad if name not in self._known)
        buffers = () if self._network is None else (name for name, _ in self._network.named_buffers())
        self._known.update(parameters, buffers)

    def _find_devices(self, parameters: Mapping[str, nn.Parameter]) -> None:
        devices = {parameter.device for parameter in parameters.values()}
        self._device = next((device for device in devices if not answers_at_once(device)), torch.device("cpu"))
        self._host = HostCheck() if all(map(answers_at_once, devices)) else None
        self._flags = HostFlags(self._device)

    def begin(self) -> None:
        """Begin a batch that is trained on, before it is run."""
        if self.skips:
            self._buffers.keep()

    def add(self, finding: Finding, parameters: Mapping[str, nn.Parameter]) -> None:
        """Look at a batch, after its backward pass.

        :param finding: the batch
        :param parameters: those that are trained, by name
        :raise NotFiniteError: with ``error``, if it, or one before it, is known to be bad
        """
        self._last = finding
        loss = finding.outputs[TOTAL]
        # What comes after a bad batch is added to gradients that are bad already.
        is_known = self._is_scaled or (self._host is not None and self._is_window_bad)
        gradients = {} if is_known else given_gradients(parameters)
        if self._host is not None:
            if not (
                math.isfinite(self._host.read(loss)) and self._host.gradients_are_finite(gradients.values(), parameters)
            ):
                finding.names, finding.largest = entry_names(gradients), largest_numbers(gradients, self._device)
                if self.skips:
                    self._buffers.put_back()
                self._tell(finding)
            return
        flag = self._send(finding, gradients, loss)
        if self.skips:
            self._buffers.put_back_where(flag)

    def add_unscaled(self, parameters: Mapping[str, nn.Parameter], scaler: torch.amp.GradScaler) -> None:
        """Look at the gradients of a window whose scaling was undone.

        The scaler leaves out an update that is not finite because of the scale, and lowers that. So gradients count as
        bad only where the scale is 1 or less, so that it cannot be the reason.

        :raise NotFiniteError: with ``error``, if they, or a batch before, are known to be bad
        """
        assert self._last is not None
        last = self._last
        finding = Finding(last.batch, last.outputs, last.stream, last.step, is_of_window=True)
        gradients = given_gradients(parameters)
        scale = scaler.scale(torch.ones((), device=self._device))
        assert isinstance(scale, Tensor)
        if self._host is not None:
            is_finite = self._host.gradients_are_finite(gradients.values(), parameters)
            if not is_finite and self._host.read(scale) <= 1:
                finding.names, finding.largest = entry_names(gradients), largest_numbers(gradients, self._device)
                self._tell(finding)
            return
        self._send(finding, gradients, None, scale)

    def is_bad(self) -> bool:
        """Return whether a batch of the open window is bad; to know it may wait for the device."""
        if self._host is not None:
            return self._is_window_bad
        return self._window is not None and bool(self._window)

    def found(self) -> Tensor | None:
        """Return 1 on the device if a batch of the open window is bad, else 0; None where the host knows it."""
        return None if self._window is None else self._window.float()

    def end_window(self) -> None:
        """Take note of an update that was made or left out.

        :raise NotFiniteError: if too many were left out in a row
        """
        self._window = None
        if self._waiting:
            self._waiting.append(None)
        else:
            self._count_window()

    def settle(self) -> None:
        """Find out about all batches so far.

        :raise NotFiniteError: with ``error``, if one is bad
        """
        while self._waiting:
            self._take()

    def check_state(self, parameters: Mapping[str, nn.Parameter], step: int) -> None:
        """Check what is about to be saved, since finite gradients, too, can make weights infinite.

        :raise NotFiniteError: with ``error``, if a weight or a buffer is not finite
        """
        bad = self._bad_state(parameters)
        if not bad:
            return
        what = f"{shown(bad)} {'is' if len(bad) == 1 else 'are'} not finite after step {step}"
        if self._on_nan == "error":
            raise NotFiniteError(f"{what}, so that is not saved")
        if not self._told_of_state:
            self._told_of_state = True
            log.warning("%s, and saved all the same; %s: error saves no such thing", what, SETTING)

    def state_dict(self) -> dict[str, State]:
        """Return what is known of the updates so far; everything must be settled."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row, "window": self._is_window_bad}

    def load_state_dict(self, state: Mapping[str, State]) -> None:
        """Go on from what ``state_dict`` returned; nothing if the setting is new."""
        self._waiting.clear()
        self._window = None
        self._flags = HostFlags(self._device)
        self.skipped, self._in_a_row = state.get("skipped", 0), state.get("in_a_row", 0)
        self._is_window_bad = state.get("window", False)
        if self._is_window_bad and self._host is None:
            self._window = torch.ones((), dtype=torch.bool, device=self._device)

    def _send(
        self, finding: Finding, gradients: Mapping[str, Tensor], loss: Tensor | None, scale: Tensor | None = None
    ) -> Tensor:
        """Have a flag sent to the host that says whether a batch is bad, and return it."""
        finding.names, finding.largest = entry_names(gradients), largest_numbers(gradients, self._device)
        flag = torch.zeros((), dtype=torch.bool, device=self._device)
        if finding.largest is not None:
            flag = finding.largest.isfinite().all().logical_not()
        if scale is not None:
            flag = flag & (scale <= 1)
        if self._window is not None:
            flag = flag & ~self._window
        if loss is not None:
            flag = flag | loss.detach().to(self._device).isfinite().logical_not()
        self._window = flag if self._window is None else self._window | flag
        while len(self._flags) >= MOST:
            self._take()
        self._flags.send(flag)
        self._waiting.append(finding)
        while self._waiting and (self._waiting[0] is None or self._flags.is_here):
            self._take()
        return flag

    def _take(self) -> None:
        """Take the oldest of what waits."""
        finding = self._waiting.popleft()
        if finding is None:
            self._count_window()
        elif self._flags.take():
            self._tell(finding)

    def _count_window(self) -> None:
        is_bad, self._is_window_bad = self._is_window_bad, False
        if not (is_bad and self.skips):
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= MOST_IN_A_ROW:
            text = f"{self._in_a_row} updates in a row were not finite and left out: nothing is learnt any more"
            raise NotFiniteError(f"{text}; {SETTING}: error ends at the first and keeps its batch")

    def _tell(self, finding: Finding) -> None:
        """Act on a batch that is bad."""
        self._bad_batches += 1
        what = finding.describe()
        bad_buffers = self._bad_state({})
        if bad_buffers:
            what += f"; so {'is the buffer' if len(bad_buffers) == 1 else 'are the buffers'} {shown(bad_buffers)}"
        if self._on_nan == "error":
            kept = self._keep(finding, what, bad_buffers)
            raise NotFiniteError(f"{what}{kept}; {SETTING}: skip leaves out such updates")
        self._is_window_bad = True
        place = finding.place
        if place.number is not None:
            place = place._replace(step=None)  # since it comes again in each pass
        if self._bad_batches > MOST_WARNINGS:
            if math.log2(self._bad_batches / MOST_WARNINGS).is_integer():
                log.warning("%i batches so far were not finite, the last one: %s", self._bad_batches, what)
        elif str(place) not in self._told:
            self._told.add(str(place))
            kept = self._keep(finding, what, bad_buffers)
            done = "its update is left out" if self.skips else "the training goes on with it"
            log.warning("%s; %s (%s: %s)%s", what, done, SETTING, self._on_nan, kept)

    def _bad_state(self, parameters: Mapping[str, nn.Parameter]) -> list[str]:
        """Return which parameters and buffers have become bad."""
        buffers = {} if self._network is None else dict(self._network.named_buffers())
        return [name for name in bad_names({**parameters, **buffers}) if name not in self._never_finite]

    def _keep(self, finding: Finding, what: str, bad_buffers: list[str]) -> str:
        folder = self._evidence.write(finding, what, {"buffers": bad_buffers}, is_last=self._on_nan == "error")
        return "" if folder is None else f"; the batch is kept in '{folder}'"


def answers_at_once(device: torch.device) -> bool:
    """Return whether what a device has computed is there when the host asks for it."""
    return device.type == "cpu"
