"""Write a table of the entries of sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from emloop_mtl.errors import ConfigError, DataError

from ..arguments import check_names
from ..words import OnFailure
from .abstract_rows_to_csv import AbstractRowsToCsv
from .examples import Examples

INDEX = "index"
"""The heading of the second column."""


class SequenceToCsv(AbstractRowsToCsv):
    """Write a table with a row for each entry of a sequence: the example's id, the index, a column for each variable.

    Indices are counted from 0. Padding is left out: that of ragged columns, which bring ``<source>_mask``, by itself,
    any other with ``pad_mask_variable``. Rows of all epochs follow one another, batches that are trained on among them
    unless ``streams`` leaves those out. A training that is resumed goes on after the last row of its checkpoint.

    :param variables: names of variables with equally long sequences
    :param id_variable: name of the variable that tells examples apart, the heading of the first column
    :param path: the file, in the output folder or absolute; an older one is replaced
    :param pad_mask_variable: name of a variable that is true where an entry counts and false where there is padding;
        a ``<source>_mask`` of a ragged column, which says the opposite, is understood as well
    :param streams: names of the streams to write; by default all
    :param on_failure: what happens when rows cannot be written in the middle of a training: ``error`` ends it, ``warn``
        lets it go on without them, and tries again with the next
    :raise ConfigError: for two columns of one name, a stream that does not exist, and a path that another hook has or
        that cannot be written

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - SequenceToCsv: {variables: [image], id_variable: _uids_, path: images.csv, streams: [valid]}
    """

    def __init__(
        self,
        variables: Sequence[str],
        id_variable: str,
        path: str,
        pad_mask_variable: str | None = None,
        streams: Sequence[str] | None = None,
        on_failure: OnFailure = "error",
        **kwargs: Any,
    ) -> None:
        names = check_names(self.name, "variables", variables)
        columns = [id_variable, INDEX, *names]
        super().__init__(
            columns,
            path,
            variables=names,
            id_variable=id_variable,
            pad_mask_variable=pad_mask_variable,
            streams=streams,
            on_failure=on_failure,
            **kwargs,
        )
        for column in columns:
            if columns.count(column) > 1:
                argument = "id_variable" if column == id_variable else "variables"
                raise ConfigError(f"{self.name}: two columns would be called {column!r}", (argument,))

    def _rows(self, examples: Examples) -> Iterator[Mapping[str, Any]]:
        values = examples.read()
        for example, identity in enumerate(values[self._identity]):
            lengths: dict[str, int] = {}
            for name in self._variables:
                sequence = values[name][example]
                if not isinstance(sequence, list):
                    text = f"{name!r} of stream {examples.stream!r} has no sequence for an example, but {sequence!r}"
                    raise ConfigError(f"{self.name}: {text}", (*self.config_path, "variables"))
                lengths[name] = len(sequence)
            length = lengths[self._variables[0]]
            if set(lengths.values()) != {length}:
                found = ", ".join(f"{size} of {name!r}" for name, size in lengths.items())
                text = f"sequences of example {identity!r} in stream {examples.stream!r} differ in length"
                raise DataError(f"{self.name}: {text}: {found}")
            for index in examples.counting(values, example, length):
                yield {
                    self._identity: identity,
                    INDEX: index,
                    **{name: values[name][example][index] for name in self._variables},
                }
