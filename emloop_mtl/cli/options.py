"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path

import click

overrides_argument = click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
run_argument = click.argument("run_dir", type=click.Path(path_type=Path))
trust_option = click.option(
    "--trust", is_flag=True, help="Run code from anywhere that the run's config names, not only from below this folder."
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show debug messages, and tracebacks of errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of tables.")
