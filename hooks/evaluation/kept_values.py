"""The values of one variable over an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emloop_mtl.types import State


class KeptValues:
    """The values of one variable, batch after batch, each where it is until ``rows`` fetches them.

    Tensors are kept as they come, without their graph and without a copy, so they must not be changed afterwards.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor | np.ndarray[Any, Any] | list[Any]] = []
        self._rows: list[Any] = []
        self._fetched = 0
        """How many of the parts are among the rows."""

    def add(self, value: Any) -> None:
        """Take the values of a batch.

        :param value: one entry per sample: a tensor, an array or a list; without dimensions, the one value of the batch
        :raise TypeError: if it is something else
        """
        if isinstance(value, Tensor):
            self._parts.append(value.detach().reshape(-1) if value.dim() == 0 else value.detach())
        elif isinstance(value, np.ndarray | np.generic):
            self._parts.append(np.atleast_1d(value))
        elif isinstance(value, list | tuple):
            self._parts.append(list(value))
        elif isinstance(value, bool | int | float | complex):
            self._parts.append([value])
        else:
            raise TypeError(f"a {type(value).__name__} has no entry per sample")

    def rows(self) -> list[Any]:
        """Return one entry per sample: rows of arrays and tensors as numpy's, those of lists as they are.

        Only what came since the last call is fetched, equal kinds of tensors in one transfer.
        """
        for part in _joined(self._parts[self._fetched :]):
            self._rows += list(_on_host(part) if isinstance(part, Tensor) else part)
        self._fetched = len(self._parts)
        return self._rows

    def state_dict(self) -> dict[str, State]:
        """Return the values as plain data and tensors."""
        return {"parts": [_encode(part) for part in _joined(self._parts)]}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the values of ``state_dict``."""
        self.__init__()  # type: ignore[misc]
        self._parts = [_decode(part) for part in state["parts"]]


def _joined(parts: Iterable[Any]) -> Iterator[Any]:
    """Yield the parts, neighbouring tensors of one kind as one."""

    def kind(part: Any) -> Any:
        return (part.device, part.dtype, part.shape[1:]) if isinstance(part, Tensor) else None

    for same, group in groupby(parts, kind):
        if same is None:
            yield from group
        else:
            tensors = list(group)
            yield torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def _on_host(tensor: Tensor) -> np.ndarray[Any, Any]:
    if tensor.dtype == torch.bfloat16:  # which numpy does not know
        tensor = tensor.float()
    return tensor.cpu().numpy()


def _encode(value: Any) -> State:
    """Return a value of numpy as its type, shape and bytes; lists and mappings are walked, all else stays."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return {"array": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.ndarray):
        return {"objects": [_encode(part) for part in value.ravel().tolist()], "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return {"scalar": value.tobytes(), "dtype": value.dtype.str}
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [_encode(part) for part in value]}
    if isinstance(value, dict):
        return {"dict": {key: _encode(part) for key, part in value.items()}}
    return value


def _decode(state: State) -> Any:
    if not isinstance(state, dict):
        return state
    if "array" in state:
        return np.frombuffer(state["array"], np.dtype(state["dtype"])).reshape(state["shape"]).copy()
    if "objects" in state:
        array = np.empty(len(state["objects"]), object)
        array[:] = [_decode(part) for part in state["objects"]]
        return array.reshape(state["shape"])
    if "scalar" in state:
        return np.frombuffer(state["scalar"], np.dtype(state["dtype"]))[0]
    if "dict" in state:
        return {key: _decode(part) for key, part in state["dict"].items()}
    if "tuple" in state:
        return tuple(_decode(part) for part in state["tuple"])
    return [_decode(part) for part in state["list"]]
