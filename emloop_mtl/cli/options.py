"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..constants import DEFAULT_OUTPUT_ROOT

config_argument = click.argument("config", type=click.Path(path_type=Path))
overrides_argument = click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
run_argument = click.argument("run_dir", type=click.Path(path_type=Path))
trust_option = click.option(
    "--trust", is_flag=True, help="Run code from anywhere that the run's config names, not only from below this folder."
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show debug messages, and tracebacks of errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of tables.")


def output_root_option(what: str) -> Callable[[Any], Any]:
    """Return the option for the folder in which what a command makes gets a folder of its own.

    :param what: what gets one, and what that is named after
    """
    return click.option(
        "-o",
        "--output-root",
        type=click.Path(path_type=Path),
        default=Path(DEFAULT_OUTPUT_ROOT),
        show_default=True,
        help=f"Folder in which {what}.",
    )
