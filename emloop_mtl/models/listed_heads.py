"""The heads of a model as somebody has given them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from ..errors import ConfigError, nearest
from ..tasks.action_input import INPUT
from ..tasks.task_network import TaskNetwork
from .component import BACKBONE, Component
from .head import Head
from .head_task import HeadTask


def listed_heads(heads: object) -> dict[str, Head]:
    """Return the heads that a caller, or a function that a config names, has given.

    :raise ConfigError: for what is no head, or cannot be called so
    """
    if not isinstance(heads, Mapping):
        raise ConfigError(f"heads must map names to modules, not {heads!r}", ("heads",))
    if not heads:
        raise ConfigError("a model needs at least one head", ("heads",))
    listed = {}
    for name, head in heads.items():
        if not isinstance(name, str) or _is_taken(name):
            text = f"{name!r} cannot name a head; take another word, without '.', '[', ']' and '/'"
            raise ConfigError(text, ("heads", name))
        if not isinstance(head, Head | nn.Module):
            raise ConfigError(f"head {name!r} must be an nn.Module or a Head, not {head!r}", ("heads", name))
        listed[name] = head if isinstance(head, Head) else Head(head)
    return listed


def _is_taken(name: str) -> bool:
    """Whether a word stands for something else, or cannot name a module of a network."""
    return (
        name in ("", BACKBONE, "model", INPUT) or any(sign in name for sign in ".[]/") or hasattr(TaskNetwork(), name)
    )


def check_keys(argument: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Check that an argument of a model is a mapping whose keys are among those known.

    :raise ConfigError: if it is not
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{argument} must be a mapping, not {given!r}", (argument,))
    for key, value in given.items():
        if argument == "arg_name_mapping" and not isinstance(value, Mapping):
            text = f"{argument}.{key} must map names to arguments, not {value!r}"
            raise ConfigError(text, (argument, str(key)))
        if key not in known:
            raise ConfigError(f"{argument}: there is no head {key!r}{nearest(str(key), known)}", (argument, key))


def check_mapped(components: Mapping[str, Component], known: Collection[str]) -> None:
    """Check that all names that are mapped to arguments occur in the data, or in what the backbone returns.

    :param components: the backbone and the heads by name
    :param known: the names of the sources
    :raise ConfigError: for one that does not
    """
    returned = components[BACKBONE].returns
    for key, component in components.items():
        told = () if key == BACKBONE else (BACKBONE,) if returned == () else returned
        for name in component.mapped:
            if told is not None and name not in known and name not in told:
                text = f"arg_name_mapping.{key}: there is no {name!r}{nearest(name, {*known, *told})}"
                raise ConfigError(text, ("arg_name_mapping", key, name))


def head_task(name: str, head: Head, weight: float, component: Component, backbone: Component) -> HeadTask:
    """Return a head as a task; errors have their path below the model.

    :param weight: its entry of ``loss_weights``
    :param component: the arguments of its module
    :param backbone: those of the backbone
    """
    try:
        return HeadTask(name, head, weight, component, component.takes(backbone))
    except ConfigError as error:
        is_weight = error.path == ("weight",)
        below = ("device",) if error.path[:1] == ("module_device",) else error.path
        path = ("loss_weights", name) if is_weight else ("heads", name, *below)
        raise ConfigError(str(error).replace(f"task {name!r}", f"head {name!r}", 1), path) from error.__cause__
