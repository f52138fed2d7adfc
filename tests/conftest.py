"""What holds for every test: one thread, no network, no window, repeatable examples."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from hypothesis import settings

# Read when torch, wandb and matplotlib are first imported, so it must be set before any test file is.
# One thread: sums come out alike on every number of cores, and the tests are faster so.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["MPLBACKEND"] = "Agg"

# A shell that runs the tests in the background lets them ignore SIGINT, and so would every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)

# No deadline, since the first use of torch takes longer than any single example; derandomized, so that a failure
# belongs to the change that caused it.
settings.register_profile("emloop_mtl", deadline=None, derandomize=True)
settings.load_profile("emloop_mtl")

WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "_unique", "_unique2", "bincount", "item"}


@pytest.fixture
def no_waiting() -> type[Any]:
    """A context that refuses every operation whose result the host must wait for, whatever device it runs on."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode  # here: most tests know nothing of it

    class NoWaiting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name in WAITING:
                raise AssertionError(f"{name} waits for the device")
            if name in ("index", "index_put", "index_put_") and any(
                index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
            ):
                raise AssertionError("indexing by a mask waits for the device")
            return func(*args, **(kwargs or {}))

    return NoWaiting
