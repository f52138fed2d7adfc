"""The update: backward, accumulate, clip, step."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.batch import Batch
from ..errors import ConfigError
from ..types import State
from ..utils.observers import Observers
from .backward import Backward
from .finding import Finding
from .finite_watch import FiniteWatch
from .first_momentum import FirstMomentum
from .learning_rate import LearningRate
from .optimizer_bytes import optimizer_bytes
from .optimizer_stacks import OptimizerStacks
from .optimizer_step import OptimizerStep
from .optimizers import (
    create_optimizer,
    laid_out_like,
    load_optimizer_state,
    named_parameters,
    needs_closure,
    optimizer_state,
)
from .renewed_optimizer import renew_optimizer
from .repeated_step import RepeatedStep
from .skipping_step import SkippingStep
from .sparse_gradients import clip_values, explain_gradients, gradient_values, pack, unpack
from .stacked_parameter import StackedParameter
from .stacked_state import split_tensor
from .update_settings import OnNan, Reduction, check_values


class Update:
    """Turns the losses of a step into an optimizer update, without waiting for the device.

    Gradients of ``accumulate`` steps make one update. Windows go on across epochs; only the last step of the run
    closes one early, and it is divided by its own length. As far as that is known when a window opens, each backward
    pass begins with that share of its loss, so that no further pass over the gradients is needed.

    :param parameters: the parameters to train, by the names they are checkpointed under
    :param optimizer: ``class`` and arguments of the optimizer, ``parameters`` for groups, see ``create_optimizer``
    :param network: the network that the parameters belong to
    :param clip_norm: clip the norm of all gradients together to this
    :param accumulate: steps per update
    :param accumulate_reduction: ``mean`` or ``sum`` of the gradients of a window
    :param scaler: scales losses against underflow in fp16; None for other precisions
    :param on_nan: what to do about losses and gradients that are not finite: ``error``, ``skip`` or ``warn``, see
        ``FiniteWatch``; None to not look at them
    :param output_dir: folder of the run, where bad batches are kept
    :raise ConfigError: for a value out of range or an unknown optimizer
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimizer: Mapping[str, Any],
        network: nn.Module | None = None,
        *,
        clip_norm: float | None = None,
        accumulate: int = 1,
        accumulate_reduction: Reduction = "mean",
        scaler: torch.amp.GradScaler | None = None,
        on_nan: OnNan | None = None,
        output_dir: str | Path | None = None,
    ) -> None:
        check_values(clip_norm, accumulate, accumulate_reduction, on_nan)
        try:
            self.optimizer = create_optimizer(optimizer, parameters.items(), network)
        except ConfigError as error:
            raise error.below(("optimizer",)) from error.__cause__
        self.repeats = needs_closure(self.optimizer)
        """Whether the optimizer evaluates a step several times."""
        if self.repeats and (accumulate > 1 or scaler is not None):
            kind = type(self.optimizer).__name__
            what = "update.accumulate above 1" if accumulate > 1 else "precision fp16, but with bf16 and fp32"
            path = ("update", "accumulate") if accumulate > 1 else ("precision",)
            raise ConfigError(f"optimizer {kind} evaluates a step several times and cannot work with {what}", path)
        if self.repeats and on_nan is not None:
            kind = type(self.optimizer).__name__
            text = f"optimizer {kind} evaluates a step several times and cannot work with update.on_nan"
            raise ConfigError(f"{text}; the hook StopOnNaN looks at its losses", ("update", "on_nan"))
        self.learning_rate = LearningRate(self.optimizer)
        self.step = 0
        """Steps that have ended so far."""
        self._stacks = OptimizerStacks(self.optimizer, self.learning_rate)
        self._find_trained()
        self._step_optimizer: Callable[[], None] = OptimizerStep(self.optimizer)
        self.watch: FiniteWatch | None = None
        """What looks at losses and gradients; None if nothing does."""
        if on_nan is not None:
            self.watch = FiniteWatch(on_nan, parameters, network, output_dir, scaler is not None)
            if self.watch.skips:
                self._step_optimizer = SkippingStep(OptimizerStep(self.optimizer), self.optimizer, self.watch)
        self._begin_momentum = FirstMomentum(self.optimizer)
        self._run_backward = Backward()
        self._has_own_zero_grad = type(self.optimizer).zero_grad is not torch.optim.Optimizer.zero_grad
        self._clip_norm = clip_norm
        self._accumulate = accumulate
        self._mean = accumulate_reduction == "mean"
        self._scaler = scaler
        self._open = 0
        self._planned = 1
        """What the gradients of the open window are divided by already."""
        self._total_steps: int | None = None
        self.before_clipping: Observers[Callable[[Mapping[str, torch.Tensor]], None]] = Observers()
        """Called before each update with its gradients by parameter name, once they are a mean and not scaled any more.

        Where a step is evaluated several times, with those of the first evaluation.
        """
        self._is_shown = False
        self._step_repeatedly = RepeatedStep(
            self.optimizer, self._forget_gradients, self._backward, self._finish_gradients
        )
        self._plan_window()

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What is trained at present, by name; another mapping each time that this changes."""
        return self._parameters

    @property
    def is_window_open(self) -> bool:
        """Whether steps have ended since the last update."""
        return self._open > 0

    def set_length(self, total_steps: int | None, pass_steps: int | None, missing: str = "") -> None:
        """Learn the length of the run, for the last window and the learning rate."""
        self._total_steps = total_steps
        if not self._open:
            self._plan_window()
        self.learning_rate.set_length(total_steps, pass_steps, missing)
        # Until the next update, hooks read the rate of the last one; before the first, that of the first step.
        self.learning_rate.begin(max(self.step - self._open - 1, 0))

    def backward(
        self,
        loss: torch.Tensor,
        again: Callable[[], torch.Tensor],
        conditions: AbstractContextManager[Any] | None = None,
    ) -> None:
        """Add the gradients of one batch.

        :param loss: 0-d
        :param again: computes the loss once more, for optimizers that evaluate a step several times
        :param conditions: entered around each further evaluation, see ``SameConditions``
        """
        if self.repeats:
            self._step_repeatedly.add(loss, again, conditions or nullcontext())
        else:
            self._backward(loss)

    def look_at(self, batch: Batch, outputs: Mapping[str, Any], stream: str) -> None:
        """Let ``watch`` look at a batch whose gradients were added.

        :param outputs: what the model has made of it, ``loss`` among them
        :param stream: the stream that it is of, empty if it was run without one
        :raise NotFiniteError: if a batch is not finite, and that is an error
        """
        assert self.watch is not None
        self.watch.add(Finding(batch, outputs, stream, self.step + 1), self._parameters)

    @property
    def leaves_out_bad(self) -> bool:
        """Whether updates may be left out because they are not finite."""
        return self._scaler is not None or (self.watch is not None and self.watch.skips)

    def loss_scale(self) -> torch.Tensor | None:
        """Return what losses are multiplied by before the backward pass, 0-d on the device; None for nothing."""
        if self._scaler is None:
            return None
        scale = self._scaler.scale(torch.ones((), device=self._trained[0].device))
        assert isinstance(scale, torch.Tensor)
        return scale

    @property
    def takes_stacks(self) -> bool:
        """Whether parameters can be trained as one, without a difference to what becomes of them."""
        return self._stacks.is_possible

    def stack_conditions(self) -> dict[nn.Parameter, Hashable]:
        """Return for each parameter what must be alike in those that are trained as one."""
        return self._stacks.conditions()

    def stack(self, stacks: Sequence[StackedParameter]) -> None:
        """Train the leaves of stacks from now on; state and gradients come out under the names of their members."""
        self._stacks.stack(stacks)
        self._find_trained()

    def unstack(self, stacks: Sequence[StackedParameter]) -> None:
        """Train the members of stacks from now on."""
        self._stacks.unstack(stacks)
        self._find_trained()

    def renew(self, optimizer: Mapping[str, Any], network: nn.Module) -> None:
        """Train what the network consists of by now; state, gradients and rates of what stays go on.

        :param optimizer: the settings that the optimizer was made of
        :raise ConfigError: if they do not fit the network any more; then nothing is changed
        """
        if self.watch is not None:
            self.watch.settle()
        renew_optimizer(self.optimizer, optimizer, network, self.learning_rate.renew)
        self.learning_rate.begin(max(self.step - self._open - 1, 0))
        self._stacks = OptimizerStacks(self.optimizer, self.learning_rate)
        self._begin_momentum = FirstMomentum(self.optimizer)
        self._find_trained()
        if self.watch is not None:
            self.watch.renew(self._parameters)

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradients that there are at present, by parameter name."""
        given = [(name, p.grad) for name, p in self._parameters.items() if p.grad is not None]
        return {member: part for name, gradient in given for member, part in split_tensor(name, gradient)}

    def _find_trained(self) -> None:
        self._parameters = named_parameters(self.optimizer)
        self._trained = tuple(self._parameters.values())
        self._group_count = len(self.optimizer.param_groups)

    def end_step(self) -> None:
        """End a step, and update the parameters if a window ends with it."""
        self.step += 1
        self._open += 1
        # There are more than that where a run is continued with shorter windows.
        if self._open >= self._accumulate or self.step == self._total_steps:
            self._apply()

    def _plan_window(self) -> None:
        """Learn how many steps the next window has, unless the length of the run will change."""
        self._planned = 1
        if self._mean:
            left = math.inf if self._total_steps is None else self._total_steps - self.step
            self._planned = int(left) if 0 < left < self._accumulate else self._accumulate

    def _backward(self, loss: torch.Tensor) -> None:
        if loss.requires_grad:
            self._run_backward(loss if self._scaler is None else self._scaler.scale(loss), 1 / self._planned)

    def _apply(self) -> None:
        if len(self.optimizer.param_groups) != self._group_count:  # a hook has given it more to train
            self._find_trained()
        self.learning_rate.apply(self.step - 1)
        if self._begin_momentum.is_needed:
            self._begin_momentum()
        try:
            if self.repeats:
                self._is_shown = False
                self._step_repeatedly()
            elif self._scaler is None or all(p.grad is None for p in self._trained):  # which a scaler does not take
                self._finish_gradients()
                self._step_optimizer()
            elif self.watch is None or not (self.watch.skips and self.watch.is_bad()):
                self._scaler.unscale_(self.optimizer)
                if self.watch is not None:
                    self.watch.add_unscaled(self._parameters, self._scaler)
                self._finish_gradients()
                self._scaler.step(self.optimizer)
                self._scaler.update()
        except RuntimeError as error:
            explain_gradients(self.optimizer, self._parameters, error)
            raise
        self._forget_gradients()
        self._open = 0
        if self._accumulate > 1:
            self._plan_window()
        if self.watch is not None:
            self.watch.end_window()

    def _forget_gradients(self) -> None:
        if self._has_own_zero_grad:
            self.optimizer.zero_grad(set_to_none=True)
            return
        # What torch's own does, without its profiling, which takes as long as a small layer.
        for parameter in self._trained:
            parameter.grad = None

    def _finish_gradients(self) -> None:
        # It is not 1 where a run was cut, or continued with other settings, while a window was open.
        factor = self._planned / (self._open if self._mean else 1)
        if self._clip_norm is None and factor == 1.0:
            if self.before_clipping:
                self._show_gradients()
            return
        gradients = [p.grad for p in self._trained if p.grad is not None]
        if any(gradient.is_sparse for gradient in gradients):
            gradients = gradient_values(self._trained)
        if factor != 1.0 and gradients:
            torch._foreach_mul_(gradients, factor)
        if self.before_clipping:
            self._show_gradients()
        if self._clip_norm is not None and gradients:
            clip_values(gradients, self._clip_norm)

    def _show_gradients(self) -> None:
        if self.repeats and self._is_shown:
            return
        self._is_shown = True
        given = {name: p.grad for name, p in self._parameters.items() if p.grad is not None}
        for show in self.before_clipping:
            show(given)

    def checkpoint_bytes(self) -> int:
        """Return how many bytes the tensors of the state will have, once the optimizer has made an update."""
        gradients = sum(p.nbytes for p in self._trained if p.requires_grad) if self._accumulate > 1 else 0
        return gradients + optimizer_bytes(self.optimizer)

    def state_dict(self) -> dict[str, State]:
        """Return counters, optimizer state and, inside a window, the gradients.

        :raise NotFiniteError: if what it speaks of is not finite, and that is an error
        """
        if self.watch is not None:
            self.watch.settle()
            self.watch.check_state(self._parameters, self.step)
        gradients = {name: pack(gradient) for name, gradient in self.gradients().items()} if self._open else {}
        return {
            "step": self.step,
            "open": self._open,
            "planned": self._planned,
            "gradients": gradients,
            "optimizer": optimizer_state(self.optimizer),
            "learning_rate": self.learning_rate.state_dict(),
            "scaler": None if self._scaler is None else self._scaler.state_dict(),
            **({} if self.watch is None else {"watch": self.watch.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned, with nothing stacked.

        :raise KeyError: if the state speaks of other parameters
        """
        self.step, self._open = state["step"], state["open"]
        self._plan_window()
        if self._open:
            # A checkpoint that does not tell holds gradients that nothing was divided by.
            self._planned = state.get("planned", 1)
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.learning_rate.load_state_dict(state.get("learning_rate", {}))
        self._forget_gradients()
        for name, gradient in state["gradients"].items():
            parameter = self._parameters[name]
            parameter.grad = laid_out_like(parameter, unpack(gradient).to(parameter.device, parameter.dtype))
        if self.watch is not None:
            self.watch.load_state_dict(state.get("watch", {}))
        if self._scaler is not None and state["scaler"] is not None:
            self._scaler.load_state_dict(state["scaler"])
            if self._open:  # gradients that are unscaled by it, though no loss may have to be scaled before
                self._scaler.scale(torch.zeros((), device=self._trained[0].device))
