"""A metric that is a Python function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ...types import State
from .keeping_metric import KeepingMetric
from .picked_uids import PickedUids


class CustomMetric(KeepingMetric):
    """A score that a function makes of all rows at once.

    :param name: what the score is called
    :param function: ``f(golds, probs, preds)`` or ``f(golds, probs, preds, uids)``, returning a number or a mapping of
        names to numbers; it gets numpy arrays, None for probs or preds that the task does not give, and a list of
        identifiers that are no numbers
    :raise ConfigError: if the function cannot be called like that
    """

    needs: ClassVar[frozenset[str]] = frozenset({"prob", "pred"})

    _uids: list[Tensor | list[Any] | PickedUids]

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name)
        self._function = function
        self.takes_uids = _takes_uids(name, function)

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        super().update(label, prob, pred)
        if self.takes_uids and uids is not None:
            self._uids.append(uids.detach().clone() if isinstance(uids, Tensor) else _host(uids))

    def compute(self) -> dict[str, float]:
        if self.num_rows == 0:
            return {self.name: math.nan}
        arrays = [None if (rows := self.fetch(kind)) is None else _array(rows) for kind in ("label", "prob", "pred")]
        result = self._function(*arrays, *([self._all_uids()] if self.takes_uids else []))
        scores = result if isinstance(result, Mapping) else {self.name: result}
        try:
            return {str(name): float(score) for name, score in scores.items()}
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"metric {self.name!r} must return a number or a mapping of names to numbers, not {result!r}"
            ) from error

    def reset(self) -> None:
        super().reset()
        self._uids = []

    def state_dict(self) -> dict[str, State]:
        uids = self._all_uids()
        return {**super().state_dict(), "uids": torch.from_numpy(uids) if isinstance(uids, np.ndarray) else uids}

    def load_state_dict(self, state: dict[str, State]) -> None:
        super().load_state_dict({kind: rows for kind, rows in state.items() if kind != "uids"})
        self._uids = [] if state["uids"] is None else [state["uids"]]

    def _all_uids(self) -> np.ndarray[Any, Any] | list[Any] | None:
        if not self._uids:
            return None
        parts = [_picked(part) for part in self._uids]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts)
        return [uid for part in parts for uid in (part.tolist() if isinstance(part, np.ndarray) else part)]


def _takes_uids(name: str, function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False
    for takes_uids in (True, False):
        try:
            signature.bind(*range(4 if takes_uids else 3))
        except TypeError:
            continue
        return takes_uids
    raise ConfigError(
        f"metric {name!r} must take (golds, probs, preds) or (golds, probs, preds, uids), not {signature}"
    )


def _host(uids: Any) -> Tensor | list[Any] | PickedUids:
    if isinstance(uids, PickedUids):
        return uids
    if isinstance(uids, np.ndarray) and uids.dtype.kind in "iuf":
        return torch.from_numpy(uids.copy())
    return [str(uid) if isinstance(uid, np.str_) else uid for uid in uids]


def _picked(part: Tensor | list[Any] | PickedUids) -> Any:
    if isinstance(part, PickedUids):
        uids = _host(part.uids)
        return _array(uids[part.rows.cpu()]) if isinstance(uids, Tensor) else [uids[row] for row in part.rows.tolist()]
    return _array(part) if isinstance(part, Tensor) else part


def _array(rows: Tensor) -> np.ndarray[Any, Any]:
    rows = rows.cpu()
    array: np.ndarray[Any, Any] = (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
    return array
