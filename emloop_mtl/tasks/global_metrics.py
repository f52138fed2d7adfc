"""Scores that are made of all other scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError, TrainingTerminated, nearest
from ..utils.flat_names import MODEL_AVERAGES, POSITION, stream_of_score

GlobalMetric = Callable[[dict[str, float]], Any]
"""Makes a number of all scores by their flat names."""


class GlobalMetrics:
    """Functions of all scores of an evaluation.

    :param functions: name -> ``f(scores)``, which gets all scores by their flat names, those of the functions before it
        included, and returns a number
    :raise ConfigError: for a name that the engine uses itself, or what cannot be called
    """

    def __init__(self, functions: Mapping[str, GlobalMetric] | None) -> None:
        _check(functions or {})
        self._functions = dict(functions or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __bool__(self) -> bool:
        return bool(self._functions)

    def compute(
        self, scores: Mapping[str, float], absent: Collection[str] = (), only_losses: Collection[str] = ()
    ) -> dict[str, float]:
        """Return the number of every function by its name.

        :param scores: all scores by their flat names
        :param absent: streams that are scored in other epochs; a function that asks for one of their scores gives no
            number
        :param only_losses: streams of which only losses are scored, for messages
        :raise ConfigError: if a function fails or returns no number, or a score has its name already
        """
        numbers: dict[str, float] = {}
        left_out: set[str] = set()
        for name, function in self._functions.items():
            path = ("global_metrics", name)
            if name in scores:
                raise ConfigError(f"global metric {name!r}: a score is called so already", path)
            try:
                result = function({**scores, **numbers})
            except TrainingTerminated:
                raise
            except Exception as error:
                wanted = _wanted(error)
                stream = None if wanted is None else stream_of_score(wanted)
                if wanted in left_out or stream in absent:
                    left_out.add(name)
                    continue
                reason = _described(error, {**scores, **numbers}, stream in only_losses)
                raise ConfigError(f"global metric {name!r}: {reason}", path) from error
            numbers[name] = _number(name, result)
        return numbers


def _check(functions: Any) -> None:
    if not isinstance(functions, Mapping):
        text = f"global_metrics must map names to functions of all scores, not be {functions!r}"
        raise ConfigError(text, ("global_metrics",))
    for name, function in functions.items():
        if not isinstance(name, str) or not name or name in POSITION or name.startswith(MODEL_AVERAGES):
            taken = f"{', '.join(POSITION)} and what begins with {MODEL_AVERAGES!r} are taken"
            raise ConfigError(f"{name!r} cannot name a global metric; {taken}", ("global_metrics", name))
        if not callable(function):
            text = f"global metric {name!r} must be a function of all scores, not {function!r}"
            raise ConfigError(text, ("global_metrics", name))


def _wanted(error: Exception) -> str | None:
    """Return the score that a function has asked for in vain."""
    is_key = isinstance(error, KeyError) and len(error.args) == 1 and isinstance(error.args[0], str)
    return error.args[0] if is_key else None


def _described(error: Exception, scores: Mapping[str, float], has_only_losses: bool) -> str:
    wanted = _wanted(error)
    if wanted is None:
        return f"it fails with {' '.join(f'{type(error).__name__}: {error}'.split())}"
    if has_only_losses:
        return f"there is no score {wanted!r}; of a stream that is trained on only losses are scored, set train: true"
    return f"there is no score {wanted!r}{nearest(wanted, scores)}"


def _number(name: str, result: Any) -> float:
    is_array = isinstance(result, np.ndarray) and result.ndim == 0 and result.dtype.kind in "biuf"
    is_tensor = isinstance(result, torch.Tensor) and result.dim() == 0 and not result.is_complex()
    if isinstance(result, Real | np.bool_) or is_array or is_tensor:
        return float(result)
    raise ConfigError(f"global metric {name!r} must return a number, not {result!r}", ("global_metrics", name))
