"""Write a table with a number for each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emloop_mtl.errors import ConfigError

from ..arguments import check_names
from ..words import OnFailure
from .abstract_rows_to_csv import AbstractRowsToCsv
from .examples import Examples


class LogitsToCsv(AbstractRowsToCsv):
    """Write a table with a row for each example: its id, and a column for each class.

    Rows of all epochs follow one another, batches that are trained on among them unless ``streams`` leaves those out.
    Numbers have all their digits. A training that is resumed goes on after the last row of its checkpoint.

    :param variable: name of what has a number for each class, such as ``digit/prob``
    :param class_names: names of the classes, the headings of their columns
    :param id_variable: name of the variable that tells examples apart, the heading of the first column
    :param path: the file, in the output folder or absolute; an older one is replaced
    :param streams: names of the streams to write; by default all
    :param on_failure: what happens when rows cannot be written in the middle of a training: ``error`` ends it, ``warn``
        lets it go on without them, and tries again with the next
    :raise ConfigError: for two columns of one name, a stream that does not exist, and a path that another hook has or
        that cannot be written

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - LogitsToCsv:
              variable: digit/prob
              class_names: [circle, square, star]
              id_variable: _uids_
              path: shapes.csv
              streams: [valid]
    """

    def __init__(
        self,
        variable: str,
        class_names: Sequence[str],
        id_variable: str,
        path: str,
        streams: Sequence[str] | None = None,
        on_failure: OnFailure = "error",
        **kwargs: Any,
    ) -> None:
        names = check_names(self.name, "class_names", class_names)
        if not isinstance(variable, str):
            raise ConfigError(f"{self.name}: variable must be the name of a variable, not {variable!r}", ("variable",))
        super().__init__(
            [id_variable, *names],
            path,
            variables=[variable],
            id_variable=id_variable,
            streams=streams,
            on_failure=on_failure,
            **kwargs,
        )
        if id_variable in names:
            text = f"{self.name}: {id_variable!r} is the name of the first column, and cannot be that of a class, too"
            raise ConfigError(text, ("class_names", names.index(id_variable)))
        self._variable = variable
        self._classes = names

    def _rows(self, examples: Examples) -> Iterator[Mapping[str, Any]]:
        values = examples.read()
        for identity, numbers in zip(values[self._identity], values[self._variable], strict=True):
            if not isinstance(numbers, list) or len(numbers) != len(self._classes):
                found = f"{len(numbers)} numbers" if isinstance(numbers, list) else "one number"
                text = f"{self._variable!r} of stream {examples.stream!r} has {found} for an example"
                text += f", and class_names has {len(self._classes)} names"
                raise ConfigError(f"{self.name}: {text}", (*self.config_path, "class_names"))
            yield {self._identity: identity, **dict(zip(self._classes, numbers, strict=True))}
