"""Draw which classes are taken for which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from emloop_mtl.errors import ConfigError, DataError, nearest
from emloop_mtl.types import EpochData, EpochNumber
from emloop_mtl.utils.figure import check_matplotlib, new_figure, save_figure
from emloop_mtl.utils.files import make_folder

from ..arguments import check_names
from ..words import FigureAction, OnFailure
from ..writing.failure_guard import FailureGuard
from ..writing.figure import check_color_map, check_figure_size, pixels_of
from ..writing.gap import Gap
from ..writing.output_path import NUMBER, TEXT, OutputPath, check_writable, refuse_shared_paths
from .abstract_predicted_classes import AbstractPredictedClasses

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

MOST_TOLD = 50
"""Of more classes than these, fields have no text: nobody could read it."""

MOST_TICKS = 20
"""Of more classes without names, not every one is numbered."""

MOST_INCHES = 40.0
"""How wide and high a figure may become by itself."""

LETTER = 0.1
"""Inches of a letter in the name of a class."""

DIGIT = 0.62
"""The width of a digit, as a share of its height."""

LEAST_LETTERS = 3.0
"""Points; what would be written smaller in a field is left out."""

Counts = np.ndarray[Any, Any]


class SaveConfusionMatrix(AbstractPredictedClasses):
    """Draw the confusion matrix of every stream after every epoch: a row for each label, a column for each prediction.

    A field says what share of the row's labels it has, and how many, unless there are more than 50 classes. The
    figure is saved in the output folder as ``confusion_matrix_epoch_<number>_<stream>.png``, or stored in the epoch's
    data as ``confusion_heatmap``, an array [height, width, 3] of bytes. Of a task, predicted as ``<task>/pred``, rows
    without a label are left out, as are batches that do not carry it. All values of an epoch are kept until it ends.
    Needs matplotlib, the extra ``plot``.

    :param labels_name: name of the labels, classes counted from 0
    :param predictions_name: name of the predicted classes
    :param classes_names: names of the classes
    :param figsize: width and height of the figure in inches; by default it grows with the number of classes
    :param figure_action: ``save`` or ``store``
    :param num_classes_method_name: the method of the dataset that returns the number of classes, if it has one; else
        there are as many as are seen
    :param classes_names_method_name: the method of the dataset that returns the names of the classes, if it has one
    :param mask_name: name of a variable that is true where a row counts
    :param normalize: whether colours stand for shares of the rows, not for counts
    :param cmap: a color map of matplotlib
    :param streams: names of the streams to draw; by default all
    :param output_dir: the folder; by default that of the main loop
    :param dataset: what has these methods; by default the dataset of the main loop
    :param on_failure: what happens when a figure cannot be saved in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on without that figure
    :raise ConfigError: for a wrong argument, without matplotlib, and for figures to save without a folder

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - SaveConfusionMatrix: {labels_name: digit, predictions_name: digit/pred, streams: [valid]}
    """

    def __init__(
        self,
        output_dir: str | None = None,
        dataset: Any = None,
        labels_name: str = "labels",
        predictions_name: str = "predictions",
        classes_names: Sequence[str] | None = None,
        figsize: Sequence[float] | None = None,
        figure_action: FigureAction = "save",
        num_classes_method_name: str = "num_classes",
        classes_names_method_name: str = "classes_names",
        mask_name: str | None = None,
        normalize: bool = True,
        cmap: str = "Blues",
        streams: Sequence[str] | None = None,
        on_failure: OnFailure = "error",
        **kwargs: Any,
    ) -> None:
        others = () if mask_name is None else (mask_name,)
        super().__init__(predictions_name, labels_name, others, streams, **kwargs)
        if figure_action not in get_args(FigureAction):
            hint = nearest(str(figure_action), get_args(FigureAction))
            raise ConfigError(f"{self.name}: unknown figure_action {figure_action!r}{hint}", ("figure_action",))
        if not isinstance(normalize, bool):
            raise ConfigError(f"{self.name}: normalize must be true or false, not {normalize!r}", ("normalize",))
        methods = {"num_classes_method_name": num_classes_method_name}
        methods["classes_names_method_name"] = classes_names_method_name
        for name, method in methods.items():
            if not isinstance(method, str):
                raise ConfigError(f"{self.name}: {name} must be the name of a method, not {method!r}", (name,))
        self._guard = FailureGuard(self, on_failure, "figures")
        check_matplotlib(self.name)
        self._color_map = check_color_map(self.name, "cmap", cmap)
        self._size = check_figure_size(self.name, "figsize", figsize)
        self._names = None if classes_names is None else check_names(self.name, "classes_names", classes_names)
        self._dataset = dataset
        self._names_method = classes_names_method_name
        self._number_method = num_classes_method_name
        self._stores = figure_action == "store"
        self._mask = mask_name
        self._normalize = normalize
        self._output_dir = output_dir

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the folder."""
        super().register_mainloop(main_loop)
        self._output_dir = main_loop.output_dir if self._output_dir is None else self._output_dir
        if self._output_dir is None and not self._stores:
            text = f"{self.name} needs a folder for its figures: set --output-dir or the main loop's output_dir"
            raise ConfigError(f"{text}, or figure_action to 'store'", ("figure_action",))
        if self._dataset is None:
            self._dataset = main_loop.dataset
        refuse_shared_paths(self, "output_dir")

    def output_paths(self) -> Sequence[OutputPath]:
        """Return where the figures are."""
        if self._stores or self._output_dir is None:
            return []
        found = []
        streams: Sequence[str | Gap] = self._streams or [TEXT]
        for stream in streams:
            parts: list[str | Gap] = [f"{Path(self._output_dir)}/confusion_matrix_epoch_", NUMBER, "_", stream, ".png"]
            found.append(OutputPath.of(parts, Path(self._output_dir, "confusion_matrix_….png")))
        return found

    def before_training(self) -> None:
        """Check that figures can be saved.

        :raise ConfigError: if the folder cannot be written, or the disk is full
        """
        self._guard.begin()
        if not self._stores:
            assert self._output_dir is not None
            check_writable(self.name, "output_dir", self._output_dir)

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing: a figure is no number."""
        return ()

    def after_epoch(self, epoch_id: int = 0, epoch_data: EpochData | None = None) -> None:
        """Draw the matrix of every stream.

        :raise ConfigError: for values that are no classes, or more of them than have names
        :raise DataError: for numbers of entries that differ, or more classes than the dataset says
        """
        assert epoch_data is not None
        for stream, values in self._labelled_rows():
            expected = self._classes(self._expected, values[self._expected])
            predicted = self._classes(self._predicted, values[self._predicted])
            if len(expected) != len(predicted):
                sizes = f"{len(predicted)} entries of {self._predicted!r} and {len(expected)} of {self._expected!r}"
                raise DataError(f"{self.name}: stream {stream!r} has {sizes}")
            if self._mask is not None:
                mask = _entries(values[self._mask]).astype(bool)
                if len(mask) != len(expected):
                    text = f"{len(mask)} entries of {self._mask!r} and {len(expected)} of {self._expected!r}"
                    raise DataError(f"{self.name}: stream {stream!r} has {text}")
                expected, predicted = expected[mask], predicted[mask]
            if not len(expected):
                continue
            names = self._class_names()
            counts = self._counts(expected, predicted, names)
            figure = self._draw(counts, names)
            if self._stores:
                epoch_data.setdefault(stream, {})["confusion_heatmap"] = pixels_of(figure)
                continue
            assert self._output_dir is not None
            path = Path(self._output_dir, f"confusion_matrix_epoch_{epoch_id}_{stream}.png")
            with self._guard.writing(path):
                make_folder(path.parent)
                save_figure(self.name, figure, path)
                self._guard.works(path)

    def _classes(self, name: str, values: Sequence[Any]) -> Counts:
        classes = _entries(values)
        if len(classes) and classes.dtype.kind not in "biu":
            text = f"the variable {name!r} must hold classes, which are whole numbers, not {classes.dtype}"
            argument = "labels_name" if name == self._expected else "predictions_name"
            raise ConfigError(f"{self.name}: {text}", (argument,))
        if (classes < 0).any():
            text = f"the variable {name!r} holds {classes.min()}, and classes are counted from 0"
            raise DataError(f"{self.name}: {text}; mask_name can name what tells the rows that count")
        return classes.astype(np.int64)

    def _class_names(self) -> Sequence[str] | None:
        if self._names is not None:
            return self._names
        names = _told(self._dataset, self._names_method)
        return None if names is None else [str(name) for name in names]

    def _counts(self, expected: Counts, predicted: Counts, names: Sequence[str] | None) -> Counts:
        seen = int(max(expected.max(), predicted.max())) + 1
        told = _told(self._dataset, self._number_method)
        number = len(names) if names else seen if told is None else int(told)
        if number < seen:
            what = "names of classes" if names else f"classes, says {self._number_method} of the dataset"
            text = f"{self.name}: there are {number} {what}, but class {seen - 1} was seen"
            raise ConfigError(text, ("classes_names",)) if self._names else DataError(text)
        counts = np.zeros((number, number), np.int64)
        np.add.at(counts, (expected, predicted), 1)
        return counts

    def _draw(self, counts: Counts, names: Sequence[str] | None) -> Any:
        totals = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(totals, 1)  # of a class without labels: all 0
        shown = shares if self._normalize else counts
        number = len(counts)
        side = min(max(6.4, 2 + 0.8 * number), MOST_INCHES)  # 0.8 is as wide as what a field says
        labels = LETTER * max(map(len, names)) if names else 0.0
        size = self._size or (min(side + labels, MOST_INCHES), min(0.8 * side + labels, MOST_INCHES))
        figure = new_figure(size)
        axes = figure.add_subplot()
        letters = max(10.0, 0.7 * size[0])  # points; in a large figure that is seen as a whole, more can be read
        most = 1.0 if self._normalize else counts.max()  # from 0 to all: figures of several epochs can be compared
        image = axes.imshow(shown, interpolation="nearest", cmap=self._color_map, vmin=0, vmax=most)
        axes.set_xlabel("Predicted", size=letters)
        axes.xaxis.set_label_position("top")
        axes.set_ylabel("Expected", size=letters)
        axes.tick_params(labeltop=True, labelbottom=False, top=True, bottom=False)
        figure.colorbar(image).ax.tick_params(labelsize=letters)
        if names:
            axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
            axes.set_yticks(range(len(names)), names, parse_math=False)
        else:
            ticks = range(0, number, -(-number // MOST_TICKS))
            axes.set_xticks(ticks, ticks, size=letters)
            axes.set_yticks(ticks, ticks, size=letters)
        figure.tight_layout()
        width = 72 * size[0] * axes.get_position().width / number  # points of a field
        bright = shown > most / 2
        fields = [f"{share:.2f} / {count}" for share, count in zip(shares.flat, counts.flat, strict=True)]
        fitting = width / (DIGIT * max(map(len, fields)))
        is_told = number <= MOST_TOLD and fitting >= LEAST_LETTERS
        for (row, column), text in zip(np.ndindex(*counts.shape), fields, strict=True) if is_told else ():
            color = "white" if bright[row, column] else "black"
            axes.text(column, row, text, size=min(8, fitting), ha="center", va="center", color=color)
        return figure


def _told(dataset: Any, name: str) -> Any:
    """Return what a method or a property of the dataset says, None if it has none of the name."""
    value = getattr(dataset, name, None)
    return value() if callable(value) else value


def _entries(values: Sequence[Any]) -> Counts:
    """Return the entries of all rows in one dimension."""
    return np.concatenate([np.ravel(value) for value in values]) if len(values) else np.empty(0, np.int64)
