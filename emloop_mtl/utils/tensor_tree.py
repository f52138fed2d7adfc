"""Taking nested state apart into its tensors by name and the rest, and putting it together again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import torch

from ..errors import CheckpointError
from ..types import State
from .plain import map_tensors
from .tensor_file import RESERVED_NAME

MARK = torch.empty(0)
"""Stands for every tensor that was taken out; a single one, so that it is stored once."""


class TensorTree(NamedTuple):
    """State taken apart.

    :param skeleton: the state with ``MARK`` in place of each tensor
    :param tensors: name -> tensor, each view of a storage once; a name is the place, ``encoder/weight`` or ``a[0]``
    :param ties: name -> name of the tensor that it is the same view as
    """

    skeleton: State
    tensors: dict[str, torch.Tensor]
    ties: dict[str, str]


def take_apart(state: Mapping[str, State]) -> TensorTree:
    """Return the tensors of ``state`` by name, and the rest.

    :raise CheckpointError: if something in ``state`` is not plain
    """
    tensors: dict[str, torch.Tensor] = {}
    ties: dict[str, str] = {}
    first: dict[Hashable, str] = {}
    name_of = _unique_names()

    def take(where: str, tensor: torch.Tensor) -> torch.Tensor:
        name = name_of(where)
        owner = first.setdefault(_view(tensor), name)
        if owner == name:
            tensors[name] = tensor
        else:
            ties[name] = owner
        return MARK

    return TensorTree(map_tensors(state, take), tensors, ties)


def tensors_of(state: Mapping[str, State]) -> list[torch.Tensor]:
    """Return the tensors of ``state``, each view of a storage once; none if it holds what is not plain."""
    try:
        return list(take_apart(state).tensors.values())
    except CheckpointError:
        return []


def put_together(tree: TensorTree) -> State:
    """Return the state that was taken apart; tied tensors become one tensor.

    :raise KeyError: if a tensor is missing
    """
    tensors = tree.tensors | {name: tree.tensors[owner] for name, owner in tree.ties.items()}
    name_of = _unique_names()
    return map_tensors(tree.skeleton, lambda where, _: tensors[name_of(where)])


def compact(
    state: Mapping[str, State], copy: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> tuple[State, list[torch.Tensor]]:
    """Return a copy of ``state`` that ``torch.save`` writes no unseen value of, and its tensors, each view once.

    A view is written with the whole storage behind it, so that a row may drag a table along; here such a view has a
    storage of its own. Tensors that are one view stay one.

    :param copy: makes a copy of every tensor; by default only of those that need a storage of their own
    :raise CheckpointError: if something in ``state`` is not plain
    """
    seen: dict[Hashable, torch.Tensor] = {}

    def own(_: str, tensor: torch.Tensor) -> torch.Tensor:
        view = _view(tensor)
        if view not in seen:
            seen[view] = _with_own_storage(tensor) if copy is None else copy(tensor)
        return seen[view]

    return map_tensors(state, own), list(seen.values())


def _with_own_storage(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().resolve_conj().resolve_neg()
    return plain if plain.untyped_storage().nbytes() == plain.nbytes else plain.clone()


def _view(tensor: torch.Tensor) -> Hashable:
    """Return the same for two tensors that are one view of one storage; without values no two are."""
    if not tensor.numel():
        return id(tensor)
    bits = tensor.is_conj(), tensor.is_neg()
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), bits


def _unique_names() -> Callable[[str], str]:
    """Return a function that names places in the order they are met; equal ones, of 1 and "1", get ``~2``."""
    used = {RESERVED_NAME}

    def name_of(where: str) -> str:
        name, twin = where, 1
        while name in used:
            twin += 1
            name = f"{where}~{twin}"
        used.add(name)
        return name

    return name_of
