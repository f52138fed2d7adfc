"""The loss of a task: by name, as a module, or as a Python function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, DataError, nearest
from .mapped_outputs import MappedOutputs
from .nested import HALF, without_half
from .target import Target

# name: (what labels are, default output, class of the module with the same formula)
_LOSSES: dict[str, tuple[Target, str, type[nn.Module]]] = {
    "cross_entropy": (Target.CLASS, "softmax", nn.CrossEntropyLoss),
    "nll_loss": (Target.CLASS, "exp", nn.NLLLoss),
    "multi_margin_loss": (Target.CLASS, "identity", nn.MultiMarginLoss),
    "binary_cross_entropy_with_logits": (Target.BINARY, "sigmoid", nn.BCEWithLogitsLoss),
    "binary_cross_entropy": (Target.BINARY, "identity", nn.BCELoss),
    "multilabel_soft_margin_loss": (Target.BINARY, "sigmoid", nn.MultiLabelSoftMarginLoss),
    "mse_loss": (Target.VALUE, "identity", nn.MSELoss),
    "l1_loss": (Target.VALUE, "identity", nn.L1Loss),
    "smooth_l1_loss": (Target.VALUE, "identity", nn.SmoothL1Loss),
    "huber_loss": (Target.VALUE, "identity", nn.HuberLoss),
    "poisson_nll_loss": (Target.VALUE, "exp", nn.PoissonNLLLoss),
    "soft_margin_loss": (Target.VALUE, "identity", nn.SoftMarginLoss),
    "hinge_embedding_loss": (Target.VALUE, "identity", nn.HingeEmbeddingLoss),
}

_ALIASES = {
    "nll": "nll_loss",
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "mse": "mse_loss",
    "l1": "l1_loss",
    "smooth_l1": "smooth_l1_loss",
    "huber": "huber_loss",
    "poisson_nll": "poisson_nll_loss",
}

LOSS_NAMES = (*_LOSSES, *_ALIASES)
"""What a loss can be called."""

_TORCH_IGNORES = -100
"""The class that torch's losses leave out by default."""

_NO_LABEL = -4_611_686_018_427_387_847
"""A number that no label is, not even one made of nan or infinity, as the smallest number of the dtype can be."""

_REFUSING_CLASSES = (functional.cross_entropy, functional.nll_loss)
"""Losses that look at every label on the CPU, and refuse it where their output has no column for it."""

_TAKING_CLASSES_SECOND = ("cross_entropy", "nll_loss")
"""Losses that take rows with further dimensions behind that of the classes."""

_MANY_CLASSES = 16
"""As many as a processor takes at once."""

_ROW_OPTIONS = frozenset({"ignore_index", "label_smoothing", "beta", "delta"})
"""Options of the functions by which a batch's loss stays the mean over its rows."""


