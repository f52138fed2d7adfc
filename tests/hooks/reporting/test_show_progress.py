from __future__ import annotations

import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks.reporting import show_progress
from emloop_mtl.hooks.reporting.progress_meter import ProgressMeter
from emloop_mtl.hooks.reporting.show_progress import ShowProgress
from emloop_mtl.hooks.reporting.status_line import StatusLine
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, run_hook

WIDTH = 90
TOKEN = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+")


class Screen:
    """What a terminal shows: enough of one for a line that is erased and written again."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = self.column = 0
        self.cursor_is_visible = True

    def feed(self, text: str) -> None:
        for match in TOKEN.finditer(text):
            self._act(match)

    def _act(self, match: re.Match[str]) -> None:
        argument, command = match.groups()
        if command is None and match[0] == "\r":
            self.column = 0
        elif command is None and match[0] == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif command is None:
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + match[0] + line[self.column + len(match[0]) :]
            self.column += len(match[0])
            assert self.column <= WIDTH, "the line is wider than the terminal"
        elif command == "K":
            assert argument in ("", "0", "2")
            self.lines[self.row] = "" if argument == "2" else self.lines[self.row][: self.column]
        elif command == "A":
            self.row -= int(argument or 1)
            assert self.row >= 0
        elif command in "hl" and argument == "25":
            self.cursor_is_visible = command == "h"
        else:
            assert command == "m", f"{match[0]!r} is not understood"

    @property
    def text(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line.strip()]


class Terminal:
    """A real pseudo-terminal, and everything that was written to it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        self._written = b""
        self._screen: Screen | None = None
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Make stderr and stdout write to the terminal; a fixture could not, since pytest replaces them afterwards."""
        with (
            os.fdopen(os.dup(self.slave), "w", buffering=1) as stderr,
            os.fdopen(os.dup(self.slave), "w", buffering=1) as stdout,
            redirect_stderr(stderr),
            redirect_stdout(stdout),
        ):
            yield
            assert (sys.stderr, sys.stdout) == (stderr, stdout), "the streams are to be restored"

    def run(self, *hooks: AbstractHook, **kwargs: Any) -> None:
        with self.attached():
            run_hook(*hooks, skip_zeroth_epoch=True, **kwargs)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:  # how Linux says that nobody can write to it any more
                return
            if not data:
                return
            self._written += data

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 120  # a hang is to fail; a slow machine is not
        while text not in self._written.decode(errors="ignore"):
            assert time.monotonic() < deadline, self._written
            time.sleep(0.01)

    def screen(self) -> Screen:
        """Close the terminal and return what it shows in the end."""
        if self._screen is None:
            os.close(self.slave)
            self._reader.join()
            os.close(self._master)
            self._screen = Screen()
            self._screen.feed(self.written)
        return self._screen

    @property
    def written(self) -> str:
        return self._written.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERM", "xterm-256color")
    yield made
    made.screen()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let time stand still, except where a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(show_progress, "monotonic", lambda: now[0])
    return now


class Act(AbstractHook):
    """Do something after each batch."""

    def __init__(self, action: Callable[[str, Batch], None]) -> None:
        super().__init__()
        self._action = action

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._action(stream_name, batch_data)


def pass_time(clock: list[float], seconds: float) -> Act:
    def action(stream_name: str, batch_data: Batch) -> None:
        clock[0] += seconds

    return Act(action)


def batches(count: int, **kwargs: Any) -> list[Batch]:
    return [Batch({"x": [1, 2]}, **kwargs) for _ in range(count)]


def digit_batches(count: int) -> list[Batch]:
    return batches(count, tasks={"digit": None})


# ---------------------------------------------------------------------------------------------------------- plain lines


def test_without_a_terminal_lines_come_from_time_to_time_and_at_the_ends(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    losses = iter([9.0, *map(float, range(8, 0, -1)), 0.5])
    dataset = FakeDataset(train=digit_batches(8), valid=digit_batches(1))
    outputs = {"digit/loss": lambda batch: torch.tensor(next(losses))}
    hooks = pass_time(clock, 2.0), ShowProgress(plain_interval=5)
    run_hook(*hooks, dataset=dataset, outputs=outputs, skip_zeroth_epoch=True, extra_streams=["valid"])
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1  train  3/8  0:10 left  0.5 steps/s  digit 7.0000",
        # 7 + 0.3 * (4 - 7); the time since the last line is 6 s again
        "epoch 1  train  6/8  0:04 left  0.5 steps/s  digit 6.1000",
        # 6.1 + 0.3 * (2 - 6.1)
        "epoch 1  train  8/8  0:16  0.5 steps/s  digit 4.8700",
        "epoch 1  valid  1/1  0:02  0.5 steps/s  digit 1.0000",
    ]


def test_a_model_without_tasks_shows_its_loss(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    run_hook(ShowProgress(), outputs={"loss": 0.25}, skip_zeroth_epoch=True, extra_streams=[])
    assert capsys.readouterr().err == "epoch 1  train  2/2  0:00  loss 0.2500\n"


@pytest.mark.parametrize("loss", [[1.0, 2.0], torch.ones(2), "high"])
def test_what_is_no_number_is_not_shown(capsys: pytest.CaptureFixture[str], clock: list[float], loss: Any) -> None:
    run_hook(ShowProgress(), outputs={"loss": loss}, skip_zeroth_epoch=True, extra_streams=[])
    assert capsys.readouterr().err == "epoch 1  train  2/2  0:00\n"


def test_losses_are_fetched_only_for_what_is_shown(
    capsys: pytest.CaptureFixture[str], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    monkeypatch.setattr(
        show_progress, "fetch_numbers", lambda values: fetched.append(len(values)) or [0.0] * len(values)
    )
    dataset = FakeDataset(train=[*digit_batches(500), *batches(500, tasks={"parity": None})])
    outputs = {"digit/loss": torch.tensor(1.0), "parity/loss": torch.tensor(2.0)}
    hooks = pass_time(clock, 0.01), ShowProgress(plain_interval=4)  # 1000 batches take 10 s
    run_hook(*hooks, dataset=dataset, outputs=outputs, skip_zeroth_epoch=True)
    assert len(fetched) == 3
    assert fetched[:2] == [1, 2]
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_steps_of_several_batches_count_once(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    first, second = batches(1, ends_step=False), batches(1)
    run_hook(ShowProgress(), dataset=FakeDataset(train=first + second + batches(1)), skip_zeroth_epoch=True)
    assert capsys.readouterr().err == "epoch 1  train  2/2  0:00  loss 1.0000\n"


def test_a_length_that_nobody_tells_is_learnt(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    class Dataset:
        def train_stream(self) -> Iterator[dict[str, Any]]:
            yield from ({"x": [1]} for _ in range(3))

    hooks = pass_time(clock, 1.0), ShowProgress(plain_interval=2)
    run_hook(*hooks, dataset=Dataset(), skip_zeroth_epoch=True, epochs=2)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1  train  step 2  1 steps/s  loss 1.0000",
        "epoch 1  train  3 steps  0:03  1 steps/s  loss 1.0000",
        "epoch 2  train  2/3  0:01 left  1 steps/s  loss 1.0000",
        "epoch 2  train  3/3  0:03  1 steps/s  loss 1.0000",
    ]


def test_a_length_that_the_dataset_tells_is_used(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    class Dataset:
        num_batches = {"train": 4, "valid": 1}  # noqa: RUF012 - as emloop's datasets have it

        def train_stream(self) -> Iterator[dict[str, Any]]:
            yield from ({"x": [1]} for _ in range(4))

        def valid_stream(self) -> Iterator[dict[str, Any]]:
            yield from ({"x": [1]} for _ in range(3))  # more than it says

    run_hook(ShowProgress(), dataset=Dataset(), skip_zeroth_epoch=True, extra_streams=["valid"])
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1  train  4/4  0:00  loss 1.0000",
        "epoch 1  valid  3 steps  0:00  loss 1.0000",
    ]


def test_epochs_of_fixed_size_have_that_length(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    dataset = FakeDataset(train=batches(5))
    run_hook(ShowProgress(), dataset=dataset, fixed_epoch_size=3, epochs=2)
    assert [line.split("  ")[:3] for line in capsys.readouterr().err.splitlines()] == [
        ["epoch 0", "train", "3/3"],
        ["epoch 1", "train", "3/3"],
        ["epoch 2", "train", "3/3"],
    ]


def test_a_stream_of_its_own_is_shown_too(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    loop = MainLoop(FakeModel(), FakeDataset(train=batches(1)), [ShowProgress()])
    with loop:
        loop.epoch(["train"], [batches(2)])
    assert [line.split("  ")[1:3] for line in capsys.readouterr().err.splitlines()] == [
        ["train", "1/1"],
        ["unnamed_eval_0", "2 steps"],
    ]


def test_a_cut_epoch_ends_with_a_line_and_is_no_length(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    def stop(stream_name: str, batch_data: Batch) -> None:
        raise TrainingTerminated("enough")

    hook = ShowProgress()
    run_hook(hook, Act(stop), dataset=FakeDataset(train=batches(5)), skip_zeroth_epoch=True)
    assert capsys.readouterr().err == "epoch 1  train  1/5  0:00  loss 1.0000\n"
    assert hook._lengths == {}


def test_a_training_resumed_within_an_epoch_goes_on_counting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    dataset = FakeDataset(train=batches(5), valid=batches(3))

    def resumable(fail_at: int | None) -> MainLoop:
        seen = [0]

        def save(stream_name: str, batch_data: Batch) -> None:
            seen[0] += 1
            if seen[0] == fail_at:
                raise RuntimeError("broken")
            loop.request_save("latest")
            if fail_at is None and stream_name == "valid":
                raise TrainingTerminated("enough")

        hooks = [ShowProgress(), Act(save)]
        loop = MainLoop(
            FakeModel(), dataset, hooks, extra_streams=["valid"], output_dir=tmp_path, skip_zeroth_epoch=True
        )
        return loop

    with pytest.raises(RuntimeError, match="broken"):
        resumable(fail_at=3).run_training()
    assert capsys.readouterr().err == ""
    resumed = resumable(fail_at=5)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    with pytest.raises(RuntimeError, match="broken"):
        resumed.run_training()
    # 2 of 5 were done before
    assert capsys.readouterr().err == "epoch 1  train  5/5  0:00  loss 1.0000\n"
    resumed = resumable(fail_at=None)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    # what was done of an evaluation is not known
    assert capsys.readouterr().err.splitlines() == ["epoch 1  valid  1 steps  0:00  loss 1.0000"]


# ------------------------------------------------------------------------------------------------------------- terminal


def test_a_terminal_shows_one_line_and_is_clean_afterwards(terminal: Terminal) -> None:
    dataset = FakeDataset(train=digit_batches(4))
    terminal.run(ShowProgress(interval=1e-9), dataset=dataset, outputs={"digit/loss": 0.5})
    screen = terminal.screen()
    for step in range(1, 5):
        assert re.search(rf"epoch 1  train  .*━.*  {step}/4  .*steps/s  digit 0.5000", terminal.written)
    assert screen.text == []
    assert screen.cursor_is_visible


def test_nothing_else_is_garbled(terminal: Terminal) -> None:
    logger = logging.getLogger("a.logger.of.its.own")

    def speak(stream_name: str, batch_data: Batch) -> None:
        sys.stdout.write("printed\n")
        sys.stderr.write("a warning\n")
        logger.warning("a record")

    with terminal.attached():
        handler = logging.StreamHandler()  # holds stderr, so that redirecting does not reach it
        logger.addHandler(handler)
        try:
            # each refresh is followed by a batch after which the other hook speaks
            dataset = FakeDataset(train=batches(3))
            run_hook(ShowProgress(interval=1e-9), Act(speak), dataset=dataset, skip_zeroth_epoch=True)
        finally:
            logger.removeHandler(handler)
    assert handler.filters == []
    assert terminal.screen().text == ["printed", "a warning", "a record"] * 3
    assert re.search(r"3/3 .*steps/s", terminal.written)


def test_a_long_line_is_cut_to_the_width(terminal: Terminal) -> None:
    tasks = [f"task_with_a_long_name_{index}" for index in range(9)]
    dataset = FakeDataset(train=batches(3, tasks=dict.fromkeys(tasks)))
    outputs = {f"{task}/loss": 0.5 for task in tasks}
    terminal.run(ShowProgress(interval=1e-9), dataset=dataset, outputs=outputs)
    assert terminal.screen().text == []
    assert "…" in terminal.written


def test_a_failure_leaves_the_terminal_clean(terminal: Terminal) -> None:
    def fail(stream_name: str, batch_data: Batch) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        terminal.run(ShowProgress(interval=1e-9), Act(fail))
    screen = terminal.screen()
    assert "train" in terminal.written
    assert screen.text == []
    assert screen.cursor_is_visible


def test_refreshes_are_as_rare_as_wished(terminal: Terminal, clock: list[float]) -> None:
    hooks = pass_time(clock, 0.01), ShowProgress(interval=0.2)  # 100 steps take 1 s
    terminal.run(*hooks, dataset=FakeDataset(train=batches(100)))
    terminal.screen()
    # rounding may move a refresh past a step, so that one of the five is missing
    assert 4 <= terminal.written.count("steps/s") <= 5


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("TERM", kind)
    terminal.run(ShowProgress(interval=1e-9), extra_streams=[])
    screen = terminal.screen()
    assert "\x1b" not in terminal.written
    assert [line.split("  ")[:3] for line in screen.text] == [["epoch 1", "train", "2/2"]]


SLOW = """
import logging, sys, time
from emloop_mtl.hooks.reporting.show_progress import ShowProgress
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents
from emloop_mtl.main_loop import MainLoop

