"""What comes from a process that reads in the place of a batch."""

from __future__ import annotations

import pickle
import traceback
from typing import NoReturn

from ..utils.noted import noted


class FailedRead:
    """An error of a process that reads, to be raised where its batch is wanted.

    Torch would make the process's traceback part of its text.

    :param error: the error; one that would not arrive as it is is replaced by its text
    """

    def __init__(self, error: Exception) -> None:
        self._traceback = "".join(traceback.format_exception(error))
        self._notes = list(getattr(error, "__notes__", ()))
        self._error = error if _arrives(error) else RuntimeError(_text_of(error))

    def reraise(self) -> NoReturn:
        """Raise the error, with the traceback of the process as its cause."""
        error = self._error
        for note in self._notes:
            if note not in getattr(error, "__notes__", ()):
                noted(error, note)
        raise error from _ReaderTracebackError(self._traceback)


class _ReaderTracebackError(Exception):
    """Shows the traceback of an error of another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _arrives(error: Exception) -> bool:
    """Whether an error is the same after it was handed over; nobody knows what classes of errors do there."""
    try:
        twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - what this process has made itself
        return type(twin) is type(error) and str(twin) == str(error)
    except Exception:
        return False


def _text_of(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
