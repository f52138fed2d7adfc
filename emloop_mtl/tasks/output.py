"""From a task's outputs to probabilities, and from these to predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, nearest
from .nested import without_half
from .target import Target

CLASS_DIM = 1
"""The dimension of the classes in outputs with rows of them, as torch's losses have it."""

OUTPUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "softmax": torch.softmax,
    "sigmoid": lambda output, _: torch.sigmoid(output),
    "exp": lambda output, _: torch.exp(output),
    "identity": lambda output, _: output,
}
"""Name -> function of an output and of the dimension of its classes."""


class Output:
    """How the outputs of a flow become probabilities and predictions.

    :param output: ``softmax``, ``sigmoid``, ``exp`` or ``identity`` of the last action's output, or a function of all
        action outputs by name
    :param target: what the task's labels are
    :param class_dim: the dimension of the classes
    :raise ConfigError: for an unknown name
    """

    def __init__(
        self, output: str | Callable[[Mapping[str, Any]], Tensor], target: Target, class_dim: int = CLASS_DIM
    ) -> None:
        if isinstance(output, str) and output not in OUTPUTS:
            raise ConfigError(f"unknown output {output!r}{nearest(output, OUTPUTS)}", ("output",))
        if not isinstance(output, str) and not callable(output):
            raise ConfigError(f"output is a name or a function f(outputs), not {output!r}", ("output",))
        self._output = output
        self._target = target
        self._class_dim = class_dim

    @property
    def given(self) -> str | Callable[[Mapping[str, Any]], Tensor]:
        """What it was made of."""
        return self._output

    @property
    def name(self) -> str | None:
        """Which of the outputs by name it is; None for a function."""
        return self._output if isinstance(self._output, str) else None

    @property
    def predicts_values(self) -> bool:
        """Whether it is certain that predictions are numbers and no classes."""
        return self._target is Target.VALUE and self._output in ("identity", "exp")

    @property
    def predicts_classes(self) -> bool:
        """Whether it is certain that there is a column for each of several classes."""
        return self._target is Target.CLASS and isinstance(self._output, str)

    @property
    def predicts_label_sets(self) -> bool | None:
        """Whether each number is one of a label that is 0 or 1 by itself; None where that is not certain."""
        if self._output == "sigmoid" or self._target is Target.BINARY:
            return True
        return False if self._target is not Target.OTHER or self._output in ("softmax", "exp") else None

    @property
    def gives_no_probabilities(self) -> bool:
        """Whether it is certain that there are other numbers than probabilities, such as scores of classes."""
        plain = self._output == "identity" and self._target in (Target.CLASS, Target.VALUE)
        return plain or (self._output == "exp" and self._target is Target.VALUE)

    @torch.no_grad()
    def probabilities(self, outputs: Mapping[str, Any], last: str) -> Tensor:
        """Return what the task says about each row: probabilities of classes, or values.

        :param outputs: all outputs of the flow by name
        :param last: the name of the last action
        """
        if isinstance(self._output, str):
            value = outputs[last]
            if not isinstance(value, Tensor):
                raise ConfigError(
                    f"output {self._output!r} needs one tensor, but the last action returns a {type(value).__name__}; "
                    "set 'output' to a function f(outputs)"
                )
            value = OUTPUTS[self._output](value.float() if value.is_floating_point() else value, self._class_dim)
        else:
            value = self._output(outputs)
            if not isinstance(value, Tensor):
                raise ConfigError(f"'output' must return a tensor, not a {type(value).__name__}")
        return without_half(value).detach()

    def predictions(self, prob: Tensor) -> Tensor:
        """Return the most probable class, the side of one half for 0 or 1, or the value itself.

        :param prob: what ``probabilities`` returned
        """
        if self._output == "sigmoid" or self._target is Target.BINARY:
            return (prob > 0.5).long()
        has_classes = prob.dim() > self._class_dim and prob.shape[self._class_dim] > 1
        classifies = self._output == "softmax" or self._target is Target.CLASS
        if has_classes and (classifies or (callable(self._output) and self._target is Target.OTHER)):
            return prob.argmax(self._class_dim)
        return prob

    def predict(self, outputs: Mapping[str, Any], last: str) -> Tensor:
        """Return the predictions where nobody asks for the probabilities.

        The most probable class is that of the largest output, so that no probabilities are computed where rows have
        classes. Only outputs that are no finite numbers, or too close for their probabilities to differ in float32,
        make a difference.

        :param outputs: all outputs of the flow by name
        :param last: the name of the last action
        """
        has_classes = self._output == "softmax" and self._target is not Target.BINARY
        if has_classes or (self._output == "exp" and self._target is Target.CLASS):
            value = outputs[last]
            dim = self._class_dim
            if isinstance(value, Tensor) and value.dim() > dim and value.shape[dim] > 1:
                return value.argmax(dim)
        return self.predictions(self.probabilities(outputs, last))
