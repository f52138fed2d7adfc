"""A run as it is listed."""

from __future__ import annotations

from dataclasses import dataclass

from .best_score import BestScore


@dataclass
class ListedRun:
    """What the small files in the folder of a run say about it.

    :param run: the folder
    :param state: ``running``, ``finished``, ``interrupted``, ``failed``, ``killed``, ``broken``, or ``not finished``
        where nothing tells how it ended
    :param model: its name, else its class; None if nothing tells, as in what follows
    :param model_class: the class of the model, as the config names it
    :param dataset: the class of the dataset, as the config names it
    :param epochs: finished epochs
    :param steps: finished steps
    :param best: the number that the first ``SaveBest`` watches, where it was best
    :param began: when the training began, in UTC
    :param ended: when it ended
    :param age: seconds since it began
    :param bytes: of all files together; those with several names count once
    :param checkpoints: how many there are
    :param fault: what is wrong with a broken run
    """

    run: str
    state: str = "not finished"
    model: str | None = None
    model_class: str | None = None
    dataset: str | None = None
    epochs: int = 0
    steps: int = 0
    best: BestScore | None = None
    began: str | None = None
    ended: str | None = None
    age: float | None = None
    bytes: int = 0
    checkpoints: int = 0
    fault: str | None = None
