"""A mistake in a config together with its position."""

from __future__ import annotations

from ..errors import ConfigError, KeyPath


class LocatedError(ConfigError):
    """A ``ConfigError`` whose text is complete: it begins with the position, so nothing is to be put in front."""

    def below(self, path: KeyPath) -> ConfigError:
        """Return the error itself: its place is known already."""
        return self
