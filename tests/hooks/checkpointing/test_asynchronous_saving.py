"""Checkpoints that a thread writes: what they hold, in what order things happen, and what becomes of failures."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError
from emloop_mtl.hooks import RestoreBest, SaveBest, SaveEvery, SaveLatest, StopAfter, WriteCSV, WriteJSON
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.task import Task
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents

LARGE = 1_000_000
"""Numbers in a buffer of 4 MB. It is written first and takes about a hundredth of a second, in which the training goes
on for many steps before anything else of the state is written."""


class Remember(AbstractHook):
    """Keep a tensor, a list and a nested dict, all of which every batch changes in place."""

    def __init__(self) -> None:
        super().__init__()
        self._state: dict[str, Any] = {"sum": torch.zeros(1000), "seen": [], "deep": {"counts": [{"steps": 0}]}}

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._state["sum"] += 1
        self._state["seen"].append(self.main_loop.position.step)
        self._state["deep"]["counts"][0]["steps"] += 1

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state


def model(large: int = LARGE) -> MultiTaskModel:
    """A model whose weights, buffers, moments and open gradients change in place in every step."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    head.register_buffer("large", torch.zeros(large))
    flow = [{"name": "out", "module": "head", "inputs": "x"}]
    task = Task("size", modules={"head": head}, flow=flow, label="y", loss="mse_loss")
    settings: dict[str, Any] = {"optimizer": {"class": "adamw", "lr": 0.01}, "update": {"accumulate": 3}}
    return MultiTaskModel([task], **settings, device="cpu")


def dataset(steps: int = 40) -> FakeDataset:
    numbers = torch.randn(steps, 6, 5, generator=torch.Generator().manual_seed(1))
    return FakeDataset(train=[{"x": rows[:, :4], "y": rows[:, 4:]} for rows in numbers])


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.stride() == right.stride() and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def checkpoints(folder: Path) -> dict[str, Checkpoint]:
    return {found.tag: found for found in map(load_checkpoint, reversed(list_checkpoints(folder / "checkpoints")))}


def test_a_checkpoint_holds_the_moment_at_which_it_was_asked_for(tmp_path: Path) -> None:
    """Whatever the training does to tensors and containers while the checkpoint is written."""
    for name, asynchronous in (("in_step", False), ("in_thread", True)):
        hooks = [Remember(), SaveEvery(steps=16), SaveLatest(), StopAfter(epochs=1)]
        loop = MainLoop(
            model(),
            dataset(),
            hooks,
            skip_zeroth_epoch=True,
            output_dir=tmp_path / name,
            asynchronous_saving=asynchronous,
        )
        loop.run_training()
    expected, found = checkpoints(tmp_path / "in_step"), checkpoints(tmp_path / "in_thread")
    assert list(found) == list(expected) == ["step-16", "step-32", "latest"]
    for tag, checkpoint in expected.items():
        assert found[tag].position == checkpoint.position
        assert found[tag].finished == checkpoint.finished
        assert found[tag].sequence == checkpoint.sequence
        assert same(found[tag].weights, checkpoint.weights)
        for state in (found[tag].state, checkpoint.state):
            assert state["hooks"].pop("StopAfter")["seconds"] > 0
        assert same(found[tag].state, checkpoint.state)
    assert found["step-16"].state["model"]["gradients"]  # 16 is no multiple of 3: a window is open
    assert found["step-16"].state["hooks"]["Remember"]["seen"] == list(range(1, 17))


