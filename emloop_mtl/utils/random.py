"""Seeds that are derived, orders that have a generator of their own, and the global random state as plain data."""

from __future__ import annotations

import hashlib
import random
from typing import Any, TypeAlias

import numpy as np
import torch

from ..errors import CheckpointError
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
    """Restore what ``get_random_state`` returned; devices that do not exist here are left out.

    :raise CheckpointError: if the state of a device is none
    """
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    np.random.set_state(_with_arrays(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        for device, generator_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            try:
                torch.cuda.set_rng_state(generator_state, device)
            except RuntimeError as error:
                raise CheckpointError(f"the random state of CUDA device {device} is none of ours: {error}") from error


def check_random_state(state: State) -> None:
    """Check that ``set_random_state`` can restore a state; nothing is changed.

    :raise CheckpointError: if it is none
    """
    before = host_state()
    try:
        # numpy reads beyond its memory from any other place.
        if not 0 <= int(state["numpy"]["state"]["pos"]) <= len(state["numpy"]["state"]["key"]):
            raise ValueError("numpy's generator stands outside of its numbers")
        devices = state["cuda"]
        is_bytes = [type(each) is torch.Tensor and each.dtype is torch.uint8 for each in devices]
        if type(devices) is not list or not all(is_bytes):
            raise TypeError("the states of CUDA's generators are no bytes")
        set_random_state({**state, "cuda": []})
    except Exception as error:  # there is no end to what the generators raise on what they cannot read
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"its random state is none of ours: {text}") from error
    finally:
        set_host_state(before)


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


def same_host_state(one: HostState, other: HostState) -> bool:
    """Tell whether nothing was drawn, nor seeded, between two states of the host."""
    (_, numpy_one, torch_one), (_, numpy_other, torch_other) = one, other
    return (
        one[0] == other[0]
        # A second normal number changes nothing but that it is not kept any more.
        and numpy_one["has_gauss"] == numpy_other["has_gauss"]
        and numpy_one["state"]["pos"] == numpy_other["state"]["pos"]
        and np.array_equal(numpy_one["state"]["key"], numpy_other["state"]["key"])
        and torch.equal(torch_one, torch_other)
    )


def _with_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tensors(item) for key, item in value.items()}
    return torch.from_numpy(value.astype(np.int64)) if isinstance(value, np.ndarray) else value


def _with_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    return value.numpy().astype(np.uint32) if isinstance(value, torch.Tensor) else value
