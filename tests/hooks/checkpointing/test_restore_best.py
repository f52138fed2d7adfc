from __future__ import annotations

import logging
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks import RestoreBest, SaveBest, SaveEvery, SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import run_hook

from .graded import EndInStep, Grade


class NoteWeights(AbstractHook):
    """Note the model's weights after each epoch and step."""

    def __init__(self) -> None:
        super().__init__()
        self.after: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    def requires(self) -> tuple[str, ...]:
        return ()

    def _note(self, unit: str, number: int) -> None:
        weights = self.main_loop.model.state_dict()
        self.after[unit, number] = {name: tensor.clone() for name, tensor in weights.items()}

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._note("step", self.main_loop.position.step)

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        self._note("epoch", epoch_id)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def save_best(**arguments: Any) -> SaveBest:
    return SaveBest(stream="train", variable="grade", **arguments)


MakeLoop = Callable[..., MainLoop]


@pytest.fixture
def make_loop(make_model: Callable[..., Any], make_dataset: Callable[..., Any], tmp_path: Path) -> MakeLoop:
    """Make a main loop on two tasks, of three steps per epoch."""

    def make(*hooks: AbstractHook, grades: list[float] | None = None, folder: str = "run") -> MainLoop:
        first = Grade([5, 4, 1, 3, 2, 6, 7] if grades is None else grades)
        return MainLoop(make_model(), make_dataset(), [first, *hooks], output_dir=tmp_path / folder)

    return make


