"""Writes the JSON Schema of configs."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from ..config.load import load_config
from ..config.schema import config_schema
from ..errors import ConfigError
from .tables import print_text

log = logging.getLogger(__name__)


def write_schema(config_path: Path | None, output: Path | None) -> None:
    """Write the schema to a file, or to stdout if there is none.

    :param config_path: a config whose classes are known to the schema by their dotted paths
    :raise ConfigError: if the config cannot be read, names what cannot be found, or is what would be written over, and
        if the file cannot be written
    """
    if output is not None and config_path is not None and output.resolve() == config_path.resolve():
        raise ConfigError(f"{output}: the schema would be written over the config; -o names another file")
    config = None if config_path is None else load_config(config_path)
    text = json.dumps(config_schema(config), indent=1)
    if output is None:
        print_text(text)
        return
    try:
        output.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: the schema cannot be written: {error.strerror}") from error
    place = os.path.relpath(output, Path() if config_path is None else config_path.parent)
    log.info("%s is written; the first line of a config: # yaml-language-server: $schema=%s", output, place)
