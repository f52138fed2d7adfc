"""What comes from a process that reads in the place of a batch."""

from __future__ import annotations

import pickle
import traceback
from typing import NoReturn


class FailedRead:
    """An error of a process that reads, to be raised where its batch is wanted.

    Torch would make the process's traceback part of its text.

    :param error: the error; one that cannot be handed over is replaced by its text
    """

    def __init__(self, error: Exception) -> None:
        self._traceback = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - what this process has made itself
        except Exception:  # nobody knows what classes of errors do there
            stand_in = RuntimeError(f"{type(error).__name__}: {error}")
            for note in getattr(error, "__notes__", ()):
                stand_in.add_note(note)
            error = stand_in
        self._error = error

    def reraise(self) -> NoReturn:
        """Raise the error, with the traceback of the process as its cause."""
        raise self._error from _ReaderTracebackError(self._traceback)


class _ReaderTracebackError(Exception):
    """Shows the traceback of an error of another process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"
