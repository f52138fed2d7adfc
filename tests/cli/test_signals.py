"""SIGINT and SIGTERM, sent to a real process: what it saves, what it says, and that it can be gone on with."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import ENVIRONMENT, PROGRAM, SHORT, Command

SLOW = """
import time
from emloop_mtl import AbstractHook

class Slow(AbstractHook):
    def __init__(self, seconds, **kwargs):
        super().__init__(**kwargs)
        self.seconds = seconds

    def requires(self):
        return ()

    def provides(self):
        return ()

    def after_batch(self, stream_name, batch_data):
        open("reached", "w").close()
        time.sleep(self.seconds)
"""

PATIENCE = 60
"""Seconds that a process may take to get somewhere; most of them go into imports on a busy machine."""


@pytest.fixture
def slow_folder(folder: Path) -> Path:
    """Example 1 with a hook ``Slow`` that waits after every batch."""
    (folder / "slow.py").write_text(SLOW)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("- ShowProgress", "- slow.Slow: {seconds: 0.05}"))
    return folder


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    line = [str(PROGRAM), *words]
    pipe = subprocess.PIPE
    started = subprocess.Popen(line, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def wait_until(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_can_be_gone_on_with(
    slow_folder: Path, command: Command, number: signal.Signals, code: int
) -> None:
    assert command("train", "config.yaml", *SHORT, "hooks.Slow.seconds=0", "--output-dir", "whole").exit_code == 0
    with process("train", "config.yaml", *SHORT, "--output-dir", "run") as running:
        wait_until(lambda: lines(slow_folder / "run" / "metrics.jsonl") >= 2, running)  # epoch 2 is being trained
        running.send_signal(number)
        _, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == code
    (latest,) = (slow_folder / "run" / "checkpoints").glob("latest-*")
    assert f"saved in run/checkpoints/{latest.name}; go on with:  emloop-mtl resume run" in said
    assert "Traceback" not in said
    assert lines(slow_folder / "run" / "metrics.jsonl") == 2
    done = command("resume", "run")
    assert done.exit_code == 0, done.stderr
    whole, resumed = ((slow_folder / run / "metrics.jsonl").read_bytes() for run in ("whole", "run"))
    assert resumed == whole


def test_a_second_sigint_ends_at_once(slow_folder: Path) -> None:
    words = ("train", "config.yaml", *SHORT, f"hooks.Slow.seconds={2 * PATIENCE}", "--output-dir", "run")
    with process(*words) as running:
        log = slow_folder / "run" / "train.log"
        wait_until((slow_folder / "reached").exists, running)
        running.send_signal(signal.SIGINT)
        wait_until(lambda: "SIGINT" in log.read_text(), running)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_batch_leaves_nothing(folder: Path, number: signal.Signals, code: int) -> None:
    module = (folder / "digits.py").read_text()
    wait = f"open('reached', 'w'); import time; time.sleep({2 * PATIENCE}) #"
    (folder / "digits.py").write_text(module.replace("from sklearn", wait))
    with process("train", "config.yaml") as running:
        wait_until((folder / "reached").exists, running)
        assert list((folder / "log").iterdir())
        running.send_signal(number)
        _, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == code
    assert said == f"{'interrupted' if number == signal.SIGINT else 'terminated'}\n"
    assert not (folder / "log").exists()
