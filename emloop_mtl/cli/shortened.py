"""Texts for which there is little room."""

from __future__ import annotations


def shortened(text: str, most: int) -> str:
    """Return a text of no more than ``most`` characters, from which what is too much was taken out of the middle."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
