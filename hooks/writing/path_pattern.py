"""Paths that tell streams and epochs apart."""

from __future__ import annotations

import re
from itertools import takewhile
from os.path import sep
from pathlib import Path
from string import Formatter

from emloop_mtl.errors import ConfigError, nearest

from .gap import Gap
from .output_path import NUMBER, TEXT, OutputPath, check_output_path

FIELDS = ("stream", "epoch")
"""What a path may hold in braces."""


class PathPattern:
    """A path in which ``{stream}`` and ``{epoch}`` stand for the stream's name and the number of the epoch.

    :param hook: name of the hook that writes there, for errors
    :param argument: what the path is called among its arguments
    :param path: relative to some folder, or absolute
    :raise ConfigError: if it is no path, or holds something else in braces
    """

    def __init__(self, hook: str, argument: str, path: str) -> None:
        self._path = check_output_path(hook, argument, path)
        try:
            parts = [(name, spec or "") for _, name, spec, _ in Formatter().parse(path) if name is not None]
            if any(re.search(r"\{|\d{3}", spec) for _, spec in parts):
                raise ValueError("a field is filled to at most 99 characters")
            unknown = [name for name, _ in parts if name not in FIELDS]
            if not unknown:
                path.format(stream="valid", epoch=1)
        except ValueError as error:
            text = f"{hook}: {argument} {path!r}: {error}; it may hold {{stream}} and {{epoch}}"
            raise ConfigError(text, (argument,)) from error
        for name in unknown:
            text = f"{hook}: {argument} {path!r}: unknown field {name!r}{nearest(name, FIELDS)}"
            raise ConfigError(text, (argument,))

    def __str__(self) -> str:
        return self._path

    def file(self, folder: str | Path | None, stream: str, epoch: int | None) -> Path:
        """Return the file of a stream in an epoch.

        :param folder: what a relative path begins in
        """
        return Path(folder or "", self._path.format(stream=stream, epoch=epoch))

    def folder(self, folder: str | Path | None) -> Path:
        """Return the folder that all files are in, or in folders below it."""
        parts = Path(folder or "", self._path).parent.parts
        return Path(*takewhile(lambda part: "{" not in part, parts))

    def output_path(self, folder: str | Path | None, stream: str | None) -> OutputPath:
        """Return where the files of a stream are; of any stream if there is none."""
        parts: list[str | Gap] = []
        if not Path(self._path).is_absolute():
            parts.append(f"{folder or '.'}{sep}")
        for text, name, spec, conversion in Formatter().parse(self._path):
            field = "{0" + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
            parts.append(text)
            if name == "epoch":
                parts.append(Gap(rf".*{NUMBER.pattern}.*", field.format(1)) if spec else NUMBER)
            elif name == "stream":
                parts.append(TEXT if stream is None else field.format(stream))
        return OutputPath.of(parts, self._path)