@pytest.mark.parametrize(
    ("grades", "mode", "best"), [([5, 4, 1, 3], "min", 2), ([5, 4, 1, 3], "max", 0), ([nan, 4, nan, 3], "min", 3)]
)
def test_the_weights_are_those_of_the_best_epoch(
    grades: list[float], mode: str, best: int, make_loop: MakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    note = NoteWeights()
    loop = make_loop(note, save_best(mode=mode), RestoreBest(), StopAfter(epochs=3), grades=grades)
    with caplog.at_level(logging.INFO):
        loop.run_training()
    assert same(loop.model.state_dict(), note.after["epoch", best])
    assert not same(note.after["epoch", best], note.after["epoch", (best + 1) % 4])
    assert f"RestoreBest: the weights are those of epoch {best}, step {3 * best}" in caplog.messages
    assert loop.position == (3, 9, 3, 36)  # nothing but weights goes back


def test_each_of_several_bests_can_be_restored(make_loop: MakeLoop) -> None:
    note = NoteWeights()
    least, most = save_best(), save_best(mode="max", tag="most")
    most.name = "SaveMost"
    loop = make_loop(note, RestoreBest(tag="most"), least, most, StopAfter(epochs=3), grades=[1, 2, 4, 3])
    loop.run_training()
    assert same(loop.model.state_dict(), note.after["epoch", 2])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("length", [{"epochs": 4}, {"steps": 10}])
def test_the_checkpoint_of_the_end_holds_the_end_and_can_be_gone_on_from(
    length: dict[str, int], first: bool, make_loop: MakeLoop
) -> None:
    """Whether the end is saved where the last epoch ends or only after the training, before the hook or after it."""
    note, whole = NoteWeights(), NoteWeights()

    def hooks(**length: int) -> list[AbstractHook]:
        saving = [SaveLatest(every=5), RestoreBest()]
        return [save_best(), *(saving if first else saving[::-1]), StopAfter(**length)]

    loop = make_loop(note, *hooks(**length))
    loop.run_training()
    assert same(loop.model.state_dict(), note.after["epoch", 2])
    latest = newest_checkpoint(Path(loop.output_dir or "") / "checkpoints")
    assert (latest.tag, latest.finished, latest.position) == ("latest", True, loop.position)
    assert same(latest.weights, note.after["step", loop.position.step])

    longer = make_loop(*hooks(epochs=6))
    longer.restore(latest)
    longer.run_training()
    make_loop(whole, *hooks(epochs=6), folder="whole").run_training()
    assert same(longer.model.state_dict(), whole.after["epoch", 2])
    ends = [newest_checkpoint(Path(longer.output_dir or "").parent / name / "checkpoints") for name in ("run", "whole")]
    assert ends[0].position == ends[1].position == (6, 18, 6, 72)
    assert same(ends[0].weights, ends[1].weights)


def test_a_finished_run_that_is_loaded_again_has_the_best_weights_again(make_loop: MakeLoop) -> None:
    hooks = [save_best(), SaveLatest(), RestoreBest(), StopAfter(epochs=4)]
    loop = make_loop(*hooks)
    loop.run_training()
    again = make_loop(save_best(), SaveLatest(), RestoreBest(), StopAfter(epochs=4))
    again.restore(newest_checkpoint(Path(loop.output_dir or "") / "checkpoints", "latest"))
    assert not same(again.model.state_dict(), loop.model.state_dict())
    again.run_training()
    assert again.position == loop.position
    assert same(again.model.state_dict(), loop.model.state_dict())


@pytest.mark.parametrize("how", ["finished", "interrupted", "failed"])
def test_only_a_finished_training_gets_its_best_weights_back(how: str, make_loop: MakeLoop) -> None:
    note = NoteWeights()
    loop = make_loop(note, save_best(), RestoreBest(), SaveLatest(), EndInStep(how))
    if how == "failed":
        with pytest.raises(RuntimeError, match="out of paper"):
            loop.run_training()
    else:
        loop.run_training()
    assert loop.end == how
    expected = note.after["epoch", 2] if how == "finished" else note.after["step", 10]
    assert same(loop.model.state_dict(), expected)
    if how == "interrupted":
        resumed = make_loop(note, save_best(), RestoreBest(), SaveLatest(), StopAfter(epochs=4))
        resumed.restore(newest_checkpoint(Path(loop.output_dir or "") / "checkpoints"))
        resumed.run_training()
        assert same(resumed.model.state_dict(), note.after["epoch", 2])


def test_evaluating_by_hand_leaves_the_weights_alone(make_loop: MakeLoop) -> None:
    loop = make_loop(save_best(), RestoreBest(), StopAfter(epochs=3))
    loop.run_training()
    with torch.no_grad():
        for parameter in loop.model.network.parameters():
            parameter.zero_()
    loop.run_evaluation("valid")
    assert not any(tensor.any() for tensor in loop.model.state_dict().values())


def test_without_any_number_the_weights_stay_with_a_warning(
    make_loop: MakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    note = NoteWeights()
    loop = make_loop(note, save_best(), RestoreBest(), StopAfter(epochs=2), grades=[nan] * 3)
    loop.run_training()
    assert (loop.end, same(loop.model.state_dict(), note.after["epoch", 2])) == ("finished", True)
    assert "RestoreBest: no epoch was the best; the weights stay those of the end" in caplog.messages


def test_a_best_of_another_continuation_is_not_taken(make_loop: MakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    """Going on from epoch 1 after epoch 2 was the best, now with nothing better than the best before."""
    make_loop(save_best(), SaveEvery(), RestoreBest(), StopAfter(epochs=3)).run_training()
    note = NoteWeights()
    loop = make_loop(note, save_best(), SaveEvery(), RestoreBest(), StopAfter(epochs=3), grades=[5, 4, 6, 6])
    folder = Path(loop.output_dir or "") / "checkpoints"
    loop.restore(newest_checkpoint(folder, "epoch-1"))
    with caplog.at_level(logging.WARNING):
        loop.run_training()
    assert same(loop.model.state_dict(), note.after["epoch", 3])
    (best,) = list_checkpoints(folder, "best")
    text = f"RestoreBest: the best epoch was 1, but '{best}' is of epoch 2; the weights stay those of the end"
    assert text in caplog.messages


def test_a_damaged_best_is_an_error_after_the_end_was_saved(make_loop: MakeLoop) -> None:
    class Damage(AbstractHook):
        def after_training(self, success: bool) -> None:
            folder = Path(self.main_loop.output_dir or "") / "checkpoints"
            (path,) = list_checkpoints(folder, "best")
            (path / "model.safetensors").write_bytes(b"")

    loop = make_loop(save_best(), SaveLatest(every=5), RestoreBest(), Damage(), StopAfter(epochs=3))
    with pytest.raises(CheckpointError, match=r"has no valid checkpoint; tried: best-\d+"):
        loop.run_training()
    assert loop.end == "failed"
    (latest,) = list_checkpoints(Path(loop.output_dir or "") / "checkpoints", "latest")
    assert (load_checkpoint(latest).finished, load_checkpoint(latest).position.epoch) == (True, 3)


def test_a_tag_that_no_hook_keeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RestoreBest: no SaveBest with the tag 'best' is listed$") as caught:
        run_hook(SaveLatest(), RestoreBest(), output_dir=tmp_path)
    assert caught.value.path == ("tag",)
    with pytest.raises(ConfigError, match="the tag 'bets' is listed; did you mean 'best'"):
        run_hook(SaveBest(), RestoreBest(tag="bets"), output_dir=tmp_path)
