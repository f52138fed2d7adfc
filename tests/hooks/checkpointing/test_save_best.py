from __future__ import annotations

from collections.abc import Iterable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, SaveBest, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook


class Write(AbstractHook):
    """Write given numbers, one per epoch; None writes nothing."""

    def __init__(self, values: Iterable[float | None]) -> None:
        super().__init__()
        self._values = list(values)

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        value = self._values[epoch_id]
        if value is not None:
            epoch_data["valid"]["loss"] = value


def known(variable: str, mode: str, value: float | None, epoch: int | None) -> dict[str, Any]:
    """Return what the state of the hook says of a number."""
    number = {"variable": variable, "stream": "valid", "aggregation": None, "mode": mode}
    return {"of": number, "value": value, "epoch": epoch}


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
    assert hook.state_dict() == {"best": known("loss", mode, values[best], best)}
    assert checkpoint.state["hooks"]["SaveBest"] == hook.state_dict()


def test_without_any_number_nothing_is_saved(tmp_path: Path) -> None:
    run_hook(Write([nan, nan]), SaveBest(), output_dir=tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_restored_hook_compares_with_the_best_before(tmp_path: Path) -> None:
    hook = SaveBest()
    hook.load_state_dict({"best": known("loss", "min", 2.0, 7)})
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


def test_a_stream_that_there_is_not_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SaveBest: .* no stream 'vaild'.*did you mean 'valid'") as caught:
        MainLoop(FakeModel(), FakeDataset(train=[], valid=[]), [SaveBest(stream="vaild")], output_dir=tmp_path)
    assert caught.value.path == ("stream",)


def test_without_a_folder_it_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="output_dir"):
        MainLoop(FakeModel(), FakeDataset(train=[], valid=[]), [SaveBest()])


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


# --------------------------------------------------------------------------------------------- several numbers, runway


class WriteSeveral(AbstractHook):
    """Write given numbers of given names, one per epoch."""

    def __init__(self, **values: list[float]) -> None:
        super().__init__()
        self._values = values

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        for name, values in self._values.items():
            epoch_data["valid"][name.replace("__", "/")] = values[epoch_id]


SEVERAL = {"loss": [4, 2, 3, 3], "digit__shapes__accuracy@3": [0.5, 0.4, 0.9, 0.8], "worst": [nan, 1, 5, 2]}
ALSO = {"digit/shapes/accuracy@3": "max", "worst": "max"}


def kept(folder: Path) -> dict[str, int]:
    """Return the epoch of each checkpoint by its tag."""
    found = [load_checkpoint(path) for path in list_checkpoints(folder / "checkpoints")]
    return {checkpoint.tag: checkpoint.position.epoch for checkpoint in found}


def test_one_hook_keeps_the_best_of_several_numbers(tmp_path: Path) -> None:
    hook = SaveBest(also=ALSO)
    run_hook(WriteSeveral(**SEVERAL), hook, epochs=3, output_dir=tmp_path)
    assert kept(tmp_path) == {"best": 1, "best_digit_shapes_accuracy_3": 2, "best_worst": 2}
    assert hook.tags == ["best", "best_digit_shapes_accuracy_3", "best_worst"]
    assert [hook.epoch_of(tag) for tag in hook.tags] == [1, 2, 2]


def test_several_numbers_are_compared_on_after_a_resume(tmp_path: Path) -> None:
    def loop(fail_at: int | None = None) -> MainLoop:
        hooks = [
            WriteSeveral(**SEVERAL),
            SaveBest(also=ALSO, tag="top"),
            SaveAndFail(fail_at=fail_at),
            StopAfter(epochs=3),
        ]
        dataset = FakeDataset(train=[{"x": [1]}], valid=[{"x": [2]}])
        return MainLoop(FakeModel(), dataset, hooks, extra_streams=["valid"], output_dir=tmp_path)

    with pytest.raises(RuntimeError, match="failed at moment 8"):
        loop(fail_at=8).run_training()
    resumed = loop()
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints", "latest"))
    resumed.run_training()
    expected = {"top": 1, "top_digit_shapes_accuracy_3": 2, "top_worst": 2, "latest": 3}
    assert kept(tmp_path) == expected
    (hook,) = [hook for hook in resumed.hooks if isinstance(hook, SaveBest)]
    assert hook.state_dict() == {
        "top": known("loss", "min", 2, 1),
        "top_digit_shapes_accuracy_3": known("digit/shapes/accuracy@3", "max", 0.9, 2),
        "top_worst": known("worst", "max", 5, 2),
    }


def test_a_number_that_is_added_begins_anew_and_one_that_is_gone_is_forgotten() -> None:
    hook = SaveBest(also={"new": "max", "old": "min"})
    hook.load_state_dict(
        {
            "best": known("loss", "min", 1.0, 2),
            "best_old": known("old", "min", 3.0, 4),
            "best_gone": known("gone", "max", 0, 0),
        }
    )
    assert [hook.epoch_of(tag) for tag in hook.tags] == [2, None, 4]
    assert set(hook.state_dict()) == {"best", "best_new", "best_old"}


