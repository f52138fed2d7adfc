"""What the package raises, and the regular way to end a training."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

KeyPath = tuple[str | int, ...]


class EmloopError(Exception):
    """Base of all errors whose text is meant for the user."""


class ConfigError(EmloopError, ValueError):
    """A mistake in what the user configured: a wrong name, argument, type or wiring.

    :param message: what is wrong, what is allowed, which setting changes it
    :param path: keys from the root of the config to the faulty entry, e.g. ``("hooks", 2, "SaveBest")``
    """

    def __init__(self, message: str, path: KeyPath = ()) -> None:
        super().__init__(message)
        self.path = path

    def below(self, path: KeyPath) -> ConfigError:
        """Return this error for a config in which the faulty part lies below ``path``."""
        error = ConfigError(str(self), (*path, *self.path))
        error.__cause__ = self.__cause__
        return error


class DataError(EmloopError, ValueError):
    """Data that cannot be used: sources of different lengths, a label out of range, a missing file."""

    def within(self, where: str) -> DataError:
        """Return this error with the place it was found in, e.g. ``stream 'train', batch 3``, put in front."""
        error = DataError(f"{where}: {self}")
        error.__cause__ = self.__cause__
        return error


class NotFiniteError(EmloopError, ArithmeticError):
    """A number that is nan, or infinite, so that training on is in vain."""


class CheckpointError(EmloopError):
    """A checkpoint that cannot be written, verified or restored."""


class TrainingTerminated(Exception):  # noqa: N818 - emloop's name; it is a regular end, not an error
    """Raised by a hook to end the training regularly."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return the end of an error text that helps with an unknown ``name``: the nearest choice, or all of them."""
    known = sorted(set(map(str, choices)))
    by_lower_case = {choice.lower(): choice for choice in known}
    wanted = str(name).lower()
    match = difflib.get_close_matches(wanted, by_lower_case, n=1, cutoff=0.6)
    match = match or [choice for choice in by_lower_case if len(wanted) > 2 and choice.startswith(wanted)]
    if match:
        return f"; did you mean {by_lower_case[match[0]]!r}?"
    if not known:
        return ""
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"; known are: {shown}"
