"""What of a batch is still to be fetched and looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .batch_place import BatchPlace

MANY = 16
"""From so many variables on, those of a batch wait as one vector."""


class Waiting(NamedTuple):
    """Variables of a batch that are still to be fetched and looked at.

    :param place: the batch
    :param variables: their names
    :param check: what there is to know about a single variable, or a vector with a number for each
    """

    place: BatchPlace
    variables: Sequence[str]
    check: Tensor | bool


def joined_numbers(values: Sequence[Any]) -> Tensor | None:
    """Return 0-d tensors on one device as a vector without their gradients, None if they are anything else."""
    try:
        joined = torch.stack(values).detach()  # type: ignore[arg-type]
    except (TypeError, RuntimeError):
        return None
    return joined if joined.dim() == 1 and joined.is_floating_point() else None
