"""A head as a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError, KeyPath, nearest
from ..tasks.action import Action
from ..tasks.action_input import ActionInput
from ..tasks.nested import map_tensors, without_half
from ..tasks.output import CLASS_DIM
from ..tasks.task import Task
from .component import BACKBONE, Component
from .head import Head
from .returned_names import returned_names

LOSS = "loss"
"""The key of a head's own loss among what it returns."""

KINDS = (LOSS, "prob", "pred")
"""What every task says about a batch, so that no other output of a head is called so."""


class HeadTask(Task):
    """A head of a model with a backbone, whose flow is the backbone and the head.

    :param name: the head's name
    :param head: the head
    :param weight: what its loss is multiplied by in the model's loss
    :param component: the arguments of the module
    :param takes: all that the module gets, what the backbone returns or a part of it; None where it may get anything
        else
    :raise ConfigError: for a mistake in the head's settings, with the path below the head
    """

    kind: ClassVar[str] = "head"
    """What it is called in messages."""

    outputs_setting: ClassVar[str] = "outputs"
    """What the argument ``action_outputs`` is called in the config."""

    def __init__(
        self, name: str, head: Head, weight: float, component: Component, takes: ActionInput | None = None
    ) -> None:
        self.component = component
        self.computes_loss = head.loss is None
        """Whether the module returns its own loss."""
        if self.computes_loss and returned_names(head.module) == ():
            text = (
                f"head {name!r}: {type(head.module).__name__} computes no loss of its own, so the head learns nothing"
            )
            raise ConfigError(f"{text}; set 'loss', as in {{module: …, loss: cross_entropy}}")
        self._check_outputs(name, head)
        self.label_is_given = head.label is not None
        """Whether somebody has named the source of its labels; else it is that of its name unless a loader says so."""
        self._is_told = head.output is None and self.computes_loss
        super().__init__(
            name,
            modules={name: head.module},
            flow=[Action(BACKBONE, BACKBONE), Action(name, name, [] if takes is None else [takes])],
            label=name if head.label is None and not self.computes_loss else head.label,
            loss=_OwnLoss(name) if head.loss is None else head.loss,
            output=_Told(name, CLASS_DIM + (head.tokens is not None)) if self._is_told else head.output,
            scorer=head.scorer,
            weight=weight,
            missing_label=head.missing_label,
            action_outputs=[(name, key) for key in head.outputs],
            metrics=head.metrics,
            num_classes=head.num_classes,
            tokens=head.tokens,
            module_device=None if head.device is None else {name: head.device},
            require_prob_for_eval=head.require_prob_for_eval,
            require_pred_for_eval=head.require_pred_for_eval,
        )

    @property
    def may_be_stacked(self) -> bool:
        """Whether it is a module on what the backbone returns, with the loss of any task."""
        return type(self) is HeadTask and not self.computes_loss

    @property
    def action_output_names(self) -> list[str]:
        """The names of what the head returns beside loss and probabilities: ``<head>/<key>``."""
        return [f"{self.name}/{part.path[0]}" for part in self.action_outputs]

    def device_path(self, module: str) -> KeyPath:
        """Return where in the head's settings the device of its module stands."""
        return ("device",)

    def own_loss(self, outputs: Mapping[str, Any]) -> Tensor | None:
        """Return the loss that the module has computed, 0-d; None if it has computed none, as without labels.

        :param outputs: what the backbone and the heads have returned
        :raise ConfigError: if it is no loss
        """
        told = outputs[self.name]
        if not isinstance(told, Mapping):
            text = f"head {self.name!r} returns a {type(told).__name__}, no mapping with its own 'loss'"
            raise ConfigError(f"{text}; set 'loss', as in {{module: …, loss: cross_entropy}}", self.path)
        loss = told.get(LOSS)
        if loss is not None and (not isinstance(loss, Tensor) or loss.dim()):
            shown = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise ConfigError(
                f"head {self.name!r}: its 'loss' must be a tensor without dimensions, not {shown}", self.path
            )
        return None if loss is None else without_half(loss)

    @property
    def path(self) -> tuple[str, ...]:
        """Where it stands in the config."""
        return "model", "heads", self.name

    def can_be_asked(self, outputs: Mapping[str, Any]) -> bool:
        """Whether probabilities can be told of what the backbone and the heads have returned.

        :param outputs: what they have returned
        """
        told = outputs[self.name]
        return not self._is_told or not isinstance(told, Mapping) or "probs" in told or "logits" in told

    def others(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that the head has returned beside its loss by ``<head>/<key>``, without gradients."""
        told = outputs[self.name]
        kept = {key: value for key, value in told.items() if key not in KINDS} if isinstance(told, Mapping) else {}
        return {f"{self.name}/{key}": map_tensors(value, Tensor.detach) for key, value in kept.items()}

    @staticmethod
    def _check_outputs(name: str, head: Head) -> None:
        known = returned_names(head.module)
        for index, key in enumerate(head.outputs if known is not None else ()):
            kind = type(head.module).__name__
            if known == ():
                text = f"head {name!r}: {kind} returns one value, no mapping; what it returns needs no 'outputs'"
                raise ConfigError(text, ("outputs",))
            if key not in (known or ()):
                text = f"head {name!r}: there is no {key!r} among what {kind} returns{nearest(key, known or ())}"
                raise ConfigError(text, ("outputs", index))


class _OwnLoss:
    """The loss among what a head has returned."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.__name__ = "its own"

    def __call__(self, outputs: Mapping[str, Any], label: Any) -> Tensor:
        loss: Tensor = outputs[self._name][LOSS]
        return loss


class _Told:
    """The probabilities among what a head has returned.

    :param name: the head's name
    :param class_dim: the dimension of the classes
    """

    def __init__(self, name: str, class_dim: int) -> None:
        self._name = name
        self._class_dim = class_dim

    def __call__(self, outputs: Mapping[str, Any]) -> Tensor:
        told = outputs[self._name]
        if not isinstance(told, Mapping):
            return _checked(told)
        if "probs" in told:
            return _checked(told["probs"])
        if "logits" in told:
            logits = without_half(_checked(told["logits"]))
            return torch.softmax(logits, min(self._class_dim, logits.dim() - 1))
        keys = ", ".join(map(repr, told))
        text = f"there are neither 'probs' nor 'logits' among what it returns ({keys})"
        raise ConfigError(f"{text}; set 'output' to a function f(outputs)")


def _checked(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    raise ConfigError(f"its probabilities are a {type(value).__name__}; set 'output' to a function f(outputs)")
