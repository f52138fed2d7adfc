"""Contexts that are entered together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

Make = Callable[[], AbstractContextManager[object]]


class Contexts:
    """Contexts that are entered together, one inside the other, and can be left for a while in between."""

    def __init__(self) -> None:
        self._makers: list[Make] = []
        self._entered: ExitStack | None = None

    def add(self, make: Make) -> None:
        """Have one more context made whenever they are entered, inside of those before."""
        self._makers.append(make)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in all contexts, which are left however that ends."""
        try:
            self._enter()
            yield
        finally:
            self._leave()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Be in none of them, and in new ones afterwards if they were entered, unless an error ends that."""
        was_entered = self._entered is not None
        self._leave()
        yield
        if was_entered:
            self._enter()

    def _enter(self) -> None:
        self._entered = ExitStack()  # known before the first is entered, so that they are left if a later one fails
        for make in self._makers:
            self._entered.enter_context(make())

    def _leave(self) -> None:
        entered, self._entered = self._entered, None
        if entered is not None:
            entered.close()
