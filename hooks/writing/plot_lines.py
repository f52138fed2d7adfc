"""Draw sequences of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from emloop_mtl.errors import ConfigError, nearest
from emloop_mtl.types import State
from emloop_mtl.utils.figure import COLORS, check_matplotlib, new_figure, save_figure
from emloop_mtl.utils.files import make_folder

from ..arguments import check_count, check_names
from ..words import OnFailure
from .abstract_example_writer import AbstractExampleWriter
from .examples import Examples
from .failure_guard import FailureGuard
from .gap import Gap
from .output_path import NUMBER, TEXT, OutputPath, check_output_path, check_writable, refuse_shared_paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emloop_mtl.main_loop import MainLoop

STYLES = ("-", "--", ":", "-.")
"""How lines are drawn, when all colours are taken."""

LETTERS = 70
"""Characters of a legend that stand side by side."""

MOST_NAME = 255 - 22
"""Bytes that the name of a file may have, which is longer while it is written."""

MOST_BYTES = 150
"""Of these for the variables; the rest is the id's."""

SEPARATOR = "___"
"""What stands in names of files for a slash."""


class PlotLines(AbstractExampleWriter):
    """Draw sequences of numbers as lines, one figure for each example.

    It is saved as ``<folder>/epoch_<number>/<stream>/<id>_batch_<number>_plot-<variable>-vs-<variable>.png``, batches
    being counted from 1, with ``___`` for slashes; of variables that make it too long, some are told as
    ``-and-<number>-more``, and a long id is cut and has a checksum. Padding is left out: that of ragged columns,
    which bring ``<source>_mask``, by itself, any other with ``pad_mask_variable``. A figure takes a good tenth of a
    second, so ``example_count``, ``batch_count`` and ``streams`` are worth setting. Needs matplotlib, the extra
    ``plot``.

    :param variables: names of variables with a sequence for each example, each of which is a line
    :param streams: names of the streams to draw; by default all
    :param id_variable: name of the variable that tells examples apart
    :param pad_mask_variable: name of a variable that is true where an entry counts and false where there is padding;
        a ``<source>_mask`` of a ragged column, which says the opposite, is understood as well
    :param format: suffix of the files: ``png``, ``svg``, ``pdf`` or another one that matplotlib knows
    :param ymin: where the vertical axis begins; by default below the smallest number
    :param ymax: where it ends
    :param example_count: how many examples of a batch to draw, the first ones; by default all
    :param batch_count: how many batches of a stream to draw in an epoch, the first ones; by default all
    :param folder: where the figures are saved, in the output folder
    :param output_dir: the output folder; by default that of the main loop
    :param on_failure: what happens when a figure cannot be saved in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on without that figure
    :raise ConfigError: for a wrong argument, a stream that does not exist, without matplotlib and without a folder

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - PlotLines: {variables: [image], streams: [valid], id_variable: _uids_, example_count: 1, batch_count: 1}
    """

    renamed: ClassVar[Mapping[str, str]] = {"root_dir": "folder", "out_format": "format"}

    def __init__(
        self,
        variables: Sequence[str],
        streams: Sequence[str] | None = None,
        id_variable: str = "ids",
        pad_mask_variable: str | None = None,
        format: str = "png",
        ymin: float | None = None,
        ymax: float | None = None,
        example_count: int | None = None,
        batch_count: int | None = None,
        folder: str = "visual",
        output_dir: str | None = None,
        on_failure: OnFailure = "error",
        **kwargs: Any,
    ) -> None:
        names = check_names(self.name, "variables", variables)
        super().__init__(names, id_variable, pad_mask_variable, streams, **kwargs)
        self._guard = FailureGuard(self, on_failure, "figures")
        check_matplotlib(self.name)
        from matplotlib.backend_bases import FigureCanvasBase

        formats = FigureCanvasBase.get_supported_filetypes()
        if format not in formats:
            raise ConfigError(f"{self.name}: unknown format {format!r}{nearest(str(format), formats)}", ("format",))
        for name, value in (("ymin", ymin), ("ymax", ymax)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value)
            ):
                raise ConfigError(f"{self.name}: {name} must be a finite number, not {value!r}", (name,))
        if ymin is not None and ymax is not None and ymin >= ymax:
            raise ConfigError(f"{self.name}: ymin must be less than ymax, and {ymin!r} is not", ("ymin",))
        self._limits = ymin, ymax
        self._format = format
        self._examples = None if example_count is None else check_count(self.name, "example_count", example_count)
        self._batches = None if batch_count is None else check_count(self.name, "batch_count", batch_count)
        self._folder = check_output_path(self.name, "folder", folder)
        self._output_dir = output_dir
        self._epoch = 0
        self._seen: dict[str, int] = {}
        """How many batches of each stream have come in the epoch under way."""

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the folder.

        :raise ConfigError: if the run has none
        """
        super().register_mainloop(main_loop)
        self._output_dir = main_loop.output_dir if self._output_dir is None else self._output_dir
        if self._output_dir is None and not Path(self._folder).is_absolute():
            text = f"{self.name}: folder {self._folder!r} is relative to the output folder, but there is none"
            raise ConfigError(f"{text}; set --output-dir or the main loop's output_dir", ("folder",))
        refuse_shared_paths(self, "folder")

    def output_paths(self) -> Sequence[OutputPath]:
        """Return where the figures are."""
        folder = str(Path(self._output_dir or "", self._folder))
        found = []
        streams: Sequence[str | Gap] = self._streams or [TEXT]
        for stream in streams:
            parts: list[str | Gap] = [
                f"{folder}/epoch_",
                NUMBER,
                "/",
                stream,
                "/",
                TEXT,
                "_batch_",
                NUMBER,
                self._end(),
            ]
            found.append(OutputPath.of(parts, folder))
        return found

    def before_training(self) -> None:
        """Check that figures can be saved.

        :raise ConfigError: if the folder cannot be written, or the disk is full
        """
        check_writable(self.name, "folder", Path(self._output_dir or "", self._folder))
        self._guard.begin()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Begin to count batches anew."""
        self._epoch, self._seen = epoch_id, {}

    def state_dict(self) -> dict[str, State]:
        """Return the epoch under way, and how many batches it has had."""
        self._write_waiting()
        return {"epoch": self._epoch, "seen": dict(self._seen)}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        self._epoch, self._seen = state["epoch"], dict(state["seen"])

    def _takes(self, stream: str) -> bool:
        self._seen[stream] = self._seen.get(stream, 0) + 1
        return self._batches is None or self._seen[stream] <= self._batches

    def _write(self, examples: Examples) -> None:
        values = examples.read()
        folder = Path(self._output_dir or "", self._folder, f"epoch_{self._epoch}", examples.stream)
        end = f"_batch_{self._seen[examples.stream]}{self._end()}"
        for example, identity in enumerate(values[self._identity][: self._examples]):
            file = _cut(_for_files(identity), MOST_NAME - len(end.encode())) + end
            figure = self._draw(examples, values, example)
            with self._guard.writing(folder / file):
                make_folder(folder)
                save_figure(self.name, figure, folder / file)
                self._guard.works(folder / file)

    def _end(self) -> str:
        """Return what the names of files end with; of more variables than fit in, the first ones and a number."""
        names = [_for_files(name) for name in self._variables]
        number, text = len(names), "-vs-".join(names)
        while len(text.encode()) > MOST_BYTES and number > 1:
            number -= 1
            text = f"{'-vs-'.join(names[:number])}-and-{len(names) - number}-more"
        text = text.encode()[:MOST_BYTES].decode(errors="ignore")  # one name alone may be as long
        return f"_plot-{text}.{self._format}"

    def _draw(self, examples: Examples, values: dict[str, list[Any]], example: int) -> Any:
        figure = new_figure(layout="constrained")
        axes = figure.add_subplot()
        for index, name in enumerate(self._variables):
            sequence = values[name][example]
            if not isinstance(sequence, list):
                text = f"{name!r} of stream {examples.stream!r} has no sequence for an example, but {sequence!r}"
                raise ConfigError(f"{self.name}: {text}", (*self.config_path, "variables"))
            shown = [sequence[index] for index in examples.counting(values, example, len(sequence))]
            try:
                lines = axes.plot(
                    shown,
                    color=COLORS[index % len(COLORS)],
                    linestyle=STYLES[index // len(COLORS) % len(STYLES)],
                    marker="o" if len(shown) == 1 else "",  # a line of one point cannot be seen
                )
            except (TypeError, ValueError) as error:
                text = f"{name!r} of stream {examples.stream!r} cannot be drawn as a line: {error}"
                raise ConfigError(f"{self.name}: {text}", (*self.config_path, "variables")) from error
            for line in lines:
                line.set_label(f" {name}" if name.startswith("_") else name)  # others are left out of the legend
        axes.set_ylim(*self._limits)
        columns = max(1, LETTERS // (8 + max(map(len, self._variables))))
        for text in figure.legend(loc="outside upper right", ncols=columns, frameon=False).get_texts():
            text.set_parse_math(False)  # a dollar in a name is a dollar
        return figure


def _cut(text: str, most: int) -> str:
    """Return a text that has at most so many bytes, with a sum of the whole where it is cut, so that no two are one."""
    data = text.encode()
    if len(data) <= most:
        return text
    mark = f"-{sha256(data).hexdigest()[:12]}"
    return data[: most - len(mark)].decode(errors="ignore") + mark


def _for_files(name: object) -> str:
    """Return a name without what names of files cannot have: slashes, zeros, and halves of characters."""
    text = str(name).replace("/", SEPARATOR).replace("\0", SEPARATOR)
    return text.encode(errors="replace").decode()
