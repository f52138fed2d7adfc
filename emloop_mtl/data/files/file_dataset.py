"""A dataset that is described in a config alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...errors import ConfigError, DataError, nearest
from ..list_column import ListColumn
from ..multi_task_dataset import MultiTaskDataset
from ..task_loader import TaskLoader
from .chosen_columns import Names
from .file_columns import FileColumns
from .file_table import Files, FileTable

LOOKED_AT, SHOWN = 1000, 8
"""How many labels are looked at to tell which classes there are, and how many of these are shown."""


class FileDataset(MultiTaskDataset):
    """Tables in CSV, Parquet and NumPy files; see ``FileColumns`` for how they are read.

    There is a loader for each file, named after its table, and a stream for each split.

    :param tables: name -> the table: ``files`` (split -> file), ``features``, ``labels`` and what else
        ``FileColumns`` takes, ``tasks``, and its own ``batch_size`` and ``n_batches``
    :param batch_size: rows per batch
    :param num_workers: processes that read, as for ``TaskLoader``
    :param config_folder: what paths are relative to; in a config its own folder, else the working folder
    :param settings: what every ``MultiTaskDataset`` takes: ``seed`` and ``streams``
    :raise ConfigError: for a table that its files do not suit, or whose files hold what cannot be used, with its place

    .. code-block:: yaml

        class: FileDataset
        batch_size: 16
        tables:
          flowers: {files: {train: train.csv, valid: valid.csv}, labels: [kind, area]}
    """

    config_items: ClassVar[Mapping[str, type]] = {"tables": FileTable}

    def __init__(
        self,
        tables: Mapping[str, FileTable | Mapping[str, Any]],
        batch_size: int = 32,
        num_workers: int | Literal["auto"] = 0,
        config_folder: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if not isinstance(tables, Mapping) or not tables:
            raise ConfigError("a table is needed, such as {flowers: {files: {train: flowers.csv}}}", ("tables",))
        for name, table in tables.items():
            if not isinstance(table, FileTable | Mapping):
                raise ConfigError("a mapping is needed, such as {files: {train: train.csv}}", ("tables", name))
        self._tables = {name: _table(name, table) for name, table in tables.items()}
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._folder = Path(config_folder or "")

    def loaders(self) -> list[TaskLoader]:
        """Return a loader per table and split."""
        return [
            self._loader(str(name), table, split, files)
            for name, table in self._tables.items()
            for split, files in table.files.items()
        ]

    def _loader(self, name: str, table: FileTable, split: str, files: Files) -> TaskLoader:
        try:
            data = FileColumns(
                {column: self._folder / file for column, file in files.items()}
                if isinstance(files, Mapping)
                else self._folder / files,
                table.features,
                table.labels,
                name=table.name or name,
                uid=table.uid,
                dtypes=table.dtypes,
                missing=table.missing,
                classes=table.classes,
                delimiter=table.delimiter,
                min_data_len=table.min_data_len,
                max_data_len=table.max_data_len,
            )
            _check_labels(data, table.labels)
            return TaskLoader(
                data,
                table.tasks,
                split,
                batch_size=self._batch_size if table.batch_size is None else table.batch_size,
                n_batches=table.n_batches,
                num_workers=self._num_workers,
            )
        except ConfigError as error:
            argument = error.path[:1]
            if argument == ("num_workers",) or (argument == ("batch_size",) and table.batch_size is None):
                raise  # which is said of all tables
            inside = ("files", split, *error.path[1:]) if argument == ("path",) else error.path
            raise ConfigError(str(error), ("tables", name, *inside)) from error
        except DataError as error:
            raise ConfigError(str(error), ("tables", name, "files", split)) from error


def _table(name: str, given: FileTable | Mapping[str, Any]) -> FileTable:
    for key in () if isinstance(given, FileTable) else given:
        known = [field.name for field in fields(FileTable)]
        if key not in known:
            text = f"table {name!r}: unknown argument {key!r}{nearest(str(key), known)}"
            raise ConfigError(text, ("tables", name, key))
    table = given if isinstance(given, FileTable) else FileTable(**{"files": {}, **given})
    if not isinstance(table.files, Mapping) or not table.files:
        raise ConfigError("a file is needed, such as {train: train.csv}", ("tables", name, "files"))
    return table


def _check_labels(data: FileColumns, names: Names) -> None:
    """Refuse labels that are texts, which no loss can use, and show what makes numbers of them."""
    for column in data.columns:
        label = column.sources[0]
        if label not in data.labels or not isinstance(column, ListColumn):
            continue
        found = sorted({str(column.row(row)) for row in range(min(len(column), LOOKED_AT))})
        of_file = names[label] if isinstance(names, Mapping) else label
        shown = ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
        text = f"label {label!r} holds texts; name its classes in the order of their numbers"
        raise ConfigError(f"{text}, as in classes: {{{of_file}: [{shown}]}}", ("labels",))
