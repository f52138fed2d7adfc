"""What a training leaves for the comparison."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Trained:
    """Times, numbers and weights of a training.

    :param steps: steps of an epoch
    :param train_seconds: of each epoch, the time in its steps
    :param epoch_seconds: of each epoch, the time of all: steps, evaluation, writing and saving
    :param losses: of each epoch, the mean loss
    :param scores: after the last epoch, accuracy and mean loss of each task, by ``<task>/accuracy`` and ``<task>/loss``
    :param weights: the final weights by name
    """

    steps: int
    train_seconds: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Return what two trainings have in common exactly if their weights agree to the bit."""
        digest = hashlib.sha256()
        for name, value in sorted(self.weights.items()):
            digest.update(name.encode() + value.numpy().tobytes())
        return digest.hexdigest()
