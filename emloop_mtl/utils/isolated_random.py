"""Random numbers that nobody else draws from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from .random import HostState, host_state, seed_host, set_host_state

T = TypeVar("T")


class IsolatedRandom:
    """A context in which the global generators of the host are a stream of their own.

    The code inside draws from ``random``, ``numpy.random`` and torch's CPU generator as if nobody else did: each
    ``with`` goes on where the last one ended, and leaves the outer state untouched. Not to be entered from two
    threads at once.

    :param seed: where the inner stream of numbers begins
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inner: HostState | None = None
        self._outer: HostState | None = None

    def __enter__(self) -> None:
        self._outer = host_state()
        if self._inner is None:
            seed_host(self._seed)
        else:
            set_host_state(self._inner)

    def __exit__(self, *error: object) -> None:
        self._inner = host_state()
        assert self._outer is not None
        set_host_state(self._outer)


def isolated(items: Iterable[T], generators: IsolatedRandom) -> Iterator[T]:
    """Yield ``items``, letting them draw from the given random generators instead of the global ones."""
    with generators:
        iterator = iter(items)
    while True:
        with generators:
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
