"""What is said about the tokens of a batch, sequence by sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..tasks.nested import without_half


def sequences(value: Tensor, tokens: Tensor) -> np.ndarray:
    """Return an array for each sequence of a batch, without the padding, in an array of objects [n].

    :param value: what there is for each token, [n, l, ...], on the host; a column [n, l, 1] counts as [n, l]
    :param tokens: which are none of the padding, [n, l]
    """
    values = without_half(torch.as_tensor(value)).numpy()
    values = values[..., 0] if values.ndim == tokens.dim() + 1 and values.shape[-1] == 1 else values
    found = np.empty(len(values), dtype=object)
    for index, is_token in enumerate(tokens.numpy()):
        found[index] = values[index][is_token]
    return found


def listed(value: Tensor, tokens: Tensor, labelled: Tensor | None = None) -> list[list[Any]]:
    """Return a list for each sequence of a batch, without the padding.

    :param value: what there is for each token, [n, l, ...], on the host
    :param tokens: which are none of the padding, [n, l]
    :param labelled: which have a value, [n, l], others get None; None for all
    """
    lists = [array.tolist() for array in sequences(value, tokens)]
    if labelled is None:
        return lists
    known = [array.tolist() for array in sequences(labelled, tokens)]
    return [[v if k else None for v, k in zip(*pair, strict=True)] for pair in zip(lists, known, strict=True)]
