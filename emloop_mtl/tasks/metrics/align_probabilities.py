"""Bringing labels and probabilities into one shape."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ConfigError
from ..output import CLASS_DIM
from .align import are_label_sets, check_shapes, without_column
from .probable import Probable


def align_probabilities(
    name: str,
    label: Tensor,
    prob: Tensor | None,
    pred: Tensor | None,
    ignored: int | None,
    sets: bool | None,
) -> Probable:
    """Return labels and probabilities entry by entry.

    :param name: the metric, for messages
    :param ignored: a label that does not count where rows have several
    :param sets: whether each probability is known to be one of 1
    :raise ConfigError: if there are no probabilities
    :raise DataError: if the shapes do not fit
    """
    if prob is None:
        raise ConfigError(f"metric {name!r} needs 'prob', and there is none")
    label = label.to(prob.device, non_blocking=True)
    kept = None if ignored is None or label.dim() < 2 else label != ignored
    single = prob.dim() == 1 or prob.shape[CLASS_DIM] == 1
    if single or sets or are_label_sets(label, prob, pred, sets):
        if label.shape != prob.shape:
            label, prob = without_column(label), without_column(prob)
        check_shapes(name, label, prob)
        label, prob = label.reshape(-1), prob.reshape(-1)
        inside = (label >= 0) & (label <= 1)
    else:
        classes = prob.shape[CLASS_DIM]
        if label.shape == prob.shape:
            label, kept = label.movedim(CLASS_DIM, -1).reshape(-1, classes), None
            inside = torch.ones_like(label[:, 0], dtype=torch.bool)
        else:
            label = without_column(label) if label.dim() == prob.dim() else label
            check_shapes(name, label, prob.select(CLASS_DIM, 0))
            label = label.reshape(-1).long()
            inside = (label >= 0) & (label < classes)
        prob = prob.movedim(CLASS_DIM, -1).reshape(-1, classes)
    if kept is None:
        return Probable(label, prob, inside, len(inside) - inside.sum())
    kept = kept.reshape(-1)
    counts = inside & kept
    return Probable(label, prob, counts, kept.sum() - counts.sum())


def of_label(rows: Probable) -> Tensor:
    """Return the probability of each label, [m], where labels are class numbers."""
    last = rows.prob.shape[1] - 1
    return rows.prob.gather(1, rows.label.clamp(0, last)[:, None])[:, 0]
