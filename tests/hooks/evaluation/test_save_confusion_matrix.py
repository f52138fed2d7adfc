"""SaveConfusionMatrix: figures of what is taken for what."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError, EmloopError
from emloop_mtl.hooks import Evaluate, SaveConfusionMatrix
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeDataset, run_hook


class Named(FakeDataset):
    """A dataset that knows its classes."""

    def classes_names(self) -> list[str]:
        return ["cat", "dog"]

    def num_classes(self) -> int:
        return 2


def draw(
    labels: Any,
    predictions: Any,
    folder: Path | None = None,
    kind: type[FakeDataset] = FakeDataset,
    more: dict[str, Any] | None = None,
    **arguments: Any,
) -> np.ndarray[Any, Any]:
    """Return the pixels of the figure of one batch, read from its file if there is a folder, else from the numbers."""
    dataset = kind(train=[{"x": [0] * len(labels), "labels": labels, "predictions": predictions, **(more or {})}])
    action = {} if folder is not None else {"figure_action": "store"}
    hook = SaveConfusionMatrix(**{"figsize": [5, 4], **action, **arguments})
    record = run_hook(hook, dataset=dataset, output_dir=folder, skip_zeroth_epoch=True, on_unused_sources="ignore")
    if folder is None:
        return np.asarray(record.epochs[1]["train"]["confusion_heatmap"])
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["confusion_matrix_epoch_1_train.png"]
    return np.round(255 * imread(folder / "confusion_matrix_epoch_1_train.png")[..., :3]).astype(np.uint8)


def fields(pixels: np.ndarray[Any, Any], number: int, colour: str, share: float) -> np.ndarray[Any, Any]:
    """Return for each field of a matrix whether it has the colour of a share, looking at a corner without text."""
    near_white = (pixels.astype(int).sum(axis=2) < 3 * 254) & (pixels.max(axis=2) - pixels.min(axis=2) > 2)
    columns = np.flatnonzero(near_white.sum(axis=0) > pixels.shape[0] // 3)
    columns = columns[: np.argmax(np.diff(columns) > 5) + 1]  # the rest is the bar beside it
    rows = np.flatnonzero(near_white[:, columns].sum(axis=1) > len(columns) // 2)
    wanted = np.array(matplotlib.colormaps[colour](share)[:3]) * 255
    found = np.empty((number, number), bool)
    for row, column in np.ndindex(number, number):
        y = rows[0] + int((row + 0.1) * (rows[-1] - rows[0]) / number)
        x = columns[0] + int((column + 0.1) * (columns[-1] - columns[0]) / number)
        found[row, column] = np.abs(pixels[y, x] - wanted).max() <= 1  # rounding to bytes
    return found


@pytest.mark.parametrize("make", [list, torch.tensor, np.array], ids=["list", "tensor", "array"])
def test_rows_are_labels_columns_predictions_and_colours_shares(make: Callable[[Any], Any], tmp_path: Path) -> None:
    labels, predictions = [0, 0, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 1, 0]
    pixels = draw(make(labels), make(predictions), tmp_path)
    assert pixels.shape == (400, 500, 3)
    assert fields(pixels, 3, "Blues", 1.0).tolist() == [
        [False, True, False],
        [False, True, False],
        [True, False, False],
    ]
    stored = draw(make(labels), make(predictions))
    assert (stored.dtype, stored.shape) == (np.uint8, pixels.shape)
    assert np.array_equal(stored, pixels)


def test_without_normalizing_colours_are_counts() -> None:
    pixels = draw([0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], normalize=False, cmap="Greens")
    assert fields(pixels, 2, "Greens", 1.0).tolist() == [[False, False], [False, True]]
    assert fields(pixels, 2, "Greens", 0.5).tolist() == [[True, False], [False, False]]


def test_shares_have_the_same_colours_in_every_figure() -> None:
    assert fields(draw([0, 0, 1, 1], [0, 1, 0, 1]), 2, "Blues", 0.5).all()
    assert fields(draw([0, 1], [0, 0]), 2, "Blues", 1.0).tolist() == [[True, False], [True, False]]


def test_names_and_number_of_classes_come_from_the_dataset_unless_given() -> None:
    plain = draw([0, 1], [0, 1])
    named = draw([0, 1], [0, 1], kind=Named)
    assert not np.array_equal(plain, named)
    assert np.array_equal(named, draw([0, 1], [0, 1], classes_names=["cat", "dog"]))
    assert np.array_equal(plain, draw([0, 1], [0, 1], kind=Named, classes_names_method_name="no"))
    assert fields(draw([0, 0], [0, 0], kind=Named, classes_names_method_name="no"), 2, "Blues", 1.0)[0, 0]
    # half a formula or a backslash is no mistake in a name
    assert draw([0, 1], [0, 1], classes_names=["$x", "a_b\\"]).shape == named.shape


def test_the_mask_says_what_counts() -> None:
    everything = draw([0, 1], [0, 1])
    mask = torch.tensor([1, 1, 0, 0])
    assert np.array_equal(draw([0, 1, 0, 1], [0, 1, 1, 0], mask_name="m", more={"m": mask}), everything)


@pytest.mark.long
def test_the_figure_grows_with_the_classes_and_nothing_of_matplotlib_is_set() -> None:
    backend, settings = matplotlib.get_backend(), dict(matplotlib.rcParams)
    widths = [draw(list(range(n)), list(range(n)), figsize=None).shape[1] for n in (2, 12, 60)]
    assert widths == [640, 1160, 4000]
    assert (matplotlib.get_backend(), dict(matplotlib.rcParams)) == (backend, settings)


def test_of_a_task_only_labelled_rows_count(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> None:
    hook = SaveConfusionMatrix(labels_name="digit", predictions_name="digit/pred", streams=["valid"])
    run_hook(Evaluate(["valid"]), hook, model=make_model(), dataset=make_dataset(), output_dir=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "confusion_matrix_epoch_0_valid.png",
        "confusion_matrix_epoch_1_valid.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"figure_action": "sav"}, "unknown figure_action 'sav'; did you mean 'save'?"),
        ({"cmap": "Blue"}, "unknown cmap 'Blue'; did you mean 'Blues'?"),
        (
            {"figsize": [0, 5]},
            "figsize must be a width and a height from 0.5 to 500 inches, such as [6, 5], not [0, 5]",
        ),
        ({"figsize": 5}, "figsize must be a width and a height"),
        ({"classes_names": "cat"}, "classes_names must be a list of names, such as [cat], not 'cat'"),
        ({"normalize": "yes"}, "normalize must be true or false, not 'yes'"),
        ({"streams": ["vlaid"], "figure_action": "store"}, "no stream 'vlaid'"),
        ({"figure_action": "save"}, "SaveConfusionMatrix needs a folder for its figures"),
    ],
    ids=["action", "cmap", "figsize", "number", "names", "normalize", "stream", "folder"],
)
def test_mistakes_are_told_before_the_first_batch(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_hook(SaveConfusionMatrix(**arguments))
    assert says in str(caught.value)
    assert caught.value.path[0] == next(iter(arguments))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"SaveConfusionMatrix needs matplotlib: pip install 'emloop_mtl\[plot\]'"):
        SaveConfusionMatrix()


@pytest.mark.parametrize(
    ("labels", "predictions", "arguments", "says"),
    [
        ([0, -100], [0, 1], {}, "'labels' holds -100, and classes are counted from 0; mask_name can name"),
        ([0, 1], [0.0, 1.0], {}, "'predictions' must hold classes, which are whole numbers, not float64"),
        ([0, 1], [[0, 1], [1, 0]], {}, "has 4 entries of 'predictions' and 2 of 'labels'"),
        ([0, 2], [0, 1], {"classes_names": ["a", "b"]}, "there are 2 names of classes, but class 2 was seen"),
        (
            [0, 2],
            [0, 1],
            {"kind": Named, "classes_names_method_name": "no"},
            "there are 2 classes, says num_classes of the dataset, but class 2 was seen",
        ),
        ([0, 1], [0, 1], {"mask_name": "m", "more": {"m": [[1, 1], [1, 1]]}}, "has 4 entries of 'm' and 2 of 'labels'"),
    ],
    ids=["negative", "floats", "sizes", "names", "number", "mask"],
)
def test_values_that_are_no_classes_are_told_of(
    labels: Any, predictions: Any, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(EmloopError) as caught:
        draw(labels, predictions, **arguments)
    assert says in str(caught.value)
