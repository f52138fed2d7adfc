"""PlotLines: figures of sequences, one for each example."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import PlotLines
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail, run_hook

BLUE = 40
"""How much more blue than red there is at least in the first line, its pale edges included; all else is gray."""


def plot(run: Path, *batches: dict[str, Any], zeroth: bool = False, **arguments: Any) -> list[str]:
    """Return the files that were written, below the folder of figures."""
    dataset = FakeDataset(train=[{"x": [0] * len(batch["ids"]), **batch} for batch in batches])
    hook = PlotLines(**{"variables": ["ys"], **arguments})
    run_hook(hook, dataset=dataset, output_dir=run, skip_zeroth_epoch=not zeroth, on_unused_sources="ignore")
    return sorted(path.relative_to(run / "visual").as_posix() for path in run.rglob("*") if path.is_file())


def line_of(path: Path) -> list[float]:
    """Return the height of the first line in a figure, from 0 for its lowest to 1 for its highest point."""
    pixels = np.round(255 * imread(path)[..., :3]).astype(int)
    assert pixels.shape == (480, 640, 3)
    rows, columns = np.nonzero(pixels[..., 2] - pixels[..., 0] > BLUE)
    line = (columns < 550) | (rows > 60)  # the rest is in the legend
    where = rows[line], columns[line]
    low, high = where[0].max(), where[0].min()
    heights = [where[0][where[1] == column].min() for column in np.unique(where[1])]
    return [(low - height) / max(low - high, 1) for height in heights]


def test_each_example_has_a_figure_in_the_folder_of_epoch_and_stream(tmp_path: Path) -> None:
    batches = [{"ids": ["a", "b/../c"], "ys": [[1, 2], [2, 1]]}, {"ids": ["d"], "ys": [[0, 0]]}]
    names = ["a_batch_1_plot-ys.png", "b___..___c_batch_1_plot-ys.png", "d_batch_2_plot-ys.png"]
    assert plot(tmp_path, *batches, zeroth=True) == [
        f"epoch_{epoch}/train/{name}" for epoch in (0, 1) for name in names
    ]


def test_counts_bound_examples_and_batches(tmp_path: Path) -> None:
    batch = {"ids": torch.arange(3), "ys": torch.rand(3, 5)}
    found = plot(tmp_path, batch, batch, batch, example_count=2, batch_count=1, streams=["train"])
    assert found == [f"epoch_1/train/{i}_batch_1_plot-ys.png" for i in (0, 1)]


@pytest.mark.parametrize(
    ("names", "end"),
    [
        ([f"a/variable_{index:03}" for index in range(30)], "-vs-a___variable_006-and-23-more.png"),
        (["a" * 100, "b" * 100], f"{'a' * 100}-and-1-more.png"),
        (["größe" * 60, "y"], "gr\u00f6\u00dfegr.png"),
    ],
    ids=["many", "two", "long"],
)
def test_variables_that_are_many_or_long_are_cut_in_names_of_files(names: list[str], end: str, tmp_path: Path) -> None:
    (path,) = plot(tmp_path, {"ids": ["a" * 60], **{name: [[1, 2]] for name in names}}, variables=names)
    assert path.endswith(end)
    assert len(Path(path).name.encode()) <= 255  # what file systems allow


def test_ids_that_are_long_are_cut_and_told_apart(tmp_path: Path) -> None:
    end = "_batch_1_plot-ys.png"
    most = 255 - 22 - len(end)  # what file systems allow; names are longer while files are written
    ids = ["a" * most, "a" * (most + 1), "ö" * 300 + "y", "ö" * 300 + "z"]
    found = [Path(each).name.removesuffix(end) for each in plot(tmp_path, {"ids": ids, "ys": [[1, 2]] * 4})]
    assert found[1] == "a" * most
    assert found[0].startswith("a" * (most - 13) + "-")
    assert [each.rstrip("0123456789abcdef") for each in found[2:]] == ["ö" * ((most - 13) // 2) + "-"] * 2
    assert len(set(found)) == 4
    assert max(len(each.encode()) for each in found) == most


@pytest.mark.parametrize(
    "make", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows, dtype=torch.bfloat16, requires_grad=True)]
)
def test_lines_rise_and_fall_as_the_numbers_do(make: Callable[[Any], Any], tmp_path: Path) -> None:
    (path,) = plot(tmp_path, {"ids": ["a"], "ys": make([[0.0, 1.0, 0.0]])})
    heights = line_of(tmp_path / "visual" / path)
    middle = len(heights) // 2
    # up and down in straight lines; they are some five of 350 pixels high where they are steep
    assert heights[middle // 2] == pytest.approx(0.5, abs=0.05)
    assert heights[middle] == pytest.approx(1.0, abs=0.05)
    assert heights[3 * middle // 2] == pytest.approx(0.5, abs=0.05)


def test_what_is_masked_is_no_part_of_the_line(tmp_path: Path) -> None:
    batch = {"ids": ["a"], "ys": [[0.0, 7.0, 1.0, 0.0]], "mask": [[1, 0, 1, 1]]}
    (masked,) = plot(tmp_path / "a", batch, pad_mask_variable="mask")
    (short,) = plot(tmp_path / "b", {"ids": ["a"], "ys": [[0.0, 1.0, 0.0]]})
    a, b = tmp_path / "a" / "visual" / masked, tmp_path / "b" / "visual" / short
    assert np.array_equal(imread(a), imread(b))


def test_limits_format_folder_and_several_variables(tmp_path: Path) -> None:
    batch = {"ids": ["a"], "ys": [[0.0, 1.0]], "_zs": [[1.0, 0.0]]}
    (free,) = plot(tmp_path / "a", batch)
    (bound,) = plot(tmp_path / "b", batch, ymin=-10, ymax=10)
    a, b = (imread(tmp_path / each) for each in (f"a/visual/{free}", f"b/visual/{bound}"))
    assert not np.array_equal(a, b)
    run_hook(
        PlotLines(["ys", "_zs"], format="svg", folder="deep/lines"),
        dataset=FakeDataset(train=[{"x": [0], **batch}]),
        output_dir=tmp_path,
        on_unused_sources="ignore",
    )
    path = tmp_path / "deep/lines/epoch_1/train/a_batch_1_plot-ys-vs-_zs.svg"
    assert path.read_text().startswith("<?xml")


def test_a_sequence_of_one_is_a_point(tmp_path: Path) -> None:
    (path,) = plot(tmp_path, {"ids": ["a"], "ys": [[1.0]]})
    pixels = np.round(255 * imread(tmp_path / "visual" / path)[..., :3]).astype(int)
    rows, columns = np.nonzero(pixels[..., 2] - pixels[..., 0] > BLUE)
    inside = (rows > 60) & (columns > 60)
    assert inside.sum() > 20  # a disk some 8 pixels wide
    assert np.ptp(rows[inside]) < 12


def test_a_dollar_in_a_name_is_a_dollar(tmp_path: Path) -> None:
    batch = {"ids": ["a"], "$x": [[0.0, 1.0]], "x^$": [[1.0, 0.0]]}  # together half a formula, by itself none
    assert plot(tmp_path, batch, variables=["$x", "x^$"]) == ["epoch_1/train/a_batch_1_plot-$x-vs-x^$.png"]
    assert plot(tmp_path, {"ids": ["b"], "$\\no$": [[0.0]]}, variables=["$\\no$"])


def test_a_training_that_is_resumed_in_the_middle_of_an_epoch_draws_what_is_missing(tmp_path: Path) -> None:
    def loop(name: str, **when: int) -> MainLoop:
        batches = [{"x": [0], "ids": [str(number)], "ys": [[number, 1]]} for number in range(4)]
        hooks = [SaveAndFail(**when), PlotLines(["ys"], batch_count=3)]
        return MainLoop(
            FakeModel(), FakeDataset(train=batches), hooks, output_dir=tmp_path / name, on_unused_sources="ignore"
        )

    with pytest.raises(RuntimeError, match="failed at moment 7"):  # the second batch of the first epoch
        loop("run", every=6, fail_at=7).run_training()
    drawn = tmp_path / "run" / "visual" / "epoch_1" / "train"
    assert [path.name[0] for path in sorted(drawn.iterdir())] == ["0"]
    resumed = loop("run", every=100, fail_at=4)
    resumed.restore(newest_checkpoint(tmp_path / "run" / "checkpoints", "latest"))
    with pytest.raises(RuntimeError, match="failed at moment 4"):
        resumed.run_training()
    assert [path.name for path in sorted(drawn.iterdir())] == [f"{n}_batch_{n + 1}_plot-ys.png" for n in range(3)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"variables": []}, "variables must be a list of names, not []"),
        ({"format": "pgn"}, "unknown format 'pgn'; did you mean 'png'?"),
        ({"ymin": "low"}, "ymin must be a finite number, not 'low'"),
        ({"ymin": 2, "ymax": 1}, "ymin must be less than ymax, and 2 is not"),
        ({"example_count": 0}, "example_count must be a positive whole number, not 0"),
        ({"batch_count": 1.5}, "batch_count must be a positive whole number, not 1.5"),
        ({"folder": "checkpoints"}, "folder 'checkpoints' is what the run itself writes"),
        ({"streams": ["vlaid"]}, "no stream 'vlaid'"),
        ({"root_dir": "a"}, "the argument 'root_dir' is called 'folder' here"),
        ({"out_format": "a"}, "the argument 'out_format' is called 'format' here"),
    ],
    ids=["none", "format", "text", "limits", "examples", "batches", "reserved", "stream", "old folder", "old format"],
)
def test_mistakes_are_told_before_the_first_batch(arguments: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plot(tmp_path, {"ids": [1], "ys": [[1]]}, **arguments)
    assert says in str(caught.value)
    assert caught.value.path[0] == next(iter(arguments))


def test_without_matplotlib_or_a_folder_the_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="folder 'visual' is relative to the output folder, but there is none"):
        run_hook(PlotLines(["ys"]), dataset=FakeDataset(train=[{"x": [0]}]))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"PlotLines needs matplotlib: pip install 'emloop_mtl\[plot\]'"):
        PlotLines(["ys"])


@pytest.mark.parametrize(
    ("ys", "says"),
    [
        ([1.0], "'ys' of stream 'train' has no sequence for an example, but 1.0"),
        ([["a", None]], "'ys' of stream 'train' cannot be drawn as a line"),
        ([[[[1]]]], "'ys' of stream 'train' cannot be drawn as a line"),
    ],
    ids=["number", "text", "deep"],
)
def test_values_that_are_no_lines_are_told_of(ys: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plot(tmp_path, {"ids": [1], "ys": ys})
    assert says in str(caught.value)
