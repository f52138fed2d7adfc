"""Tables on stdout."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from ..types import EpochData
from ..utils.telling import NOBODY_READS, last_words, telling

log = logging.getLogger(__name__)

PLAIN_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, where nothing tells how wide it may be."""


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """Print a table.

    :param columns: their headings
    :param rows: a text for every column
    :param right: headings of the columns whose texts stand on the right
    """
    if sys.stdout is None:  # it was closed before the program began
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))  # Text: what stands in brackets is no markup
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    with telling("stdout"):
        console.print(Text(title, style="bold"))  # not as the table's own title, which would be broken to its width
        console.print(table)
        sys.stdout.flush()


def print_text(text: str) -> None:
    """Print a text on stdout, and go on where nobody reads it.

    :raise OSError: if it cannot be written to the end, on a full disk above all: a program would take a part for it all
    """
    if sys.stdout is None:  # it was closed before the program began
        return
    failed: OSError | None = None
    with telling("stdout"):
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except OSError as error:
            failed = None if error.errno in NOBODY_READS else error
            raise
    if failed is not None:
        last_words("stdout")  # what is kept would be told of again
        raise OSError(failed.errno, failed.strerror, "stdout")


def print_scores(title: str, numbers: EpochData) -> None:
    """Print the numbers of all streams, a row for each task and metric, a column for each stream."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for stream, variables in numbers.items():
        for name, value in variables.items():
            for key, number in value.items() if isinstance(value, Mapping) else [("", value)]:
                if (text := _number(number)) is not None:
                    rows.setdefault(_row(name, str(key)), {})[stream] = text
    if not rows:
        log.warning("there are no scores to show; hooks such as ScoreTasks compute them")
        return
    streams = [stream for stream in numbers if any(stream in row for row in rows.values())]
    has_data = len({row[1] for row in rows} - {"", "all"}) > 1
    columns = ["task", "data", "metric"] if has_data else ["task", "metric"]
    texts = (
        [*(row if has_data else (row[0], row[2])), *(found.get(stream, "") for stream in streams)]
        for row, found in rows.items()
    )
    print_table(title, [*columns, *streams], texts, right=streams)


def _row(variable: str, aggregation: str) -> tuple[str, str, str]:
    """Split a variable into task, data and metric; one that is no score has its name as metric."""
    parts = variable.split("/", 2)
    task, data, metric = parts if len(parts) == 3 else ("", "", variable)
    return task, data, f"{metric} ({aggregation})" if aggregation else metric


def _number(value: Any) -> str | None:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    return f"{float(value):.4f}" if isinstance(value, Real) else None
