"""What a task says about the rows of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..constants import UID_SOURCE
from ..data.batch import Batch
from ..tasks.nested import without_half


class TaskPrediction:
    """The predictions of one task, row by row in the order of the batches.

    :param task: name of the task
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self._uids: list[Any] = []
        self._parts: dict[str, list[Any]] = {}

    def add(self, batch: Batch, label: Any, outputs: Mapping[str, Any]) -> None:
        """Add the rows of a batch.

        :param label: their labels, [n, ...], or None
        :param outputs: what the model returned for the batch
        """
        uids = batch.get(UID_SOURCE, range(len(self._uids), len(self._uids) + (batch.size or 0)))
        self._uids += uids.tolist() if isinstance(uids, torch.Tensor) else list(uids)
        if label is not None:
            self._parts.setdefault("label", []).append(label)
        for kind in ("prob", "pred"):
            if (name := f"{self.task}/{kind}") in outputs:
                self._parts.setdefault(kind, []).append(outputs[name])

    @property
    def uids(self) -> list[Any]:
        """What identifies each row: the loader's uids, else running numbers."""
        return self._uids

    @property
    def labels(self) -> np.ndarray | None:
        """The labels, [n, ...]; None if not all of the data is labelled, since rows could not be told apart then."""
        labels = self._joined("label")
        return None if labels is None or len(labels) < len(self) else labels

    @property
    def probs(self) -> np.ndarray | None:
        """Probabilities [n, classes] or [n], or the predicted values."""
        return self._joined("prob")

    @property
    def preds(self) -> np.ndarray | None:
        """Predicted classes, or the predicted values."""
        return self._joined("pred")

    def __len__(self) -> int:
        return len(self._uids)

    def _joined(self, kind: str) -> np.ndarray | None:
        parts = self._parts.get(kind)
        if parts is None:
            return None
        return np.concatenate([without_half(torch.as_tensor(part)).cpu().numpy() for part in parts])