class Loss:
    """A loss, called with the last output and the label or with all outputs and the label, and what labels it takes.

    :param loss: the name of a loss in ``torch.nn.functional``, that function itself or a partial of it, a module, or a
        Python function ``f(outputs, label)`` of all action outputs by name
    :param missing_label: an integer that class losses by name leave out inside a row of several labels
    :raise ConfigError: for an unknown name or something that cannot be called
    """

    def __init__(self, loss: str | nn.Module | Callable[..., Tensor], missing_label: float | None = None) -> None:
        known = _find(loss)
        self.given = loss
        """What it was made of."""
        self.module = loss if isinstance(loss, nn.Module) else None
        self.takes_all_outputs = known is None and self.module is None
        self.target, self.default_output = (Target.OTHER, "identity") if known is None else _LOSSES[known][:2]
        self.name = known or getattr(loss, "__name__", type(loss).__name__)
        function: Callable[..., Tensor] = (
            getattr(functional, _ALIASES.get(loss, loss)) if isinstance(loss, str) else loss
        )
        self.ignored_label: int | None = None
        """A class that does not count inside a row of several labels."""
        if known in ("cross_entropy", "nll_loss"):
            self.ignored_label = _find_ignored_label(loss, missing_label)
            if self.module is None and self.ignored_label != _TORCH_IGNORES:
                function = partial(function, ignore_index=self.ignored_label)
        self._function = function
        self.refuses_classes = function in _REFUSING_CLASSES
        """Whether it refuses, on the CPU, classes that its output has no column for; see ``strict``."""
        # Of a missing label no row is left when it comes here; of a class that torch leaves out, rows are.
        self._leaves_out_a_class = isinstance(loss, partial) and "ignore_index" in loss.keywords
        self._is_plain = self.module is None and self.target in (Target.CLASS, Target.BINARY, Target.VALUE)

    def __call__(self, outputs: Mapping[str, Any], last: str, label: Any) -> Tensor:
        """Return the 0-d loss of a batch, in float32 unless the outputs are finer.

        :param outputs: all outputs of the flow by name
        :param last: the name of the last action
        :param label: the labels, on any device
        :raise DataError: if output and label do not fit each other
        """
        loss: Any
        if self.takes_all_outputs:
            loss = self._function(MappedOutputs(outputs, without_half), label)
        else:
            output = outputs[last]
            loss = self._directly(output, label) if self._is_plain else None
            if loss is None:
                loss = self._from_last(output, label)
        if not isinstance(loss, Tensor):
            raise ConfigError(f"loss {self.name!r} must return a tensor, not a {type(loss).__name__}", ("loss",))
        return loss.mean() if loss.dim() else loss

    def strict(self, output: Any, label: Any, num_classes: int | None) -> Tensor | None:
        """Return the 0-d loss of rows with a class each, if it is certain that every class is one of the output's.

        For a loss that ``refuses_classes``, on the CPU. None where that is not certain, or anything else is unusual.

        :param output: the last output, [n, classes]
        :param label: [n]
        :param num_classes: how many classes there are; None for as many as the output has columns
        """
        if type(output) is not Tensor or type(label) is not Tensor or output.dtype in HALF:
            return None
        shape = output.shape
        if len(shape) != 2 or not shape[0] or label.dtype is not torch.int64 or num_classes not in (None, shape[1]):
            return None
        try:
            # torch leaves out one number without a word, so that is one that no label can be.
            loss: Tensor = self._function(output, label, ignore_index=_NO_LABEL)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return None
        return loss

    @property
    def row_signature(self) -> Hashable | None:
        """What is equal for losses that are the same function of a row, the batch's loss being the mean of its rows.

        None for one that may be something else: a module, a Python function, a loss that weighs or leaves out classes.
        """
        function = self._function
        options = function.keywords if isinstance(function, partial) else {}
        called = function.func if isinstance(function, partial) else function
        plain = self._is_plain and called is getattr(functional, str(self.name)) and not getattr(function, "args", ())
        if not plain or self._leaves_out_a_class or not _ROW_OPTIONS.issuperset(options):
            return None
        return self.name, self.ignored_label, tuple(sorted(options.items()))

    def per_row(self, output: Tensor, label: Tensor) -> Tensor:
        """Return the loss of each row, [a, b], for a loss with a ``row_signature``; no row may be without its label.

        :param output: the outputs of rows in two dimensions, [a, b, classes]
        :param label: [a, b] or [a, b, classes], on any device
        :raise DataError: if output and label do not fit each other
        """
        if self.name in _TAKING_CLASSES_SECOND and output.shape[-1] < _MANY_CLASSES:
            # So torch goes through many rows at once; few classes in the last dimension take it ten times as long.
            label = label.transpose(1, 2) if label.dim() == output.dim() else label
            output = output.transpose(1, 2)
            if label.dtype is torch.int64 and output.dtype not in HALF and label.device == output.device:
                return self._computed(output, label, {"reduction": "none"})  # nothing is left to be made fit
            return self._apart_from_autocast(output, label, reduction="none")
        loss = self._apart_from_autocast(output.flatten(0, 1), label.flatten(0, 1), reduction="none")
        return (loss.flatten(1).mean(1) if loss.dim() > 1 else loss).view(output.shape[:2])

    def _directly(self, output: Any, label: Any) -> Tensor | None:
        """Return the loss of what mostly comes: output and label that are fit for it already; else None.

        To look whether they are would take as long as a small layer. What torch refuses is left to the long way, which
        makes it fit or says what is wrong.
        """
        if type(output) is not Tensor or type(label) is not Tensor or output.dtype in HALF:
            return None
        if self.target is Target.CLASS:
            if label.dtype is not torch.int64 or output.ndim < 2:
                return None  # torch would take the only dimension for that of the classes
        elif output.dtype is not label.dtype or output.shape != label.shape:
            return None  # torch would stretch the smaller one
        try:
            return self._function(output, label)
        except (IndexError, RuntimeError, TypeError, ValueError):
            return None

    def _from_last(self, output: Any, label: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ConfigError(
                f"loss {self.name!r} needs one tensor, but the last action returns a {type(output).__name__}; "
                "let a last action pick it, or use a Python loss f(outputs, label)",
                ("loss",),
            )
        if not isinstance(label, Tensor):
            raise DataError(f"loss {self.name!r} needs a tensor of labels, got {type(label).__name__}")
        return self._apart_from_autocast(output, label)

    def _apart_from_autocast(self, output: Tensor, label: Tensor, **options: str) -> Tensor:
        output, label = self._fit(without_half(output), label.to(output.device, non_blocking=True))
        kind = output.device.type
        if not torch.is_autocast_enabled(kind):
            return self._computed(output, label, options)
        # Autocast would choose a precision of its own, and forbids binary_cross_entropy altogether.
        with torch.autocast(kind, enabled=False):
            return self._computed(output, label, options)

    def _computed(self, output: Tensor, label: Tensor, options: Mapping[str, str]) -> Tensor:
        try:
            return self._function(output, label, **options)
        except IndexError as error:  # how torch says on the CPU that a class has no column in the output
            text = f"loss {self.name!r}: {error} The output has the shape {tuple(output.shape)}"
            raise DataError(f"{text}; set the task's num_classes to have labels checked") from error

    def _fit(self, output: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        if self.target is Target.OTHER:
            return output, label.to(output.dtype) if label.is_floating_point() else label
        shape, given = output.shape, label.shape
        if not shape or not given or shape[0] != given[0]:
            raise DataError(f"output of shape {tuple(shape)} has other rows than labels {tuple(given)}")
        if self.target is Target.CLASS:
            if given == shape:
                return output, label.to(output.dtype)
            column = len(given) == len(shape) and given[-1] == 1
            return output, (label.squeeze(-1) if column else label).long()
        if shape != given:
            output, label = _without_column(output, label), _without_column(label, output)
        if output.shape != label.shape:
            raise DataError(f"output of shape {tuple(output.shape)} does not fit labels of shape {tuple(label.shape)}")
        return output, label.to(output.dtype)


def _find(loss: Any) -> str | None:
    if isinstance(loss, str):
        name = _ALIASES.get(loss, loss)
        if name in _LOSSES:
            return name
        raise ConfigError(f"unknown loss {loss!r}{nearest(loss, [*_LOSSES, *_ALIASES])}", ("loss",))
    if isinstance(loss, nn.Module):
        return next((name for name, (_, _, kind) in _LOSSES.items() if isinstance(loss, kind)), None)
    if not callable(loss):
        raise ConfigError(f"a loss is a name, a module or a function f(outputs, label), not {loss!r}", ("loss",))
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise ConfigError(
            f"a loss is an object, not the class {loss.__name__}; in YAML {{class: …}} makes one", ("loss",)
        )
    function = loss.func if isinstance(loss, partial) else loss
    return next((name for name in _LOSSES if getattr(functional, name) is function), None)


def _find_ignored_label(loss: Any, missing_label: float | None) -> int:
    if isinstance(loss, nn.Module):
        return int(getattr(loss, "ignore_index", _TORCH_IGNORES))
    if isinstance(loss, partial) and "ignore_index" in loss.keywords:
        return int(loss.keywords["ignore_index"])
    return missing_label if isinstance(missing_label, int) else _TORCH_IGNORES


def _without_column(value: Tensor, other: Tensor) -> Tensor:
    """Return [n, 1] as [n] where the other one is [n]."""
    return value.squeeze(-1) if value.dim() == other.dim() + 1 and value.shape[-1] == 1 else value
