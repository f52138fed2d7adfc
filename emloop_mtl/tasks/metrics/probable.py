"""Labels and their probabilities, entry by entry."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Probable(NamedTuple):
    """Labels and probabilities of entries.

    ``prob`` is [m] for probabilities of 1, with labels [m] in 0..1; or [m, classes], with labels [m] that are class
    numbers, or [m, classes] that are probabilities. ``counts`` tells which of the m entries count, and ``outside`` how
    many labels are neither.
    """

    label: Tensor
    prob: Tensor
    counts: Tensor
    outside: Tensor
