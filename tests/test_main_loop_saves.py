"""When a training is saved, and what of it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint, remove_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, run_hook
from emloop_mtl.types import EpochData

from .main_loops import At, Plain, batches, fail, interrupt, terminate


def test_an_evaluation_saves_nothing(tmp_path: Path) -> None:
    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")

    dataset = FakeDataset(train=batches(1), valid=batches(1, 1))
    loop = MainLoop(FakeModel(), dataset, [Save(), At("after_epoch", 2, terminate)], output_dir=tmp_path)
    loop.run_training()
    before = list_checkpoints(tmp_path / "checkpoints")
    interrupting = MainLoop(FakeModel(), dataset, [Save(), At("valid", 1, interrupt)], output_dir=tmp_path)
    for evaluated in (loop, interrupting):
        evaluated.run_evaluation("valid")
        assert list_checkpoints(tmp_path / "checkpoints") == before
    assert interrupting.end == "interrupted"


def test_each_evaluated_stream_can_be_saved_in_its_middle(tmp_path: Path) -> None:
    class Save(AbstractHook):
        seen: ClassVar[list[str]] = []

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            self.stream = stream_name
            self.main_loop.request_save("latest")

        def state_dict(self) -> dict[str, Any]:
            self.seen.append(self.stream)
            return {}

    dataset = FakeDataset(train=batches(1), valid=batches(1), test=batches(1))
    run_hook(Save(), dataset=dataset, extra_streams=["valid", "test"], output_dir=tmp_path)
    assert Save.seen == ["train", "valid", "test"] * 2


class Under(AbstractHook):
    """Has streams evaluated under two contexts, and other weights saved; writes down what happens."""

    def __init__(self, fail_in: str | None = None) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._fail_in = fail_in

    def register_mainloop(self, main_loop: MainLoop) -> None:
        super().register_mainloop(main_loop)
        main_loop.evaluate_under(lambda: self._context("outer"))
        main_loop.evaluate_under(lambda: self._context("inner"))
        main_loop.save_weights_as(lambda weights: {name: value + 100 for name, value in weights.items()})

    @contextmanager
    def _context(self, name: str) -> Iterator[None]:
        self.seen.append(f"+{name}")
        if self._fail_in == f"+{name}":
            fail()
        try:
            yield
        finally:
            self.seen.append(f"-{name}")

    def requires(self) -> Collection[str]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self.seen.append(stream_name)
        if stream_name == "valid" and self.seen.count("valid") == 1 and self._fail_in is None:
            self.main_loop.request_save("middle")
            self.main_loop.when_saved(lambda: self.seen.append("saved"))
        if stream_name == self._fail_in:
            fail()


def test_streams_are_evaluated_under_contexts_which_are_left_to_save_and_in_the_end(tmp_path: Path) -> None:
    hook = Under()
    dataset = FakeDataset(train=batches(1), valid=batches(1, 1))
    run_hook(hook, dataset=dataset, epochs=1, extra_streams=["valid"], skip_zeroth_epoch=True, output_dir=tmp_path)
    into, out = ["+outer", "+inner"], ["-inner", "-outer"]
    assert hook.seen == ["train", *into, "valid", *out, "saved", *into, "valid", *out]
    checkpoint = newest_checkpoint(tmp_path / "checkpoints", "middle")
    assert checkpoint.weights == {"trained": 101}


@pytest.mark.parametrize(("where", "seen"), [("valid", ["valid", "-inner", "-outer"]), ("+inner", ["-outer"])])
def test_contexts_are_left_after_an_error(where: str, seen: list[str]) -> None:
    hook = Under(fail_in=where)
    dataset = FakeDataset(train=batches(1), valid=batches(1))
    with pytest.raises(RuntimeError, match="broken"):
        run_hook(hook, dataset=dataset, extra_streams=["valid"], skip_zeroth_epoch=True)
    assert hook.seen == ["train", "+outer", "+inner", *seen]


def test_a_save_that_was_killed_between_two_tags_is_completed(tmp_path: Path) -> None:
    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")
            if epoch_id == 1:
                self.main_loop.request_save("best")

    def loop() -> MainLoop:
        hooks = [Save(), At("after_epoch", 2, terminate)]
        return MainLoop(FakeModel(), FakeDataset(train=batches(1)), hooks, output_dir=tmp_path)

    loop().run_training()
    folder = tmp_path / "checkpoints"
    best = newest_checkpoint(folder, "best")
    remove_checkpoint(best.path)
    (folder / f".tmp-{best.path.name}").mkdir()
    loop().restore(newest_checkpoint(folder))
    again = newest_checkpoint(folder, "best")
    assert (again.path, again.position, again.weights) == (best.path, best.position, best.weights)
    assert sorted(path.name for path in folder.iterdir()) == ["best-00000002", "latest-00000002"]


def test_a_save_is_written_once_all_hooks_have_finished_the_event(tmp_path: Path) -> None:
    class Late(AbstractHook):
        value = 0

        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.value = epoch_id

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")

    run_hook(Save(), Late(), epochs=2, output_dir=tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.state["hooks"]["Late"] == {"value": 2}
    assert checkpoint.finished
    assert tuple(checkpoint.position) == (2, 4, 2, 8)


def test_a_checkpoint_that_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    class Other(FakeModel):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise RuntimeError("missing:\n\tweight")

    class Save(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
            self.main_loop.request_save("latest")

    run_hook(Save(), output_dir=tmp_path, fixed_epoch_size=2)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"latest-0000000\d: does not fit the model: missing: weight$"):
        MainLoop(Other(), FakeDataset(train=[])).restore(checkpoint)
    message = "main_loop.fixed_epoch_size was 2 steps and cannot be 3 steps now: a run keeps the one it began with"
    with pytest.raises(CheckpointError, match=message):
        MainLoop(FakeModel(), FakeDataset(train=[]), fixed_epoch_size=3).restore(checkpoint)


def test_saving_needs_a_folder_and_a_model_with_state(tmp_path: Path) -> None:
    loop = MainLoop(FakeModel(), FakeDataset(train=[]))
    with pytest.raises(ConfigError, match="give the main loop an output_dir"):
        loop.request_save("latest")
    loop = MainLoop(Plain(), FakeDataset(train=[]), output_dir=tmp_path)
    with pytest.raises(ConfigError, match="checkpoints need 'state_dict' and 'load_state_dict' of Plain"):
        loop.request_save("latest")