class Note(AbstractHook):
    """Save in some steps, and note in which thread, when and in what order is done what waits for it."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.notes: list[tuple[str, bool, list[str]]] = []
        self._steps = steps

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        step = self.main_loop.position.step
        if step in self._steps:
            self.main_loop.request_save("latest")
            self.main_loop.when_saved(lambda: self._note(f"{step} first"))
            self.main_loop.when_saved(lambda: self._note(f"{step} files"), in_thread=True)
            self.main_loop.when_saved(lambda: self._note(f"{step} last"))
        elif step - 1 in self._steps:
            self.main_loop.when_saved(lambda: self._note(f"{step} nothing"))

    def _note(self, what: str) -> None:
        names = [path.name for path in list_checkpoints(Path(self.main_loop.output_dir or "") / "checkpoints")]
        self.notes.append((what, threading.current_thread() is threading.main_thread(), names))


def test_what_waits_for_a_checkpoint_is_done_in_order_and_in_the_main_thread(tmp_path: Path) -> None:
    note = Note(3, 4, 39, 40)
    hooks = [note, StopAfter(steps=40)]
    MainLoop(
        model(), dataset(), hooks, skip_zeroth_epoch=True, output_dir=tmp_path, asynchronous_saving=True
    ).run_training()
    expected = []
    for number, step in enumerate((3, 4, 39, 40), start=1):
        name = [f"latest-{number:08d}"]
        expected += [(f"{step} files", False, name), (f"{step} first", True, name), (f"{step} last", True, name)]
    # 5 saves nothing: it follows what waits for 4, which may still be written then.
    assert [entry for entry in note.notes if "nothing" not in entry[0]] == expected
    names = [what for what, *_ in note.notes]
    assert names.index("5 nothing") > names.index("4 last")
    assert all(is_main for what, is_main, _ in note.notes if "nothing" in what)


class Flush(AbstractHook):
    """Note in which thread it is to be flushed and whether the checkpoint is there by then; or fail in that."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.notes: list[tuple[bool, bool]] = []
        self._fails = fails

    def requires(self) -> tuple[str, ...]:
        return ()

    def _flush(self) -> None:
        if self._fails:
            raise OSError(5, "Flush: Input/output error", "notes")
        there = bool(list_checkpoints(Path(self.main_loop.output_dir or "") / "checkpoints"))
        self.notes.append((threading.current_thread() is threading.main_thread(), there))

    def state_dict(self) -> dict[str, Any]:
        self.main_loop.before_saved(self._flush)
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize("asynchronous", [False, True])
def test_files_are_flushed_before_a_checkpoint_speaks_of_them(asynchronous: bool, tmp_path: Path) -> None:
    for flush in (Flush(), Flush(fails=True)):
        options: dict[str, Any] = {"skip_zeroth_epoch": True, "asynchronous_saving": asynchronous}
        hooks = [flush, SaveLatest(), StopAfter(epochs=1)]
        loop = MainLoop(model(1), dataset(3), hooks, output_dir=tmp_path / str(flush._fails), **options)
        if flush._fails:
            with pytest.raises(OSError, match="Flush: Input/output error: 'notes'"):
                loop.run_training()
            assert not list_checkpoints(tmp_path / "True" / "checkpoints")
        else:
            loop.run_training()
            assert flush.notes == [(not asynchronous, False)]
            flush.state_dict()  # by hand, at once
            assert flush.notes[1:] == [(True, True)]


