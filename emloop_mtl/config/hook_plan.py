"""A hook to be built."""

from __future__ import annotations

from dataclasses import dataclass

from .blueprint import Blueprint


@dataclass(frozen=True)
class HookPlan:
    """A hook to be built.

    :param blueprint: its constructor's call
    :param name: what ``name:`` calls it, None if it keeps the name of its class
    """

    blueprint: Blueprint
    name: str | None
