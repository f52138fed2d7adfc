"""Bringing labels, probabilities and predictions into one shape."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import ConfigError, DataError
from ..output import CLASS_DIM


class _Classes(NamedTuple):
    """Labels and predictions of classes, both flat; ``kept`` is None if all of them count."""

    label: Tensor
    pred: Tensor
    kept: Tensor | None


def align_classes(
    name: str, label: Tensor, prob: Tensor | None, pred: Tensor | None, ignored: int | None, sets: bool | None = None
) -> _Classes:
    """Return labels and predictions entry by entry.

    :param name: the metric, for messages
    :param ignored: a label that does not count where rows have several
    :param sets: whether labels of a row are known to be 0 or 1 each by itself
    :raise ConfigError: if there is nothing to predict by, or values are predicted instead of classes
    :raise DataError: if the shapes do not fit
    """
    label, pred = fit_classes(name, label, prob, pred, sets)
    kept = (label != ignored).reshape(-1) if ignored is not None and label.dim() > 1 else None
    return _Classes(label.reshape(-1), pred.reshape(-1), kept)


def fit_classes(
    name: str, label: Tensor, prob: Tensor | None, pred: Tensor | None, sets: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Return labels and predictions of one shape on one device.

    A column [n, 1] is taken for [n]. Labels that have one dimension more than the predictions are probabilities of
    classes, the most probable one counts. Without predictions the most probable class is predicted (the first
    of equals), or the side of one half for a single probability and where labels are 0 or 1 each by itself.

    :param name: the metric, for messages
    :param sets: whether labels of a row are known to be 0 or 1 each by itself
    :raise ConfigError: if there is nothing to predict by, or values are predicted instead of classes
    :raise DataError: if the shapes do not fit
    """
    if pred is None:
        if prob is None:
            raise ConfigError(f"metric {name!r} needs predictions or probabilities")
        pred = (prob > 0.5).long() if sets else most_probable(prob)
    if pred.is_floating_point():
        raise ConfigError(
            f"metric {name!r} needs predicted classes, but the task predicts {pred.dtype} values; set its 'output'"
        )
    pred = without_column(pred)
    label = without_column(label.to(pred.device, non_blocking=True))
    if label.dim() == pred.dim() + 1:
        label = class_of(label)
    check_shapes(name, label, pred)
    return label, pred


def are_label_sets(label: Tensor, prob: Tensor | None, pred: Tensor | None, known: bool | None) -> bool:
    """Whether labels [n, k] are 0 or 1 each by itself, so that every column is a question of its own.

    :param known: what the task says; where it does not know, probabilities and predictions of one shape tell
    """
    if label.dim() != 2 or label.shape[1] < 2 or known is False:
        return False
    if known is None:
        return pred is not None and prob is not None and pred.shape == prob.shape == label.shape
    found = prob if pred is None else pred
    return found is not None and found.shape == label.shape


def most_probable(prob: Tensor) -> Tensor:
    """Return the predicted classes for [n, classes, ...] or [n] probabilities."""
    if prob.dim() > 1 and prob.shape[CLASS_DIM] > 1:
        return class_of(prob)
    return (prob > 0.5).long()


def class_of(prob: Tensor) -> Tensor:
    """Return the most probable classes by [n, classes, ...] probabilities, which may be labels."""
    return (prob.to(torch.uint8) if prob.dtype is torch.bool else prob).argmax(CLASS_DIM)


def without_column(value: Tensor) -> Tensor:
    """Return [n, 1] as [n]."""
    return value.squeeze(-1) if value.dim() > 1 and value.shape[-1] == 1 else value


def check_shapes(name: str, label: Tensor, other: Tensor) -> None:
    """Refuse labels of another shape than what they are compared with.

    :raise DataError: naming both shapes
    """
    if label.shape != other.shape:
        raise DataError(
            f"metric {name!r}: labels of shape {tuple(label.shape)} do not fit what is predicted, {tuple(other.shape)}"
        )


def count(*conditions: Tensor, kept: Tensor | None) -> Tensor:
    """Return how many entries count, and for how many of them each condition holds, [1 + conditions] int64."""
    first = conditions[0]
    total = torch.full((), first.numel(), device=first.device) if kept is None else kept.sum()
    return torch.stack([total, *((each if kept is None else each & kept).sum() for each in conditions)])
