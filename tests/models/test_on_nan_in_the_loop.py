"""Losses and gradients that are not finite, in whole trainings: epochs, checkpoints, resuming, other hooks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import NotFiniteError
from emloop_mtl.hooks import ComputeStats, SaveEvery, StopAfter, StopOnNaN
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim import finite_watch
from emloop_mtl.schedulers.mixed import Mixed
from emloop_mtl.schedulers.round_robin import RoundRobin
from emloop_mtl.tasks import Action, Task
from emloop_mtl.testing import RecordEvents, SaveAndFail

ROWS, SIZE = 24, 4


@pytest.fixture(params=["host", "device"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where batches are looked at: as on the CPU, or as on a device that nobody waits for."""
    if request.param == "device":
        monkeypatch.setattr(finite_watch, "answers_at_once", lambda device: False)
    return str(request.param)


class Data(MultiTaskDataset):
    """A loader for each of two tasks, without shuffling; some rows of the first are nan."""

    def __init__(self, bad: Iterable[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bad = list(bad)

    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        made = []
        for split in ("train", "valid"):
            for name in "ab":
                x = torch.randn(ROWS, 3, generator=generator)
                if split == "train" and name == "a":
                    x[self._bad] = math.nan
                label = torch.randint(2, (ROWS,), generator=generator)
                uids = [f"{name}{row}" for row in range(ROWS)]
                columns = ColumnDataset(name, {"x": x, "uid": uids}, {name: label}, uid="uid")
                loader = TaskLoader(columns, {name: name}, name=name, split=split, batch_size=SIZE, shuffle=False)
                made.append(loader)
        return made


class Noise(nn.Module):
    """Random numbers in training, so that each batch must meet those that it would have met."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) * 0.1 if self.training else x


def make_loop(
    on_nan: str | None,
    folder: Path | None,
    *hooks: AbstractHook,
    bad: Iterable[int] = (),
    scheduler: Any = None,
    epochs: int = 2,
    lr: float = 0.1,
    optimizer: str = "adam",
    loop: dict[str, Any] | None = None,
    **update: Any,
) -> MainLoop:
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {"trunk": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), Noise())}
    modules |= {f"{name}_head": nn.Linear(4, 2) for name in "ab"}
    tasks = [
        Task(n, flow=[Action("f", "trunk", "x"), Action(f"{n}_out", f"{n}_head", "f")], label=n, loss="cross_entropy")
        for n in "ab"
    ]
    model = MultiTaskModel(
        tasks,
        modules,
        optimizer={"class": optimizer, "lr": lr},
        update={**({} if on_nan is None else {"on_nan": on_nan}), **update},
        device="cpu",
        output_dir=folder,
    )
    dataset = Data(bad, streams={"train": {"scheduler": scheduler or RoundRobin()}})
    return MainLoop(model, dataset, [*hooks, StopAfter(epochs=epochs)], output_dir=folder, **(loop or {}))


def states(loop: MainLoop) -> tuple[Any, Any]:
    return loop.model.state_dict(), loop.model.training_state_dict()


def check_equal(first: Any, second: Any) -> None:
    if isinstance(first, Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            check_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            check_equal(one, other)
    else:
        assert first == second


@pytest.mark.parametrize("scheduler", [RoundRobin(), Mixed()], ids=["RoundRobin", "Mixed"])
@pytest.mark.parametrize("update", [{}, {"accumulate": 3, "clip_norm": 1.0}], ids=["steps", "windows"])
def test_a_training_that_skips_is_resumed_exactly(
    update: dict[str, Any], scheduler: Any, place: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"bad": [1, 9, 10, 17], "scheduler": scheduler, "epochs": 4, **update}
    options["loop"] = {"fixed_epoch_size": 5, "skip_zeroth_epoch": True}
    undisturbed = make_loop("skip", None, **options)
    undisturbed.run_training()
    assert undisturbed.model.update.watch.skipped > 2  # type: ignore[attr-defined]
    for moment in (4, 8, 13, 15, 19):  # at ends of steps; some windows are open, some of these bad
        folder = tmp_path / str(moment)
        broken = make_loop("skip", folder, SaveAndFail(every=moment, fail_at=moment + 1), **options)
        with pytest.raises(RuntimeError, match="failed at moment"):
            broken.run_training()
        resumed = make_loop("skip", folder, SaveAndFail(every=1000), **options)
        resumed.restore(newest_checkpoint(folder / "checkpoints"))
        resumed.run_training()
        check_equal(states(resumed), states(undisturbed))


@pytest.mark.parametrize("update", [{}, {"accumulate": 3}], ids=["steps", "windows"])
def test_no_checkpoint_holds_what_a_bad_batch_has_made(update: dict[str, Any], place: str, tmp_path: Path) -> None:
    loop = make_loop("error", tmp_path, SaveEvery(steps=1), bad=[9], **update)
    with pytest.raises(NotFiniteError) as caught:
        loop.run_training()
    assert str(caught.value).startswith(
        "the loss of task 'a' is nan: stream 'train', step 5, batch 4, loader 'a', task 'a', uids a8, a9, a10, a11"
    )
    assert loop.end == "failed"
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.position.step == 4
    assert all(bool(value.isfinite().all()) for value in checkpoint.weights.values())
    again = make_loop("error", tmp_path, SaveEvery(steps=1), bad=[9], **update)
    again.restore(checkpoint)
    with pytest.raises(NotFiniteError) as repeated:  # it comes to the same end
        again.run_training()
    assert str(repeated.value) == str(caught.value)


def test_a_bad_batch_is_known_before_the_evaluation(place: str) -> None:
    record = RecordEvents(requires=())
    loop = make_loop("error", None, record, bad=[23], loop={"extra_streams": ["valid"]})
    with pytest.raises(NotFiniteError, match="stream 'train', step 11, batch 10, loader 'a'"):
        loop.run_training()
    last = [name for name, _ in record.events][-2:]
    assert last == ["after_batch", "after_training"]
    assert record.events[-2][1]["stream_name"] == "train"
    assert record.events[-1][1] == {"success": False}


def test_a_training_that_fails_tells_of_a_bad_batch_that_is_on_its_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(finite_watch, "answers_at_once", lambda device: False)
    options = {"skip_zeroth_epoch": True}
    loop = make_loop("error", None, SaveAndFail(every=1000, fail_at=7), bad=[9], loop=options)
    with pytest.raises(RuntimeError, match="failed at moment 7"):
        loop.run_training()
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("the loss of task 'a' is nan: stream 'train', step 5, batch 4, loader 'a'")


def test_a_bad_batch_is_known_before_a_training_has_finished(place: str) -> None:
    stop = StopAfter(steps=3)
    stop.name = "first"
    loop = make_loop("error", None, stop, bad=[5])
    with pytest.raises(NotFiniteError, match="step 3, batch 2"):
        loop.run_training()
    assert loop.end == "failed"


def test_weights_that_finite_gradients_have_made_infinite_are_not_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"optimizer": "sgd", "lr": 3e38, "loop": {"skip_zeroth_epoch": True}}
    loop = make_loop("error", tmp_path, SaveEvery(steps=1), **options)
    with torch.no_grad():
        loop.model.network["a_head"].weight.mul_(100)  # type: ignore[attr-defined]
    with pytest.raises(NotFiniteError, match="not finite after step 1, so that is not saved"):
        loop.run_training()
    assert not list_checkpoints(tmp_path / "checkpoints")
    warned = make_loop("warn", tmp_path / "warned", SaveEvery(steps=1), **options)
    with torch.no_grad():
        warned.model.network["a_head"].weight.mul_(100)  # type: ignore[attr-defined]
    warned.run_training()
    assert caplog.text.count("are not finite after step 1, and saved all the same; model.update.on_nan: error") == 1


@pytest.mark.parametrize("scheduler", [RoundRobin(), Mixed()], ids=["RoundRobin", "Mixed"])
def test_the_batch_of_a_step_that_is_bad_is_named(scheduler: Any, place: str) -> None:
    loop = make_loop("error", None, bad=[9], scheduler=scheduler)
    with pytest.raises(NotFiniteError) as caught:
        loop.run_training()
    step = 3 if isinstance(scheduler, Mixed) else 5
    text = f"the loss of task 'a' is nan: stream 'train', step {step}, batch 4, loader 'a', task 'a', uids a8, a9"
    assert str(caught.value).startswith(text)


def test_stop_on_nan_goes_on_looking_at_variables(tmp_path: Path) -> None:
    skipping = make_loop("skip", None, StopOnNaN(after_batch=True, check_every=1), bad=[9])
    with pytest.raises(NotFiniteError, match="^StopOnNaN: 'a/loss' is nan"):
        skipping.run_training()
    options = {"skip_zeroth_epoch": True}  # in which StopOnNaN would find it
    both = make_loop("error", None, StopOnNaN(after_batch=True, check_every=1), bad=[9], loop=options)
    with pytest.raises(NotFiniteError, match="^the loss of task 'a' is nan"):
        both.run_training()


def test_a_training_that_skips_goes_on_learning(place: str, caplog: pytest.LogCaptureFixture) -> None:
    record = RecordEvents(requires=())
    options: dict[str, Any] = {"epochs": 3, "loop": {"extra_streams": ["valid"]}}
    loop = make_loop("skip", None, ComputeStats(["loss"]), record, bad=[9], **options)
    loop.run_training()
    assert loop.position.step == loop.model.update.step == 36  # type: ignore[attr-defined]
    assert loop.model.update.watch.skipped == 3  # type: ignore[attr-defined]
    losses = [record.epochs[epoch]["valid"]["loss"]["mean"] for epoch in range(4)]
    assert all(map(math.isfinite, losses))
    assert math.isnan(record.epochs[1]["train"]["loss"]["mean"])  # what was not finite is not made up
    warnings = [entry.getMessage() for entry in caplog.records if "on_nan" in entry.getMessage()]
    assert len(warnings) == 1  # the same batch of each pass


def test_the_setting_may_change_when_a_run_is_resumed(tmp_path: Path) -> None:
    for first, second in (("skip", None), (None, "skip"), ("warn", "error")):
        folder = tmp_path / f"{first}-{second}"
        with pytest.raises(RuntimeError, match="failed at moment"):
            make_loop(first, folder, SaveAndFail(every=14, fail_at=15), accumulate=2).run_training()
        loop = make_loop(second, folder, SaveAndFail(every=1000), accumulate=2)
        loop.restore(newest_checkpoint(folder / "checkpoints"))
        loop.run_training()
        assert loop.end == "finished"
