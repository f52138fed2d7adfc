"""What the tasks say about one batch, on its way to the host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..constants import UID_SOURCE
from ..data.batch import Batch
from .host_copy import HostCopy
from .task_values import TaskValues


class PredictedBatch:
    """Uids, labels, probabilities and predictions of a batch; copying them to the host begins at once.

    :param batch: a batch that has been run
    :param outputs: its outputs ``<task>/prob`` and ``<task>/pred``
    :param tasks: names of the tasks to copy, all of them tasks of the batch
    :param first: number of the batch's first row in the data, for batches without uids
    """

    def __init__(self, batch: Batch, outputs: Mapping[str, Any], tasks: Iterable[str], first: int) -> None:
        self.tasks = list(tasks)
        self._data_name = batch.data_name
        self._mix = batch.mix
        self.size = batch.count() or 0
        names = {task: (f"{task}/label", f"{task}/prob", f"{task}/pred", f"{task}/rows") for task in self.tasks}
        self.predicts_values: set[str] = set()
        """Tasks whose predictions are what stands for their probabilities."""
        self._names = names
        uids = batch.get(UID_SOURCE)
        values: dict[str, Any] = {UID_SOURCE: range(first, first + self.size) if uids is None else uids}
        for task, (label, prob, pred, rows) in names.items():
            source = batch.tasks[task]
            values[label] = None if source is None else batch.get(source)
            values[prob], values[pred] = outputs.get(prob), outputs.get(pred)
            values[rows] = batch.rows.get(task)
            if values[prob] is values[pred]:
                self.predicts_values.add(task)
        self._masks = {task: mask for task, mask in batch.masks.items() if task in names}
        """Tasks of tokens, with the names of what tells where sequences are padded."""
        values.update({mask: batch.get(mask) for mask in self._masks.values()})
        self._values = HostCopy(values)
        self._shares = {task: share.host for task, share in batch.shares.items()}

    def data_name_of(self, row: int) -> str:
        """Return the name of the loader that a row is of."""
        return self._data_name if self._mix is None else self._mix.data_name_of(row)

    def read(self, to_keep: bool = False) -> tuple[list[Any], dict[str, TaskValues]]:
        """Wait for the values and return the uids, and by task the rest.

        :param to_keep: whether the values are kept for long
        """
        values = self._values.read(to_keep)
        found = {task: TaskValues(*(values[name] for name in names)) for task, names in self._names.items()}
        for task, share in self._shares.items():
            if task in found:
                found[task] = found[task]._replace(share=share)
        for task, mask in self._masks.items():
            found[task] = found[task]._replace(tokens=_tokens(found[task], values[mask]))
        uids = values[UID_SOURCE]
        return [plain(uid) for uid in (uids.tolist() if hasattr(uids, "tolist") else uids)], found


def _tokens(values: TaskValues, mask: Any) -> Tensor | None:
    """Return which tokens of a batch are none of the padding, [n, l]; None where nothing is said about any."""
    if mask is not None:
        return ~torch.as_tensor(mask)
    said = next((value for value in values[:3] if value is not None), None)
    return None if said is None else torch.ones(said.shape[:2], dtype=torch.bool)


def plain(value: Any) -> Any:
    """Return tensors and what numpy has as Python's numbers, texts and lists."""
    return value.tolist() if hasattr(value, "tolist") else value
