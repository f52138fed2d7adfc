"""Identifiers of which some rows count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor


class PickedUids(NamedTuple):
    """Identifiers on the host of which some rows count; they are picked when they are fetched."""

    uids: Sequence[Any] | np.ndarray[Any, Any]
    rows: Tensor
