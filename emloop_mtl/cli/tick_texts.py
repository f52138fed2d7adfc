"""What stands at the ticks of an axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

MOST_DIGITS = 12
PLAIN = (1e-3, 1e5)
"""Between these, numbers are written without an exponent."""

SHARE = 1e-3
"""Of the distance between ticks; what is left out in their texts is less."""


def tick_texts(values: Sequence[float]) -> list[str]:
    """Return texts with as few digits as tell all values apart, and as many as each needs; none is an offset."""
    most = max(map(abs, values), default=0.0)
    distance = min((after - before for before, after in pairwise(sorted(values)) if after > before), default=most)
    is_plain = most == 0 or PLAIN[0] <= most < PLAIN[1]
    texts: list[str] = []
    for digits in range(MOST_DIGITS + 1):
        texts = [f"{value:.{digits}f}" if is_plain or value == 0 else f"{value:.{digits}e}" for value in values]
        if all(abs(float(text) - value) <= SHARE * distance for text, value in zip(texts, values, strict=True)):
            break
    return [_tidy(text) for text in texts]


def step_text(value: float) -> str:
    """Return a number of steps in thousands or millions where it has many digits."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and value % (size / 10) == 0):
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _tidy(text: str) -> str:
    """Return ``2e-5`` for ``2e-05``, and ``0`` for ``-0.00`` and ``0.00e+00``."""
    if not float(text):
        return "0"
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}{exponent}{int(power)}" if exponent else mantissa
