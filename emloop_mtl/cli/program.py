"""The command and its subcommands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from ..utils.telling import last_words
from .reporting import FAILURE


class Program(click.Group):
    """Subcommands that end with one line, and the exit code that they have, where nothing can be written."""

    _mistake: click.ClickException | None = None
    """What is wrong with the command line."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; see ``click.Command.main``."""
        self._mistake = None
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # of help, completion and mistakes; commands report their own
            if not kwargs.get("standalone_mode", True):
                raise
            if self._mistake is not None:
                sys.exit(self._mistake.exit_code)
            last_words("stdout")
            _tell(f"error: cannot write to stdout: {error.strerror or error}")
            sys.exit(FAILURE)
        finally:
            lost = last_words("stdout")
            if lost is not None:
                _tell(f"cannot write to stdout: {lost}")
            last_words("stderr")

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the options of the program itself."""
        with self._noticing_mistakes():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand."""
        with self._noticing_mistakes():
            return super().invoke(ctx)

    @contextmanager
    def _noticing_mistakes(self) -> Iterator[None]:
        try:
            yield
        except click.ClickException as error:
            self._mistake = error
            raise


def _tell(text: str) -> None:
    with suppress(OSError):  # stderr may be full as well
        click.echo(text, err=True)
