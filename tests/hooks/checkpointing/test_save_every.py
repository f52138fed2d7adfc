from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    remove_checkpoint,
)
from emloop_mtl.cli import main
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks import ComputeStats, SaveBest, SaveEvery, SaveLatest, ScoreTasks, StopAfter
from emloop_mtl.hooks.checkpointing import save_every
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, SaveAndFail, run_hook

EXAMPLE = Path(__file__).parents[3] / "examples" / "01_digits"

FIVE = FakeDataset(train=[{"x": [number]} for number in range(5)])


def kept(folder: Path) -> dict[str, tuple[int, int]]:
    """Return (epoch, step) of each checkpoint, by tag, oldest first."""
    found = [load_checkpoint(path) for path in reversed(list_checkpoints(folder / "checkpoints"))]
    return {checkpoint.tag: checkpoint.position[:2] for checkpoint in found}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {f"epoch-{number}": (number, 5 * number) for number in range(5)}),
        ({"every": 2}, {"epoch-0": (0, 0), "epoch-2": (2, 10), "epoch-4": (4, 20)}),
        ({"every": 2, "keep": 1}, {"epoch-4": (4, 20)}),
        ({"keep": 3}, {"epoch-2": (2, 10), "epoch-3": (3, 15), "epoch-4": (4, 20)}),
        ({"steps": 8}, {"step-8": (1, 8), "step-16": (3, 16)}),
        ({"steps": 8, "every": 3}, {"epoch-0": (0, 0), "step-8": (1, 8), "epoch-3": (3, 15), "step-16": (3, 16)}),
        ({"steps": 8, "every": 3, "keep": 2}, {"epoch-3": (3, 15), "step-16": (3, 16)}),
        ({"runway": 15}, {"epoch-3": (3, 15), "epoch-4": (4, 20)}),
        ({"runway": 16}, {"epoch-4": (4, 20)}),
        ({"steps": 5, "runway": 15, "tag": "late"}, {"late-step-15": (2, 15), "late-step-20": (3, 20)}),
    ],
)
def test_which_checkpoints_stay(
    arguments: dict[str, Any], expected: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    run_hook(SaveEvery(**arguments), dataset=FIVE, epochs=4, output_dir=tmp_path)
    assert kept(tmp_path) == expected


def test_batches_that_are_evaluated_and_batches_within_a_step_are_not_counted(tmp_path: Path) -> None:
    inner = Batch({"x": [1]})
    inner.ends_step = False
    dataset = FakeDataset(train=[inner, {"x": [2]}] * 3, valid=[{"x": [3]}] * 4)
    run_hook(SaveEvery(steps=2), dataset=dataset, epochs=2, output_dir=tmp_path, extra_streams=["valid"])
    assert kept(tmp_path) == {"step-2": (0, 2), "step-4": (1, 4), "step-6": (1, 6)}


def test_hooks_that_save_leave_each_others_checkpoints_alone(tmp_path: Path) -> None:
    losses = iter([9.0] * 5 + [1.0] * 5 + [2.0] * 15)
    most = SaveBest(stream="train", mode="max", tag="epoch")
    most.name = "SaveMost"
    run_hook(
        ComputeStats(["loss"]),
        SaveEvery(keep=1),
        SaveLatest(),
        SaveEvery(every=2, keep=2, tag="rare"),
        SaveBest(stream="train"),
        most,
        SaveEvery(steps=10, tag="epoch"),
        dataset=FIVE,
        epochs=4,
        outputs={"loss": lambda batch: next(losses)},
        output_dir=tmp_path,
    )
    assert kept(tmp_path) == {
        "epoch": (0, 0),
        "best": (1, 5),
        "epoch-step-10": (1, 10),
        "rare-epoch-2": (2, 10),
        "epoch-step-20": (3, 20),
        "epoch-4": (4, 20),
        "latest": (4, 20),
        "rare-epoch-4": (4, 20),
    }


def test_two_that_call_their_checkpoints_alike_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SaveEvery and another SaveEvery .*: give one of them another tag") as caught:
        run_hook(SaveEvery(), SaveEvery(every=2), output_dir=tmp_path)
    assert caught.value.path == ("tag",)


def test_an_older_one_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    class Spoil(AbstractHook):
        def state_dict(self) -> dict[str, Any]:
            return {"bad": object() if self.main_loop.position.epoch == 3 else 0}

    with pytest.raises(CheckpointError, match="Spoil"):
        run_hook(SaveEvery(keep=1), Spoil(), dataset=FIVE, epochs=4, output_dir=tmp_path)
    assert kept(tmp_path) == {"epoch-2": (2, 10)}


def test_an_evaluation_by_hand_saves_and_removes_nothing(tmp_path: Path) -> None:
    loop = run_hook(SaveEvery(keep=2), dataset=FIVE, epochs=2, output_dir=tmp_path).main_loop
    before = list_checkpoints(tmp_path / "checkpoints")
    loop.run_evaluation("train")
    assert list_checkpoints(tmp_path / "checkpoints") == before


MakeLoop = Callable[..., MainLoop]


@pytest.fixture
def make_loop(make_model: Callable[..., Any], make_dataset: Callable[..., Any]) -> MakeLoop:
    """Make a main loop on the two tasks of the shared fixtures, of three steps per epoch."""

    def make(folder: Path, *hooks: AbstractHook, epochs: int = 4) -> MainLoop:
        listed = [SaveEvery(steps=2, every=1, keep=3), *hooks, StopAfter(epochs=epochs)]
        return MainLoop(make_model(), make_dataset(), listed, output_dir=folder)

    return make


def content(folder: Path) -> dict[str, Checkpoint]:
    found = (load_checkpoint(path) for path in list_checkpoints(folder / "checkpoints"))
    return {checkpoint.tag: checkpoint for checkpoint in found}


@pytest.mark.parametrize("after", range(0, 20, 3))
def test_a_killed_training_that_is_resumed_keeps_the_same(after: int, make_loop: MakeLoop, tmp_path: Path) -> None:
    make_loop(tmp_path / "whole").run_training()
    with pytest.raises(RuntimeError, match="failed at moment"):
        make_loop(tmp_path / "killed", SaveAndFail(every=100, fail_at=after + 1)).run_training()
    for _ in range(2):  # the second finds nothing left to do
        loop = make_loop(tmp_path / "killed")
        if list_checkpoints(tmp_path / "killed" / "checkpoints"):
            loop.restore(newest_checkpoint(tmp_path / "killed" / "checkpoints"))
        loop.run_training()
    whole, resumed = content(tmp_path / "whole"), content(tmp_path / "killed")
    assert sorted(whole) == ["epoch-4", "step-10", "step-12"]
    assert sorted(resumed) == sorted(whole)
    for tag, checkpoint in whole.items():
        assert resumed[tag].position == checkpoint.position
        for name, weight in checkpoint.weights.items():
            assert torch.equal(resumed[tag].weights[name], weight)


def test_a_kill_before_the_last_removal_leaves_nothing_in_the_end(
    make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(path: Path) -> None:
        if path.name.startswith("epoch-3-"):
            raise KeyboardInterrupt
        remove_checkpoint(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(save_every, "remove_checkpoint", kill)
        make_loop(tmp_path).run_training()
    assert sorted(kept(tmp_path)) == ["epoch-3", "epoch-4", "step-10", "step-12"]
    loop = make_loop(tmp_path)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    assert sorted(kept(tmp_path)) == ["epoch-4", "step-10", "step-12"]


def test_a_training_that_has_not_begun_removes_nothing(make_loop: MakeLoop, tmp_path: Path) -> None:
    class StopAtOnce(AbstractHook):
        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            raise TrainingTerminated("at once")

    make_loop(tmp_path).run_training()
    before = kept(tmp_path)
    make_loop(tmp_path, StopAtOnce()).run_training()
    assert kept(tmp_path) == before


def test_what_lies_ahead_of_a_resumed_training_goes_with_its_first_checkpoint(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    class SaveSecond(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
            if epoch_id == 2:
                self.main_loop.request_save("second")

    make_loop(tmp_path, SaveSecond(), epochs=5).run_training()
    assert kept(tmp_path) == {"second": (2, 6), "epoch-4": (4, 12), "step-14": (4, 14), "epoch-5": (5, 15)}
    loop = make_loop(tmp_path, epochs=3)
    # What was saved together with it has been removed since, and comes back: it belongs to this moment.
    loop.restore(newest_checkpoint(tmp_path / "checkpoints", "second"))
    assert "epoch-2" in kept(tmp_path)
    loop.run_training()
    assert kept(tmp_path) == {"second": (2, 6), "epoch-2": (2, 6), "step-8": (2, 8), "epoch-3": (3, 9)}


def test_without_keep_nothing_is_removed(make_loop: MakeLoop, tmp_path: Path) -> None:
    run_hook(SaveEvery(), dataset=FIVE, epochs=3, output_dir=tmp_path)
    loop = run_hook(SaveEvery(tag="other"), dataset=FIVE, epochs=0, output_dir=tmp_path).main_loop
    assert len(kept(tmp_path)) == 5
    loop.hooks = type(loop.hooks)([SaveEvery(), StopAfter(epochs=2)])
    loop.hooks.register(loop)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints", "epoch-1"))
    loop.run_training()
    assert set(kept(tmp_path)) == {"epoch-0", "epoch-1", "epoch-2", "epoch-3", "other-epoch-0"}


def test_a_damaged_one_is_written_again(make_loop: MakeLoop, tmp_path: Path) -> None:
    make_loop(tmp_path).run_training()
    newest = list_checkpoints(tmp_path / "checkpoints")[0]
    assert newest.name.startswith("epoch-4-")
    with (newest / "model.safetensors").open("r+b") as file:
        file.truncate(64)
    loop = make_loop(tmp_path)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    assert loop.position.step == 12
    loop.run_training()
    assert kept(tmp_path) == {"step-10": (3, 10), "step-12": (3, 12), "epoch-4": (4, 12)}


def test_the_commands_know_them_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = list(sys.path)
    for name in ("config.yaml", "digits.py"):
        shutil.copy(EXAMPLE / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    config = (
        (tmp_path / "config.yaml").read_text().replace("  - SaveLatest", "  - SaveEvery: {keep: 2}\n  - SaveLatest")
    )
    assert "SaveEvery" in config
    (tmp_path / "config.yaml").write_text(config)

    def run(*words: str) -> str:
        result = CliRunner().invoke(main, words, prog_name="emloop-mtl")
        assert result.exit_code == 0, result.output
        return result.output

    short = ("dataset.max_rows=96", "eval={}")
    try:
        run("train", "config.yaml", *short, "hooks.StopAfter.epochs=2", "--output-dir", "run")
        assert {"epoch-1", "epoch-2"} <= set(kept(tmp_path / "run"))
        assert "weights 'epoch-1' (epoch 1, step 3)" in run("eval", "valid", "run", "--checkpoint", "epoch-1")
        # The newest valid checkpoint of all is the one to go on from, whatever it is called.
        for checkpoint in list_checkpoints(tmp_path / "run" / "checkpoints"):
            if not checkpoint.name.startswith("epoch-"):
                shutil.rmtree(checkpoint)
        assert "from epoch-2-" in run("resume", "run", "hooks.StopAfter.epochs=3")
        assert {"epoch-2": (2, 6), "epoch-3": (3, 9)}.items() <= kept(tmp_path / "run").items()
        wrong = CliRunner().invoke(main, ["eval", "valid", "run", "--checkpoint", "epoch-1"], prog_name="emloop-mtl")
        assert wrong.exit_code == 2
        assert "has no checkpoint 'epoch-1'; did you mean 'epoch-" in wrong.output
    finally:
        sys.path[:] = path
        sys.modules.pop("digits", None)


EACH_STEP = 1e-6
"""Minutes: 60 µs, less than what a step with its checkpoint takes, so that every border is due."""


def numbers(folder: Path) -> list[tuple[str, float]]:
    """Return the unit and the number in the name of each checkpoint, oldest first."""
    tags = [tag.rpartition("-") for tag in kept(folder)]
    return [(unit, float(number)) for unit, _, number in tags]


def test_minutes_save_at_every_border_that_is_due(tmp_path: Path) -> None:
    run_hook(SaveEvery(minutes=EACH_STEP), epochs=1, output_dir=tmp_path)
    found = kept(tmp_path)
    assert list(found.values()) == [(0, 0)] * 4 + [(0, 1), (0, 2)] + [(0, 2)] * 2  # zeroth epoch, steps, evaluation
    assert all(unit == "minute" for unit, _ in numbers(tmp_path))
    due = [number / EACH_STEP for _, number in numbers(tmp_path)]
    assert due == sorted(set(due))
    assert due == pytest.approx([round(number) for number in due])  # multiples, as far as floats have them


def test_minutes_save_at_the_ends_of_steps_and_after_each_batch_that_is_evaluated(tmp_path: Path) -> None:
    first, last = Batch({"x": [1]}, ends_step=False), Batch({"x": [2]})
    dataset = FakeDataset(train=[first, last], valid=[first, first, last])
    options: dict[str, Any] = {"extra_streams": ["valid"], "skip_zeroth_epoch": True, "output_dir": tmp_path}
    run_hook(SaveEvery(minutes=EACH_STEP), dataset=dataset, **options)
    assert list(kept(tmp_path).values()) == [(0, 1)] * (1 + 3)


def test_minutes_go_with_steps_and_epochs_and_count_among_those_that_stay(tmp_path: Path) -> None:
    run_hook(SaveEvery(minutes=EACH_STEP, steps=5, every=2, keep=3), dataset=FIVE, epochs=4, output_dir=tmp_path)
    assert list(kept(tmp_path).values()) == [(3, 20), (3, 20), (4, 20)]
    assert [unit for unit, _ in numbers(tmp_path)] == ["minute", "step", "epoch"]
    rare = SaveEvery(minutes=1e6, tag="rare")
    rare.name = "SaveRarely"
    run_hook(rare, SaveEvery(minutes=EACH_STEP, runway=15), dataset=FIVE, epochs=5, output_dir=tmp_path / "other")
    assert min(step for _, step in kept(tmp_path / "other").values()) >= 15


def test_time_counts_over_resumes_and_only_while_it_trains(tmp_path: Path) -> None:
    hook = SaveEvery(minutes=1000.0)
    run_hook(hook, output_dir=tmp_path)
    taken = hook.state_dict()["seconds"]
    assert taken > 0
    assert hook.state_dict() == {"seconds": taken}  # the clock stands
    resumed = SaveEvery(minutes=1000.0)
    resumed.load_state_dict({"seconds": 59_999.999_999})  # a microsecond before the first moment
    run_hook(resumed, output_dir=tmp_path)
    assert numbers(tmp_path) == [("minute", 1000)]
    again = SaveEvery(minutes=250.0)
    again.load_state_dict(resumed.state_dict())
    run_hook(again, output_dir=tmp_path / "again")
    assert kept(tmp_path / "again") == {}  # 1000 minutes are a moment of these too, and it has been


def test_minutes_that_a_resumed_training_has_yet_to_reach_are_removed(make_loop: MakeLoop, tmp_path: Path) -> None:
    ahead = SaveEvery(minutes=60, keep=2)
    ahead.load_state_dict({"seconds": 7 * 3600 - 1e-6})
    run_hook(ahead, dataset=FIVE, output_dir=tmp_path)
    assert list(kept(tmp_path)) == ["minute-420"]
    run_hook(SaveEvery(minutes=60, steps=5, keep=2), dataset=FIVE, output_dir=tmp_path)
    assert list(kept(tmp_path)) == ["step-5"]


def test_one_that_keeps_no_time_has_no_state_and_needs_no_name(tmp_path: Path) -> None:
    run_hook(SaveEvery(), SaveEvery(tag="other"), SaveLatest(), output_dir=tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints", "latest")
    assert "SaveEvery" not in checkpoint.state["hooks"]
    timed = run_hook(SaveEvery(minutes=1), SaveLatest(), output_dir=tmp_path / "timed").main_loop
    checkpoint = newest_checkpoint(tmp_path / "timed" / "checkpoints", "latest")
    assert checkpoint.state["hooks"]["SaveEvery"]["seconds"] > 0
    timed.hooks = type(timed.hooks)([SaveEvery(), StopAfter(epochs=1)])  # without minutes from now on
    timed.hooks.load_state_dict({"SaveEvery": {"seconds": 1.0}})
    with pytest.raises(ConfigError, match="two hooks that keep state are named 'SaveEvery'"):
        run_hook(SaveEvery(minutes=1), SaveEvery(minutes=2, tag="b"), output_dir=tmp_path / "twins")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_when_the_clock_saves_does_not_change_the_training(
    asynchronous: bool, make_model: Callable[..., Any], make_dataset: Callable[..., Any], tmp_path: Path
) -> None:
    """Weights, optimizer, random numbers and the numbers of every epoch, saved at every border and never."""
    ends = []
    for minutes in (EACH_STEP, 1e6):
        torch.manual_seed(3)
        record = RecordEvents(requires=())
        model = make_model(update={"accumulate": 2})
        hooks = [ComputeStats(["loss"]), ScoreTasks(train=True), record, SaveEvery(minutes=minutes, keep=2)]
        options: dict[str, Any] = {"extra_streams": ["valid"], "asynchronous_saving": asynchronous, "buffer": 2}
        loop = MainLoop(
            model, make_dataset(), [*hooks, StopAfter(steps=7)], output_dir=tmp_path / str(minutes), **options
        )
        loop.run_training()
        ends.append((model.state_dict(), model.training_state_dict(), torch.get_rng_state(), record.epochs))
    assert len(kept(tmp_path / str(EACH_STEP))) == 2
    assert kept(tmp_path / "1000000.0") == {}
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0, equal_nan=True)


def test_without_a_folder_it_is_refused_before_the_training() -> None:
    with pytest.raises(ConfigError, match="output_dir"):
        MainLoop(FakeModel(), FIVE, [SaveEvery(runway=10)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_epochs": 2}, "the argument 'n_epochs' is called 'every' here"),
        ({"on_save_failure": "warn"}, "'on_save_failure' is gone: a checkpoint that cannot be written always ends"),
        ({"on_failure": "warn"}, "'on_failure' is gone: a checkpoint that cannot be written always ends"),
        ({"every": 0}, "every must be a positive whole number, not 0"),
        ({"steps": 0}, "steps must be a positive whole number"),
        ({"keep": 0}, "keep must be a positive whole number"),
        ({"runway": -1}, "runway must be a positive whole number"),
        ({"tag": "a-b"}, "'a-b' cannot be the tag"),
        ({"minutes": 0}, "minutes must be a positive number, not 0"),
        ({"minutes": "5"}, "minutes must be a positive number, not '5'"),
        ({"minutes": 1e-7}, "minutes must be finite and at least 1e-06, not 1e-07"),
        ({"minutes": float("inf")}, "minutes must be finite"),
        ({"minutes": float("nan")}, "minutes must be a positive number, not nan"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SaveEvery(**arguments)
