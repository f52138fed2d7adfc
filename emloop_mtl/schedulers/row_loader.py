"""What a scheduler that takes single rows knows of a loader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from .abstract_task_scheduler import Loader

if TYPE_CHECKING:
    from ..data.batch import Batch


class RowLoader(Loader, Protocol):
    """A loader whose rows can be taken in parts of any size, in the order in which its batches hold them."""

    @property
    def batch_size(self) -> int | None:
        """Rows of its own batches, None where the dataset decides that."""

    @property
    def num_samples(self) -> int | None:
        """Rows of one round through the loader, None where they are not known."""

    @property
    def has_rows(self) -> bool:
        """Whether rows can be read by their number; otherwise parts are cut out of batches."""

    def parts(self, pass_number: int | tuple[int, int], ranges: Iterator[tuple[int, int]]) -> Iterator[Batch]:
        """Return the rows of one round from the first to before the second number of each range, in rising order."""

    def cut(self, batch: Batch, first: int, stop: int) -> Batch:
        """Return some rows of a batch of this loader."""
