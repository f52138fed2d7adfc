"""Groups of parameters, each with options of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError

PATH = ("parameters",)
_FORM = "[{'params': [...], 'lr': 0.01}, {'params': [...]}]"


def make_groups(
    function: Callable[[Any], Any], network: nn.Module | None, parameters: Iterable[tuple[str, nn.Parameter]]
) -> list[dict[str, Any]]:
    """Return the groups that a function makes of a network, their parameters as pairs of name and parameter.

    Parameters that do not require gradients are left out of the groups they are in.

    :param function: gets the network and returns a list of groups; it may freeze and unfreeze parameters
    :param network: the network
    :param parameters: its parameters with their names, if there is no network
    :raise ConfigError: for what is no list of groups, tensors that are no parameters of the network, parameters that
        are in two groups or require gradients and are in none, and groups with nothing to train
    """
    try:
        given = function(network)
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        text = f"optimizer.parameters: the function failed, {type(error).__name__}: {error}"
        raise ConfigError(text, PATH) from error
    if not isinstance(given, list | tuple) or not all(isinstance(group, Mapping) for group in given):
        wrong = [type(group).__name__ for group in given if not isinstance(group, Mapping)] if _is_list(given) else []
        what = f"a list with a {wrong[0]}" if wrong else f"a {type(given).__name__}"
        raise ConfigError(f"optimizer.parameters must return a list of groups such as {_FORM}, not {what}", PATH)
    named = list(parameters if network is None else network.named_parameters())
    names = {id(parameter): name for name, parameter in named}
    places: dict[int, int] = {}
    groups = [{**group, "params": _members(index, group, names, places)} for index, group in enumerate(given)]
    for name, parameter in named:
        if parameter.requires_grad and id(parameter) not in places:
            raise ConfigError(
                f"optimizer.parameters: {name!r} requires gradients and is in no group; add it to one, or freeze it "
                "with requires_grad_(False), which the function may do itself",
                PATH,
            )
    return groups


def _members(
    index: int, group: Mapping[str, Any], names: Mapping[int, str], places: dict[int, int]
) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters of a group with their names, and note in ``places`` which group they are in."""
    where = f"optimizer.parameters: group {index}"
    if "params" not in group:
        raise ConfigError(f"{where} lacks the key 'params'", PATH)
    listed = group["params"]
    if isinstance(listed, torch.Tensor):
        listed = [listed]
    if not isinstance(listed, Iterable) or isinstance(listed, str | Mapping):
        raise ConfigError(f"{where}: 'params' must be a list of parameters, not a {type(listed).__name__}", PATH)
    members: dict[int, tuple[str, nn.Parameter]] = {}
    for item in listed:
        # torch takes pairs of name and parameter, too; checkpoints know a parameter by its name in the network
        parameter = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        if not isinstance(parameter, torch.Tensor):
            raise ConfigError(f"{where} holds a {type(parameter).__name__}, not a parameter", PATH)
        if id(parameter) not in names:
            shape = tuple(parameter.shape)
            raise ConfigError(f"{where} holds a tensor of shape {shape} that is no parameter of the network", PATH)
        if not parameter.requires_grad:
            continue
        name = names[id(parameter)]
        if places.setdefault(id(parameter), index) != index:
            raise ConfigError(f"{where} and group {places[id(parameter)]} both hold {name!r}", PATH)
        members[id(parameter)] = name, parameter  # type: ignore[assignment] # what the network names is a Parameter
    if not members:
        raise ConfigError(f"{where} has no parameter that requires gradients; leave it out", PATH)
    return list(members.values())


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)
