"""A table in files, as a config describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .chosen_columns import Names

Files = str | Mapping[str, str]
"""A file, or name -> file with the column of that name."""


@dataclass(frozen=True)
class FileTable:
    """The files of one table, one for each split, and which columns of them are read; see ``FileColumns``.

    :param files: split -> file, or split -> name -> ``.npy`` file
    :param features: columns, or source -> column or columns; by default all that are no labels
    :param labels: likewise; by default none
    :param name: what the data is called in scores and messages
    :param tasks: task -> its label source, None for a task without labels; by default the tasks whose labels are there
    :param uid: the feature that identifies rows
    :param dtypes: column -> dtype
    :param missing: column -> what stands for a cell without a value
    :param classes: column -> its values in the order of their numbers
    :param delimiter: what stands between the cells of a CSV file
    :param min_data_len: batches of ragged columns are padded to this length where their rows are shorter
    :param max_data_len: rows of ragged columns are cut to this length in batches; 0 for no bound
    :param batch_size: rows per batch, where it is not that of the dataset
    :param n_batches: how many batches a scheduler that heeds it shall take in one pass
    """

    files: Mapping[str, Files]
    features: Names | None = None
    labels: Names = ()
    name: str | None = None
    tasks: Mapping[str, str | None] | None = None
    uid: str | None = None
    dtypes: Mapping[str, str] | None = None
    missing: Mapping[str, Any] | None = None
    classes: Mapping[str, Sequence[Any]] | None = None
    delimiter: str | None = None
    min_data_len: int = 0
    max_data_len: int = 0
    batch_size: int | None = None
    n_batches: int | None = None
