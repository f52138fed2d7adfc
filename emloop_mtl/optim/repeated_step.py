"""The step of an optimizer that evaluates it several times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

import torch


class RepeatedStep:
    """Keeps the batches of a step, and makes an update by evaluating them as often as the optimizer asks.

    :param optimizer: the optimizer
    :param forget: forgets all gradients
    :param backward: adds the gradients of a loss
    :param finish: makes the gradients what the update is made of
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        forget: Callable[[], None],
        backward: Callable[[torch.Tensor], None],
        finish: Callable[[], None],
    ) -> None:
        self._optimizer = optimizer
        self._forget = forget
        self._backward = backward
        self._finish = finish
        self._evaluations: list[_Evaluation] = []

    def add(
        self, loss: torch.Tensor, again: Callable[[], torch.Tensor], conditions: AbstractContextManager[Any]
    ) -> None:
        """Keep a batch.

        :param loss: its loss, evaluated for the first time
        :param again: computes it once more
        :param conditions: entered around each further evaluation
        """
        self._evaluations.append(_Evaluation(loss, again, conditions))

    def __call__(self) -> None:
        """Update the parameters."""
        evaluations, self._evaluations = self._evaluations, []
        is_first = True

        def closure() -> torch.Tensor:
            nonlocal is_first
            self._forget()
            losses = []
            with torch.enable_grad():
                for loss, again, conditions in evaluations:
                    if is_first:
                        self._backward(loss)
                    else:
                        with conditions:
                            loss = again()
                            self._backward(loss)
                    losses.append(loss.detach())
            is_first = False
            self._finish()
            return torch.stack(losses).sum()

        # torch's annotation says float, but LBFGS takes a tensor, as torch's own examples return it.
        self._optimizer.step(cast("Callable[[], float]", closure))


class _Evaluation(NamedTuple):
    """A batch of a step that is evaluated several times."""

    loss: torch.Tensor
    again: Callable[[], torch.Tensor]
    conditions: AbstractContextManager[Any]
