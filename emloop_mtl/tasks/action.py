"""One step of a task flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, nearest
from .action_input import INPUT, ActionInput, InputForm


@dataclass(frozen=True, init=False, slots=True)
class Action:
    """The call of a module on sources and outputs of earlier actions, under a name for what it returns.

    :param name: the name of the output; tasks that use one name share the action, and it runs once for them
    :param module: the name of the module, among those of the task or those that the model's tasks share
    :param inputs: ``"x"`` (a source or an action's output), ``"x[0]"``, ``"x.key"``, a pair ``("x", 0)``, or a list of
        these; with None or an empty list the module gets one dict of all outputs so far, the sources under ``_input_``
    :raise ConfigError: for a name or an input that cannot be read
    """

    name: str
    module: str
    inputs: tuple[ActionInput, ...]

    def __init__(self, name: str, module: str, inputs: InputForm | Sequence[InputForm] | None = None) -> None:
        if not isinstance(name, str) or not name or name == INPUT or any(sign in name for sign in ".[]/"):
            raise ConfigError(
                f"{name!r} cannot name an action; take a word without '.', '[', ']', '/' other than '{INPUT}'"
            )
        if not isinstance(module, str) or not module:
            raise ConfigError(f"action {name!r}: 'module' must be the name of a module, not {module!r}", ("module",))
        forms = inputs if isinstance(inputs, list) else [] if inputs is None or inputs == () else [inputs]
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "inputs", tuple(_parse(name, form) for form in forms))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Action:
        """Build an action from a mapping with ``name``, ``module`` and ``inputs``.

        :raise ConfigError: for a missing or unknown key
        """
        known = ("name", "module", "inputs")
        for key in config:
            if key not in known:
                raise ConfigError(f"an action has no argument {key!r}{nearest(key, known)}", (key,))
        for key in known[:2]:
            if key not in config:
                raise ConfigError(f"an action needs {key!r}; got {dict(config)}")
        return cls(**config)


def _parse(name: str, form: Any) -> ActionInput:
    try:
        return ActionInput.parse(form)
    except ConfigError as error:
        raise ConfigError(f"action {name!r}: {error}", ("inputs",)) from error
