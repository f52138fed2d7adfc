"""What a task says about a batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class TaskValues(NamedTuple):
    """What a task says about the rows of a batch, and what its labels say; None for what there is not."""

    label: Any
    prob: Any
    pred: Any
    rows: Tensor | None
    """int64 indices of the labelled rows, or tokens; None if there are labels and they are those of all rows."""
    share: Tensor | None = None
    """int64 indices of the rows that the task is about; None for all."""
    tokens: Tensor | None = None
    """Of a task of tokens which are none of the padding, [n, l]; ``rows`` are indices of labelled tokens then."""

    @property
    def labelled_tokens(self) -> Tensor:
        """Which tokens have a label, [n, l], of a task of tokens."""
        assert self.tokens is not None
        if self.label is None or self.rows is None:
            return self.tokens if self.label is not None else torch.zeros_like(self.tokens)
        return torch.zeros_like(self.tokens).view(-1).index_fill_(0, self.rows, True).view(self.tokens.shape)
