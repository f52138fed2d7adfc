"""The update: backward, accumulate, clip, step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn

from ..errors import ConfigError
from ..types import State
from .learning_rate import LearningRate
from .optimizers import create_optimizer, load_optimizer_state, optimizer_state

REDUCTIONS = ("mean", "sum")


class Update:
    """Turns the losses of a step into an optimizer update, without waiting for the device.

    Gradients of ``accumulate`` steps make one update. Windows go on across epochs; only the last step of the run
    closes one early, and it is divided by its own length.

    :param parameters: the parameters to train, by the names they are checkpointed under
    :param optimizer: ``class`` and arguments of the optimizer
    :param clip_norm: clip the norm of all gradients together to this
    :param accumulate: steps per update
    :param accumulate_reduction: ``mean`` or ``sum`` of the gradients of a window
    :param scaler: scales losses against underflow in fp16; None for other precisions
    :raise ConfigError: for a value out of range or an unknown optimizer
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: Mapping[str, Any],
        *,
        clip_norm: float | None = None,
        accumulate: int = 1,
        accumulate_reduction: str = "mean",
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        if clip_norm is not None and not (_is(float, clip_norm) and 0 < clip_norm < math.inf):
            text = f"update.clip_norm must be a number greater than 0, not {clip_norm!r}"
            raise ConfigError(text, ("update", "clip_norm"))
        if not _is(int, accumulate) or accumulate < 1:
            text = f"update.accumulate must be a whole number, 1 or more, not {accumulate!r}"
            raise ConfigError(text, ("update", "accumulate"))
        if accumulate_reduction not in REDUCTIONS:
            text = f"update.accumulate_reduction must be one of {', '.join(REDUCTIONS)}, not {accumulate_reduction!r}"
            raise ConfigError(text, ("update", "accumulate_reduction"))
        try:
            self.optimizer = create_optimizer(optimizer, parameters.items())
        except ConfigError as error:
            raise error.below(("optimizer",)) from error.__cause__
        self._needs_closure = isinstance(self.optimizer, torch.optim.LBFGS)
        if self._needs_closure and (accumulate > 1 or scaler is not None):
            what = "update.accumulate above 1" if accumulate > 1 else "precision fp16"
            raise ConfigError(f"optimizer LBFGS evaluates a step several times and cannot work with {what}")
        self.learning_rate = LearningRate(self.optimizer)
        self.step = 0
        """Steps that have ended so far."""
        self._parameters = dict(parameters)
        self._clip_norm = clip_norm
        self._accumulate = accumulate
        self._mean = accumulate_reduction == "mean"
        self._scaler = scaler
        self._open = 0
        self._total_steps: int | None = None
        self._losses_again: list[Callable[[], torch.Tensor]] = []

    def set_length(self, total_steps: int | None, pass_steps: int | None, missing: str = "") -> None:
        """Learn the length of the run, for the last window and the learning rate."""
        self._total_steps = total_steps
        self.learning_rate.set_length(total_steps, pass_steps, missing)
        updated = self.step - self._open
        if updated:  # a resumed training: until the next update, hooks read the rate of the last one
            self.learning_rate.resume(updated - 1)

    def backward(self, loss: torch.Tensor, again: Callable[[], torch.Tensor]) -> None:
        """Add the gradients of one batch.

        :param loss: 0-d
        :param again: computes the loss once more, for optimizers that evaluate a step several times
        """
        if self._needs_closure:
            self._losses_again.append(again)
        else:
            self._backward(loss)

    def end_step(self) -> None:
        """End a step, and update the parameters if a window ends with it."""
        self.step += 1
        self._open += 1
        if self._open == self._accumulate or self.step == self._total_steps:
            self._apply()

    def _backward(self, loss: torch.Tensor) -> None:
        if not loss.requires_grad:
            return
        torch.autograd.backward(loss if self._scaler is None else self._scaler.scale(loss))

    def _apply(self) -> None:
        self.learning_rate.apply(self.step - 1)
        if self._needs_closure:
            # torch's annotation says float, but LBFGS takes a tensor, as torch's own examples return it.
            self.optimizer.step(cast("Callable[[], float]", self._closure))
            self._losses_again.clear()
        elif self._scaler is None:
            self._finish_gradients()
            self.optimizer.step()
        else:
            self._scaler.unscale_(self.optimizer)
            self._finish_gradients()
            self._scaler.step(self.optimizer)
            self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._open = 0

    def _finish_gradients(self) -> None:
        if self._mean and self._open > 1:
            gradients = [p.grad for p in self._parameters.values() if p.grad is not None]
            if gradients:
                torch._foreach_mul_(gradients, 1 / self._open)
        if self._clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters.values(), self._clip_norm)

    def _closure(self) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            losses = [again() for again in self._losses_again]
            for loss in losses:
                self._backward(loss)
        self._finish_gradients()
        return torch.stack([loss.detach() for loss in losses]).sum()

    def state_dict(self) -> dict[str, State]:
        """Return counters, optimizer state and, inside a window, the gradients."""
        gradients = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        return {
            "step": self.step,
            "open": self._open,
            "gradients": gradients if self._open else {},
            "optimizer": optimizer_state(self.optimizer),
            "learning_rate": self.learning_rate.state_dict(),
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned.

        :raise KeyError: if the state speaks of other parameters
        """
        self.step, self._open = state["step"], state["open"]
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.learning_rate.load_state_dict(state.get("learning_rate", {}))
        for name, gradient in state["gradients"].items():
            parameter = self._parameters[name]
            parameter.grad = gradient.to(parameter.device, parameter.dtype)
        if self._scaler is not None and state["scaler"] is not None:
            self._scaler.load_state_dict(state["scaler"])


def _is(kind: type[int] | type[float], value: Any) -> bool:
    return isinstance(value, int | kind) and not isinstance(value, bool)
