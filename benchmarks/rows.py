"""Lines of the result: a ratio to a loop by hand, or a number of its own, beside what it may be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass
class Row:
    """A line.

    :param title: what is measured
    :param value: the number; None where nothing could be measured
    :param target: what it may be at most; None where nothing is promised
    :param unit: of ``value``; empty for a ratio
    :param low: the lowest of the rounds
    :param high: the highest
    :param times: medians over the rounds, by kind: µs per step, or milliseconds of scoring
    :param details: all rounds, and whatever else belongs to it
    """

    title: str
    value: float | None
    target: float | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    times: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool | None:
        """Whether the number is what it may be; None where nothing is promised."""
        return None if self.target is None or self.value is None else self.value <= self.target

    def as_data(self) -> dict[str, Any]:
        """Return the line as plain data."""
        return asdict(self) | {"holds": self.holds}


def ratio_row(
    title: str, base: Sequence[float], other: Sequence[float], kinds: tuple[str, str], target: float | None
) -> Row:
    """Return the line of ``other`` in times of ``base``, a ratio per round."""
    ratios = [one / of for of, one in zip(base, other, strict=True)]
    return Row(
        title,
        median(ratios),
        target,
        low=min(ratios),
        high=max(ratios),
        times={kinds[0]: median(base), kinds[1]: median(other)},
        details={"ratios": ratios, kinds[0]: list(base), kinds[1]: list(other)},
    )


def value_row(title: str, values: Sequence[float], unit: str, target: float | None) -> Row:
    """Return the line of a number that is measured in each round."""
    return Row(title, median(values), target, unit, min(values), max(values), details={"rounds": list(values)})


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return lines, as ``as_data`` makes them, as a table in Markdown that reads well on a terminal, too."""
    header = ["", "by hand", "measured", "ratio", "from", "to", "at most", "holds"]
    cells = [header, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    lines = [
        "| "
        + " | ".join(f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def with_table(page: str, text: str) -> str:
    """Return a page whose table of results, the first below that heading, is replaced."""
    before, heading, after = page.partition("\n## Results\n")
    return before + heading + re.sub(r"(?:^\|.*\n)+", lambda match: f"{text}\n", after, count=1, flags=re.MULTILINE)


def _cells(row: dict[str, Any]) -> list[str]:
    digits = 2 if not row["unit"] or row["unit"] in ("µs", "s") else 0
    base, other = [*row["times"].values(), None, None][:2]

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.{digits}f}"

    return [
        row["title"],
        "" if base is None else f"{base:.1f}",
        "" if other is None else f"{other:.1f}",
        f"{number(row['value'])} {row['unit']}".strip(),
        number(row["low"]),
        number(row["high"]),
        number(row["target"]),
        {True: "yes", False: "no", None: ""}[row["holds"]],
    ]
