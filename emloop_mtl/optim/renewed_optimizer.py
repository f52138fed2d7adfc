"""An optimizer whose parameters change while it is in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .implementation import CHOICES
from .optimizers import (
    create_optimizer,
    load_optimizer_state,
    named_parameters,
    needs_closure,
    optimizer_state,
)

_NOT_CARRIED = ("params", "param_names", *CHOICES)


def renew_optimizer(
    optimizer: torch.optim.Optimizer,
    settings: Mapping[str, Any],
    network: nn.Module,
    accept: Callable[[torch.optim.Optimizer], None],
) -> None:
    """Let an optimizer train what a network consists of by now.

    What it remembers of parameters that stay goes on, whatever they are called now; others begin as in a new optimizer.
    Groups have the options that the settings give them. Where there are as many groups as before, options that somebody
    has changed meanwhile stay changed. Parameters that were frozen while the optimizer held them are held on to. An
    optimizer that evaluates a step several times remembers nothing of single parameters, and begins anew.

    :param optimizer: the optimizer, with nothing stacked; it stays the same object
    :param settings: what it was made of
    :param network: the network that it trains
    :param accept: gets an optimizer that is made anew, before anything is changed, and may refuse it
    :raise ConfigError: if the settings do not fit the network any more; then nothing is changed
    """
    former = named_parameters(optimizer)
    held = {id(parameter) for parameter in former.values()}
    frozen = [p for p in network.parameters() if id(p) in held and not p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        fresh = create_optimizer(settings, trained, network)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    accept(fresh)
    names = {id(parameter): name for name, parameter in named_parameters(fresh).items()}
    state = optimizer_state(fresh)
    if not needs_closure(fresh):
        for name, entry in optimizer_state(optimizer).items():
            if id(former[name]) in names:
                state[names[id(former[name])]] = entry
    load_optimizer_state(fresh, state)
    if len(fresh.param_groups) == len(optimizer.param_groups):
        for old, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
            new.update({key: value for key, value in old.items() if key not in _NOT_CARRIED})
    # Hooks that somebody has registered with the optimizer stay.
    vars(optimizer).update({name: value for name, value in vars(fresh).items() if not name.endswith("_hooks")})
