"""A metric that is a Python function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ...types import State
from ...utils.shown import shown
from .keeping_metric import KeepingMetric
from .picked_uids import PickedUids
from .score_function import ScoreFunction
from .two_columns import two_columns


class CustomMetric(KeepingMetric):
    """A score that a function makes of all rows at once; only what it reads of them is kept.

    :param name: what the score is called
    :param function: ``f(golds, probs, preds)`` or ``f(golds, probs, preds, uids)``, returning a number or a mapping of
        names to numbers; it gets numpy arrays, None for probs or preds that the task does not give, and a list of
        identifiers that are no numbers. Or ``f(golds, preds)`` or ``f(golds, probs)``, also with scikit-learn's names
        of these arguments, which gets arrays as scikit-learn's metrics take them, see ``two_columns``
    :param options: further arguments by name
    :raise ConfigError: if the function cannot be called like that
    """

    _uids: list[Tensor | list[Any] | PickedUids]

    def __init__(self, name: str, function: Callable[..., Any], options: Mapping[str, Any] | None = None) -> None:
        super().__init__(name)
        self._function = ScoreFunction(name, function, options or {})
        self.needs = self._function.needs
        self.takes_uids = self._function.takes_uids

    def try_classes(self, num_classes: int) -> None:
        """Check that a function of scikit-learn can score labels of so many classes.

        :raise ConfigError: if it refuses rows of all classes, each of them twice
        """
        self._function.try_classes(num_classes)

    def try_rows(self) -> None:
        """Check that a function of scikit-learn can score rows of the kind that was taken in.

        :raise DataError: if it refuses these, and all others that are like them
        :raise ConfigError: if it returns something else than numbers
        """
        label, prob, pred = (self.fetch(kind) for kind in ("label", "prob", "pred"))
        if self._function.takes_two and label is not None:
            columns = self._two(label, prob, pred)
            result = None if columns is None else self._function.try_rows(*columns)
            if result is not None:
                self._scores(result)

    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        super().update(label, prob, pred)
        if self.takes_uids and uids is not None:
            self._uids.append(uids.detach().clone() if isinstance(uids, Tensor) else _host(uids))

    def compute(self) -> dict[str, float]:
        if self.num_rows == 0:
            return {self.name: math.nan}
        label, prob, pred = (self.fetch(kind) for kind in ("label", "prob", "pred"))
        if self._function.takes_two:
            assert label is not None
            found = self._two(label, prob, pred)
            if found is None:
                return {self.name: math.nan}
            result = self._function(*found)
        else:
            arrays = [None if rows is None else _array(rows) for rows in (label, prob, pred)]
            result = self._function(*arrays, *([self._all_uids()] if self.takes_uids else []))
        return self._scores(result)

    def _scores(self, result: Any) -> dict[str, float]:
        scores = result if isinstance(result, Mapping) else {self.name: result}
        try:
            return {str(name): float(score) for name, score in scores.items()}
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"metric {self.name!r} must return a number or a mapping of names to numbers, not {shown(result)}"
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

    def _two(self, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> tuple[Any, Any] | None:
        (kind,) = self.needs
        value = prob if kind == "prob" else pred
        if value is None:
            raise ConfigError(f"metric {self.name!r} needs {kind!r}, and there is none")
        gold, value = two_columns(self.name, label, value, kind, self.ignored_label, self.has_label_sets)
        return (_array(gold), _array(value)) if len(gold) else None

    def _all_uids(self) -> np.ndarray[Any, Any] | list[Any] | None:
        if not self._uids:
            return None
        parts = [_picked(part) for part in self._uids]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts)
        return [uid for part in parts for uid in (part.tolist() if isinstance(part, np.ndarray) else part)]


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
