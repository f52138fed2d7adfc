"""A Python function that scores, and what it is called with."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from ...errors import ConfigError, DataError, nearest
from .rows_like import Rows, rows_like

_PROBABILITIES = frozenset({"probs", "prob", "y_prob", "y_proba", "y_score", "pred_decision", "probas_pred"})
_PREDICTIONS = frozenset({"preds", "pred", "y_pred", "labels_pred", "y2"})
_OF_PROBABILITIES = frozenset({"log_loss", "d2_log_loss_score"})
"""Metrics of scikit-learn before 1.9, whose ``y_pred`` are probabilities."""

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


MOST_CLASSES = 32
"""More would take time and memory to try: some functions look at every pair of classes."""


class ScoreFunction:
    """A function that makes a score of all rows.

    :param name: the metric, for messages
    :param function: what is called with arrays
    :param options: further arguments by name
    :raise ConfigError: if it cannot be called like that, or an option is unknown
    """

    def __init__(self, name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self._name = name
        self._function = function
        self._options = dict(options)
        self._is_sklearns = _is_of_sklearn(function)
        second = second_column(function, options)
        self.takes_two = second is not None
        """Whether it takes labels and one thing more."""
        self.needs: frozenset[str] = frozenset({second} if second is not None else {"prob", "pred"})
        """Which of ``prob`` and ``pred`` it reads."""
        self.takes_uids = False if second is not None else self._takes_uids()
        if second is not None:
            self._check_required()
            if self._is_sklearns:
                self._try_options(second)

    def __call__(self, *arrays: Any) -> Any:
        """Return what the function returns.

        :raise DataError: if a function of scikit-learn refuses the data
        """
        if not self._is_sklearns:
            return self._function(*arrays, **self._options)
        try:
            return self._function(*arrays, **self._options)
        except ValueError as error:
            raise DataError(f"metric {self._name!r}: {' '.join(str(error).split())}") from error

    def try_classes(self, num_classes: int) -> None:
        """Check that a function of scikit-learn can score labels of so many classes.

        :raise ConfigError: if it refuses rows of all classes, each of them twice, whose predictions are right
        """
        # Of two classes, columns may hold that of class 1.
        if not (self._is_sklearns and self.takes_two and 3 <= num_classes <= MOST_CLASSES):
            return
        labels = np.arange(num_classes).repeat(2)
        second = np.eye(num_classes)[labels] if "prob" in self.needs else labels
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._function(labels, second, **self._options)
        except ValueError as error:
            text = " ".join(str(error).split())
            raise ConfigError(f"metric {self._name!r} cannot score {num_classes} classes: {text}") from error

    def try_rows(self, labels: Rows, second: Rows) -> Any:
        """Return what a function of scikit-learn makes of rows, to see whether it can score those of their kind.

        Those at hand may be too few, or too much alike; then rows that differ as much as they can are tried.

        :param labels: labels, [n] or [n, k]
        :param second: what is predicted, or probabilities
        :return: None for another function, and where nothing is known
        :raise Exception: if it refuses them, and all others that are like them
        """
        if not self._is_sklearns:
            return None
        try:
            return self(labels, second)
        except Exception:
            others = list(rows_like(labels, second, "prob" in self.needs))
            for rows in others:
                with suppress(Exception):
                    return self(*rows)
            if others:
                raise
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScoreFunction) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def _takes_uids(self) -> bool:
        try:
            signature = inspect.signature(self._function)
        except (TypeError, ValueError):
            return False
        _check_options(self._name, signature, self._options)
        for takes_uids in (True, False):
            try:
                signature.bind(*range(4 if takes_uids else 3), **self._options)
            except TypeError:
                continue
            return takes_uids
        raise ConfigError(
            f"metric {self._name!r} must take (golds, probs, preds), (golds, probs, preds, uids), (golds, preds) or "
            f"(golds, probs), not {signature}"
        )

    def _check_required(self) -> None:
        """Refuse a function of two columns that cannot be called with its options."""
        signature = inspect.signature(self._function)
        _check_options(self._name, signature, self._options)
        try:
            signature.bind(0, 1, **self._options)
        except TypeError as error:
            raise ConfigError(f"metric {self._name!r}: {error}; options stand beside its 'class'") from error

    def _try_options(self, second: str) -> None:
        """Refuse options that a function of scikit-learn refuses whatever the data are."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._function([0, 1], [0.25, 0.75] if second == "prob" else [0, 1], **self._options)
        except Exception as error:
            if type(error).__name__ != "InvalidParameterError":
                return  # the options may suit other data
            text = " ".join(str(error).split())
            option = next((name for name in self._options if repr(name) in text), None)
            path = () if option is None else (option,)
            raise ConfigError(f"metric {self._name!r}: {text}", path) from error


def second_column(function: Callable[..., Any], options: Mapping[str, Any]) -> str | None:
    """Return what a function of two columns takes beside the labels, ``prob`` or ``pred``.

    The names of its arguments tell; None for any other function.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    columns = [each for each in parameters if each.kind in _BY_POSITION and each.name not in options]
    if len(columns) < 2 or any(each.default is inspect.Parameter.empty for each in columns[2:]):
        return None
    second = columns[1].name
    if second in ("probs", "prob") and len(columns) > 2:
        third = columns[2]
        if third.name in _PREDICTIONS or third.default is None:  # the predictions, whatever they are called
            return None
    if second in _PREDICTIONS:
        return "prob" if name_of(function) in _OF_PROBABILITIES and _is_of_sklearn(function) else "pred"
    return "prob" if second in _PROBABILITIES else None


def is_score_function(function: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    """Whether a function takes the rows beside its options, other than one that makes a metric of its options."""
    if isinstance(function, type):
        return False
    try:
        inspect.signature(function).bind(**options)
    except TypeError:
        known = inspect.signature(function).parameters
        if second_column(function, options) is not None:
            return True
        try:
            usable = {name: value for name, value in options.items() if name in known}
            inspect.signature(function).bind_partial(*range(3), **usable)
        except TypeError:
            return False
        return True
    except ValueError:
        return False
    return False


def name_of(function: Callable[..., Any]) -> str:
    """Return what a function is called; one with some arguments filled in is called as without."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def _is_of_sklearn(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    return (getattr(function, "__module__", None) or "").startswith("sklearn.")


def _check_options(name: str, signature: inspect.Signature, options: Mapping[str, Any]) -> None:
    known = signature.parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
        return
    for option in options:
        if option not in known:
            raise ConfigError(f"metric {name!r}: unknown argument {option!r}{nearest(option, known)}", (option,))
