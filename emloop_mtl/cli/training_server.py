"""Trainings in processes of their own that need not import everything first."""

from __future__ import annotations

import _thread
import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = "import sys; from emloop_mtl.cli.training_server import serve; serve(*sys.argv[1:])"

PRELOADED = (
    *("torch", "torch._dynamo", "safetensors.torch", "sklearn.datasets", "sklearn.metrics", "scipy.stats"),
    *("tensorboardX", "rich.console", "rich.progress", "rich.table", "ruamel.yaml"),
)
"""What most trainings import beside the package: most of the seconds that a process takes to begin."""

PACKAGES = ("emloop_mtl", "emloop_mtl.hooks")
"""Whose public names are loaded beforehand as well."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Tell = Callable[[int | None], None]


class TrainingServer:
    """A process that has imported what trainings need and forks a process for each of them; begun by the first.

    It never builds anything itself, so every training begins in a fresh process. Processes of one server have the
    same hash seed; those of two servers do not, as processes that were started one by one. They end, saved, soon after
    whoever has begun the server, even if that was killed.

    :param more: modules that they need, and other trainings do not
    """

    def __init__(self, *more: str) -> None:
        self._more = more
        self._process: subprocess.Popen[str] | None = None

    def train(self, order: Mapping[str, Any]) -> int:
        """Train in a new process and return its exit code; less than 0 is the signal that has ended it.

        :param order: the arguments of ``train_as_ordered``
        """
        return self._carry_out("train", order)

    def check(self, order: Mapping[str, Any]) -> int:
        """Check a training in a new process, likewise.

        :param order: the arguments of ``check_as_ordered``
        """
        return self._carry_out("check", order)

    def try_out(self, order: Mapping[str, Any], tell: Tell) -> int:
        """Train a trial of a search in a new process, likewise.

        :param order: the arguments of ``try_as_ordered``
        :param tell: called with the number of the process, and with None when it has ended; signals that it gets before
            it is ready for them wait until then
        """
        return self._carry_out("try", order, tell)

    def close(self) -> None:
        """End the process and whatever it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()

    def _carry_out(self, what: str, order: Mapping[str, Any], tell: Tell = lambda number: None) -> int:
        process = self._process = self._process or _start(self._more)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"what": what, "order": order}) + "\n")
        process.stdin.flush()
        if number := process.stdout.readline():
            tell(int(number))
        answer = process.stdout.readline()
        tell(None)
        if not answer:
            raise ConnectionError(f"the process that starts trainings has ended, with code {process.wait()}")
        return int(answer)

    def __enter__(self) -> TrainingServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start(more: Sequence[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    # -P: a module in the working folder must not take the place of one of ours. A session of its own, so that Ctrl-C
    # reaches the command alone, and so that all that was started can be ended together.
    line = [sys.executable, "-P", "-c", PROGRAM, *more]
    return subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True, start_new_session=True)


def serve(*more: str) -> None:
    """Do what each line of stdin orders, until there are no more lines.

    The answers are the number of the process that does it, and its exit code.

    :param more: modules to import beside those that most trainings need
    """
    import importlib

    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until they can be told from what ends this process
    for name in (*PRELOADED, *more):
        importlib.import_module(name)
    for name in PACKAGES:
        package = importlib.import_module(name)
        for public in package.__all__:
            getattr(package, public)
    from . import running  # noqa: F401 - imported to be there in every child
    from .trial_process import try_as_ordered

    jobs: dict[str, Callable[..., None]] = {
        "train": train_as_ordered,
        "check": check_as_ordered,
        "try": try_as_ordered,
    }
    gc.freeze()  # else each process copies every page to look for garbage in it, and takes four times as long
    for line in sys.stdin:
        with warnings.catch_warnings():
            # Python warns that a child may lock up if the parent has threads. The only ones here are those of
            # OpenBLAS, which sees to forks by itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            wish = json.loads(line)
            jobs[wish["what"]](**wish["order"])
        _answer(child)
        _, status = os.waitpid(child, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    with suppress(BrokenPipeError):  # whoever has asked was killed; then there are no more lines, either
        os.write(1, f"{number}\n".encode())


def train_as_ordered(
    working_folder: str,
    config: str,
    overrides: list[str],
    run_dir: str,
    log: str,
    step: int | None,
    moment: str,
    resume: bool,
) -> None:
    """Train in this process, which ends with it.

    :param working_folder: the folder that the command was called in
    :param config: the config to train
    :param overrides: ``key.sub=value`` each
    :param run_dir: the folder of the run
    :param log: what gets stdout and stderr
    :param step: the step to kill this process at, see ``KillAt``; None for none
    :param moment: when in this step
    :param resume: go on with the run instead of beginning it
    """
    from .kill_at import KillAt
    from .reporting import reported
    from .running import train_anew, train_on

    become_new(working_folder, log)
    with reported():
        unblock_signals()
        hooks = [KillAt(step, moment)]
        if resume:
            train_on(Path(run_dir), [], trust=True, more_hooks=hooks)
        else:
            train_anew(Path(config), overrides, Path(run_dir).parent, Path(run_dir), remove=False, more_hooks=hooks)
    raise SystemExit(0)


def check_as_ordered(working_folder: str, config: str, overrides: list[str], log: str) -> None:
    """Check a training in this process, which ends with it; see ``train_as_ordered``."""
    from .checking import check_training
    from .reporting import reported

    become_new(working_folder, log)
    with reported():
        unblock_signals()
        check_training(Path(config), overrides)
    raise SystemExit(0)


def unblock_signals() -> None:
    """Let signals come from now on, those too that have come before."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def become_new(working_folder: str, log: str) -> None:
    """Make of a process that was forked what one is that was started.

    :param working_folder: the folder that the command was called in
    :param log: what gets stdout and stderr
    """
    import random

    import numpy as np

    os.chdir(working_folder)
    _thread.start_new_thread(_end_with, (os.dup(0),))
    nothing, out = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - the lines of the server are not for us
    random.seed()  # a process that was not forked would draw others before the training seeds them
    np.random.seed()


def _end_with(orders: int) -> None:
    """Have this process end at its next border once nobody can order anything any more."""
    while os.read(orders, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
