"""ClearCheckpoints: what goes when a training has finished, and that nothing is lost by it before."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl import checkpoint as checkpoint_module
from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.constants import VERIFY_TAG
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks import ClearCheckpoints, RestoreBest, SaveBest, SaveEvery, SaveLatest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import run_hook
from emloop_mtl.utils.cleared import Cleared

from .graded import EndInStep, Grade

MakeLoop = Callable[..., MainLoop]

GRADES = [5, 4, 1, 3, 2]


def saving() -> list[AbstractHook]:
    best = SaveBest(stream="train", variable="grade")
    return [best, SaveEvery(), SaveLatest()]


@pytest.fixture
def make_loop(make_model: Callable[..., Any], make_dataset: Callable[..., Any], tmp_path: Path) -> MakeLoop:
    """Make a main loop on two tasks, of three steps per epoch."""

    def make(*hooks: AbstractHook, **options: Any) -> MainLoop:
        listed = [Grade(GRADES), *hooks, *([] if options.pop("endless", False) else [StopAfter(epochs=4)])]
        return MainLoop(make_model(), make_dataset(), listed, **{"output_dir": tmp_path / "run", **options})

    return make


def kept(folder: Path) -> dict[str, int]:
    """Return the epoch of each checkpoint by its tag."""
    found = [load_checkpoint(path) for path in list_checkpoints(folder / "checkpoints")]
    return {checkpoint.tag: checkpoint.position.epoch for checkpoint in found}


ALL = {"best": 2, "latest": 4, **{f"epoch-{number}": number for number in range(5)}}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["at once", "in a thread"])
@pytest.mark.parametrize(
    ("what", "left"),
    [(None, ALL), ("intermediate", {"best": 2, "latest": 4}), ("all_but_best", {"best": 2}), ("all", {})],
    ids=["none", "intermediate", "all but best", "all"],
)
def test_what_goes_when_a_training_has_finished(
    what: str | None, left: dict[str, int], asynchronous: bool, make_loop: MakeLoop, tmp_path: Path
) -> None:
    clear = [] if what is None else [ClearCheckpoints(what)]
    loop = make_loop(RestoreBest(), *clear, *saving(), asynchronous_saving=asynchronous)
    loop.run_training()
    assert (loop.end, kept(tmp_path / "run")) == ("finished", left)
    whole = make_loop(RestoreBest(), *saving(), output_dir=tmp_path / "whole")
    whole.run_training()
    for name, weight in whole.model.state_dict().items():  # the best weights, though their checkpoint may be gone
        assert torch.equal(loop.model.state_dict()[name], weight)


def test_several_bests_and_tags_of_ones_own(make_loop: MakeLoop, tmp_path: Path) -> None:
    class Keep(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            self.main_loop.request_save("mine")

    def hooks() -> list[AbstractHook]:
        worst = SaveBest(stream="train", variable="grade", mode="max", tag="worst")
        worst.name = "SaveWorst"
        return [*saving(), worst, SaveEvery(every=2, keep=1, tag="rare"), SaveEvery(steps=5, tag="epoch"), Keep()]

    make_loop(ClearCheckpoints(), *hooks()).run_training()
    assert set(kept(tmp_path / "run")) == {"best", "worst", "latest", "mine"}
    make_loop(ClearCheckpoints("all_but_best"), *hooks(), output_dir=tmp_path / "other").run_training()
    assert set(kept(tmp_path / "other")) == {"best", "worst"}


def test_what_verify_resume_has_saved_is_left_to_it(make_loop: MakeLoop, tmp_path: Path) -> None:
    class Keep(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            self.main_loop.request_save(f"{VERIFY_TAG}killed")

    make_loop(ClearCheckpoints("all"), *saving(), Keep()).run_training()
    assert set(kept(tmp_path / "run")) == {f"{VERIFY_TAG}killed"}


@pytest.mark.parametrize("how", ["interrupted", "failed"])
def test_a_training_that_has_not_finished_keeps_all(how: str, make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(ClearCheckpoints("all"), *saving(), EndInStep(how))
    if how == "failed":
        with pytest.raises(RuntimeError, match="out of paper"):
            loop.run_training()
    else:
        loop.run_training()
    assert loop.end == how
    assert set(kept(tmp_path / "run")) == {"best", "latest", "epoch-0", "epoch-1", "epoch-2", "epoch-3"}
    resumed = make_loop(ClearCheckpoints("all"), *saving())
    resumed.restore(newest_checkpoint(tmp_path / "run" / "checkpoints"))
    resumed.run_training()
    assert (resumed.end, kept(tmp_path / "run")) == ("finished", {})


def test_an_evaluation_by_hand_removes_nothing(make_loop: MakeLoop, tmp_path: Path) -> None:
    make_loop(*saving()).run_training()
    loop = make_loop(ClearCheckpoints("all"), *saving())
    loop.run_evaluation("valid")
    assert kept(tmp_path / "run") == ALL


@pytest.mark.parametrize(
    "what", [*(pytest.param(what, marks=pytest.mark.long) for what in ("intermediate", "all_but_best")), "all"]
)
def test_a_kill_between_removals_leaves_what_the_end_can_be_reached_from(
    what: str, make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off after each removal, a training that is restored comes to the same end and removes the rest."""
    make_loop(*saving()).run_training()
    whole, run = tmp_path / "whole", tmp_path / "run"
    run.rename(whole)
    make_loop(ClearCheckpoints(what), *saving()).run_training()
    expected, names = kept(run), {path.name for path in list_checkpoints(run / "checkpoints")}
    remove = checkpoint_module.remove_checkpoint
    for number in range(len(ALL) - len(expected)):
        shutil.rmtree(run)
        left = iter(range(number))

        def killed(path: Path, left: Any = left) -> None:
            if Cleared.read(path.parent) is not None and next(left, None) is None:
                raise KeyboardInterrupt
            remove(path)

        monkeypatch.setattr(checkpoint_module, "remove_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            make_loop(ClearCheckpoints(what), *saving()).run_training()
        monkeypatch.setattr(checkpoint_module, "remove_checkpoint", remove)
        assert len(kept(run)) == len(ALL) - number
        loop = make_loop(ClearCheckpoints(what), *saving())
        checkpoint = newest_checkpoint(run / "checkpoints")
        assert checkpoint.finished, number
        loop.restore(checkpoint, stay_finished=True)
        loop.run_training()
        assert (kept(run), loop.position.step) == (expected, 12), number
        assert {path.name.rpartition("-")[0] for path in list_checkpoints(run / "checkpoints")} == {
            name.rpartition("-")[0] for name in names
        }


def test_what_was_removed_is_not_completed_again(make_loop: MakeLoop, tmp_path: Path) -> None:
    """A checkpoint that was saved for several reasons is completed on resume, but not with what was cleared."""
    make_loop(ClearCheckpoints(), *saving()).run_training()
    folder = tmp_path / "run" / "checkpoints"
    newest = newest_checkpoint(folder)
    assert set(newest.tags) >= {"latest"}
    best = newest_checkpoint(folder, "best")
    assert "epoch-2" in best.tags
    for checkpoint in (newest, best):
        checkpoint_module.complete_checkpoint(checkpoint)
    assert kept(tmp_path / "run") == {"best": 2, "latest": 4}


def test_what_is_known_of_them_is_forgotten_when_a_training_goes_on(make_loop: MakeLoop, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    make_loop(ClearCheckpoints("all_but_best"), *saving()).run_training()
    known = Cleared.read(folder)
    assert known is not None
    assert known.position == (4, 12, 4, 48)
    assert known.is_end_gone(list_checkpoints(folder))
    loop = make_loop(*saving())
    loop.restore(newest_checkpoint(folder))
    loop.run_training()
    assert Cleared.read(folder) is None
    assert kept(tmp_path / "run").keys() >= {"best", "latest", "epoch-3", "epoch-4"}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"position": {"epoch": -1, "step": 0, "passes": 0, "samples": 0}, "removed": []}', "[" * 10_000],
    ids=["empty", "list", "nothing", "negative", "deep"],
)
def test_a_file_that_tells_nothing_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "cleared.json").write_text(content)
    assert Cleared.read(tmp_path) is None


