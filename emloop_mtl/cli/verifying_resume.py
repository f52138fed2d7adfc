"""Kills and resumes trainings and compares their ends with that of one that was left alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import click

from ..config.check import check_config
from ..config.load import load_config
from ..errors import ConfigError
from .disturbed_run import DisturbedRun
from .resume_trials import ResumeTrials
from .run_comparison import NOT_COMPARED
from .scratch_folder import scratch_folder
from .training_server import TrainingServer

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
"""Seconds between two lines of progress."""


def verify_resuming(
    config_path: Path,
    overrides: Sequence[str],
    steps: Sequence[int] | None,
    times: int,
    natural: bool,
    folder: Path,
    servers: Sequence[TrainingServer],
    keep: bool = False,
) -> bool:
    """Kill and resume a training at each of the steps, print what differs, and return whether nothing does.

    :param overrides: ``key.sub=value`` each
    :param steps: where to kill; None for every step
    :param times: how often each training is killed
    :param natural: save nothing but what the hooks of the config save
    :param folder: where the runs lie
    :param servers: what trains, two for each of the trainings that run at the same time
    :param keep: whether runs stay there once they are compared
    """
    check_config(load_config(config_path, overrides))
    trials = [
        ResumeTrials(config_path, overrides, folder, pair, times, natural, keep)
        for pair in zip(servers[::2], servers[1::2], strict=True)
    ]
    log.info("training undisturbed, twice, to see whether that ends alike")
    total = trials[0].train_undisturbed()
    found = trials[0].compare_undisturbed()
    if found:
        for difference in found:
            click.echo(f"undisturbed, twice: {difference}")
        log.error("two trainings that nobody disturbs do not end alike, so resuming cannot be exact either")
        return False
    chosen = range(1, total + 1) if steps is None else sorted(set(steps))
    late = [step for step in chosen if step > total]
    if late:
        raise ConfigError(f"--at {late[0]}: the training has {total} steps only")
    log.info("killing %i trainings of %i steps, each up to %i times", len(chosen), total, times)
    return _report(chosen, _all_disturbed(chosen, trials))


@contextmanager
def trial_folder(keep: Path | None) -> Iterator[Path]:
    """Give a folder for the runs: ``keep``, or a temporary one, to be removed once nothing trains there any more.

    :raise ConfigError: if ``keep`` cannot be made or holds something
    """
    if keep is None:
        with scratch_folder("verify-resume") as folder:
            yield folder
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        is_used = any(keep.iterdir())
    except OSError as error:
        raise ConfigError(f"--keep {keep}: {error.strerror or error}") from error
    if is_used:
        raise ConfigError(f"--keep {keep}: is not empty")
    yield keep.resolve()


def _all_disturbed(steps: Sequence[int], trials: Sequence[ResumeTrials]) -> Iterator[DisturbedRun]:
    """Yield the ends of the trainings in the order of their steps."""
    free: SimpleQueue[ResumeTrials] = SimpleQueue()
    for each in trials:
        free.put(each)

    def disturb(step: int) -> DisturbedRun:
        trial = free.get()
        try:
            return trial.disturb(step)
        finally:
            free.put(trial)

    pool = ThreadPoolExecutor(len(trials))
    try:
        yield from pool.map(disturb, steps)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupted command must not wait for trainings


def _report(steps: Sequence[int], results: Iterator[DisturbedRun]) -> bool:
    """Print a line for each part that differs, and at last whether none does."""
    began = told = time.monotonic()
    kills = bad = 0
    for number, result in enumerate(results, 1):
        kills += result.kills
        bad += bool(result.differences)
        for difference in result.differences:
            click.echo(f"step {result.step}, killed {_times(result.kills)}: {difference}")
        now = time.monotonic()
        if now - told >= PROGRESS_SECONDS and number < len(steps):
            told, left = now, (now - began) / number * (len(steps) - number)
            log.info("%i of %i done, %i of them not equal; about %s left", number, len(steps), bad, _duration(left))
    if bad:
        click.echo(f"{bad} of {len(steps)} trainings that were killed do not end as the undisturbed one")
    else:
        click.echo(f"{len(steps)} trainings, killed {kills} times in all, end exactly as the undisturbed one")
        log.info("compared were weights, optimizer, streams, hooks, random states and files; not %s", NOT_COMPARED)
    return not bad


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes else f"{rest} s"
