"""A stream without data."""

from __future__ import annotations

from ..errors import DataError


class EmptyStreamError(DataError):
    """A stream that has brought no batch at all."""
