"""What holds for every test: one thread, no network, no window, repeatable examples."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
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

WAITING = {
    *("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "bincount", "masked_select"),
    *("unique", "_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
}
"""Operators whose result the host waits for: they read values, or the size of what they return depends on values."""

READING = (
    *("item", "tolist", "cpu", "numpy", "nonzero", "is_nonzero", "equal", "unique", "__array__", "__contains__"),
    *("__bool__", "__int__", "__float__", "__complex__", "__index__"),
)
"""Methods of tensors that do; some of them reach no operator where the tensor is on the host already."""


@pytest.fixture
def no_waiting() -> type[Any]:
    """A context that refuses whatever the host must wait for, whatever device it runs on; torch.optim aside."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode  # here: most tests know nothing of it

    def check(name: str) -> None:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            if f"torch{os.sep}optim" in frame.f_code.co_filename:
                return  # torch's optimizers read their step counts, which they keep on the host
            frame = frame.f_back
        raise AssertionError(f"{name} waits for the device")

    class NoWaiting(TorchDispatchMode):
        def __enter__(self) -> Any:
            self._patch = pytest.MonkeyPatch()
            thread = threading.get_ident()
            for name in READING:
                self._patch.setattr(torch.Tensor, name, refusing(name, getattr(torch.Tensor, name), thread))
            return super().__enter__()

        def __exit__(self, *error: Any) -> None:
            self._patch.undo()
            super().__exit__(*error)

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name in WAITING:
                check(name)
            if name in ("index", "index_put", "index_put_") and any(
                index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
            ):
                check("indexing by a mask")
            return func(*args, **(kwargs or {}))

    def refusing(name: str, method: Any, thread: int) -> Any:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == thread:
                check(f"Tensor.{name}")
            return method(*args, **kwargs)

        return refuse

    return NoWaiting
