"""The state of a training at one moment, and how it is written as the files of a checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from .types import State
from .utils.checkpoint_names import MODEL_FILE, STATE_FILE
from .utils.hashing_writer import HashingWriter
from .utils.host_memory import HostMemory
from .utils.plain import check_plain
from .utils.tensor_file import DTYPES, write_tensors
from .utils.tensor_tree import compact, take_apart

SLACK, SLACK_PER_TENSOR = 2**16, 2**10
"""Bytes wanted on disk beyond those of the tensors: for headers, the manifest and plain values."""


class Snapshot:
    """The state of one moment, taken apart so that it can be written.

    :param weights: the model's state, plain data and tensors, nested or not
    :param state: all other state, likewise
    :param memory: where tensors are copied to, so that the training may change them from then on; without it nothing
        may change before the snapshot is written
    :raise CheckpointError: if something is not plain, with its place
    """

    def __init__(
        self, weights: Mapping[str, State], state: Mapping[str, State], memory: HostMemory | None = None
    ) -> None:
        check_plain(weights, "model")
        model = take_apart(weights)
        self._state, others = compact(state, None if memory is None else memory.copy)
        self._skeleton = model.skeleton
        self._tensors = model.tensors
        if memory is not None:
            self._tensors = {name: memory.copy(tensor) for name, tensor in model.tensors.items()}
        self.ties = model.ties
        """Name of each tensor that is another one -> the name of that."""
        self.size = bytes_on_disk([*others, *model.tensors.values()])
        """Bytes that it takes on disk, somewhat rounded up."""

    def write(self, folder: Path, stop: threading.Event | None = None) -> dict[str, dict[str, Any]]:
        """Write weights and state, and return the manifest's entry of each file.

        :param stop: breaks the writing off once it is set
        :raise OSError: if a file cannot be written
        """
        fitting = {name: tensor for name, tensor in self._tensors.items() if tensor.dtype in DTYPES}
        others = {name: tensor for name, tensor in self._tensors.items() if tensor.dtype not in DTYPES}
        with HashingWriter(folder / MODEL_FILE, stop) as model_file:
            write_tensors(model_file, fitting)
        with HashingWriter(folder / STATE_FILE, stop) as state_file:
            stored = {"weights": self._skeleton, "others": compact(others)[0], "state": self._state}
            torch.save(stored, state_file)  # type: ignore[arg-type] # it calls nothing but write and flush
        files = {MODEL_FILE: model_file, STATE_FILE: state_file}
        return {name: {"size": file.size, "sha256": file.sha256} for name, file in files.items()}


def bytes_on_disk(tensors: Collection[torch.Tensor]) -> int:
    """Return the bytes that a checkpoint of these tensors takes on disk, somewhat rounded up."""
    return SLACK + sum(tensor.nbytes + SLACK_PER_TENSOR for tensor in tensors)
