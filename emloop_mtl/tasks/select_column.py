"""One of several values of each row."""

from __future__ import annotations

from torch import Tensor, nn


class SelectColumn(nn.Module):
    """Returns one of several values that each row has, [rows, values, ...] -> [rows, ...].

    Tasks that begin with different values of one tensor can be run as one.

    :param column: the number of the value
    """

    def __init__(self, column: int) -> None:
        super().__init__()
        self.column = column

    def forward(self, value: Tensor) -> Tensor:
        """Return the value of each row.

        :param value: [rows, values, ...]
        """
        return value.select(1, self.column)

    def extra_repr(self) -> str:
        return str(self.column)
