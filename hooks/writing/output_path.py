"""Where a hook may write."""

from __future__ import annotations

from os.path import normpath, sep
from typing import Any

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

RESERVED = (CONFIG_FILE, RUN_FILE, LOG_FILE, TRACE_FILE, SCORES_FILE, CHECKPOINT_FOLDER, NOT_FINITE_FOLDER)
"""What a run keeps in its folder beside that which writers put there."""


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
