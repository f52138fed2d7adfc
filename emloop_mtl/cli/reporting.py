"""What a command tells on stderr and in the log of a run, and the exit code that it ends with."""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from ..errors import ConfigError, EmloopError

FAILURE = 1
MISTAKE = 2
"""What the user has configured or typed cannot be run."""

SIGNAL_BASE = 128
"""Shells report a process that was ended by signal n as 128 + n."""

FILE_ONLY = {"file_only": True}
"""Marks a message that the terminal gets in another form."""

log = logging.getLogger(__name__)


class _Terminated(BaseException):
    """SIGTERM while nothing is trained, so nothing needs to be saved."""


@contextmanager
def reported(verbose: bool = False) -> Iterator[None]:
    """Log to stderr, and turn whatever goes wrong inside into one line and an exit code.

    :param verbose: also show debug messages and tracebacks
    :raise SystemExit: 2 for a mistake of the user, 1 for any other error, 130 and 143 when interrupted
    """
    with _logging_to_terminal(verbose), _sigterm_raises():
        try:
            yield
        except (Exception, KeyboardInterrupt, _Terminated) as error:
            if verbose:
                click.echo("".join(traceback.format_exception(error)), nl=False, err=True)
            text, code = _answer(error, verbose)
            click.echo(text, err=True)
            raise SystemExit(code) from error


@contextmanager
def logging_to_file(path: Path) -> Iterator[None]:
    """Append all messages, those of errors with their tracebacks, to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except BaseException as error:
        if not isinstance(error, SystemExit):
            log.error("%s", one_line(error) or type(error).__name__, exc_info=error, extra=FILE_ONLY)
        raise
    finally:
        root.removeHandler(handler)
        handler.close()


def one_line(error: BaseException) -> str:
    """Return the text of an error without line breaks."""
    return " ".join(str(error).split())


def _answer(error: BaseException, verbose: bool) -> tuple[str, int]:
    """Return the line that tells of an error, and the exit code."""
    if isinstance(error, ConfigError):
        return one_line(error), MISTAKE
    if isinstance(error, EmloopError):
        return f"error: {one_line(error)}", FAILURE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", SIGNAL_BASE + signal.SIGINT
    if isinstance(error, _Terminated):
        return "terminated", SIGNAL_BASE + signal.SIGTERM
    notes = "".join(f" {' '.join(note.split())}" for note in getattr(error, "__notes__", ()))
    hint = "" if verbose else " (-v shows the traceback)"
    return f"error: {type(error).__name__}: {one_line(error)}{notes}{hint}", FAILURE


@contextmanager
def _logging_to_terminal(verbose: bool) -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    handler = _TerminalHandler()
    handler.addFilter(lambda record: not getattr(record, "file_only", False))
    handler.setFormatter(_TerminalFormatter(verbose))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    package = logging.getLogger("emloop_mtl")
    package.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        package.setLevel(logging.NOTSET)
        root.setLevel(before)
        root.removeHandler(handler)


class _TerminalHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at the moment: a progress bar replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            click.echo(self.format(record), err=True)
        except Exception:
            self.handleError(record)


class _TerminalFormatter(logging.Formatter):
    """The time, the message, and a word in between if it is a warning or an error."""

    WORDS = (
        (logging.ERROR, "error: "),
        (logging.WARNING, "warning: "),
        (logging.INFO, ""),
        (logging.NOTSET, "debug: "),
    )

    def __init__(self, verbose: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._verbose = verbose

    def format(self, record: logging.LogRecord) -> str:
        word = next(word for level, word in self.WORDS if record.levelno >= level)
        message = record.getMessage()
        if record.name == "py.warnings":  # the place, the warning and a line of source
            message = " ".join(message.split())
        line = f"{self.formatTime(record, self.datefmt)} {word}{message}"
        if self._verbose and record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return line


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind the command like Ctrl-C does, so that it clears up; a training catches it by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated
