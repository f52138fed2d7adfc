"""The heads of a model as somebody has given them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..errors import ConfigError
from ..tasks.action_input import INPUT, ActionInput
from ..tasks.task_network import TaskNetwork
from .component import BACKBONE
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


def head_task(name: str, head: Head, weight: float, takes: ActionInput | None = None) -> HeadTask:
    """Return a head as a task; errors have their path below the model.

    :param weight: its entry of ``loss_weights``
    :param takes: all that the module gets; None where that depends on the batch
    """
    try:
        return HeadTask(name, head, weight, takes)
    except ConfigError as error:
        is_weight = error.path == ("weight",)
        below = ("device",) if error.path[:1] == ("module_device",) else error.path
        path = ("loss_weights", name) if is_weight else ("heads", name, *below)
        raise ConfigError(str(error).replace(f"task {name!r}", f"head {name!r}", 1), path) from error.__cause__
