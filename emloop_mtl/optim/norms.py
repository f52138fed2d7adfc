"""Norms of several modules."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Norms(NamedTuple):
    """The norm of all gradients together, and then that of each module, as one vector on the device."""

    modules: tuple[str, ...]
    values: Tensor
