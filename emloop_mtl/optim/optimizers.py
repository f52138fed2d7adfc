"""Optimizers by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, nearest

DEFAULT = {"class": "adam"}
"""The optimizer of a model that names none: Adam with torch's own defaults."""


def optimizer_classes() -> dict[str, type[torch.optim.Optimizer]]:
    """Return torch's optimizers by their short names, e.g. ``adamw``, ``rmsprop``, ``sparseadam``."""
    found = (getattr(torch.optim, name) for name in dir(torch.optim))
    return {
        kind.__name__.lower(): kind
        for kind in found
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }


def find_optimizer(name: Any) -> type[torch.optim.Optimizer]:
    """Return the optimizer class called ``name``; case and underscores do not matter (``rms_prop`` is RMSprop).

    :param name: a short name, or an optimizer class, which is returned as it is
    :raise ConfigError: for an unknown name, with the nearest one
    """
    if inspect.isclass(name) and issubclass(name, torch.optim.Optimizer):
        return name
    if inspect.isclass(name):
        raise ConfigError(f"optimizer: {name.__name__} is no optimizer of torch", ("class",))
    known = optimizer_classes()
    kind = known.get(str(name).lower().replace("_", "").removeprefix("torch.optim."))
    if kind is None:
        raise ConfigError(f"optimizer: unknown class {name!r}{nearest(str(name).lower(), known)}", ("class",))
    return kind


def check_optimizer(settings: Mapping[str, Any]) -> None:
    """Check the name and the arguments of an optimizer before its parameters exist.

    :param settings: ``class`` and the arguments of its constructor
    :raise ConfigError: for an unknown class or argument, or a missing one
    """
    if "class" not in settings:
        raise ConfigError("optimizer: the key 'class' is missing, e.g. {class: adamw, lr: 0.001}")
    kind = find_optimizer(settings["class"])
    accepted = {name: p for name, p in inspect.signature(kind).parameters.items() if name not in ("params", "self")}
    for name, value in settings.items():
        if name == "class":
            continue
        if name not in accepted:
            raise ConfigError(f"optimizer {kind.__name__}: unknown argument {name!r}{nearest(name, accepted)}", (name,))
        if isinstance(value, str) and isinstance(accepted[name].default, bool | int | float):
            kinds = "true or false" if isinstance(accepted[name].default, bool) else "a number"
            raise ConfigError(f"optimizer {kind.__name__}: {name} must be {kinds}, not {value!r}", (name,))


def create_optimizer(
    settings: Mapping[str, Any], parameters: Iterable[tuple[str, nn.Parameter]]
) -> torch.optim.Optimizer:
    """Create an optimizer for named parameters.

    :param settings: ``class`` and the arguments of its constructor
    :param parameters: the parameters to train, with the names they are checkpointed under
    :raise ConfigError: for an unknown class, an unknown argument, or a value that the optimizer refuses
    """
    check_optimizer(settings)
    kind = find_optimizer(settings["class"])
    arguments = {name: value for name, value in settings.items() if name != "class"}
    try:
        return kind(list(parameters), **arguments)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"optimizer {kind.__name__}: {error}") from error


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what the optimizer remembers of each parameter, by parameter name.

    Options such as ``weight_decay`` are not part of it: they come from the config, so that a run can be resumed
    with others.
    """
    plain = optimizer.state_dict()
    return {name: plain["state"][index] for index, name in _names(plain).items() if index in plain["state"]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore what ``optimizer_state`` returned.

    :raise KeyError: if the state speaks of a parameter that the optimizer does not have
    """
    plain = optimizer.state_dict()
    index_of = {name: index for index, name in _names(plain).items()}
    missing = [name for name in state if name not in index_of]
    if missing:
        raise KeyError(f"the optimizer has no parameter {missing[0]!r}")
    restored = {index_of[name]: entry for name, entry in state.items()}
    optimizer.load_state_dict({"state": restored, "param_groups": plain["param_groups"]})


def _names(plain: Mapping[str, Any]) -> dict[int, str]:
    return {
        index: name
        for group in plain["param_groups"]
        for index, name in zip(group["params"], group["param_names"], strict=True)
    }
