"""What the config of a run says of its model, its dataset and the number that it watches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.load import MAX_SIZE
from ..config.yaml_text import read_yaml
from ..constants import CONFIG_FILE
from .small_file import read_small

SECTION = re.compile(r"(\w+):$")
NAMING = re.compile(r"  (class|name): ")
HOOK = re.compile(r"- (?:[\w.]+\.)?(?:SaveBest|WriteJSON|WriteCSV)(?::|$)")
"""The hooks that tell which number is watched, and where numbers are written."""


@dataclass
class RunConfig:
    """What the config of a run says.

    :param data: the config, or the part of it that was read
    """

    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Path, whole: bool) -> RunConfig:
        """Read the config of a run.

        :param whole: read all of it; else only names and the hooks that write scores, which takes a tenth of the time
        :raise ValueError: if there is none, or it cannot be read
        """
        try:
            content = read_small(run / CONFIG_FILE, MAX_SIZE)
        except ValueError as error:
            raise ValueError(f"{CONFIG_FILE} {error}") from error
        if content is None:
            raise ValueError(f"has no {CONFIG_FILE}")
        try:
            text = content.decode("utf-8-sig")
            found = None if whole else cls._of_excerpt(text)
            return found or cls(_parsed(text))
        except UnicodeDecodeError as error:
            raise ValueError(f"{CONFIG_FILE} is not UTF-8") from error

    @classmethod
    def _of_excerpt(cls, text: str) -> RunConfig | None:
        """Read the lines alone that name things; None where they do not tell."""
        try:
            found = cls(_parsed("\n".join(_excerpt(text))))
        except ValueError:
            return None
        return None if None in (found.model_class, found.dataset) else found

    @property
    def model_class(self) -> str | None:
        """The class of the model."""
        return _text(self.section("model").get("class"))

    @property
    def model(self) -> str | None:
        """The name of the model, else its class."""
        name = _text(self.section("model").get("name"))
        return name or (self.model_class and self.model_class.rpartition(".")[2])

    @property
    def dataset(self) -> str | None:
        """The class of the dataset."""
        return _text(self.section("dataset").get("class"))

    def section(self, name: str) -> Mapping[str, Any]:
        """Return a section; empty where there is none."""
        found = self.data.get(name)
        return found if isinstance(found, Mapping) else {}

    def arguments_of(self, hook: str) -> Mapping[str, Any] | None:
        """Return the arguments of the first hook of a class; None where it is not listed."""
        hooks = self.data.get("hooks")
        for entry in hooks if isinstance(hooks, list) else ():
            named = entry if isinstance(entry, Mapping) else {str(entry): None}
            for name, arguments in named.items():
                if str(name).rpartition(".")[2] == hook:
                    return arguments if isinstance(arguments, Mapping) else {}
        return None


def _parsed(text: str) -> Mapping[str, Any]:
    data, _ = read_yaml(text, lambda line, column: f"{CONFIG_FILE}:{line + 1}:{column + 1}")
    if not isinstance(data, Mapping):
        raise ValueError(f"{CONFIG_FILE} is no config")
    return data


def _excerpt(text: str) -> Iterator[str]:
    """Yield the lines that name things, of a config in the form in which runs have theirs; of others, fewer."""
    section, is_wanted = "", False
    for line in text.split("\n"):
        if match := SECTION.match(line):
            section, is_wanted = match[1], False
            if section in ("model", "dataset", "hooks"):
                yield line
        elif section == "hooks":
            if line.startswith("- "):
                is_wanted = HOOK.match(line) is not None
            if is_wanted:
                yield line
        elif section in ("model", "dataset") and NAMING.match(line):
            yield line


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