def test_names_that_lead_elsewhere_are_left_out(make_loop: MakeLoop, tmp_path: Path) -> None:
    Cleared.write(tmp_path, make_loop().position, ["../best-00000001", "/", "epoch-1-00000002", "epoch-1"])
    known = Cleared.read(tmp_path)
    assert known is not None
    assert known.names == ["epoch-1-00000002"]


def test_nothing_goes_where_nothing_can_be_written(
    make_loop: MakeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cleared, "write", full)
    with pytest.raises(CheckpointError, match="cannot clear the checkpoints in '.*': No space left on device"):
        make_loop(ClearCheckpoints("all"), *saving()).run_training()
    assert kept(tmp_path / "run") == ALL


def test_a_checkpoint_that_was_removed_is_told_of(make_loop: MakeLoop, tmp_path: Path) -> None:
    make_loop(ClearCheckpoints("all"), *saving()).run_training()
    reason = "has no checkpoint; ClearCheckpoints has removed what was there when the training had finished"
    with pytest.raises(CheckpointError, match=reason):
        newest_checkpoint(tmp_path / "run" / "checkpoints")


def test_the_log_tells_how_many(make_loop: MakeLoop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make_loop(ClearCheckpoints(), *saving()).run_training()
    assert "ClearCheckpoints: removed 5 checkpoints" in caplog.messages


@pytest.mark.parametrize(
    ("hooks", "message", "path"),
    [
        ([ClearCheckpoints("all"), SaveBest(), RestoreBest()], "list RestoreBest before ClearCheckpoints", ("what",)),
        ([ClearCheckpoints("all_but_best"), SaveLatest()], "no SaveBest is listed, so nothing would stay", ("what",)),
    ],
    ids=["restored later", "no best"],
)
def test_what_does_not_fit_is_refused(
    hooks: list[AbstractHook], message: str, path: tuple[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_hook(*hooks, output_dir=tmp_path)
    assert caught.value.path == path


@pytest.mark.parametrize("what", ["best", None, True])
def test_wrong_arguments(what: Any) -> None:
    with pytest.raises(ConfigError, match=f"ClearCheckpoints: what {what!r} is unknown") as caught:
        ClearCheckpoints(what)
    assert caught.value.path == ("what",)
    with pytest.raises(ConfigError, match="checkpoints need a folder"):
        run_hook(ClearCheckpoints())
