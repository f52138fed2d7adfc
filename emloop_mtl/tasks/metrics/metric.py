"""What a metric is."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

from torch import Tensor

from ...types import State


class Metric(ABC):
    """A score that is collected batch by batch on the device and fetched once.

    ``update`` must not wait for the device, and ``reset`` must put new state in place of the old instead of changing
    it, since a fresh metric shares everything else with the one it was made from.

    :param name: what the score is called
    """

    needs: frozenset[str] = frozenset({"pred"})
    """Which of ``prob`` and ``pred`` it reads; a metric that needs ``pred`` alone makes do with ``prob``."""

    compares_classes: ClassVar[bool] = False
    """Whether predictions must be classes."""

    compares_numbers: ClassVar[bool] = False
    """Whether there must be one label and one predicted value per row."""

    compares_values: ClassVar[bool] = False
    """Whether labels and predictions must be values and no classes."""

    reads_probabilities: ClassVar[bool] = False
    """Whether ``prob`` must be probabilities, which lie in 0..1."""

    reads_label_sets: ClassVar[bool] = False
    """Whether each row must have several labels that are 0 or 1, each by itself."""

    takes_uids: bool = False
    """Whether it reads the identifiers of the rows."""

    num_classes: int | None = None
    """The number of classes where the task knows it."""

    ignored_label: int | None = None
    """A label that does not count inside a row of several labels."""

    has_label_sets: bool | None = None
    """Whether labels [n, k] are 0 or 1 each by itself, and no classes; None where the task does not know."""

    names_are_known: bool = True
    """Whether ``names`` are those that ``compute`` will return."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reset()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores that ``compute`` returns, ``name`` among them."""
        return (self.name,)

    @abstractmethod
    def update(self, label: Tensor, prob: Tensor | None, pred: Tensor | None, uids: Any = None) -> None:
        """Take in the rows of a batch, all of them labelled, without waiting for the device.

        :param label: the labels, [n, ...]
        :param prob: [n, classes] probabilities, [n] probabilities of class 1, or values; None if there are none
        :param pred: the predicted classes or values; None if there are none
        :param uids: the identifiers of the rows
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Fetch and return the score of all rows so far by name, nan if there were none."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all rows."""

    @abstractmethod
    def state_dict(self) -> dict[str, State]:
        """Return what has been collected, as plain data and tensors."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned."""

    def fresh(self) -> Self:
        """Return a metric of the same kind that has seen no rows."""
        twin = copy.copy(self)
        twin.reset()
        return twin
