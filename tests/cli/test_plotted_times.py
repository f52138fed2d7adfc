"""Where the time of runs went: what is read of it, and the shares that are drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emloop_mtl.cli.epoch_times import PARTS, EpochTimes, read_profile
from emloop_mtl.cli.run_config import RunConfig
from emloop_mtl.cli.run_curves import RunCurves
from emloop_mtl.cli.time_panels import MOST_BARS, MOST_STEPS, draw_times
from emloop_mtl.utils.figure import new_figure

from .made_runs import make_run


def times(*seconds: Sequence[float]) -> list[EpochTimes]:
    """Return epochs whose parts took so many seconds."""
    return [EpochTimes(epoch, dict(zip(PARTS, each, strict=True))) for epoch, each in enumerate(seconds)]


def run_of(epochs: list[EpochTimes], **options: Any) -> RunCurves:
    return RunCurves("run", RunConfig({}), times=epochs, **options)


def drawn(*runs: list[EpochTimes]) -> Any:
    axes = new_figure().add_subplot()
    draw_times(axes, [run_of(each) for each in runs], [f"run{index}" for index in range(len(runs))])
    return axes


def test_an_epoch_has_a_bar_of_the_shares_of_its_parts() -> None:
    axes = drawn(times((1, 2, 1, 0), (0, 0, 0, 5), (0, 0, 0, 0)))
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    bottoms = [[bar.get_y() for bar in bars] for bars in axes.containers]
    assert heights == [[25, 0, 0], [50, 0, 0], [25, 0, 0], [0, 100, 0]]
    assert bottoms == [[0, 0, 0], [25, 0, 0], [75, 0, 0], [100, 0, 0]]
    assert [bars.get_label() for bars in axes.containers] == list(PARTS)
    assert axes.get_ylim() == (0, 100)
    assert axes.get_xlim() == (-0.6, 2.6)


@pytest.mark.parametrize(("epochs", "steps"), [(MOST_BARS + 1, MOST_BARS + 1), (2 * MOST_STEPS, MOST_STEPS)])
def test_many_epochs_are_areas_in_which_neighbours_are_put_together(epochs: int, steps: int) -> None:
    axes = drawn(times(*([(3, 0, 0, 1), (1, 0, 0, 3)] * epochs)[:epochs]))
    first = axes.collections[0].get_paths()[0].vertices
    expected = {75.0, 25.0} if epochs == steps else {50.0}
    assert set(first[:, 1]) - {0.0} == expected
    assert len(set(first[:, 0])) >= steps
    assert len(axes.collections) == len(PARTS)
    assert axes.get_xlim() == (0, epochs - 1 if epochs == steps else epochs - 2)


def test_each_of_several_runs_has_a_bar_for_all_its_epochs_the_first_at_the_top() -> None:
    axes = drawn(times((1, 0, 0, 0), (0, 3, 0, 0)), times((0, 0, 2, 2)))
    widths = [[bar.get_width() for bar in bars] for bars in axes.containers]
    assert widths == [[25, 0], [75, 0], [0, 50], [0, 50]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["run0", "run1"]
    assert axes.yaxis_inverted()
    assert axes.get_xlim() == (0, 100)


def test_seconds_of_a_part_are_summed_up_over_streams_and_nonsense_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    seconds = {
        "reading/train": 1.0,
        "reading/valid": 0.5,
        "model/train": -1.0,
        "hooks": 1e13,
        "saving": True,
        "rest": 7.0,
    }
    lines = [{"epoch": 2, "step": 4, **seconds}, {"epoch": 1, "step": 2, "hooks": 0.25}]
    (run / "profile.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    nothing = dict.fromkeys(PARTS, 0)
    expected = [EpochTimes(1, {**nothing, "hooks": 0.25}), EpochTimes(2, {**nothing, "reading": 1.5})]
    assert read_profile(run, RunConfig.of(run, whole=True)) == expected


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (([0, 10, 20], [0, 1, 2]), [0.5, 1.5, 2.0]),
        (([0, 10, 16], [0, 1, 2]), [0.5, 1.5, 2.0]),
        (([0, 10, 25], [0, 1, 2]), [0.5, 1 + 5 / 15, 1 + 10 / 15]),
        (([0, 10, 18], [0, 1, 3]), [0.5, 2.25, 3.0]),
        (([0, 10], [0, 1]), [0.5, 1.0, 1.0]),
    ],
    ids=["whole", "under way", "longer", "one left out", "the first"],
)
def test_steps_lie_in_epochs_of_which_the_last_may_not_have_come_to_its_end(
    ends: tuple[list[int], list[int]], expected: list[float]
) -> None:
    found = run_of([], ends=ends).epochs_of(np.array([5.0, 15.0, 20.0]))
    assert found.tolist() == expected
