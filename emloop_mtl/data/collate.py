"""Making one batch of samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..constants import MASK_SUFFIX
from ..errors import ConfigError, DataError, nearest
from .make_column import NUMBERS, as_tensor, numbers, of_one_dtype
from .sequence_lengths import SequenceLengths


def collate(
    samples: Sequence[Any] | Mapping[str, Any],
    ragged: Collection[str] = (),
    min_data_len: int = 0,
    max_data_len: int = 0,
) -> dict[str, Any]:
    """Return the batch that consists of ``samples``.

    Tensors, arrays and numbers of one shape are stacked, anything else becomes a list.

    :param samples: mappings of source names to values, or pairs (features, labels) of such mappings; or one mapping
        that is a batch already
    :param ragged: names of sources that are 1-d and differ in length: padded with 0 to the longest and accompanied
        by ``<source>_mask``, True where padded
    :param min_data_len: where the longest is shorter, they are padded to this
    :param max_data_len: they are cut to this length, at their end; 0 for no bound
    :raise DataError: naming the source, for samples that do not fit together
    :raise ConfigError: if a source named in ``ragged`` is in no sample, or for lengths out of range
    """
    bounds = SequenceLengths.of(min_data_len, max_data_len, "collate")
    if isinstance(samples, Mapping):
        return dict(samples)
    rows = [_merged(sample, number) for number, sample in enumerate(samples)]
    if not rows:
        return {}
    names = rows[0].keys()
    for number, row in enumerate(rows):
        if row.keys() != names:
            odd = sorted(row.keys() ^ names)[0]
            raise DataError(f"source {odd!r} is in some samples but not in all (samples 0 and {number} differ)")
    for name in ragged:
        if name not in names:
            raise ConfigError(f"ragged: no source {name!r} in the samples{nearest(name, names)}")
        if name + MASK_SUFFIX in names:
            raise DataError(f"source {name + MASK_SUFFIX!r} clashes with the mask of the ragged source {name!r}")
    batch: dict[str, Any] = {}
    for name in names:
        values = [row[name] for row in rows]
        if name in ragged:
            _add_padded(batch, name, values, bounds)
        else:
            batch[name] = _stacked(name, values)
    return batch


def _merged(sample: Any, number: int) -> Mapping[str, Any]:
    if isinstance(sample, Mapping):
        return sample
    if isinstance(sample, (tuple, list)) and len(sample) == 2 and all(isinstance(part, Mapping) for part in sample):
        features, labels = sample
        clash = sorted(features.keys() & labels.keys())
        if clash:
            raise DataError(f"sample {number}: {clash[0]!r} is both a feature and a label; they share one name space")
        return {**features, **labels}
    raise DataError(
        f"sample {number} is of type {type(sample).__name__}; a sample is a mapping of source names to values, or a "
        f"pair (features, labels) of mappings; give the loader a 'collate' function for anything else"
    )


def _stacked(name: str, values: list[Any]) -> Any:
    if all(isinstance(value, NUMBERS) for value in values):
        return numbers(name, values)
    if not all(_is_numeric(value) for value in values):
        return values
    tensors = _tensors(name, values)
    for number, tensor in enumerate(tensors):
        if tensor.shape != tensors[0].shape:
            raise DataError(
                f"source {name!r}: sample 0 of the batch has shape {list(tensors[0].shape)}, sample {number} has "
                f"{list(tensor.shape)}; name it in the loader's 'ragged' setting if it is a sequence to be padded"
            )
    return torch.stack(tensors)


def _add_padded(batch: dict[str, Any], name: str, values: list[Any], bounds: SequenceLengths) -> None:
    if not all(_is_numeric(value) for value in values):
        raise DataError(f"source {name!r}: ragged sources are tensors or arrays of numbers")
    tensors = _tensors(name, values)
    for number, tensor in enumerate(tensors):
        if tensor.ndim != 1:
            raise DataError(f"source {name!r}: ragged sources are 1-d, sample {number} has shape {list(tensor.shape)}")
    lengths = torch.tensor([len(tensor) for tensor in tensors])
    width = bounds.width(int(lengths.max()))
    padded = torch.nn.utils.rnn.pad_sequence([tensor[:width] for tensor in tensors], batch_first=True)
    batch[name] = torch.nn.functional.pad(padded, (0, width - padded.shape[1]))
    batch[name + MASK_SUFFIX] = torch.arange(width) >= lengths.unsqueeze(1)


def _is_numeric(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "OSU"
    return isinstance(value, (torch.Tensor, *NUMBERS))


def _tensors(name: str, values: list[Any]) -> list[torch.Tensor]:
    arrays = (value if isinstance(value, torch.Tensor) else np.asarray(value) for value in values)
    return of_one_dtype([as_tensor(name, array) for array in arrays])
