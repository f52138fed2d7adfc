"""An object that has been found and checked, but not built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, EmloopError, KeyPath

_MISTAKES = (
    *(ValueError, TypeError, LookupError, ArithmeticError, OSError, ImportError, RuntimeError, AssertionError),
    *(AttributeError, MemoryError, SystemExit),
)
"""What a constructor raises about its arguments; anything else is a fault in its code and keeps its traceback."""


@dataclass(frozen=True)
class Blueprint:
    """A call that builds an object, with blueprints among its arguments.

    :param target: the class or function
    :param name: what the config calls it
    :param args: arguments by position
    :param kwargs: arguments by name
    :param path: where it stands in the config
    :param takes: names of what the engine hands over to it
    """

    target: Callable[..., Any]
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    path: KeyPath
    takes: frozenset[str] = frozenset()

    def build(self, handed_over: Mapping[str, Any]) -> Any:
        """Build the object, its arguments first.

        :param handed_over: name -> what the engine has to hand over
        :raise ConfigError: if a constructor refuses its arguments, or data cannot be used, with the path of its object
        """
        args = realize(self.args, handed_over)
        kwargs = realize(self.kwargs, handed_over)
        kwargs.update((name, handed_over[name]) for name in self.takes)
        try:
            return self.target(*args, **kwargs)
        except ConfigError as error:
            raise error.below(self.path) from error
        except EmloopError as error:  # of data or a checkpoint that the config names
            raise ConfigError(str(error), self.path) from error
        except _MISTAKES as error:
            kind = "" if type(error) in (ValueError, TypeError, RuntimeError) else f"{type(error).__name__}: "
            raise ConfigError(f"{self.name}: {kind}{' '.join(str(error).split())}", self.path) from error


def realize(value: Any, handed_over: Mapping[str, Any]) -> Any:
    """Return ``value`` with every blueprint in it replaced by the object it builds."""
    if isinstance(value, Blueprint):
        return value.build(handed_over)
    if isinstance(value, dict):
        return {key: realize(item, handed_over) for key, item in value.items()}
    if isinstance(value, list):
        return [realize(item, handed_over) for item in value]
    return value
