"""How figures look."""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """How numbers are drawn.

    :param axis: what the horizontal axis counts
    :param smooth: weight of earlier values in the mean that is drawn, 0 for none
    :param log: whether losses have a logarithmic axis
    """

    axis: str = "step"
    smooth: float = 0.0
    log: bool = False
