"""What the parts of slice-based learning are called."""

from __future__ import annotations

from ...errors import ConfigError
from ..target import Target
from ..task import Task

_MISSING_CLASS = -100
"""The class that torch's losses leave out by default; labels of classes are never negative."""


def heads_name(task: str) -> str:
    """Return the name of the module and the action that all slices of a task share."""
    return f"{task}_slices"


def indicator_name(task: str, part: str) -> str:
    """Return the name of the task, and of its labels, that learns which rows belong to a slice."""
    return f"{task}_slice:ind_{part}"


def predictor_name(task: str, part: str) -> str:
    """Return the name of the task, and of its labels, that learns of the rows of a slice alone."""
    return f"{task}_slice:pred_{part}"


def score_name(task: str, part: str) -> str:
    """Return the name of the task that scores the predictions of the base task on the rows of a slice."""
    return f"{task}_slice:{part}"


def missing_label(task: Task) -> float:
    """Return what marks a row outside of a slice among the labels of a slice's predictor.

    :raise ConfigError: if it is neither given nor follows from the loss
    """
    if task.missing_label is not None:
        return task.missing_label
    target = Target.OTHER if task.loss is None else task.loss.target
    if target is Target.OTHER:
        text = "its loss does not tell what its labels are; set missing_label, which marks rows outside of a slice"
        raise ConfigError(f"task {task.name!r}: {text}", ("tasks", task.name))
    return float("nan") if target is Target.VALUE else _MISSING_CLASS
