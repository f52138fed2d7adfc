"""What looks at the losses of tasks before the backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class WatchesLosses(Protocol):
    """Gets the part of each task in the loss of a batch that is trained on, while its graph is there."""

    @property
    def is_due(self) -> bool:
        """Whether it wants those of the next batch."""
        ...

    def take(self, parts: Mapping[str, Tensor]) -> None:
        """Look at a batch; graph, random state and gradients must be left as they are.

        :param parts: task -> its part of the loss, 0-d
        """
        ...
