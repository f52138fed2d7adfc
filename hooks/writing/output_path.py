"""Where a hook may write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from os.path import normpath, realpath, sep
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

from emloop_mtl.constants import (
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    LOG_FILE,
    NOT_FINITE_FOLDER,
    RUN_FILE,
    SCORES_FILE,
    TRACE_FILE,
)
from emloop_mtl.errors import ConfigError
from emloop_mtl.utils.disk_room import lack_of_room

from .gap import Gap

if TYPE_CHECKING:
    from emloop_mtl.abstract_hook import AbstractHook

RESERVED = (CONFIG_FILE, RUN_FILE, LOG_FILE, TRACE_FILE, SCORES_FILE, CHECKPOINT_FOLDER, NOT_FINITE_FOLDER)
"""What a run keeps in its folder beside that which writers put there."""

ROOM = 100_000
"""Bytes that must be free where a hook begins to write; a disk that is as full will not take much of a training."""

MARK = "\ue000"
"""Stands for a gap while a path is made absolute; of no meaning by itself, so that no path has it."""


def check_output_path(hook: str, argument: str, path: Any) -> str:
    """Return ``path`` if a hook can write there.

    :param hook: name of the hook, for the error
    :param argument: what the path is called among its arguments
    :raise ConfigError: if it is no path, or a file or folder that every run has, or in such a folder
    """
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ConfigError(f"{hook}: {argument} must be a path, not {path!r}", (argument,))
    if normpath(path).split(sep)[0] in RESERVED:
        raise ConfigError(f"{hook}: {argument} {path!r} is what the run itself writes: take another one", (argument,))
    return path


def check_writable(hook: str, argument: str, folder: str | Path, shown: str | Path | None = None) -> None:
    """Check that files can be written in a folder, which need not be there yet; nothing is left behind.

    :param hook: name of the hook, for the error
    :param argument: what the path is called among its arguments
    :param shown: what will be written, for the error
    :raise ConfigError: if not, or if the disk is full
    """
    shown = folder if shown is None else shown
    path = Path(folder).absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(f"{hook}: cannot write {shown}: {error.strerror or error}", (argument,)) from error
    if lack := lack_of_room(path, ROOM):
        raise ConfigError(f"{hook}: no room for {shown}: it needs {lack}", (argument,))


NUMBER = Gap(r"-?\d+", "1")
TEXT = Gap(rf"[^{sep}]+", "a")


class OutputPath(NamedTuple):
    """Absolute paths that a hook writes: a pattern, an example, and what people see of it."""

    pattern: re.Pattern[str]
    example: str
    shown: str

    @classmethod
    def of(cls, parts: Sequence[str | Gap], shown: str | Path) -> OutputPath:
        """Return the paths that are put together of texts and gaps.

        :param parts: of the path, one after the other
        :param shown: what people see of it
        """
        text = "".join(MARK if isinstance(part, Gap) else part for part in parts)
        gaps = [part for part in parts if isinstance(part, Gap)]
        known = realpath(text).split(MARK)
        if len(known) != len(gaps) + 1:  # a gap with ".." behind it
            known = text.split(MARK)
        pattern, example = re.escape(known[0]), known[0]
        for gap, rest in zip(gaps, known[1:], strict=True):
            pattern += gap.pattern + re.escape(rest)
            example += gap.example + rest
        return cls(re.compile(pattern), example, str(shown))

    def meets(self, other: OutputPath) -> bool:
        """Return whether both may be one path."""
        return bool(self.pattern.fullmatch(other.example) or other.pattern.fullmatch(self.example))


def refuse_shared_paths(hook: AbstractHook, argument: str) -> None:
    """Check that no hook before this one writes what it writes; to be called when it is registered.

    What a hook writes is what its method ``output_paths`` returns, if it has one.

    :param argument: what the path is called among the hook's arguments
    :raise ConfigError: naming both hooks and the path
    """
    for other in hook.main_loop.hooks:
        if other is hook:
            return
        for path in _paths_of(hook):
            if any(path.meets(theirs) for theirs in _paths_of(other)):
                text = f"{hook.name} and {other.name} both write {path.shown}: give one another {argument}"
                raise ConfigError(text, (argument,))


def _paths_of(hook: AbstractHook) -> Sequence[OutputPath]:
    paths = getattr(hook, "output_paths", None)
    return () if paths is None else list(paths())
