"""Checks of arguments that several hooks take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any, get_args

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError, nearest


def check_count(hook: str, name: str, value: Any) -> int:
    """Return ``value`` if it is a positive whole number.

    :param hook: name of the hook, for the error
    :param name: name of the argument
    :raise ConfigError: if it is not
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{hook}: {name} must be a positive whole number, not {value!r}", (name,))
    return value


def check_positive(hook: str, name: str, value: Any) -> float:
    """Return ``value`` if it is a positive number, infinity included.

    :raise ConfigError: if it is not
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{hook}: {name} must be a positive number, not {value!r}", (name,))
    return value


def check_names(hook: str, name: str, value: Any) -> list[str]:
    """Return ``value`` as a list if it is a list of names, none of them twice and at least one.

    :raise ConfigError: if it is not
    """
    names = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    if isinstance(value, str) or not names or not all(isinstance(each, str) for each in names):
        shown = f", such as [{value}]" if isinstance(value, str) else ""
        raise ConfigError(f"{hook}: {name} must be a list of names{shown}, not {value!r}", (name,))
    for index, each in enumerate(names):
        if each in names[:index]:
            raise ConfigError(f"{hook}: {name} lists {each!r} twice", (name, index))
    return names


def check_streams(hook: AbstractHook, streams: Iterable[str] | None) -> None:
    """Check that there are the streams which the argument ``streams`` of a registered hook lists, if it does.

    :raise ConfigError: naming those that exist, or what one lacks that the model needs
    """
    for index, stream in enumerate(streams or ()):
        try:
            hook.main_loop.check_stream(stream)
        except ConfigError as error:
            raise ConfigError(f"{hook.name}: {error}", ("streams", index)) from error


def check_word(hook: str, name: str, value: Any, words: Any) -> None:
    """Check that ``value`` is one of a few words.

    :param words: the type that has them, a ``Literal``
    :raise ConfigError: if it is not, with the nearest one
    """
    if value not in get_args(words):
        raise ConfigError(f"{hook}: {name} {value!r} is unknown{nearest(str(value), get_args(words))}", (name,))


def names_as_texts(names: Any) -> Any:
    """Return a list of names as texts where some are numbers, as those of tasks may be; anything else as it is."""
    if not isinstance(names, Sequence) or isinstance(names, str):
        return names
    return [str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in names]


def check_overridden(hook: AbstractHook, base: type[AbstractHook], method: str) -> None:
    """Check that the class of ``hook`` is one of a hook's own, made of ``base`` by overriding ``method``.

    :raise ConfigError: if not, saying what to do, or if ``method`` does not take ``epoch_id`` and ``epoch_data``
    """
    if getattr(type(hook), method) is not getattr(base, method):
        try:
            signature(getattr(hook, method)).bind(epoch_id=None, epoch_data=None)
        except TypeError as error:
            text = f"{hook.name}.{method} must take the arguments (epoch_id, epoch_data): {error}"
            raise ConfigError(text) from error
        return
    if type(hook) is base:
        raise ConfigError(
            f"{base.__name__} does nothing by itself: list a class of your own that inherits from it and "
            f"overrides {method!r}"
        )
    raise ConfigError(f"{hook.name}: override {method!r}, which {base.__name__} calls")
