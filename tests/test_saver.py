"""What is done once a checkpoint is written: in what order, and when not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError
from emloop_mtl.testing import run_hook


class Note(AbstractHook):
    """Note each event, ask to be called when it is saved, and note that with the checkpoints there are then."""

    def __init__(self, save: str | None = None) -> None:
        super().__init__()
        self.notes: list[Any] = []
        self._save = save

    def requires(self) -> tuple[str, ...]:
        return ()

    def _note(self, event: str) -> None:
        self.notes.append(event)
        self.main_loop.when_saved(self._look)
        if self._save is not None:
            self.main_loop.request_save(self._save)

    def _look(self) -> None:
        folder = Path(self.main_loop.output_dir or "nowhere") / "checkpoints"
        self.notes.append([path.name for path in list_checkpoints(folder)])

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._note(f"{stream_name} batch")

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        self._note("epoch")

    def after_training(self, success: bool) -> None:
        self._note("training")


EVENTS = [*["train batch"] * 2, *["valid batch"] * 2, "epoch"]


def test_it_follows_every_event_even_if_nothing_is_saved() -> None:
    note = Note()
    run_hook(note, epochs=1)
    assert note.notes == [part for event in [*EVENTS, *EVENTS, "training"] for part in (event, [])]


def test_it_comes_when_the_checkpoint_is_written(tmp_path: Path) -> None:
    note = Note("at")
    run_hook(note, epochs=0, output_dir=tmp_path)
    written = [f"at-{number:08d}" for number in (1, 2, 3, 4, 5)]
    # The end is the moment of the last epoch's end, which is kept already.
    assert note.notes[1::2] == [[name] for name in [*written, written[-1]]]


def test_all_hooks_have_acted_before(tmp_path: Path) -> None:
    first, second = Note("first"), Note()
    second.notes = first.notes
    run_hook(first, second, epochs=0, output_dir=tmp_path)
    assert first.notes[:4] == ["train batch", "train batch", ["first-00000001"], ["first-00000001"]]


def test_it_is_left_out_in_an_evaluation_by_hand_and_where_saving_fails(tmp_path: Path) -> None:
    note = Note()
    loop = run_hook(note, epochs=1).main_loop
    note.notes.clear()
    loop.run_evaluation("valid")
    assert note.notes == ["valid batch", "valid batch", "epoch", "training"]

    class Spoil(AbstractHook):
        def state_dict(self) -> dict[str, Any]:
            return {"bad": object()}

    note = Note("at")
    with pytest.raises(CheckpointError, match="Spoil"):
        run_hook(note, Spoil(), output_dir=tmp_path)
    assert note.notes == ["train batch", "training"]
