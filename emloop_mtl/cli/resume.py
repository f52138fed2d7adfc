"""``emloop-mtl resume``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import overrides_argument, run_argument, trust_option, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl resume log/digits_2024-05-01_12-00-00
  emloop-mtl resume log/digits_2024-05-01_12-00-00 hooks.StopAfter.epochs=40
  emloop-mtl resume runs/digits --auto --config config.yaml
"""


@click.command(epilog=EXAMPLE)
@run_argument
@overrides_argument
@click.option(
    "--auto",
    is_flag=True,
    help="Do whatever is due, to be called again and again: begin, go on, or nothing once it has finished.",
)
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="With --auto: what to train where no run is yet."
)
@trust_option
@verbose_option
def resume(
    run_dir: Path, overrides: tuple[str, ...], auto: bool, config_path: Path | None, trust: bool, verbose: bool
) -> None:
    """Go on with the training in RUN_DIR, exactly where its newest checkpoint stands.

    KEY=VALUE changes an entry of its config for good, to make the run longer for example. A run that has finished is
    left as it is unless something is changed.

    With --auto and --config a run that is not there yet is begun. The exit code is 0 when it has finished, also if it
    had before; 130 and 143 after SIGINT and SIGTERM: call it again; 75 if another process trains in RUN_DIR; 1 and 2
    for errors that calling it again does not mend.
    """
    if config_path is not None and not auto:
        raise click.UsageError("--config says what --auto begins; the config of a run that is there is its own")
    with reported(verbose):
        from .running import train_on, train_to_the_end

        if auto:
            train_to_the_end(run_dir, config_path, overrides, trust)
        else:
            train_on(run_dir, overrides, trust)