@pytest.mark.parametrize(
    "arguments",
    [{"variable": "accuracy"}, {"mode": "max"}, {"stream": "test"}, {"aggregation": "max"}],
    ids=lambda arguments: next(iter(arguments)),
)
def test_another_number_is_not_compared_with_the_best_of_the_one_before(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    before = {"best": known("loss", "min", 1.0, 2), "best_x": known("x", "min", 3.0, 4)}
    hook = SaveBest(**{"also": {"x": "min"}, **arguments})
    hook.load_state_dict(before)
    same = [None if "stream" in arguments else 4]  # all numbers are of one stream
    assert [hook.epoch_of(tag) for tag in hook.tags] == [None, *same]
    assert "SaveBest: 'best' was of another number" in caplog.text
    again = SaveBest(also={"x": "max"})
    again.load_state_dict(before)
    assert [again.epoch_of(tag) for tag in again.tags] == [2, None]


@pytest.mark.parametrize(("runway", "best"), [(None, 1), (2, 1), (3, 3), (6, 3), (8, 4)])
def test_before_the_runway_no_epoch_is_the_best(runway: int | None, best: int, tmp_path: Path) -> None:
    """Two steps per epoch: the number of epoch 1 is seen with a runway of at most two steps."""
    hook = SaveBest(runway=runway, also={"x": "min"})
    run_hook(WriteSeveral(loss=[5, 1, 4, 2, 3], x=[5, 1, 4, 2, 3]), hook, epochs=4, output_dir=tmp_path)
    assert kept(tmp_path) == {"best": best, "best_x": best}
    assert [hook.epoch_of(tag) for tag in hook.tags] == [best, best]


def test_a_further_number_that_nothing_writes_is_an_error_before_the_first_batch(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="SaveBest requires the number 'lost' of stream 'valid'.*did you mean 'loss'"
    ) as caught:
        run_hook(ComputeStats(["loss"]), SaveBest(also={"lost": "min"}), output_dir=tmp_path)
    assert caught.value.path == ("also", "lost")
    with pytest.raises(ConfigError, match="'lost'") as caught:
        run_hook(ComputeStats(["loss"]), SaveBest(variable="lost", also={"loss": "min"}), output_dir=tmp_path)
    assert caught.value.path == ("variable",)


@pytest.mark.parametrize(
    ("arguments", "path"), [({"variable": "size"}, ("aggregation",)), ({"also": {"size": "min"}}, ("also", "size"))]
)
def test_a_number_without_a_mean_is_an_error_at_its_key(
    arguments: dict[str, Any], path: tuple[str, ...], tmp_path: Path
) -> None:
    class Extremes(AbstractHook):
        def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
            epoch_data["valid"].update({"loss": 1.0, "size": {"min": 1, "max": 2}})

    with pytest.raises(ConfigError, match="'size' has no aggregation 'mean'") as caught:
        run_hook(Extremes(), SaveBest(**arguments), output_dir=tmp_path)
    assert caught.value.path == path


def test_two_hooks_do_not_replace_each_others_checkpoints(tmp_path: Path) -> None:
    second = SaveBest(mode="max")
    second.name = "SaveMost"
    with pytest.raises(ConfigError, match="SaveMost: SaveBest keeps a checkpoint as 'best', too") as caught:
        run_hook(Write([1]), SaveBest(), second, output_dir=tmp_path)
    assert caught.value.path == ("tag",)
    third = SaveBest(tag="best_x")
    third.name = "SaveX"
    with pytest.raises(ConfigError, match="SaveX: SaveBest keeps a checkpoint as 'best_x', too"):
        run_hook(Write([1]), SaveBest(also={"x": "max"}), third, output_dir=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message", "path"),
    [
        (
            {"also": ["loss"]},
            r"also must be variables with their modes, such as \{loss: min\}, not \['loss'\]",
            ("also",),
        ),
        ({"also": {"acc": "high"}}, "mode must be 'min' or 'max', not 'high'", ("also", "acc")),
        ({"also": {"acc": None}}, "mode must be 'min' or 'max', not None", ("also", "acc")),
        ({"also": {3: "max"}}, "also names variables, and 3 is none", ("also", 3)),
        ({"also": {"": "max"}}, "also names variables, and '' is none", ("also", "")),
        ({"also": {"loss": "max"}}, "'loss' is the variable already", ("also", "loss")),
        ({"also": {"a/b": "max", "a_b": "min"}}, "'a/b' and 'a_b' would both be kept as 'best_a_b'", ("also", "a_b")),
        ({"runway": 0}, "runway must be a positive whole number, not 0", ("runway",)),
        ({"tag": 3}, "3 cannot be the tag", ("tag",)),
    ],
)
def test_wrong_numbers(arguments: dict[str, Any], message: str, path: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError, match=f"^SaveBest: {message}") as caught:
        SaveBest(**arguments)
    assert caught.value.path == path