def test_the_best_weights_come_back_and_older_checkpoints_go(tmp_path: Path) -> None:
    class Grade(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
            epoch_data.setdefault("train", {})["grade"] = [3.0, 1.0, 2.0, 2.5][epoch_id]

    best = SaveBest(stream="train", variable="grade")
    hooks = [Grade(), best, SaveLatest(), SaveEvery(keep=2), RestoreBest(), StopAfter(epochs=3)]
    loop = MainLoop(model(), dataset(4), hooks, output_dir=tmp_path, asynchronous_saving=True)
    loop.run_training()
    found = checkpoints(tmp_path)
    assert {tag: checkpoint.position.epoch for tag, checkpoint in found.items()} == {
        "best": 1, "epoch-2": 2, "epoch-3": 3, "latest": 3,
    }  # fmt: skip
    assert found["latest"].finished
    assert same(loop.model.state_dict(), found["best"].weights)
    assert not same(loop.model.state_dict(), found["latest"].weights)


@pytest.mark.parametrize("at", ["middle", "end"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_ends_the_training_with_the_same_error(asynchronous: bool, at: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()  # a file where the folder should be
    record = RecordEvents(requires=())
    steps = 100_000 if at == "middle" else 40
    saving: dict[str, Any] = {"steps": 1} if at == "middle" else {"every": 100}
    stream = dataset(40)
    stream.train_stream = lambda: (row for _ in range(steps // 40) for row in dataset(40).train_stream())  # type: ignore[attr-defined]
    hooks = [record, SaveLatest(**saving), StopAfter(steps=steps)]
    loop = MainLoop(
        FakeModel(inputs=("x", "y")),
        stream,
        hooks,
        skip_zeroth_epoch=True,
        output_dir=tmp_path,
        asynchronous_saving=asynchronous,
    )
    with pytest.raises(CheckpointError) as caught:
        loop.run_training()
    assert str(caught.value) == f"cannot save a checkpoint in '{tmp_path}/checkpoints': File exists"
    assert loop.end == "failed"
    # The save at the end is asked for in after_training itself; all others are told of it there.
    assert record.events[-1] == ("after_training", {"success": at == "end"})
    assert (loop.position.step < steps) is (at == "middle")
    assert (tmp_path / "checkpoints").is_file()


def test_what_cannot_be_saved_is_refused_in_its_own_step(tmp_path: Path) -> None:
    class Spoil(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def state_dict(self) -> dict[str, Any]:
            return {"history": [1, {self.main_loop.position.step}]}

    hooks = [SaveLatest(every=100, steps=5), Spoil(), StopAfter(steps=40)]
    loop = MainLoop(model(), dataset(), hooks, skip_zeroth_epoch=True, output_dir=tmp_path, asynchronous_saving=True)
    with pytest.raises(CheckpointError, match=r"hooks/Spoil/history\[1\]: set is no plain data; use sorted"):
        loop.run_training()
    assert loop.position.step == 5


class Signal(AbstractHook):
    """Save in step 20 and be interrupted right after that."""

    def __init__(self, *signals: signal.Signals) -> None:
        super().__init__()
        self._signals = signals

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.position.step == 20:
            self.main_loop.request_save("twenty")
        if self.main_loop.position.step == 21:
            for number in self._signals:
                os.kill(os.getpid(), number)


def interrupted(folder: Path, *signals: signal.Signals, hook: Callable[[], AbstractHook] = Remember) -> MainLoop:
    hooks = [SaveEvery(steps=10, tag="ten"), hook(), Signal(*signals), StopAfter(steps=40)]
    return MainLoop(model(), dataset(), hooks, skip_zeroth_epoch=True, output_dir=folder, asynchronous_saving=True)


def test_a_signal_waits_for_what_is_written(tmp_path: Path) -> None:
    loop = interrupted(tmp_path, signal.SIGTERM)
    loop.run_training()
    assert loop.end == "interrupted"
    steps = {tag: checkpoint.position.step for tag, checkpoint in checkpoints(tmp_path).items()}
    assert steps == {"ten-step-10": 10, "ten-step-20": 20, "twenty": 20, "latest": 21}


def test_a_second_interrupt_breaks_off_what_is_written(tmp_path: Path) -> None:
    loop = interrupted(tmp_path, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_training()
    assert loop.end == "failed"
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    # The one of step 20 may have been whole by then; a part of it has not been left.
    assert names in ({"ten-step-10-00000001"}, {"ten-step-10-00000001", "ten-step-20-00000002", "twenty-00000002"})
    assert newest_checkpoint(tmp_path / "checkpoints").position.step in (10, 20)


class InterruptWait(AbstractHook):
    """Interrupt the training, and once more from the thread that writes, while the training waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.was_released = False
        self._released = threading.Event()

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.position.step == 20:
            self.main_loop.request_save("twenty")
            self.main_loop.when_saved(self._interrupt, in_thread=True)
            os.kill(os.getpid(), signal.SIGINT)

    def _interrupt(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        self.was_released = self._released.wait(120)  # for ever, were it not for the interrupt

    def after_training(self, success: bool) -> None:
        assert not success
        self._released.set()


def test_a_second_interrupt_ends_the_wait_for_what_is_written(tmp_path: Path) -> None:
    hook = InterruptWait()
    options: dict[str, Any] = {"skip_zeroth_epoch": True, "asynchronous_saving": True}
    loop = MainLoop(model(), dataset(), [hook, StopAfter(steps=40)], output_dir=tmp_path, **options)
    with pytest.raises(KeyboardInterrupt):
        loop.run_training()
    assert hook.was_released
    assert loop.end == "failed"
    assert {tag: found.position.step for tag, found in checkpoints(tmp_path).items()} == {"twenty": 20, "latest": 20}


class FailAndInterrupt(InterruptWait):
    """Fail while the checkpoint before is written, and interrupt the wait for that twice."""

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.position.step == 20:
            self.main_loop.request_save("twenty")
            self.main_loop.when_saved(self._interrupt, in_thread=True)
        elif self.main_loop.position.step == 21:
            raise RuntimeError("out of paper")

    def after_training(self, success: bool) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # while it is caught

    def release(self) -> None:
        self._released.set()


def test_an_interrupt_of_the_last_wait_puts_back_how_signals_are_handled(tmp_path: Path) -> None:
    hook = FailAndInterrupt()
    options: dict[str, Any] = {"skip_zeroth_epoch": True, "asynchronous_saving": True}
    loop = MainLoop(model(), dataset(), [hook, StopAfter(steps=40)], output_dir=tmp_path, **options)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(KeyboardInterrupt):
        loop.run_training()
    hook.release()
    assert [signal.getsignal(number) for number in numbers] == before
    assert loop.end == "failed"
    assert newest_checkpoint(tmp_path / "checkpoints").tag == "twenty"


def test_another_error_waits_too_and_a_failure_beside_it_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Break(AbstractHook):
        def __init__(self, spoil: Path | None = None) -> None:
            super().__init__()
            self._spoil = spoil

        def requires(self) -> tuple[str, ...]:
            return ()

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self._spoil is not None and self.main_loop.position.step == 15:
                # by then the checkpoint of step 10 is written; the next one finds a file
                self.main_loop.when_saved(self._break)
            if self.main_loop.position.step == 21:
                raise RuntimeError("out of paper")

        def _break(self) -> None:
            assert self._spoil is not None
            self._spoil.rename(self._spoil.with_name("moved"))
            self._spoil.touch()

    whole = interrupted(tmp_path / "whole", hook=Break)
    with pytest.raises(RuntimeError, match="out of paper"):
        whole.run_training()
    assert set(checkpoints(tmp_path / "whole")) == {"ten-step-10", "twenty", "ten-step-20"}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    folder = tmp_path / "broken" / "checkpoints"
    broken = interrupted(tmp_path / "broken", hook=lambda: Break(folder))
    # The checkpoint of step 20 fails in the thread: at the next border, or beside the error of step 21.
    with pytest.raises((RuntimeError, CheckpointError)) as caught:
        broken.run_training()
    told = [str(caught.value), *(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)]
    assert f"cannot save a checkpoint in '{folder}': File exists" in told
    assert broken.end == "failed"


def test_a_training_that_is_resumed_ends_as_one_that_was_not_interrupted(tmp_path: Path) -> None:
    def loop(folder: Path, *hooks: AbstractHook) -> MainLoop:
        listed = [*hooks, Remember(), SaveLatest(steps=7), StopAfter(epochs=2)]
        return MainLoop(model(), dataset(), listed, output_dir=folder, asynchronous_saving=True)

    loop(tmp_path / "whole").run_training()
    cut = loop(tmp_path / "cut", Signal(signal.SIGTERM))
    cut.run_training()
    assert cut.end == "interrupted"
    resumed = loop(tmp_path / "cut")
    resumed.restore(newest_checkpoint(tmp_path / "cut" / "checkpoints"))
    resumed.run_training()
    whole, again = (newest_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "cut"))
    assert again.position == whole.position == (2, 80, 2, 480)
    assert same(again.weights, whole.weights)
    assert same(again.state["model"], whole.state["model"])
    assert same(again.state["hooks"]["Remember"], whole.state["hooks"]["Remember"])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_was_saved_before_going_back_is_saved_again(asynchronous: bool, tmp_path: Path) -> None:
    hooks = [SaveEvery(steps=10), StopAfter(steps=20)]
    options: dict[str, Any] = {"skip_zeroth_epoch": True, "asynchronous_saving": asynchronous}
    loop = MainLoop(model(1), dataset(20), hooks, output_dir=tmp_path, **options)
    loop.run_training()
    loop.restore(checkpoints(tmp_path)["step-10"])
    for parameter in loop.model.network.parameters():  # type: ignore[attr-defined]
        parameter.data.zero_()
    loop.run_training()
    found = checkpoints(tmp_path)
    assert {tag: checkpoint.sequence for tag, checkpoint in found.items()} == {"step-10": 1, "step-20": 3}
    assert same(found["step-20"].weights, loop.model.state_dict())


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("place", ["state", "flush"])
def test_a_checkpoint_that_is_refused_leaves_no_file_open(place: str, tmp_path: Path) -> None:
    class Spoil(Flush):
        def state_dict(self) -> dict[str, Any]:
            return {"history": {1}} if place == "state" else super().state_dict()

    hooks = [
        Spoil(fails=True),
        WriteJSON(),
        WriteCSV(),
        SaveLatest(steps=2),
    ]
    loop = MainLoop(model(1), dataset(4), [*hooks, StopAfter(epochs=1)], output_dir=tmp_path, asynchronous_saving=True)
    before = open_files()
    with pytest.raises((CheckpointError, OSError), match="no plain data" if place == "state" else "Input/output error"):
        loop.run_training()
    assert open_files() == before


KILLED = """
import os, pathlib, random, signal, sys, time, torch
from torch import nn
from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint
from emloop_mtl.hooks import SaveEvery, SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop

sys.path.insert(0, sys.argv[2])
from test_asynchronous_saving import dataset, model

folder = pathlib.Path(sys.argv[1])
torch.set_num_threads(1)
model(1)  # which imports more, once for all processes


def train():
    hooks = [SaveLatest(every=1000, steps=2), SaveEvery(steps=3, keep=2), StopAfter(steps=100_000)]
    options = {"skip_zeroth_epoch": True, "output_dir": folder, "asynchronous_saving": True}
    loop = MainLoop(model(200_000), dataset(), hooks, **options)
    if list_checkpoints(folder / "checkpoints"):
        loop.restore(newest_checkpoint(folder / "checkpoints"))
    loop.run_training()


moment, hits, kills, before, seen = random.Random(7), 0, 0, 0, set()
while kills < 3 or not hits:  # until one was hit in the middle, so that the test means something
    parent, child = os.getpid(), os.fork()
    if not child:
        import threading

        def watch():  # none is left over where an assertion fails
            while os.getppid() == parent:
                time.sleep(0.1)
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
        train()
        os._exit(1)
    known = len(seen)
    while len(seen) < known + 3:  # it has begun, and gone on from where the last one was
        seen.update(path.name for path in list_checkpoints(folder / "checkpoints"))
        time.sleep(0.001)
    time.sleep(moment.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    seen.update(path.name for path in list_checkpoints(folder / "checkpoints"))  # they are none of the next one's
    kills += 1
    hits += bool(list((folder / "checkpoints").glob(".tmp*")))
    newest = newest_checkpoint(folder / "checkpoints")
    # being killed is no reason to fall back, and what is there is of one moment
    assert newest.path == list_checkpoints(folder / "checkpoints")[0]
    assert newest.position.step == newest.state["model"]["step"] > before
    before = newest.position.step
    assert kills < 50
print("killed", kills)
"""


@pytest.mark.long
def test_a_process_killed_while_its_thread_writes_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """One process imports torch and forks those that are killed."""
    line = [sys.executable, "-W", "error", "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