class Slow(FakeModel):
    def run(self, batch, train, stream=None):
        time.sleep(0.05 if self.trained < 3 else 600)
        return super().run(batch, train, stream)

logging.basicConfig(format="%(message)s")
sys.tracebacklimit = 0  # its lines can be wider than the terminal
dataset = FakeDataset(train=[{"x": [1]}] * 100)
MainLoop(Slow(), dataset, [ShowProgress(interval=0.01)], skip_zeroth_epoch=True).run_training()
"""


def test_two_interrupts_leave_the_terminal_clean() -> None:
    terminal = Terminal()
    environment = os.environ | {"COLUMNS": str(WIDTH), "TERM": "xterm"}
    root = Path(show_progress.__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=terminal.slave, stderr=terminal.slave, env=environment, cwd=root
    )
    try:
        terminal.wait_for("3/100")
        process.send_signal(signal.SIGINT)
        terminal.wait_for("SIGINT")
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    screen = terminal.screen()
    assert process.returncode == -signal.SIGINT  # how Python ends after KeyboardInterrupt
    assert screen.text[0] == "SIGINT: ending at the next border; interrupt again to end at once"
    assert screen.text[1:] == ["KeyboardInterrupt"]
    assert screen.cursor_is_visible


def test_the_line_may_be_shown_and_erased_in_any_order(terminal: Terminal) -> None:
    with terminal.attached():
        line = StatusLine()
        line.erase()
        line.show("head", 0.5, "tail")
        terminal.wait_for("\x1b[?25h")  # the cursor is visible even now, should the process be killed
        line.show("head", None, "no bar")
        line.erase()
        line.erase()
        line.show("head", 1.0, "again")
        line.close()
        line.close()
    assert terminal.screen().text == []
    assert re.search(r"head .*no bar", terminal.written)


# ---------------------------------------------------------------------------------------------------- the arithmetic


def test_the_speed_forgets_by_half_within_five_seconds() -> None:
    meter = ProgressMeter("", 1000, now=0.0)
    meter.step = 50
    meter.read(5.0, {})
    assert meter.tail() == "50/1000  1:35 left  10 steps/s"
    meter.step = 150
    meter.read(10.0, {})
    assert meter.tail() == "150/1000  0:57 left  15 steps/s"  # (10 + 20) / 2


def test_a_loss_that_is_not_finite_is_shown_and_forgotten() -> None:
    meter = ProgressMeter("", None, now=0.0)
    for loss, shown in (
        (1.0, "1.0000"),
        (float("nan"), "nan"),
        (2.0, "2.0000"),
        (float("inf"), "inf"),
        (3.0, "3.0000"),
    ):
        meter.read(0.0, {"digit": loss})
        assert meter.tail() == f"step 0  digit {shown}"


def test_long_times_have_hours() -> None:
    meter = ProgressMeter("", None, now=0.0)
    meter.step = 1234567
    assert meter.summary(3661.0) == "1234567 steps  1:01:01  337 steps/s"


@pytest.mark.parametrize("arguments", [{"interval": 0}, {"plain_interval": -1}, {"intervall": 1}])
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))[:8]):
        ShowProgress(**arguments)


def test_it_acts_in_evaluation_and_asks_for_losses_only() -> None:
    hook = ShowProgress()
    assert not hook.training_only
    assert list(hook.requires()) == []
    hook.register_mainloop(
        MainLoop(FakeModel({"loss": 1.0, "digit/loss": 1.0, "digit/prob": 1.0}), FakeDataset(train=[]), [])
    )
    assert list(hook.requires()) == ["loss", "digit/loss"]
