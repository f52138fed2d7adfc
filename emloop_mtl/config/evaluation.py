"""The section ``eval``: how the config of an evaluation differs from that of the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, KeyPath, nearest
from .annotations import show
from .config import Config

EVALUATED_SECTIONS = ("dataset", "model", "main_loop", "hooks")
"""What ``eval.<stream>`` can override."""


def evaluation_config(config: Config, stream: str) -> Config:
    """Return the config with which a stream is evaluated: ``eval.<stream>`` over the rest, ``eval`` left out.

    Mappings are merged key by key, unless the override names another ``class``; lists and single values replace.

    :param config: the config of a training
    :param stream: name of the stream; one that ``eval`` does not mention changes nothing
    :raise ConfigError: if the section ``eval`` is not made so
    """
    overrides = checked_overrides(config).get(stream) or {}
    data = {key: value for key, value in config.data.items() if key != "eval"}
    positions = {path: where for path, where in config.positions.items() if path[:1] != ("eval",)}
    merged = _merged(data, overrides, (), positions)
    root: KeyPath = ("eval", stream)
    for path, where in config.positions.items():
        if path[:2] == root and len(path) > 2:
            positions[path[2:]] = where
    return config.replaced(merged, positions)


def checked_overrides(config: Config) -> Mapping[str, Any]:
    """Return the section ``eval``, after a check that it maps streams to sections.

    :raise ConfigError: naming what is none
    """
    section = config.data.get("eval") or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"expected a mapping of streams to what changes, got {show(section)}", ("eval",))
    for stream, overrides in section.items():
        if overrides is not None and not isinstance(overrides, Mapping):
            raise ConfigError(f"expected a mapping of sections, got {show(overrides)}", ("eval", stream))
        for name in overrides or ():
            if name not in EVALUATED_SECTIONS:
                text = f"unknown section {name!r}{nearest(str(name), EVALUATED_SECTIONS)}"
                raise ConfigError(text, ("eval", stream, name))
    return section


def _merged(base: Any, override: Any, path: KeyPath, positions: dict[KeyPath, str]) -> Any:
    is_other = isinstance(override, Mapping) and isinstance(base, Mapping) and _differ(base, override)
    if isinstance(base, Mapping) and isinstance(override, Mapping) and not is_other:
        merged = dict(base)
        for key, value in override.items():
            merged[key] = _merged(base[key], value, (*path, key), positions) if key in base else value
        return merged
    for known in [known for known in positions if known[: len(path)] == path]:
        del positions[known]
    return override


def _differ(base: Mapping[str, Any], override: Mapping[str, Any]) -> bool:
    return "class" in override and override["class"] != base.get("class")
