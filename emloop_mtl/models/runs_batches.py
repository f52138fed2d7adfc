"""What runs batches of a kind."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ..data.batch import Batch


class RunsBatches(Protocol):
    """Something that is made once for batches of a kind, and runs each of them."""

    def forward(
        self, batch: Batch, train: bool, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the model's loss, which gradients flow from, and the outputs by name, which have none.

        :param batch: a prepared batch
        :param train: whether it is trained on
        :param parts: gets the part of each task in the loss, with its graph; None where nobody looks at them
        """
        ...
