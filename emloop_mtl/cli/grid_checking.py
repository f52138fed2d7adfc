"""Checks the trainings of a grid before the first one begins."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from ..config.check import check_config
from ..errors import ConfigError, EmloopError
from .combination import Combination, naming
from .reporting import MISTAKE
from .said import why_failed
from .scratch_folder import scratch_folder
from .training_server import TrainingServer

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
"""Seconds between two lines of progress."""


def check_configs(combinations: Iterable[Combination]) -> None:
    """Check names, signatures and types of all configs; nothing is built.

    :raise ConfigError: naming the combination
    """
    for each in combinations:
        with naming(each.values):
            check_config(each.config)


def check_by_building(config_path: Path, combinations: Iterable[Combination], at_once: int) -> None:
    """Build each training and run a batch of every loader, as ``emloop-mtl check`` does, each in a process of its own.

    Of those that differ in their seed only, the first is built.

    :param at_once: how many
    :raise ConfigError: naming the combination whose training cannot begin
    :raise EmloopError: likewise, where it is no mistake of the config
    """
    chosen = list(_different(combinations))
    if not chosen:
        return
    number = min(at_once, len(chosen))
    told = time.monotonic()
    log.info("checking %i training%s before the first one begins", len(chosen), "" if len(chosen) == 1 else "s")
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("grid"))
        servers = [stack.enter_context(TrainingServer()) for _ in range(number)]
        for index, _ in enumerate(_checked(config_path, chosen, folder, servers), 1):
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("%i of %i checked", index, len(chosen))


def _different(combinations: Iterable[Combination]) -> Iterator[Combination]:
    known = set()
    for each in combinations:
        text = json.dumps({key: value for key, value in each.config.data.items() if key != "seed"})
        if text not in known:
            known.add(text)
            yield each


def _checked(
    config_path: Path, combinations: Sequence[Combination], folder: Path, servers: Sequence[TrainingServer]
) -> Iterator[None]:
    """Yield once for each combination, in their order."""
    free: SimpleQueue[TrainingServer] = SimpleQueue()
    for each in servers:
        free.put(each)

    def check(number: int) -> None:
        said = folder / f"{number}.txt"
        words = {"config": str(config_path), "overrides": list(combinations[number].overrides)}
        server = free.get()
        try:
            code = server.check({"working_folder": str(Path.cwd()), "log": str(said), **words})
        finally:
            free.put(server)
        if code != 0:
            kind = ConfigError if code == MISTAKE else EmloopError
            raise kind(f"with {combinations[number]}: {why_failed(code, said)}")

    pool = ThreadPoolExecutor(len(servers))
    try:
        yield from pool.map(check, range(len(combinations)))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupted command must not wait for checks
