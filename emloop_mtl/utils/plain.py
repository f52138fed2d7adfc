"""Plain data: what can be saved, and read again without any chance to run code."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError
from ..types import State

MAX_DEPTH = 100
"""Deeper nesting is taken for a container that holds itself; Python's own limit is met at some 300."""

MAX_INT_BITS = 2032
"""``torch.load(weights_only=True)`` reads integers of up to 255 bytes; one of them may hold the sign alone."""

ALWAYS_PLAIN = frozenset({type(None), bool, float, bytes})


def map_tensors(value: State, function: Callable[[str, torch.Tensor], Any], where: str = "") -> State:
    """Return a copy of ``value`` in which each tensor is replaced by ``function(its place, tensor)``.

    :param value: nested plain data
    :param where: what the place of ``value`` is called; places in it are ``where/key`` and ``where[index]``
    :raise CheckpointError: if something in it is not plain, with its place
    """
    return _map(value, function, where, 0)


def check_plain(state: State, where: str = "") -> None:
    """Check that ``state`` consists of None, bool, int, float, str, bytes, list, tuple, dict and tensors only.

    :param where: what the place of ``state`` is called
    :raise CheckpointError: if not, with the place: ``hooks/SaveBest/history[3]: numpy.ndarray is no plain data; …``
    """
    _map(state, lambda _, tensor: tensor, where, 0)


def _map(value: Any, function: Callable[[str, torch.Tensor], Any], where: str, depth: int) -> Any:
    kind = type(value)
    if depth > MAX_DEPTH:
        raise CheckpointError(f"{where[:200]}…: nested more than {MAX_DEPTH} levels deep, or holds itself")
    if kind in ALWAYS_PLAIN:
        return value
    if kind is int or kind is str:
        return _checked_scalar(value, where)
    if kind is list or kind is tuple:
        # most items are numbers in a long history: no place is spelt out for them
        return kind(
            item if type(item) in ALWAYS_PLAIN else _map(item, function, f"{where}[{index}]", depth + 1)
            for index, item in enumerate(value)
        )
    if kind is dict or kind is OrderedDict:
        return {
            _checked_key(key, where): _map(item, function, f"{where}/{key}" if where else str(key), depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, torch.Tensor):
        _check_tensor(value, where)
        return function(where, value)
    raise CheckpointError(f"{where}: {_name(kind)} is no plain data; {_advice(value)}")


def _checked_scalar(value: int | str, where: str) -> int | str:
    if isinstance(value, int):
        if value.bit_length() > MAX_INT_BITS:
            raise CheckpointError(
                f"{where}: an integer of {value.bit_length()} bits; at most {MAX_INT_BITS} can be saved"
            )
        return value
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"{where}: text that is no valid Unicode: {error}; save it as bytes") from error
    return value


def _checked_key(key: Any, where: str) -> Any:
    kind = type(key)
    if kind in ALWAYS_PLAIN:
        return key
    if kind is int or kind is str:
        return _checked_scalar(key, where)
    if kind is tuple:
        return tuple(_checked_key(item, where) for item in key)
    raise CheckpointError(f"{where}: the key {key!r} is a {_name(kind)}; keys are None, bool, int, float, str or bytes")


def _check_tensor(tensor: torch.Tensor, where: str) -> None:
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        problem = f"{_name(type(tensor))}, a kind of tensor of its own; save the plain tensors that it is made of"
    elif tensor.is_meta:
        problem = "tensor on the meta device, without values; give it some first"
    elif tensor.layout is not torch.strided:
        problem = f"tensor of layout {tensor.layout}; use .to_dense()"
    elif tensor.is_quantized:
        problem = f"quantized tensor ({tensor.dtype}); use .int_repr() and its scale"
    else:
        return
    raise CheckpointError(f"{where}: {problem}")


def _name(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _advice(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "use torch.from_numpy"
    if isinstance(value, np.generic):
        return "use .item()"
    for base in (bool, int, float, str, bytes, list, tuple, dict):
        if isinstance(value, base):
            return f"use {base.__name__}(…)"
    if isinstance(value, set | frozenset):
        return "use sorted(…)"
    return "plain are None, bool, int, float, str, bytes, list, tuple, dict and tensors"
