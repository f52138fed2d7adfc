"""Where hooks have written."""

from __future__ import annotations

from pathlib import Path

from ..utils.shown import printable
from .run_config import RunConfig


def written_path(run: Path, config: RunConfig, hook: str, argument: str, usual: str) -> Path | None:
    """Return what a hook has written in the folder of a run; None if its config or a link leads out of that.

    :param argument: what the hook calls its path
    :param usual: the path without that argument
    :raise ValueError: naming the file, if that is no path or links lead nowhere
    """
    given = (config.arguments_of(hook) or {}).get(argument, usual)
    path = run / given if isinstance(given, str) else run / usual
    try:
        return path if path.resolve().is_relative_to(run.resolve()) else None
    except (OSError, RuntimeError, ValueError) as error:  # of links in a circle, and of characters no path may have
        raise ValueError(f"{printable(path.name)} cannot be read") from error
