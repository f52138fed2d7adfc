"""Joining what several loaders hold of a source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .piece import Piece


def join_values(source: str, pieces: Sequence[Piece], is_ragged: bool, padding: Any) -> Any:
    """Return the values of a source as those of one batch.

    Rows of a loader without the source are filled up with zeros, or None in a list.

    :param source: its name, for messages
    :param pieces: the values, or None, in the order of the rows; some has values
    :param is_ragged: whether values [n, length] are padded to the longest
    :param padding: what they are padded with
    :raise DataError: naming the loaders, for values that do not go together
    """
    held = [piece for piece in pieces if piece.is_held]
    for piece in held:
        _check_rows(source, piece)
    first = held[0]
    if all(isinstance(piece.value, Tensor) for piece in held):
        return _join_tensors(source, pieces, held, is_ragged, padding)
    if all(isinstance(piece.value, np.ndarray) for piece in held):
        _check_alike(source, held, is_ragged=False)
        like = first.value
        filled = [p.value if p.is_held else np.zeros((p.size, *like.shape[1:]), like.dtype) for p in pieces]
        return np.concatenate(filled)
    if all(isinstance(piece.value, list | tuple) for piece in held):
        return [item for p in pieces for item in (p.value if p.is_held else [None] * p.size)]
    other = next(piece for piece in held if type(piece.value) is not type(first.value))
    kinds = f"a {_kind(first)} in loader {first.loader!r} and a {_kind(other)} in loader {other.loader!r}"
    raise DataError(f"source {source!r} is {kinds}; rows of one batch must be of one kind")


def _join_tensors(source: str, pieces: Sequence[Piece], held: Sequence[Piece], is_ragged: bool, padding: Any) -> Tensor:
    if len(pieces) == 1:
        value: Tensor = pieces[0].value
        return value
    _check_alike(source, held, is_ragged)
    if len(held) == len(pieces) and not is_ragged:
        return torch.cat([piece.value for piece in pieces])
    like: Tensor = held[0].value
    shape = [sum(piece.size for piece in pieces), *like.shape[1:]]
    if is_ragged:
        shape[1] = max(piece.value.shape[1] for piece in held)
    joined = like.new_full(shape, padding)
    first = 0
    for piece in pieces:
        if piece.is_held:
            place = joined.narrow(0, first, piece.size)
            (place.narrow(1, 0, piece.value.shape[1]) if is_ragged else place).copy_(piece.value)
        first += piece.size
    return joined


def _check_rows(source: str, piece: Piece) -> None:
    value = piece.value
    has_rows = value.ndim > 0 if isinstance(value, Tensor | np.ndarray) else isinstance(value, list | tuple)
    if not has_rows or len(value) != piece.size:
        found = f"{len(value)} values" if has_rows else f"a {_kind(piece)}"
        text = f"source {source!r} of loader {piece.loader!r} has {found} for {piece.size} rows"
        raise DataError(f"{text}; a mixed batch needs one value for each row")


def _check_alike(source: str, held: Sequence[Piece], is_ragged: bool) -> None:
    skipped = 2 if is_ragged else 1
    features = [_features(piece.value, skipped) for piece in held]
    if features.count(features[0]) == len(features):
        return
    number = next(number for number, each in enumerate(features) if each != features[0])
    names = zip(("dtype", "shape", "device"), features[0], features[number], strict=True)
    what, one, other = next(each for each in names if each[1] != each[2])
    text = f"has {what} {one} in loader {held[0].loader!r} and {other} in loader {held[number].loader!r}"
    raise DataError(f"source {source!r} {text}; rows of one batch must be alike")


def _features(value: Any, skipped: int) -> tuple[Any, list[int], Any]:
    """Return dtype, shape without some dimensions, and device."""
    return value.dtype, list(value.shape[skipped:]), getattr(value, "device", None)


def _kind(piece: Piece) -> str:
    return type(piece.value).__name__
