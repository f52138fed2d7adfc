"""The heads of all slices of a task, and attention over them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from .slicing_function import BASE


class SliceHeads(nn.Module):
    """What each slice makes of the features of a row, and their mean by how far the row belongs to the slices.

    Each slice has an indicator, which tells the odds that a row belongs to it, and an expert, a layer that makes
    features of its own of the shared ones; the slice ``base`` of all rows has an expert only. One predictor, made like
    the task's head, reads the features of every expert, so that these are comparable. The weight of a slice is
    proportional to odds times confidence, the probability of what its prediction holds most probable; the odds of
    ``base`` are 1. So with one slice and equal confidence, its weight is the probability that the row belongs to it.

    After Chen et al., Slice-based Learning: A Programming Model for Residual Learning in Critical Data Slices,
    NeurIPS 2019, section 3, whose weights are a softmax of indicator and confidence as well.

    :param head: the task's head, which is copied
    :param width: the number of features
    :param slices: the names of the slices, without ``base``
    :param confidence: what makes probabilities of a prediction: ``softmax``, ``sigmoid``, or ``exp`` of log
        probabilities; None where there are none, then the odds alone count
    """

    def __init__(
        self,
        head: nn.Module,
        width: int,
        slices: Sequence[str],
        confidence: Literal["softmax", "sigmoid", "exp"] | None = None,
    ) -> None:
        super().__init__()
        self.slices = (BASE, *slices)
        self.confidence = confidence
        self.indicators = nn.ModuleDict({name: nn.Linear(width, 1) for name in slices})
        self.experts = nn.ModuleDict({name: nn.Linear(width, width) for name in self.slices})
        self.predictor = copy.deepcopy(head)

    def forward(self, features: Tensor) -> dict[str, Any]:
        """Return ``indicators``, log odds [n, slices without base, 1], ``predictions``, what the predictor makes of
        each slice's features [n, slices, ...], ``attention`` [n, slices], and ``features`` [n, width], the mean that
        the attention makes; ``base`` first.

        :param features: [n, width]
        """
        if features.ndim != 2:
            text = f"slices need features of the shape [n, width], but got {list(features.shape)}"
            raise ConfigError(f"{text}; let an action before them make one vector of each row")
        # All heads at once: one product is faster than many small ones.
        odds = functional.linear(features, *_joined(self.indicators))
        size = len(self.slices)
        experts = functional.linear(features, *_joined(self.experts)).view(len(features), size, -1)
        predictions = self.predictor(experts.flatten(0, 1))
        predictions = predictions.view(len(features), size, *predictions.shape[1:])
        scores = functional.pad(odds, (1, 0)) + self._log_confidence(predictions)
        attention = torch.softmax(scores, 1)
        mean = torch.bmm(attention.to(experts.dtype).unsqueeze(1), experts).squeeze(1)
        return {
            "indicators": odds.unsqueeze(2),
            "predictions": predictions,
            "attention": attention,
            "features": mean,
        }

    def _log_confidence(self, predictions: Tensor) -> Tensor | float:
        """Return the log of the probability of what is most probable, [n, slices], in float32."""
        if self.confidence is None:
            return 0.0
        values = predictions.float()
        if self.confidence == "sigmoid":
            likely = functional.logsigmoid(values.abs())
            return likely.flatten(2).mean(2) if likely.ndim > 2 else likely
        return (torch.log_softmax(values, 2) if self.confidence == "softmax" else values).amax(2)


def _joined(layers: nn.ModuleDict) -> tuple[Tensor, Tensor]:
    """Return weights and biases of equal layers one below the other."""
    found = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
    return torch.cat([layer.weight for layer in found]), torch.cat([layer.bias for layer in found])
