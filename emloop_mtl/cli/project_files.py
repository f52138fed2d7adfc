"""Writes the project that ``emloop-mtl new`` begins with."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

import click

from ..errors import ConfigError

_SUFFIX = ".txt"
"""What the templates end with: they are data of the package, not its modules."""


def write_project(folder: Path) -> None:
    """Write the files of a project and say how to go on.

    :param folder: where; made if it is not there
    :raise ConfigError: if it holds something, is no folder, or cannot be written
    """
    texts = project_files()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = sorted(path.name for path in folder.iterdir())
        if held:
            more = f" and {len(held) - 1} more" if len(held) > 1 else ""
            raise ConfigError(f"{folder}: the folder holds {held[0]!r}{more}; a project begins in an empty one")
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{folder}: {error.filename} is no folder") from error
    except OSError as error:
        raise ConfigError(f"{folder}: the project cannot be written: {error.strerror}") from error
    config = shlex.quote(str(folder / "config.yaml"))
    click.echo(f"{folder} holds {', '.join(texts)}. It is trained by\n\n  emloop-mtl train {config}")


def project_files() -> dict[str, str]:
    """Return the texts of the files by name."""
    templates = sorted(files(__package__).joinpath("project").iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8") for file in templates}
