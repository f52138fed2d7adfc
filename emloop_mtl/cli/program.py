"""The command and its subcommands."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import click

from ..utils.telling import last_words
from .reporting import FAILURE


class Program(click.Group):
    """Subcommands that end with one line, and the exit code that they have, where nothing can be written on stdout."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; see ``click.Command.main``."""
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # of help and completion; commands report their own
            if not kwargs.get("standalone_mode", True):
                raise
            last_words("stdout")
            _tell(f"error: cannot write to stdout: {error.strerror or error}")
            sys.exit(FAILURE)
        finally:
            lost = last_words("stdout")
            if lost is not None:
                _tell(f"cannot write to stdout: {lost}")
            last_words("stderr")


def _tell(text: str) -> None:
    with suppress(OSError):  # stderr may be full as well
        click.echo(text, err=True)
