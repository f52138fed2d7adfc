"""Examples of a batch on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from emloop_mtl.constants import MASK_SUFFIX
from emloop_mtl.errors import DataError
from emloop_mtl.models.host_copy import HostCopy

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch


class Examples:
    """Some variables of a batch, on their way to the host from the moment on that they are asked for.

    :param hook: name of the hook, for errors
    :param stream: where the batch comes from
    :param batch: the batch
    :param identity: name of the variable that tells examples apart
    :param variables: names of the others
    :param mask: name of the variable that is true where an entry of a sequence counts. What a loader calls
        ``<source>_mask`` is true where the source is padded, and understood so. With None, that of the first variable
        that has one
    """

    def __init__(
        self, hook: str, stream: str, batch: Batch, identity: str, variables: Sequence[str], mask: str | None = None
    ) -> None:
        self._hook = hook
        self.stream = stream
        from_loader = bool(batch.data_name) or batch.mix is not None
        if mask is None and from_loader:
            mask = next((name + MASK_SUFFIX for name in variables if name + MASK_SUFFIX in batch), None)
        self._mask = mask
        self._tells_padding = from_loader and mask is not None and mask.removesuffix(MASK_SUFFIX) in batch
        self._tells_padding = self._tells_padding and mask is not None and mask.endswith(MASK_SUFFIX)
        self._names = [identity, *variables, *([mask] if mask is not None else ())]
        self._values = HostCopy({name: batch[name] for name in self._names})
        task = variables[0].partition("/")[0]
        share = batch.shares.get(task)
        self._rows = None if share is None else share.host.tolist()

    def read(self) -> dict[str, list[Any]]:
        """Wait for the values and return by name a plain value per example, of mixed rows those of the task only.

        :raise DataError: if the variables have not equally many
        """
        values = self._values.read()
        found: dict[str, list[Any]] = {}
        for name in self._names:
            entries = _plain(values[name])
            if not isinstance(entries, list):
                text = f"the variable {name!r} of stream {self.stream!r} has one value per batch, not one per example"
                raise DataError(f"{self._hook}: {text}")
            first, size = self._names[0], len(entries)
            if found and size != len(found[first]):
                text = f"{size} entries of {name!r} and {len(found[first])} of {first!r}"
                raise DataError(f"{self._hook}: a batch of stream {self.stream!r} has {text}")
            found[name] = entries
        if self._rows is not None:
            found = {name: [entries[row] for row in self._rows] for name, entries in found.items()}
        return found

    def counting(self, values: dict[str, list[Any]], example: int, length: int) -> list[int]:
        """Return which entries count of the sequences of an example, without those of padding.

        :param values: what ``read`` has returned
        :param length: how long its sequences are
        :raise DataError: if the mask has another length
        """
        if self._mask is None:
            return list(range(length))
        mask = values[self._mask][example]
        if not isinstance(mask, list) or len(mask) != length:
            size = f"{len(mask)} entries" if isinstance(mask, list) else "no entries"
            text = f"the mask {self._mask!r} has {size} for a sequence of {length}"
            raise DataError(f"{self._hook}: a batch of stream {self.stream!r}: {text}")
        return [index for index, entry in enumerate(mask) if bool(entry) is not self._tells_padding]


def _plain(value: Any) -> Any:
    """Return tensors and arrays as Python's lists and numbers, also where they stand in lists."""
    if isinstance(value, torch.Tensor) or hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list | tuple | range) else value
