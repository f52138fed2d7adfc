"""A training that has not come as far as it had to."""

from __future__ import annotations

from emloop_mtl.errors import EmloopError


class CheckFailedError(EmloopError, ValueError):
    """A number that has not reached its level in time."""
