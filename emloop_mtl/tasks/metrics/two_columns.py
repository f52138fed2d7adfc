"""Labels and what is predicted, as scikit-learn's metrics take them."""

from __future__ import annotations

from torch import Tensor

from ..output import CLASS_DIM
from .align import check_shapes, class_of, fit_classes, without_column


def two_columns(
    name: str, label: Tensor, value: Tensor, kind: str, ignored: int | None, sets: bool | None
) -> tuple[Tensor, Tensor]:
    """Return labels and predictions, or probabilities, of one row per entry.

    Columns [n, 1] come as [n]. Of labels that are probabilities of classes the most probable one counts; of two
    probabilities comes that of class 1. Rows of several classes come entry by entry, without those that are ignored;
    labels [n, k] that are 0 or 1 each by itself stay as they are.

    :param name: the metric, for messages
    :param value: the predictions or probabilities, like the labels on the host
    :param kind: which of both, ``pred`` or ``prob``
    :param ignored: a label that does not count where rows have several
    :param sets: whether labels of a row are known to be 0 or 1 each by itself
    :raise DataError: if the shapes do not fit
    """
    if kind == "pred" and not value.is_floating_point():
        label, value = fit_classes(name, label, None, value)
    else:
        label, value = without_column(label), without_column(value)
        if kind == "prob" and value.dim() > 1 and not sets:
            return _of_classes(name, label, value, ignored)
        check_shapes(name, label, value)
    several = label.dim() > 2 or (label.dim() == 2 and (sets is False or (ignored is not None and not sets)))
    return _entries(label, value, ignored) if several else (label, value)


def _of_classes(name: str, label: Tensor, prob: Tensor, ignored: int | None) -> tuple[Tensor, Tensor]:
    if label.shape == prob.shape:
        if prob.dim() == 2 and bool(((label == 0) | (label == 1)).all()) and bool((label.sum(1) != 1).any()):
            return label, prob  # not of one class each
        label = class_of(label)
    check_shapes(name, label, prob.select(CLASS_DIM, 0))
    classes = prob.shape[CLASS_DIM]
    rows = prob.movedim(CLASS_DIM, -1).reshape(-1, classes)
    label, rows = _entries(label, rows, ignored if label.dim() > 1 else None)
    return label, rows[:, 1] if classes == 2 else rows


def _entries(label: Tensor, value: Tensor, ignored: int | None) -> tuple[Tensor, Tensor]:
    value = value.reshape(-1) if value.shape == label.shape else value
    label = label.reshape(-1)
    kept = None if ignored is None else label != ignored
    return (label, value) if kept is None else (label[kept], value[kept])
