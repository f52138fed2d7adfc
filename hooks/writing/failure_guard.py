"""What a hook does that cannot write in the middle of a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import EmloopError

from ..arguments import check_word
from ..words import OnFailure

log = logging.getLogger(__name__)


class FailureGuard:
    """Gives errors of writing the name of their hook, and ends the training with them or lets it go on.

    :param hook: the hook that writes
    :param on_failure: ``error`` or ``warn``
    :param what: what is missing where it goes on, for messages
    :raise ConfigError: if ``on_failure`` is anything else
    """

    def __init__(self, hook: AbstractHook, on_failure: OnFailure, what: str = "records") -> None:
        check_word(hook.name, "on_failure", on_failure, OnFailure)
        self.goes_on = on_failure == "warn"
        """Whether the training goes on after a failure."""
        self._hook = hook
        self._what = what
        self._fails = False

    def begin(self) -> None:
        """Begin anew: the last attempt to write has not failed."""
        self._fails = False

    @contextmanager
    def writing(self, path: str | Path) -> Iterator[None]:
        """A context in which something is written; with ``warn`` it is left at a failure without an error.

        :param path: what is written
        :raise OSError: naming the hook, with ``error``
        """
        try:
            yield
        except EmloopError:
            raise
        except Exception as error:
            named = self._named(error, path)
            if not self.goes_on:
                named.add_note(f"; with 'on_failure: warn' the training would go on without these {self._what}")
                raise named from (error if named is not error else error.__cause__)
            if not self._fails:
                position = self._hook.main_loop.position
                place = f"epoch {position.epoch}, step {position.step}"
                log.warning("%s; the training goes on, and %s are missing from %s on", named, self._what, place)
            self._fails = True

    def attempt(self, act: Callable[[], object], path: str | Path) -> bool:
        """Do what writes something, and return whether it has succeeded.

        :raise OSError: naming the hook, with ``error``
        """
        is_done = False
        with self.writing(path):
            act()
            is_done = True
        return is_done

    def sync_when_saved(self, sync_later: Callable[[], Callable[[], None]], path: str | Path) -> bool:
        """Have records on disk before the checkpoint that speaks of them; to be called in ``state_dict``.

        :param sync_later: returns what waits until all records that there are by now are on disk
        :return: whether they could be handed over
        :raise OSError: naming the hook, with ``error``
        """

        def hand_over() -> None:
            sync = sync_later()
            self._hook.main_loop.before_saved(partial(self._wait, sync, path))

        return self.attempt(hand_over, path)

    def works(self, path: str | Path) -> None:
        """Tell that writing has succeeded, if it has failed before."""
        if self._fails:
            log.warning("%s: %s can be written again", self._hook.name, path)
        self._fails = False

    def _wait(self, sync: Callable[[], None], path: str | Path) -> None:
        with self.writing(path):
            sync()

    def _named(self, error: Exception, path: str | Path) -> Exception:
        """Return an error that names the hook."""
        name = self._hook.name
        if name in str(error):
            return error
        if isinstance(error, OSError) and error.errno is not None:
            return OSError(error.errno, f"{name}: {error.strerror}", error.filename or str(path))
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return OSError(f"{name}: cannot write {path}: {reason}")
