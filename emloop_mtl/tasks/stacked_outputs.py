"""What a flow returns where tasks are run as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from .task_stack import TaskStack


class StackedOutputs(Mapping[str, Any]):
    """What all actions returned, those of a stack as parts of what it returned.

    :param flow: what the other actions returned
    :param stacks: stacks, and what they returned
    """

    def __init__(self, flow: Mapping[str, Any], stacks: Sequence[tuple[TaskStack, Sequence[Tensor]]]) -> None:
        self._flow = flow
        self._stacks = stacks

    def __getitem__(self, name: str) -> Any:
        for stack, values in self._stacks:
            place = stack.actions.get(name)
            if place is not None:
                return stack.tail.part(values, *place)
        return self._flow[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._flow
        for stack, _ in self._stacks:
            yield from stack.actions

    def __len__(self) -> int:
        return len(self._flow) + sum(len(stack.actions) for stack, _ in self._stacks)
