from __future__ import annotations

from collections.abc import Iterable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, SaveBest
from emloop_mtl.testing import run_hook


class Write(AbstractHook):
    """Write given numbers, one per epoch; None writes nothing."""

    def __init__(self, values: Iterable[float | None]) -> None:
        super().__init__()
        self._values = list(values)

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        value = self._values[epoch_id]
        if value is not None:
            epoch_data["valid"]["loss"] = value


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [
        ([3, 2, 4, 2], "min", 1),
        ([3, 2, 4, 4], "max", 2),
        ([3, 4, 5], "min", 0),
        ([nan, 5, nan, 4, nan], "min", 3),
        ([nan, 5, nan, 4, nan], "max", 1),
        ([inf, None, 7, 8], "min", 2),
        ([-inf, -inf, 0], "max", 2),
    ],
)
def test_the_checkpoint_is_of_the_best_epoch(values: list[float | None], mode: str, best: int, tmp_path: Path) -> None:
    hook = SaveBest(mode=mode)
    run_hook(Write(values), hook, epochs=len(values) - 1, output_dir=tmp_path)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints", "best")
    assert checkpoint.position.epoch == best
    assert hook.state_dict() == {"value": values[best], "epoch": best}
    assert checkpoint.state["hooks"]["SaveBest"] == hook.state_dict()


def test_without_any_number_nothing_is_saved(tmp_path: Path) -> None:
    run_hook(Write([nan, nan]), SaveBest(), output_dir=tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_restored_hook_compares_with_the_best_before(tmp_path: Path) -> None:
    hook = SaveBest()
    hook.load_state_dict({"value": 2.0, "epoch": 7})
    run_hook(Write([3, 2]), hook, output_dir=tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_several_numbers_are_watched_under_several_tags(tmp_path: Path) -> None:
    least, most = SaveBest(tag="least"), SaveBest(mode="max", tag="most")
    most.name = "SaveMost"
    run_hook(Write([2, 1, 3]), least, most, epochs=2, output_dir=tmp_path)
    epochs = {tag: newest_checkpoint(tmp_path / "checkpoints", tag).position.epoch for tag in ("least", "most")}
    assert epochs == {"least": 1, "most": 2}


def test_a_number_that_nothing_writes_is_an_error_before_the_first_batch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'loss'"):
        run_hook(ComputeStats(["loss"]), SaveBest(variable="lost"), output_dir=tmp_path)


def test_without_a_folder_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="output_dir"):
        run_hook(SaveBest())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"condition": "max"}, "the argument 'condition' is called 'mode' here"),
        ({"objective": "max"}, "the argument 'objective' is called 'mode' here"),
        ({"model_name": "good"}, "the argument 'model_name' is called 'tag' here"),
        ({"varible": "loss"}, "unknown argument 'varible'; did you mean 'variable'"),
        ({"mode": "best"}, "mode must be 'min' or 'max', not 'best'"),
        ({"tag": "latest"}, "tag"),
        ({"tag": "a/b"}, "tag"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SaveBest(**arguments)
