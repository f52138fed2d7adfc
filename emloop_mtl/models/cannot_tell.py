"""An error of which nobody knows what it tells."""

from __future__ import annotations


class CannotTell(Exception):  # noqa: N818
    """A batch could not be tried, which may be for want of a training alone; the first batch shows what is wrong."""
