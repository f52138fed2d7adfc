"""The part of a batch that a task is about."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Share(NamedTuple):
    """The rows of a batch that a task is about, where it is not about all of them.

    :param rows: int64 indices of the rows, on the device where the batch is
    :param host: the same on the host, for what is no tensor
    """

    rows: Tensor
    host: Tensor
