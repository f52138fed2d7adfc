"""Where the panels of a figure stand."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_COLUMNS = 4


def arrange(sizes: Sequence[int]) -> tuple[int, int, list[tuple[int, int]]]:
    """Return the number of rows and of columns, and the row and column of every panel.

    The first group holds what is of no task. Where every task has the same number of panels, more than one, each has
    rows of its own.

    :param sizes: the number of panels in each group, in order
    """
    number = sum(sizes)
    if len(set(sizes[1:])) == 1 and sizes[1] > 1:
        columns = min(MOST_COLUMNS, sizes[1])
    else:
        columns, sizes = min(MOST_COLUMNS, math.ceil(math.sqrt(number))), [number]
    places = []
    row = 0
    for size in sizes:
        places += [(row + index // columns, index % columns) for index in range(size)]
        row += -(-size // columns)
    return row, columns, places
