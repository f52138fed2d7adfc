"""Which rows of a batch are labelled, and whether their labels can be used."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError
from .target import Target

UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
"""Numbers that can be stored and converted, and hardly more."""


class LabelCheck:
    """The rules that the labels of one task follow.

    :param target: what the labels are
    :param num_classes: labels of classes lie in 0..num_classes - 1; None if that is not known
    :param missing_label: the value that marks a row without a label; None if all rows have one
    :param ignored_label: a value that the loss itself leaves out, allowed inside rows of several labels
    """

    def __init__(
        self, target: Target, num_classes: int | None, missing_label: float | None, ignored_label: int | None
    ) -> None:
        self.num_classes = num_classes
        self._target = target
        self._missing = missing_label
        self._ignored = ignored_label

    def __call__(self, label: Any, place: Callable[[int], str] | None = None) -> Tensor | None:
        """Return the int64 indices of the labelled rows, or None if all rows are labelled.

        :param label: the labels of a batch, [n, ...], on the host
        :param place: returns what to call a row of these in messages, if they are tokens
        :raise DataError: for a label that is neither usable nor marked as missing
        """
        if self._missing is None and self._is_certainly_usable(label):
            return None
        label = as_tensor(label)
        rows = self._labelled_rows(label)
        self._check(label if rows is None else label[rows], rows, place)
        return rows

    def _is_certainly_usable(self, label: Any) -> bool:
        """Tell of class numbers, as most labels are, that all can be used; False is no verdict."""
        if type(label) is not Tensor or label.dtype is not torch.int64 or self._target is not Target.CLASS:
            return False
        if not label.ndim or not label.numel():
            return False
        least, most = label.aminmax()
        classes = self.num_classes
        return least.item() >= 0 and (classes is None or most.item() < classes)

    def _labelled_rows(self, label: Tensor) -> Tensor | None:
        if self._missing is None:
            return None
        missing = torch.isnan(label) if math.isnan(self._missing) else label == self._missing
        if not missing.any():
            return None
        whole_rows = missing.flatten(1).all(1) if missing.dim() > 1 else missing
        return (~whole_rows).nonzero().squeeze(1) if whole_rows.any() else None

    def _check(self, label: Tensor, rows: Tensor | None, place: Callable[[int], str] | None) -> None:
        if label.numel() == 0:
            return
        if label.is_floating_point():
            if not (finite := torch.isfinite(label)).all():
                self._refuse(label, ~finite, rows, place, "is not finite")
            if self._target is Target.CLASS and _is_one_per_row(label) and not (whole := label == label.floor()).all():
                self._refuse(label, ~whole, rows, place, "is no whole number, as a class must be")
        if self._target not in (Target.BINARY, Target.CLASS) or label.dtype == torch.bool:
            return
        if label.dtype in UNSIGNED:
            raise DataError(f"labels of classes cannot be {label.dtype}, which torch does not compare; make them int64")
        highest = self._highest()
        least, most = (extreme.item() for extreme in label.aminmax())
        if least < 0 or (highest is not None and most > highest):
            bad = label < 0 if highest is None else (label < 0) | (label > highest)
            if self._ignored is not None and label.dim() > 1:
                bad &= label != self._ignored
            if bad.any():
                problem = f"is out of range 0..{'' if highest is None else highest}"
                self._refuse(label, bad, rows, place, problem)

    def _highest(self) -> int | None:
        if self._target is Target.BINARY:
            return 1
        return None if self.num_classes is None else self.num_classes - 1

    def _refuse(
        self, label: Tensor, bad: Tensor, rows: Tensor | None, place: Callable[[int], str] | None, problem: str
    ) -> None:
        found = bad.nonzero()[0]
        value = label[tuple(found)].item()
        row = int(found[0] if rows is None else rows[found[0]])
        unit, called = ("row", f"row {row}") if place is None else ("token", place(row))
        shown = f"{value:g}" if isinstance(value, float) else f"{value}"
        missing = "nan" if isinstance(value, float) and math.isnan(value) else shown
        advice = f"set missing_label: {missing} if it marks a {unit} without a label"
        if self._missing is not None:
            advice = f"missing_label is {self._missing}, a {unit} counts as unlabelled if that is all it holds"
        if problem.startswith("is out of range") and self._target is Target.CLASS:
            advice += f"{', or' if self._missing is None else '; set'} num_classes if there are more classes"
        if isinstance(value, float) and math.isinf(value):
            advice = "labels must be finite"
        raise DataError(f"label {shown} in {called} {problem}; {advice}")


def as_tensor(label: Any) -> Tensor:
    """Return labels as a tensor of real numbers with rows.

    :raise DataError: if they are none
    """
    try:
        values: Tensor = label if isinstance(label, Tensor) else torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"labels must be numbers, got a {type(label).__name__}: {error}") from error
    if values.dim() == 0:
        raise DataError(f"labels need a row for each sample, got the single value {values.item()}")
    if values.is_complex():
        raise DataError(f"labels must be real numbers, got {values.dtype}")
    return values


def _is_one_per_row(label: Tensor) -> bool:
    return label.dim() == 1 or (label.dim() == 2 and label.shape[1] == 1)
