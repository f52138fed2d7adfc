"""What a stand-in takes in the place of parts of a network."""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

from torch import nn

from ..tasks.task_network import TaskNetwork


def stand_in_parts(network: TaskNetwork) -> dict[int, Any]:
    """Return what a copy of a network takes in the place of parts of it, as the ``memo`` of ``copy.deepcopy``.

    Weights that are not trained, which may be many, are shared. Others are copied, since modules may write to them even
    where they are evaluated, as an ``nn.Embedding`` with ``max_norm`` does; their gradients will take as much memory.
    So are modules whose methods are losses or outputs, but for other owners of such methods, such as a dataset.
    """
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = twin = copy.deepcopy(parameter) if parameter.requires_grad else parameter
        twin.__dict__.update(parameter.__dict__)  # which torch leaves out
    for task in network.tasks.values():
        memo[id(task.scorer)] = task.scorer  # which is asked nothing
        for given in (task.output.given, None if task.loss is None else task.loss.given):
            if isinstance(given, MethodType) and not isinstance(given.__self__, nn.Module):
                memo[id(given.__self__)] = given.__self__
    return memo
