"""Writing for people, who may have gone away."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

NOBODY_READS = (errno.EPIPE, errno.EIO)
"""How pipes and terminals answer that were closed; there may be room again on a disk that is full."""


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Go on where what is written inside cannot be: a run does not end because its terminal or pipe was closed.

    What is written there later goes nowhere. Otherwise Python would try once more when it ends, and change the exit
    code.

    :param name: ``stdout`` or ``stderr``
    """
    try:
        yield
    except (OSError, SystemExit) as error:
        # rich ends the program where a pipe is closed.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        if isinstance(error, SystemExit) or error.errno in NOBODY_READS:
            _let_go(getattr(sys, name))


def last_words(name: str) -> str | None:
    """Write what still waits to be written, as Python would when it ends, and return why that cannot be.

    :param name: ``stdout`` or ``stderr``
    :return: None if it can be, or nobody reads
    """
    stream = getattr(sys, name)
    try:
        if stream is not None:  # it was closed before the program began
            stream.flush()
    except OSError as error:
        _let_go(stream)
        return None if error.errno in NOBODY_READS else str(error.strerror)
    except ValueError:  # it was closed since
        return None
    return None


def _let_go(stream: TextIO | Any) -> None:
    with suppress(OSError, AttributeError, ValueError):  # of a stream that is no file
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
