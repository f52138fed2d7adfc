"""How much an optimizer will keep in mind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

_COUNTS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "SGD": lambda group: bool(group["momentum"]),
    "Adam": lambda group: 2 + bool(group["amsgrad"]),
    "AdamW": lambda group: 2 + bool(group["amsgrad"]),
    "RMSprop": lambda group: 1 + bool(group["momentum"]) + bool(group["centered"]),
    "Adagrad": lambda group: 1,
    "ASGD": lambda group: 1,
    "Muon": lambda group: 1,
    "Adafactor": lambda group: 0,  # a row and a column of each matrix
    "LBFGS": lambda group: 2 * group["history_size"] + 2,
}
"""Name of an optimizer -> numbers that it keeps for each weight of a group, with the group's options."""

_USUAL_COUNT = 2
"""Of all others: the two moments of Adam, or what stands in their place."""


def optimizer_bytes(optimizer: Optimizer) -> int:
    """Return how many bytes the tensors of an optimizer's state will have after the first updates.

    It is told from the kind of optimizer and its options: torch makes the state only in the first update. One
    that is not known, of one's own for example, is taken for one that keeps two numbers for each weight, as Adam does.
    """
    known = [_COUNTS[kind.__name__] for kind in type(optimizer).__mro__ if kind.__name__ in _COUNTS]
    total = 0
    for group in optimizer.param_groups:
        size = sum(p.nbytes for p in group["params"] if p.requires_grad)
        total += size * (known[0](group) if known else _USUAL_COUNT)
    return total
