"""A dataset of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from ..constants import UID_SOURCE
from ..errors import ConfigError, DataError, nearest
from .column import Column
from .make_column import make_column
from .ragged_column import RaggedColumn
from .sequence_lengths import SequenceLengths
from .tensor_column import TensorColumn


class ColumnDataset(Dataset[dict[str, Any]]):
    """Features and labels as columns, of which a whole batch is fetched at once.

    A column is a tensor or array with one row per sample (a memory-mapped array is read from disk batch by batch),
    or a list: numbers make a tensor, tensors of one shape are stacked, 1-d tensors are a *ragged* column, anything
    else stays a list. A ragged column is padded with 0 to the longest of each batch and always brings
    ``<name>_mask``, True where padded, even when all lengths happen to be equal.

    Every batch brings ``_uids_``: the values of the feature ``uid``, or the row numbers where none is named. What a
    batch holds are copies. Features and labels share one name space.

    :param name: what the data is called in scores and messages
    :param features: name -> column; all of one length
    :param labels: name -> column; may be left out
    :param uid: the feature that identifies rows
    :param min_data_len: batches of ragged columns are padded to this length where their rows are shorter
    :param max_data_len: rows of ragged columns are cut to this length in batches, at their end; 0 for no bound
    :raise ConfigError: for no features, a name given twice, an unknown ``uid``, lengths out of range
    :raise DataError: for columns of different lengths, or values that do not fit together
    """

    def __init__(
        self,
        name: str,
        features: Mapping[str, Any],
        labels: Mapping[str, Any] | None = None,
        uid: str | None = None,
        min_data_len: int = 0,
        max_data_len: int = 0,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"a dataset is called by a word, not {name!r}")
        for kind, columns in {"features": features, "labels": labels or {}}.items():
            if not isinstance(columns, Mapping) or not all(isinstance(key, str) for key in columns):
                raise ConfigError(f"dataset {name!r}: {kind} must be a mapping of names to columns")
        if not features:
            raise ConfigError(f"dataset {name!r} has no features; at least one is needed")
        self.name = name
        self._features: dict[str, Column] = {}
        self._labels: dict[str, Column] = {}
        self._length = -1
        self._bounds = SequenceLengths.of(min_data_len, max_data_len, f"dataset {name!r}")
        if uid is None and UID_SOURCE in features:
            uid = UID_SOURCE
        if uid is not None and uid not in features:
            text = f"no feature {uid!r} to serve as uid{nearest(str(uid), features)}"
            raise ConfigError(f"dataset {name!r}: {text}", ("uid",))
        self.uid = uid
        self.add_features(features)
        self.add_labels(labels or {})

    @property
    def features(self) -> list[str]:
        """Names of the features."""
        return list(self._features)

    @property
    def labels(self) -> list[str]:
        """Names of the labels."""
        return list(self._labels)

    @property
    def columns(self) -> list[Column]:
        """The columns of features and labels."""
        return [*self._features.values(), *self._labels.values()]

    @property
    def sources(self) -> list[str]:
        """Names of all that a batch holds: features, labels, masks of ragged columns and ``_uids_``."""
        names = [source for column in self.columns for source in column.sources]
        return names if UID_SOURCE in names else [*names, UID_SOURCE]

    def add_features(self, features: Mapping[str, Any]) -> None:
        """Add columns to the features.

        :raise ConfigError: for a name that is taken
        :raise DataError: for a column of another length
        """
        self._add(self._features, features)

    def add_labels(self, labels: Mapping[str, Any]) -> None:
        """Add columns to the labels.

        :raise ConfigError: for a name that is taken
        :raise DataError: for a column of another length
        """
        self._add(self._labels, labels)

    def remove_feature(self, name: str) -> None:
        """Remove a feature.

        :raise ConfigError: if there is none of this name, it is the uid, or it is the last one
        """
        if name == self.uid:
            raise ConfigError(f"dataset {self.name!r}: feature {name!r} identifies the rows and cannot be removed")
        if list(self._features) == [name]:
            raise ConfigError(f"dataset {self.name!r}: {name!r} is the last feature and cannot be removed")
        self._remove(self._features, "feature", name)

    def remove_label(self, name: str) -> None:
        """Remove a label.

        :raise ConfigError: if there is none of this name
        """
        self._remove(self._labels, "label", name)

    def values_of(self, source: str, rows: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return the values of a source in memory whose rows have one shape, not to be changed; None for any other.

        :param rows: int64 indices of the rows, of which copies are returned; None for all
        """
        column = self._features.get(source, self._labels.get(source))
        if not isinstance(column, TensorColumn) or not column.in_memory:
            return None
        return column.values if rows is None else column.copies(rows)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one row: source name -> value, ragged ones without padding."""
        if not -self._length <= index < self._length:
            raise IndexError(f"dataset {self.name!r} has no row {index}, it has {self._length} rows")
        index %= self._length
        row = {
            name: column.row(index) for columns in (self._features, self._labels) for name, column in columns.items()
        }
        row[UID_SOURCE] = index if self.uid is None else row[self.uid]
        return row

    def lengths(self, source: str) -> torch.Tensor | None:
        """Return how long each sequence of a ragged source is, int64 [n], not to be changed; None for any other."""
        column = self._features.get(source, self._labels.get(source))
        return column.lengths if isinstance(column, RaggedColumn) else None

    def __getitems__(self, indices: torch.Tensor | Sequence[int]) -> dict[str, Any]:
        """Return a whole batch: source name -> tensor or list.

        :param indices: numbers of the rows, int64
        """
        rows = indices if isinstance(indices, torch.Tensor) else torch.as_tensor(indices, dtype=torch.int64)
        batch: dict[str, Any] = {}
        for column in self._features.values():
            column.add_to(batch, rows)
        for column in self._labels.values():
            column.add_to(batch, rows)
        batch[UID_SOURCE] = rows if self.uid is None else batch[self.uid]
        return batch

    def _add(self, columns: dict[str, Column], added: Mapping[str, Any]) -> None:
        made = {name: make_column(name, values, self._bounds) for name, values in added.items()}
        # ``_uids_`` is ours unless it is a feature.
        taken = {source for column in self.columns for source in column.sources}
        if self.uid != UID_SOURCE:
            taken.add(UID_SOURCE)
        length = self._length
        for name, column in made.items():
            for source in column.sources:
                if source in taken:
                    raise ConfigError(
                        f"dataset {self.name!r}: the name {source!r} is taken; features, labels and the masks of "
                        f"ragged columns share one name space"
                    )
                taken.add(source)
            if length < 0:
                length = len(column)
            elif len(column) != length:
                first = next(iter(self._features or made))
                raise DataError(
                    f"dataset {self.name!r}: {first!r} has {length} rows, {name!r} has {len(column)}; "
                    f"all columns must have the same length"
                )
        columns.update(made)
        self._length = length

    def _remove(self, columns: dict[str, Column], kind: str, name: str) -> None:
        if name not in columns:
            raise ConfigError(f"dataset {self.name!r} has no {kind} {name!r}{nearest(name, columns)}")
        del columns[name]
