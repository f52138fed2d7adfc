"""Runs that are killed again and again: a program that imports everything once and forks the processes that train.

It reads folders and a seed as JSON from stdin. In each folder it trains undisturbed, into ``whole``, and then once
more, into ``run``, with seven kills at random moments; two processes at a time. What has become of the runs goes to
stdout as JSON. Every process is a real one: it executes ``emloop-mtl train`` or ``resume --auto``, and is killed with
SIGKILL, at a moment of its plan:

* ``{"after": seconds}``: so long after it was begun;
* ``{"saving": n}``: when the folder of its n-th save appears;
* ``{"operation": n}``: before its n-th operation on a file of the run, which is the same moment each time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

AT_THE_SAME_TIME = 2

OPERATIONS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.truncate"}
"""Audit events of what changes files; "open" counts for reading, too."""

LOOK, LOOK_CLOSELY = 0.005, 0.0005
"""Seconds between two looks at the processes; a save takes some milliseconds."""

PATIENCE = 120
"""Seconds for a process that nobody kills, on a busy machine."""


class Running:
    """One process, from its beginning to its end.

    :param words: the command line
    :param folder: the working folder, with the config
    :param run: the folder of the run
    :param plan: when to kill it; None for not at all
    """

    def __init__(self, words: list[str], folder: Path, run: Path, plan: dict[str, float] | None) -> None:
        self._run = run
        self._plan = plan or {}
        self._saves: set[str] = set()
        self._begun = time.monotonic()
        self._log = folder / f"{run.name}.said"
        self.pid = os.fork()
        if not self.pid:
            train(words, folder, run, self._log, int(self._plan.get("operation", 0)))

    def look(self) -> dict[str, Any] | None:
        """Kill the process if it is time; return how it has ended, None if it has not."""
        seconds = time.monotonic() - self._begun
        if seconds > self._plan.get("after", PATIENCE) or self._has_begun_to_save():
            os.kill(self.pid, signal.SIGKILL)
            self._plan = {}
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        saving = killed and any(self._temporary())
        said = self._log.read_text(errors="replace")[-3000:]
        return {"killed": killed, "saving": saving, "seconds": seconds, "status": status, "said": said}

    @property
    def waits_for_a_save(self) -> bool:
        """Whether it is to be killed in a save that has not begun."""
        return "saving" in self._plan

    def _has_begun_to_save(self) -> bool:
        if not self.waits_for_a_save:
            return False
        self._saves.update(self._temporary())
        return len(self._saves) >= self._plan["saving"]

    def _temporary(self) -> Iterator[str]:
        try:
            yield from (name for name in os.listdir(self._run / "checkpoints") if name.startswith(".tmp-"))  # noqa: PTH208
        except FileNotFoundError:
            return


def train(words: list[str], folder: Path, run: Path, log: Path, last_operation: int) -> NoReturn:
    """Be the process: run the command and end with its code."""
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(folder)
    count, place, own = 0, str(run), os.getpid()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in OPERATIONS and place in os.path.abspath(str(arguments[0])) and os.getpid() == own:  # noqa: PTH100
            count += 1
            if count == last_operation:
                os.kill(own, signal.SIGKILL)

    sys.addaudithook(watch)
    from emloop_mtl.cli import main

    try:
        main(words, prog_name="emloop-mtl")
    finally:
        Path(f"{log}.operations").write_text(str(count))
    raise AssertionError("the command returns by SystemExit")


def lives(job: dict[str, Any]) -> Iterator[tuple[list[str], dict[str, float] | None]]:
    """Yield the command lines of a run, with when to kill each: the last one is left alone."""
    if not job["plans"]:
        yield ["train", "config.yaml", "--output-dir", job["run"]], None
        return
    for plan in [*job["plans"], None]:
        yield ["resume", job["run"], "--auto", "--config", "config.yaml"], plan


def run_all(jobs: list[dict[str, Any]]) -> None:
    """Run the jobs and note in each how its processes have ended."""
    waiting = [(job, lives(job)) for job in jobs]
    active: list[tuple[dict[str, Any], Iterator[Any], Running]] = []
    while waiting or active:
        while waiting and len(active) < AT_THE_SAME_TIME:
            begin(*waiting.pop(0), active)
        for each in list(active):
            job, commands, running = each
            end = running.look()
            if end is not None:
                active.remove(each)
                job["ends"].append(end)
                if end["killed"]:
                    begin(job, commands, active)
        time.sleep(LOOK_CLOSELY if any(running.waits_for_a_save for _, _, running in active) else LOOK)


def begin(job: dict[str, Any], commands: Iterator[Any], active: list[Any]) -> None:
    command = next(commands, None)
    if command is not None:
        folder = Path(job["folder"])
        active.append((job, commands, Running(command[0], folder, folder / job["run"], command[1])))


def moments(chance: random.Random, seconds: float, operations: int) -> list[dict[str, float]]:
    """Return when the lives of a run end: anywhere, at an operation on files, in the middle of a save.

    Those that are told in operations and saves come for certain: together they are less than the whole way. How much
    of it goes by in a time depends on what else the machine does.

    :param seconds: what the run takes if it is not killed
    :param operations: how many operations on its files it needs then
    """
    plans = [{"operation": chance.randint(1, operations // 6)} for _ in range(3)]
    plans += [{"saving": chance.randint(1, 2)} for _ in range(2)]
    chance.shuffle(plans)
    plans.insert(chance.randint(0, 4), {"after": chance.uniform(0, 0.1 * seconds)})
    return [*plans, {"after": chance.uniform(0, 0.5 * seconds)}]


def main() -> None:
    given = json.load(sys.stdin)
    import_everything(Path(given["folders"][0]))
    wholes: list[dict[str, Any]] = [
        {"folder": folder, "run": "whole", "plans": [], "ends": []} for folder in given["folders"]
    ]
    run_all(wholes)
    jobs = []
    for whole in wholes:
        folder = Path(whole["folder"])
        end = whole["ends"][0]
        if end["status"]:
            sys.exit(f"{folder.name}: {end['said']}")
        operations = int((folder / "whole.said.operations").read_text())
        plans = moments(random.Random(f"{given['seed']} {folder.name}"), end["seconds"], operations)
        jobs.append({"folder": str(folder), "run": "run", "plans": plans, "ends": []})
    run_all(jobs)
    json.dump(jobs, sys.stdout)


def import_everything(folder: Path) -> None:
    """Train once in this process: what is imported and cached then, a process that is forked from it has at once."""
    from emloop_mtl.cli import main as command

    before = Path.cwd(), os.dup(1), os.dup(2), list(sys.path)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.chdir(folder)
    with suppress(SystemExit):
        command(["train", "config.yaml", "--output-dir", "first"], prog_name="emloop-mtl")
    os.chdir(before[0])
    os.dup2(before[1], 1)
    os.dup2(before[2], 2)
    sys.path[:] = before[3]
    assert threading.active_count() == 1, "a process that is to be forked must have one thread only"


if __name__ == "__main__":
    main()
