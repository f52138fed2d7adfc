"""Seeds that are derived, orders that have a generator of their own, and the global random state as plain data."""

from __future__ import annotations

import hashlib
import random
from typing import Any, TypeAlias

import numpy as np
import torch

from ..types import State

HostState: TypeAlias = tuple[Any, Any, torch.Tensor]


def derive_seed(*parts: object) -> int:
    """Return a 63-bit seed that depends on ``parts`` alone, the same in every process.

    :param parts: numbers, strings and tuples of them; told apart by their ``repr``
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def permutation(n: int, *parts: object) -> torch.Tensor:
    """Return a random order of ``range(n)``, int64 of shape [n], that depends on ``n`` and ``parts`` alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed(*parts)))


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's global generators, those of all devices included."""
    seed_host(seed)
    torch.manual_seed(seed)


def get_random_state() -> dict[str, State]:
    """Return the state of all global generators as plain data and tensors."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    return {
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": _with_tensors(numpy_state),
        "torch": torch.get_rng_state(),
        # A generator that was never used has no state of its own: seeding makes it anew.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }


def set_random_state(state: dict[str, State]) -> None:
    """Restore what ``get_random_state`` returned; devices that do not exist here are left out."""
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    np.random.set_state(_with_arrays(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        for device, generator_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(generator_state, device)


def seed_host(seed: int) -> None:
    """Seed the global generators of the host and leave those of devices alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # Not torch.manual_seed, which would seed the devices as well.
    torch.default_generator.manual_seed(seed)


def host_state() -> HostState:
    """Return the state of the global generators of the host, quicker than as plain data."""
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()


def set_host_state(state: HostState) -> None:
    """Restore what ``host_state`` returned."""
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def _with_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tensors(item) for key, item in value.items()}
    return torch.from_numpy(value.astype(np.int64)) if isinstance(value, np.ndarray) else value


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    return value.numpy().astype(np.uint32) if isinstance(value, torch.Tensor) else value
