"""Shares that follow from the scores of the epochs before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl import (
    AbstractHook,
    CheckpointError,
    ColumnDataset,
    ConfigError,
    MainLoop,
    MultiTaskDataset,
    TaskLoader,
    TrainingTerminated,
)
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.schedulers import Dynamic
from emloop_mtl.testing import FakeModel, SaveAndFail

from .test_schedulers import FakeLoader, names


def by_name(numbers: Mapping[str, float]) -> dict[str, float]:
    return {"a": numbers["a/d/valid/loss"], "b": numbers["b/d/valid/loss"]}


def epoch(a: float, b: float) -> dict[str, Any]:
    return {"valid": {"a/d/loss": a, "b/d/loss": b}}


LOADERS = [FakeLoader("a", 8), FakeLoader("b", 8)]


def counts(scheduler: Dynamic, pass_number: int) -> dict[str, int]:
    return dict(Counter(names(scheduler, *LOADERS, pass_number=pass_number)))


def test_weights_count_for_passes_that_begin_later_only() -> None:
    scheduler = Dynamic(by_name, batches_per_pass=8)
    assert counts(scheduler, 0) == {"a": 4, "b": 4}
    scheduler.after_epoch(epoch(3, 1), 1)  # pass 0 is under way
    assert counts(scheduler, 0) == {"a": 4, "b": 4}
    assert counts(scheduler, 1) == counts(scheduler, 5) == {"a": 6, "b": 2}
    scheduler.after_epoch(epoch(1, 7), 2)
    scheduler.after_epoch(epoch(0, 7), 2)
    assert counts(scheduler, 1) == {"a": 6, "b": 2}
    assert counts(scheduler, 2) == {"b": 8}


def test_without_an_answer_the_weights_stay() -> None:
    scheduler = Dynamic(lambda numbers: {"a": 1, "b": 3} if numbers else None, start={"a": 3, "b": 1})
    scheduler.after_epoch({"train": {}}, 0)
    assert counts(scheduler, 0) == {"a": 12, "b": 4}
    scheduler.after_epoch(epoch(1, 1), 1)
    scheduler.after_epoch({}, 2)
    assert counts(scheduler, 2) == {"a": 4, "b": 12}


def test_what_was_learnt_survives_in_its_state() -> None:
    scheduler, other = Dynamic(by_name, batches_per_pass=8), Dynamic(by_name, batches_per_pass=8)
    for number in range(3):
        scheduler.after_epoch(epoch(1 + number, 3), number)
    other.load_state_dict(scheduler.state_dict())
    assert [counts(other, number) for number in (1, 2)] == [counts(scheduler, number) for number in (1, 2)]


@pytest.mark.parametrize(
    "state",
    [{}, {"learnt": 1}, {"learnt": [{"pass": 0}]}, {"learnt": [{"pass": "0", "weights": {"a": 1}}]}],
    ids=["nothing", "number", "no weights", "text"],
)
def test_a_state_that_is_none_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="what Dynamic has learnt cannot be read"):
        Dynamic(by_name).load_state_dict(state)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda numbers: numbers["a/d/vaild/loss"], r"<lambda>: there is no number 'a/d/vaild/loss'; did you mean 'a/"),
        (lambda numbers: 1 / 0, "<lambda>: ZeroDivisionError: division by zero"),
        (lambda numbers: [1, 2], "what <lambda> returned must map loader names to numbers"),
        (lambda numbers: {"a": -1}, "what <lambda> returned: the weight of loader 'a' must be a finite number >= 0"),
    ],
    ids=["name", "failure", "list", "negative"],
)
def test_a_function_that_cannot_be_used_is_named(answer: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        Dynamic(answer).after_epoch(epoch(1, 1), 0)
    assert caught.value.path == ("function",)


def test_weights_that_do_not_fit_the_loaders_are_refused() -> None:
    scheduler = Dynamic(lambda numbers: {"a": 1})
    scheduler.after_epoch({}, 0)
    with pytest.raises(ConfigError, match="what <lambda> returned: loader 'b' has no weight"):
        counts(scheduler, 0)
    with pytest.raises(ConfigError, match="function must be a function"):
        Dynamic(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Dynamic: start: loader 'b' has no weight"):
        counts(Dynamic(by_name, start={"a": 1}), 0)


class Report(AbstractHook):
    """Writes a number of the epoch, and keeps which loaders the batches came from."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.seen: list[str] = []

    def max_steps(self) -> int | None:
        return self.main_loop.steps_of(self.epochs)

    def requires(self) -> tuple[()]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Any) -> None:
        self.seen.append(batch_data.data_name)
        time.sleep(0.001)  # time to read ahead

    def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
        epoch_data["train"]["share"] = epoch_id
        if epoch_id == self.epochs:
            raise TrainingTerminated("the end")


def share_of_epoch(numbers: Mapping[str, float]) -> dict[str, float]:
    return {"a": 1, "b": 2 ** numbers["train/share"]}


class TwoTables(MultiTaskDataset):
    deterministic = True  # so that passes could be read ahead of their time

    def loaders(self) -> list[TaskLoader]:
        tables = [ColumnDataset(name, {"x": torch.arange(6)}) for name in "ab"]
        return [TaskLoader(table, split="train", batch_size=1) for table in tables]


def train(folder: Path, buffer: int, fixed: int | None, restore: bool = False, fail_at: int | None = None) -> list[str]:
    report = Report(epochs=4)
    dataset = TwoTables(streams={"train": {"scheduler": Dynamic(share_of_epoch, batches_per_pass=9)}})
    hooks = [report, *([] if fail_at is None else [SaveAndFail(every=fail_at - 1, fail_at=fail_at)])]
    options: dict[str, Any] = {"buffer": buffer, "fixed_epoch_size": fixed, "skip_zeroth_epoch": True}
    loop = MainLoop(FakeModel(inputs=["x"]), dataset, hooks, output_dir=folder, **options)
    if restore:
        loop.restore(newest_checkpoint(folder / "checkpoints"))
    try:
        loop.run_training()
    except RuntimeError:
        assert fail_at is not None
    return report.seen


@pytest.mark.parametrize("buffer", [0, 3])
def test_in_a_training_every_pass_has_the_shares_of_the_epoch_before(tmp_path: Path, buffer: int) -> None:
    seen = train(tmp_path, buffer, None)
    passes = [Counter(seen[begin : begin + 9]) for begin in range(0, 36, 9)]
    # 9 batches by the weights 1:1, 1:2, 1:4 and 1:8; 4.5 and 1.8 are rounded up or down
    assert passes[1] == {"a": 3, "b": 6}
    assert passes[3] == {"a": 1, "b": 8}
    assert passes[0]["a"] in (4, 5)
    assert passes[2]["a"] in (1, 2)


@pytest.mark.parametrize("fixed", [None, 5, 14], ids=["pass", "shorter", "longer"])
def test_reading_ahead_and_resuming_change_nothing(tmp_path: Path, fixed: int | None) -> None:
    whole = train(tmp_path / "whole", 0, fixed)
    assert train(tmp_path / "buffered", 16, fixed) == whole
    for fail_at in range(2, len(whole) + 4, 5):
        folder = tmp_path / str(fail_at)
        before = train(folder, 16, fixed, fail_at=fail_at)
        after = train(folder, 0, fixed, restore=True)
        assert before[: len(whole) - len(after)] + after == whole
