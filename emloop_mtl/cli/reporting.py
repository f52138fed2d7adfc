"""What a command tells on stderr and in the log of a run, and the exit code that it ends with."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from ..errors import ConfigError, EmloopError
from ..utils.telling import telling
from .folder_in_use_error import FolderInUseError

FAILURE = 1
MISTAKE = 2
"""What the user has configured or typed cannot be run."""

IN_USE = 75
"""Another process trains in the folder; what sysexits.h calls a temporary failure, which may be tried again."""

SIGNAL_BASE = 128
"""Shells report a process that was ended by signal n as 128 + n."""

FILE_ONLY = {"file_only": True}
"""Marks a message that the terminal gets in another form."""

TERMINAL_ONLY = {"terminal_only": True}
"""Marks a message that must not change the log of a run."""

HINT = " (-v shows the traceback)"

LONGEST_WORD = 1000
"""Characters of a name that an error repeats; a config may hold anything."""

log = logging.getLogger(__name__)


class _Terminated(BaseException):
    """SIGTERM or SIGHUP while nothing is trained, so nothing needs to be saved."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def reported(verbose: bool = False) -> Iterator[None]:
    """Log to stderr, and turn whatever goes wrong inside into one line and an exit code.

    :param verbose: also show debug messages and tracebacks
    :raise SystemExit: 2 for a mistake of the user, 75 where another process trains in the folder, 1 for any other
        error, 129, 130 and 143 when interrupted
    """
    with _logging_to_terminal(verbose), _signals_raise():
        try:
            _check_working_folder()
            yield
        except (Exception, KeyboardInterrupt, _Terminated) as error:
            text, code = _answer(error, verbose)
            with telling("stderr"):
                if verbose:
                    click.echo("".join(traceback.format_exception(error)), nl=False, err=True)
                click.echo(text, err=True)
            raise SystemExit(code) from error


def _check_working_folder() -> None:
    """Refuse a working folder that was removed: libraries that torch loads end the process there, and tell nonsense."""
    try:
        Path.cwd()
    except OSError as error:
        text = f"the working folder cannot be used: {error.strerror}; change to one that is there"
        raise ConfigError(text) from error


@contextmanager
def logging_to_file(path: Path) -> Iterator[None]:
    """Append all messages, those of errors with their tracebacks, to a file."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: not getattr(record, "terminal_only", False))
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
    """Return the text of an error without line breaks, without what steers a terminal, and not endless."""
    words = ["".join(map(_printable, word)) for word in str(error).split()]
    return " ".join(word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD - 1]}…" for word in words)


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()


def _answer(error: BaseException, verbose: bool) -> tuple[str, int]:
    """Return the line that tells of an error, and the exit code."""
    if isinstance(error, FolderInUseError):
        return one_line(error), IN_USE
    if isinstance(error, ConfigError):
        return one_line(error), MISTAKE
    if isinstance(error, EmloopError):
        return f"error: {one_line(error)}", FAILURE
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", SIGNAL_BASE + signal.SIGINT
    if isinstance(error, _Terminated):
        return "terminated", SIGNAL_BASE + error.number
    notes = "".join(f" {' '.join(note.split())}" for note in getattr(error, "__notes__", ()))
    hint = "" if verbose else HINT
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
            text = self.format(record)
            with telling("stderr"):
                click.echo(text, err=True)
        except Exception:
            self.handleError(record)


class _LogFile(logging.FileHandler):
    """Tells once where it cannot be written, on a full disk above all, and is no reason to end a training."""

    _has_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - what logging calls it
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_told:
            self._has_told = True
            text = f"cannot write '{self.baseFilename}': {error.strerror or error}; messages may be missing there"
            log.warning("%s", text, extra=TERMINAL_ONLY)

    def close(self) -> None:
        with suppress(OSError):  # told before: what is left over is what could not be written
            super().close()


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
def _signals_raise() -> Iterator[None]:
    """Let signals unwind the command like Ctrl-C does, so that it clears up; a training catches them by itself.

    What a script starts in the background ignores SIGINT, though whoever sends one means it. A SIGHUP that is ignored
    stays so: that is what nohup is for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, _raise_terminated)
    if before[signal.SIGHUP] != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _raise_terminated)
    if before[signal.SIGINT] == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # C code has set it, and only that could do so again
                signal.signal(number, handler)


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated(number)
