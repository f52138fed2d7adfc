"""``emloop-mtl verify-resume``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from .options import overrides_argument, verbose_option
from .reporting import FAILURE, reported

EXAMPLE = """\b
Example:
  emloop-mtl verify-resume config.yaml --at all hooks.StopAfter.epochs=2
  emloop-mtl verify-resume config.yaml --at 1,20,300 --times 3
"""

ALL = "all"

LONGEST = 18
"""Digits of a step."""


@click.command("verify-resume", epilog=EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path))
@overrides_argument
@click.option(
    "--at",
    "where",
    metavar="all|N[,N]...",
    multiple=True,
    required=True,
    help="The training steps to kill at, counted from 1; for each of them one training is killed and resumed.",
)
@click.option(
    "--times",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="How often each of them is killed: at the step, just after it is resumed, at the next step, and so on.",
)
@click.option(
    "--natural",
    is_flag=True,
    help="Save nothing at these steps: go on from what the config's own hooks have saved, or begin again.",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings at the same time."
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the runs in this folder, which must be empty.")
@verbose_option
def verify_resume(
    config: Path,
    overrides: tuple[str, ...],
    where: tuple[str, ...],
    times: int,
    natural: bool,
    jobs: int,
    keep: Path | None,
    verbose: bool,
) -> None:
    """Find out whether the training that CONFIG describes can be resumed exactly.

    It is trained undisturbed, twice, and then once for each chosen step, where its process gets SIGKILL and another one
    resumes it, as often as --times says. Every part of their ends is compared bit for bit: weights, optimizer, streams,
    hooks, random states, the files that hooks have written. The exit code is 0 if all are equal; it is 1 with one
    line for each part that is not. Nothing but a temporary folder is written.
    """
    steps = _steps(where)
    with reported(verbose):
        from .training_server import TrainingServer
        from .verifying_resume import trial_folder, verify_resuming

        with ExitStack() as stack:
            folder = stack.enter_context(trial_folder(keep))
            servers = [stack.enter_context(TrainingServer()) for _ in range(2 * jobs)]
            if not verify_resuming(config, overrides, steps, times, natural, folder, servers, keep is not None):
                raise SystemExit(FAILURE)


def _steps(where: tuple[str, ...]) -> list[int] | None:
    """Return the chosen steps, None for all."""
    words = [word.strip() for text in where for word in text.split(",")]
    if ALL in words:
        return None
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) <= LONGEST and int(word) > 0):
            raise click.BadParameter(
                f"{word[:50]!r} is no step; allowed are numbers from 1 on, and {ALL!r}", param_hint="--at"
            )
    return [int(word) for word in words]
