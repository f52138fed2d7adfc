"""Watching what an update asks of the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "_unique", "_unique2", "bincount", "item"}


class NoWaiting(TorchDispatchMode):
    """Refuses every operation whose result the host must wait for, whatever device it runs on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING:
            raise AssertionError(f"{name} waits for the device")
        if name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            raise AssertionError("indexing by a mask waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def no_waiting() -> type[NoWaiting]:
    return NoWaiting
