"""A dataset of columns that lie in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ..column_dataset import ColumnDataset
from ..sequence_lengths import SequenceLengths
from .chosen_columns import Names, check_settings, choose
from .file_sum import sum_of
from .map_columns import map_columns
from .open_file import open_file


class FileColumns(ColumnDataset):
    """Columns that lie in a file, of which batches are read where they are wanted.

    Arrays in ``.npy`` files and in archives (``.npz``, as ``numpy.savez`` writes them) are mapped into memory.
    ``.csv``, ``.tsv`` and ``.parquet`` files, and archives that are compressed, are decoded once, some rows at a time,
    into a copy in the system's folder for temporary files (``TMPDIR``), which is mapped then. It is used again until
    the file changes.

    Doubles come in torch's default dtype unless ``dtypes`` says otherwise. An empty cell, or null, is nan among
    floats and the empty text among the texts of a CSV file; anywhere else it needs a mark by ``missing``.

    :param path: the file; or name -> ``.npy`` file, one per column
    :param features: columns of the file; source -> column to call it otherwise, or source -> several columns of
        numbers, side by side, to make one source of shape [n, m]. By default all that are no labels
    :param labels: likewise; by default none
    :param name: what the data is called in scores and messages; by default the file's name without its end
    :param uid: the feature that identifies rows
    :param dtypes: column -> ``text``, ``bool``, ``int64``, ``float32``, …; by default what the file says, or for
        CSV the first of bool, int64, torch's default dtype and text that suits all cells
    :param missing: column -> what stands for an empty cell, or null
    :param classes: column -> its values in the order of their numbers; such a column comes as int64
    :param delimiter: what stands between the cells of a CSV file, a comma by default
    :param min_data_len: as for ``ColumnDataset``
    :param max_data_len: likewise
    :raise ConfigError: for arguments that do not fit the file
    :raise DataError: for a file that cannot be read, with the place in it
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
        features: Names | None = None,
        labels: Names = (),
        *,
        name: str | None = None,
        uid: str | None = None,
        dtypes: Mapping[str, str] | None = None,
        missing: Mapping[str, Any] | None = None,
        classes: Mapping[str, Sequence[Any]] | None = None,
        delimiter: str | None = None,
        min_data_len: int = 0,
        max_data_len: int = 0,
    ) -> None:
        for key, file in (path if isinstance(path, Mapping) else {"": path}).items():
            if not isinstance(key, str) or not isinstance(file, str | os.PathLike):
                raise ConfigError(
                    f"path is a file, or a mapping of names to .npy files, not {path!r}",
                    ("path", key) if key else ("path",),
                )
        files = {key: Path(file) for key, file in path.items()} if isinstance(path, Mapping) else Path(path)
        every = list(files.values()) if isinstance(files, dict) else [files]
        bounds = SequenceLengths.of(min_data_len, max_data_len, "columns of a file")
        try:
            read = open_file(files, delimiter)
            chosen_labels = choose(labels, "labels", read.names)
            if features is None:
                used = {column for columns in chosen_labels.values() for column in columns}
                features = [column for column in read.names if column not in used]
            chosen = choose(features, "features", read.names), chosen_labels
            sources = {**chosen[0], **chosen[1]}
            settings = check_settings({"dtypes": dtypes, "missing": missing, "classes": classes}, read.names, sources)
            columns = map_columns(read, sources, settings, bounds)
            self.fingerprint = sum_of(every)
        except ConfigError as error:
            place = error.path or ("path",)
            if place[0] == "features" and place[1:2] and place[1] in chosen_labels:
                place = ("labels", *place[1:])
            raise ConfigError(str(error), place) from error.__cause__
        except OSError as error:
            text = f"{error.filename or every[0]}: cannot be read: {error.strerror or error}"
            raise ConfigError(text, ("path",)) from error
        first, second = ({source: columns[source] for source in part} for part in chosen)
        super().__init__(name or every[0].stem, first, second, uid, min_data_len, max_data_len)
