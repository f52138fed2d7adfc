"""Checks of what a main loop is constructed with."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from .errors import ConfigError, nearest

log = logging.getLogger(__name__)

ACTIONS = ("ignore", "warn", "error")
"""What can be done about something suspicious."""


def check_actions(actions: Mapping[str, str]) -> None:
    """Check arguments that name an action.

    :raise ConfigError: for one that is none of ``ACTIONS``
    """
    for name, action in actions.items():
        if action not in ACTIONS:
            text = f"main_loop.{name}: {action!r} is none of {', '.join(ACTIONS)}"
            raise ConfigError(text, ("main_loop", name))


def check_whole(name: str, value: Any, least: int) -> None:
    """Check an argument that is None or a whole number.

    :raise ConfigError: if it is anything else, or less than ``least``
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"main_loop.{name}: {value!r} is no whole number", ("main_loop", name))
    if value < least:
        raise ConfigError(f"main_loop.{name}: {value} is less than {least}", ("main_loop", name))


def check_extra_streams(names: Any, train_stream_name: str) -> list[str]:
    """Return the names of streams to evaluate.

    :raise ConfigError: if they are no list, or one of them is trained on
    """
    path = ("main_loop", "extra_streams")
    if isinstance(names, str):
        raise ConfigError(f"main_loop.extra_streams: a list of names is needed, such as [{names}]", path)
    streams: list[str] = list(names)
    if train_stream_name in streams:
        text = f"{train_stream_name!r} is trained on; to evaluate its data too, name another stream of them"
        advice = f"e.g. dataset.streams.train_eval: {{splits: [{train_stream_name}]}}"
        raise ConfigError(f"main_loop.extra_streams: {text}, {advice}", path)
    return streams


def refuse_unknown(unknown: Collection[str], known: Collection[str], action: str) -> None:
    """Do what ``on_incorrect_config`` says about arguments that a main loop does not know.

    :raise ConfigError: for the first one if that is the action
    """
    for name in unknown:
        text = f"main_loop: unknown argument {name!r}{nearest(name, known)}"
        if action == "error":
            text += "; set main_loop.on_incorrect_config to 'warn' to go on all the same"
            raise ConfigError(text, ("main_loop", name))
        if action == "warn":
            log.warning("%s", text)
