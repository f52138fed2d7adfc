"""What datasets raise by themselves is told with its place, whoever reads them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from torch.utils.data import Dataset, IterableDataset

from emloop_mtl import AbstractDataset, DataError, MainLoop, MultiTaskDataset, TaskLoader
from emloop_mtl.cli import main
from emloop_mtl.hooks import StopAfter
from emloop_mtl.testing import FakeModel


class NeedsTwo(Exception):  # noqa: N818
    """Can be handed over, but not be made again there."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class Prefixed(Exception):  # noqa: N818
    """Puts something before what it is made of, and would do so again."""

    def __init__(self, path: str) -> None:
        super().__init__(f"cannot read {path}")


class Holding(Exception):  # noqa: N818
    """Has what cannot be handed over."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.function = lambda: None


ERRORS: dict[str, Callable[[], Exception]] = {
    "a key": lambda: KeyError("image"),
    "a text": lambda: ValueError("broken image"),
    "our own": lambda: DataError("broken image"),
    "one that cannot be made again": lambda: NeedsTwo("this", "that"),
    "one with what cannot be handed over": lambda: Holding("broken"),
    "one that would have another text": lambda: Prefixed("image"),
    "of JSON": lambda: json.JSONDecodeError("broken", "{", 1),
}


class Rows(Dataset[Any]):
    """Fails in row 5."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 8

    def __getitem__(self, row: int) -> dict[str, Any]:
        if row == 5:
            raise ERRORS[self.kind]()
        return {"x": row}


class Walk(IterableDataset[Any]):
    """Fails after five samples."""

    def __init__(self, kind: str) -> None:
        self.rows = Rows(kind)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self.rows[row] for row in range(8))


class Loaded(MultiTaskDataset):
    """One loader."""

    def __init__(self, dataset: Any, num_workers: int) -> None:
        super().__init__()
        self.loader = TaskLoader(
            dataset, {}, "train", name="rows", batch_size=2, shuffle=False, num_workers=num_workers
        )

    def loaders(self) -> list[TaskLoader]:
        return [self.loader]


class Written(AbstractDataset):
    """A stream without loaders that fails after two batches."""

    def train_stream(self) -> Iterator[dict[str, Any]]:
        yield from ({"x": [number]} for number in range(2))
        raise KeyError("image")


def fail(data: AbstractDataset) -> Exception:
    with pytest.raises(Exception) as failed:  # noqa: PT011
        MainLoop(FakeModel(), data, [StopAfter(epochs=1)], skip_zeroth_epoch=True).run_training()
    assert isinstance(failed.value, Exception)
    return failed.value


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", [Rows, Walk])
@pytest.mark.parametrize("raised", ["a key", "a text", "of JSON"])
def test_an_error_stays_what_it_is_and_gets_its_place(raised: str, kind: Any, num_workers: int) -> None:
    error = fail(Loaded(kind(raised), min(num_workers, 1 if kind is Walk else 2)))
    assert type(error) is type(ERRORS[raised]())
    assert error.args == ERRORS[raised]().args
    row = ["in row 5"] if kind is Rows else []
    assert error.__notes__ == [*row, "in loader 'rows'", "in stream 'train', batch 2"]


@pytest.mark.parametrize("kind", [Rows, Walk])
def test_the_traceback_of_another_process_is_its_cause(kind: Any) -> None:
    error = fail(Loaded(kind("a key"), 1))
    told = "".join(traceback.format_exception(error))
    assert "raise ERRORS[self.kind]()" in told
    assert told.index("raise ERRORS") < told.index("was the direct cause of")


@pytest.mark.parametrize(
    "raised",
    ["one that cannot be made again", "one with what cannot be handed over", "one that would have another text"],
)
def test_an_error_that_cannot_be_handed_over_is_told_by_its_text(raised: str) -> None:
    error = fail(Loaded(Rows(raised), 1))
    original = ERRORS[raised]()
    assert type(error) is RuntimeError
    assert str(error) == f"{type(original).__name__}: {original}"
    assert error.__notes__ == ["in row 5", "in loader 'rows'", "in stream 'train', batch 2"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_our_own_errors_say_their_place_themselves(num_workers: int) -> None:
    error = fail(Loaded(Rows("our own"), num_workers))
    assert str(error) == "stream 'train', batch 2: loader 'rows': broken image"
    assert getattr(error, "__notes__", []) == []


def test_a_stream_without_loaders_is_named_with_the_batch() -> None:
    assert fail(Written()).__notes__ == ["in stream 'train', batch 2"]


class Ending(Rows):
    """Ends the process that reads it."""

    def __init__(self, end: Callable[[], Any]) -> None:
        super().__init__("a key")
        self.end = end

    def __getitem__(self, row: int) -> dict[str, Any]:
        if row == 5:
            self.end()
        return {"x": row}


ENDS: dict[str, tuple[Callable[[], Any], str]] = {
    "a signal": (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed, as the system does when memory runs out"),
    "an exit": (lambda: sys.exit(3), "with exit code 3"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_ends_is_told_of(end: str) -> None:
    act, told = ENDS[end]
    error = fail(Loaded(Ending(act), 2))
    assert type(error) is DataError
    assert f"a process that reads has ended: {told}; num_workers 0 of the loader reads in the main" in str(error)


class Two(Loaded):
    """Two loaders, with processes of their own."""

    def loaders(self) -> list[TaskLoader]:
        other = TaskLoader(Ending(lambda: None), {}, "train", name="others", batch_size=2, num_workers=1)
        return [*super().loaders(), other]


def test_no_process_is_left() -> None:
    loop = MainLoop(FakeModel(), Two(Rows("a key"), 1), [StopAfter(epochs=1)], skip_zeroth_epoch=True)
    with suppress(KeyError):  # pytest would keep hold of the frames
        loop.run_training()
    assert loop.end == "failed"
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_command_tells_it_in_one_line(num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(MODULE.replace("WORKERS", str(num_workers)))
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = CliRunner().invoke(main, ["train", "config.yaml"])
    assert done.exit_code == 1
    where = "in row 3 in loader 'rows' in stream 'train'"
    assert done.stderr == f"error: KeyError: 'image' {where} (-v shows the traceback)\n"
    assert not (tmp_path / "log").exists()


MODULE = """
from emloop_mtl import MultiTaskDataset, TaskLoader

class Rows:
    def __len__(self):
        return 8

    def __getitem__(self, row):
        if row == 3:
            raise KeyError("image")
        return {"x": [float(row)], "y": 0}

class Broken(MultiTaskDataset):
    def loaders(self):
        return [TaskLoader(Rows(), {"kind": "y"}, "train", name="rows", batch_size=8, num_workers=WORKERS)]
"""

CONFIG = """
dataset: {class: broken.Broken}
model:
  class: MultiTaskModel
  modules: {trunk: {class: torch.nn.Linear, in_features: 1, out_features: 2}}
  tasks:
    kind: {flow: [{name: out, module: trunk, inputs: x}], label: y, loss: cross_entropy}
hooks:
  - StopAfter: {epochs: 1}
"""
