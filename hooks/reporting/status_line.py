"""A line at the bottom of the terminal that makes room for everything else."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from emloop_mtl.utils.telling import telling

if TYPE_CHECKING:
    from rich.live import Live

BAR_WIDTH = 24
"""Columns of the bar."""


class StatusLine:
    """Shows one line on the terminal behind stderr, and takes it away before a log record is written.

    Log handlers hold the stream they were made with, so that redirecting ``sys.stderr`` does not reach them; a
    filter on each does. What is printed while the line is shown is put above it. Nothing needs to be restored where
    the process is killed: the cursor stays visible.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, force_terminal=True, highlight=False)
        self._live: Live | None = None
        self._lock = threading.RLock()
        self._handlers = _handlers()
        for handler in self._handlers:
            handler.addFilter(self._make_room)

    @staticmethod
    def is_possible() -> bool:
        """Return whether stderr is a terminal that can move its cursor."""
        if not sys.stderr.isatty():
            return False
        from rich.console import Console

        return not Console(stderr=True, force_terminal=True).is_dumb_terminal

    def show(self, head: str, share: float | None, tail: str) -> None:
        """Show ``head``, a bar and ``tail``, cut to the width of the terminal.

        :param share: how much of the bar is full, 0 to 1; None for no bar
        """
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = Table.grid(padding=(0, 2))
        cells: list[Text | ProgressBar] = [Text(head, no_wrap=True, overflow="ellipsis")]
        if share is not None:
            cells.append(ProgressBar(total=1.0, completed=share, width=BAR_WIDTH))
        cells.append(Text(tail, no_wrap=True, overflow="ellipsis"))
        for _ in cells:
            line.add_column(no_wrap=True)
        line.add_row(*cells)
        with self._lock, telling("stderr"):
            if self._live is not None:
                self._live.update(line, refresh=True)
                return
            redirect = sys.stdout.isatty()  # else what is printed to a file would land on the terminal
            self._live = Live(line, console=self._console, auto_refresh=False, transient=True, redirect_stdout=redirect)
            self._live.start(refresh=True)
            self._console.show_cursor(True)

    def erase(self) -> None:
        """Take the line away until it is shown again."""
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                with telling("stderr"):
                    live.stop()

    def close(self) -> None:
        """Take the line away for good."""
        self.erase()
        for handler in self._handlers:
            handler.removeFilter(self._make_room)

    def _make_room(self, record: logging.LogRecord) -> bool:
        self.erase()
        return True


def _handlers() -> list[logging.Handler]:
    """Return all log handlers that may write to the terminal."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = {handler: None for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers}
    return [handler for handler in found if not isinstance(handler, logging.FileHandler)]
