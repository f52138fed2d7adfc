"""What belongs to several parameters that are trained as one, under the names of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import torch

from .stacked_name import StackedName
from .stacked_parameter import StackedParameter


def split_entry(name: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what an optimizer remembers of a parameter under the name of each that it stands for.

    Tensors are views; what there is one of for all, such as the number of updates, is a copy for each.
    """
    if not isinstance(name, StackedName):
        yield name, dict(entry)
        return
    parts = {key: value.chunk(len(name.members)) for key, value in entry.items() if is_joined(value)}
    for index, member in enumerate(name.members):
        yield member, {key: parts[key][index] if key in parts else own(value) for key, value in entry.items()}


def split_tensor(name: str, value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a value of a parameter, its gradient above all, under the name of each that it stands for."""
    if isinstance(name, StackedName):
        yield from zip(name.members, value.chunk(len(name.members)), strict=True)
    else:
        yield name, value


def join_entries(state: MutableMapping[Any, Any], stacked: StackedParameter) -> None:
    """Replace what is remembered of the members by what is remembered of the leaf."""
    entries = [state.pop(member, None) for member in stacked.members]
    if entries[0] is not None:
        state[stacked.leaf] = {
            key: torch.cat([entry[key] for entry in entries]) if is_joined(value) else value
            for key, value in entries[0].items()
        }


def split_entries(state: MutableMapping[Any, Any], stacked: StackedParameter) -> None:
    """Undo ``join_entries``."""
    entry = state.pop(stacked.leaf, None)
    if entry is not None:
        for member, (_, part) in zip(stacked.members, split_entry(stacked.name, entry), strict=True):
            state[member] = {key: own(value) for key, value in part.items()}


def is_joined(value: Any) -> bool:
    """Whether there is a number for each of a parameter's; parameters that are stacked have a dimension at least."""
    return isinstance(value, torch.Tensor) and value.dim() > 0


def own(value: Any) -> Any:
    """Return a value that shares no memory with the one given."""
    return value.clone() if isinstance(value, torch.Tensor) else value
