"""The section ``search``: what ``emloop-mtl search`` tries, how often, and by which number it judges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, nearest
from .annotations import show
from .search_range import SearchRange

MODES = ("min", "max")
WATCHED = ("stream", "variable", "mode", "aggregation")
_KNOWN = ("trials", "ranges", "watch", "sampler", "pruner", "max_failures")
_WHOLE = ("trials", "max_failures")


@dataclass(frozen=True)
class SearchSettings:
    """What the section ``search`` says.

    :param trials: how many trainings there are to be in all
    :param ranges: what each of them chooses
    :param watch: the number by which they are compared; None for that of the config's ``SaveBest``
    :param sampler: what chooses, an object of the config; None for the usual one
    :param pruner: what gives trainings up, likewise
    :param max_failures: so many failures in a row end the search
    """

    trials: int
    ranges: tuple[SearchRange, ...]
    watch: Mapping[str, Any] | None = None
    sampler: Mapping[str, Any] | None = None
    pruner: Mapping[str, Any] | None = None
    max_failures: int = 3

    @classmethod
    def of(cls, section: Any) -> SearchSettings:
        """Return what a section says, after a check of its form; no class is looked for.

        :raise ConfigError: with the path of the mistake in the config
        """
        if not isinstance(section, Mapping):
            raise ConfigError(f"expected a mapping with 'trials' and 'ranges', got {show(section)}", ("search",))
        for name in section:
            if name not in _KNOWN:
                raise ConfigError(f"unknown argument {name!r}{nearest(str(name), _KNOWN)}", ("search", name))
        for name in ("trials", "ranges"):
            if name not in section:
                raise ConfigError(f"missing {name!r}", ("search",))
        for name in _WHOLE:
            number = section.get(name, 1)
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ConfigError(f"expected a positive whole number, got {show(number)}", ("search", name))
        ranges = section["ranges"]
        if not isinstance(ranges, Mapping) or not ranges:
            text = f"expected a mapping of keys to values, such as {{seed: [1, 2, 3]}}, got {show(ranges)}"
            raise ConfigError(text, ("search", "ranges"))
        given = {name: section[name] for name in _WHOLE if name in section}
        for kind in ("sampler", "pruner"):
            given[kind] = _object(kind, section.get(kind))
        listed = []
        for name, value in ranges.items():
            try:
                listed.append(SearchRange.of(str(name), value))
            except ConfigError as error:
                raise error.below(("search", "ranges", name)) from error
        _check_keys(listed)
        return cls(ranges=tuple(listed), watch=_watch(section.get("watch")), **given)


def _check_keys(ranges: list[SearchRange]) -> None:
    """Check that no key gets two values."""
    seen: dict[str, str] = {}
    for each in ranges:
        for key in each.keys:
            for other, name in seen.items():
                if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                    text = f"the key {key!r} is set by {name!r} as well"
                    raise ConfigError(text, ("search", "ranges", each.name))
        seen |= dict.fromkeys(each.keys, each.name)


def _object(kind: str, value: Any) -> Mapping[str, Any] | None:
    """Return a mapping with ``class``, which a name alone stands for; one without a path is one of optuna's."""
    if value is None:
        return None
    section = {"class": value} if isinstance(value, str) else value
    if not isinstance(section, Mapping) or not isinstance(section.get("class"), str) or not section["class"]:
        example = {"sampler": "TPESampler", "pruner": "MedianPruner"}[kind]
        text = f"expected a name, or a mapping such as {{class: optuna.{kind}s.{example}}}, got {show(value)}"
        raise ConfigError(text, ("search", kind))
    return section


def _watch(value: Any) -> Mapping[str, Any] | None:
    if value is None:
        return None
    path = ("search", "watch")
    if not isinstance(value, Mapping):
        text = f"expected a mapping such as {{stream: valid, variable: loss, mode: min}}, got {show(value)}"
        raise ConfigError(text, path)
    for name, text in value.items():
        if name not in WATCHED:
            raise ConfigError(f"unknown argument {name!r}{nearest(str(name), WATCHED)}", (*path, name))
        if name == "mode" and text not in MODES:
            raise ConfigError(f"expected 'min' or 'max', got {show(text)}", (*path, name))
        if not isinstance(text, str) and not (name == "aggregation" and text is None):
            raise ConfigError(f"expected text, got {show(text)}", (*path, name))
    return value
