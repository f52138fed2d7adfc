"""Bringing labels and predicted values into one shape."""

from __future__ import annotations

from torch import Tensor

from ...errors import ConfigError, DataError
from .align import check_shapes, without_column


def align_values(name: str, label: Tensor, prob: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return labels and predicted values of one shape on one device; a column [n, 1] is taken for [n].

    :param name: the metric, for messages
    :raise ConfigError: if there are no values
    :raise DataError: if the shapes do not fit
    """
    if prob is None:
        raise ConfigError(f"metric {name!r} compares labels with 'prob', and there is none")
    prob = without_column(prob)
    label = without_column(label.to(prob.device, non_blocking=True))
    check_shapes(name, label, prob)
    return label, prob


def align_numbers(name: str, label: Tensor, prob: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return one label and one predicted value per row, both [n].

    :param name: the metric, for messages
    :raise ConfigError: if there are no values
    :raise DataError: if there is not one of each per row
    """
    label, prob = align_values(name, label, prob)
    if label.dim() != 1:
        raise DataError(f"metric {name!r} needs one number per row, but labels have the shape {tuple(label.shape)}")
    return label, prob
