"""Which of its implementations an optimizer of torch's runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn, optim

from .sparse_gradients import certainly_dense

FUSED: Mapping[str, tuple[type[optim.Optimizer], ...]] = {
    "cpu": (optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad),
    "cuda": (optim.SGD, optim.Adam, optim.AdamW),
}
"""The optimizers that have one kernel for all parameters of a device, in every release of torch that is supported."""

FOREACH_ON_CPU = (optim.RMSprop, optim.Adadelta, optim.Adamax, optim.NAdam, optim.RAdam)
"""The optimizers that are faster with small parameters if they take them all at once; on CUDA torch does so anyway."""

SMALL = 2048
"""Mean size of parameters up to which that is faster; larger ones leave the cache between two operations."""

CHOICES = ("fused", "foreach", "differentiable", "capturable")
"""Settings that say what to run, or that not all implementations know."""

_TAKE_BOTH_KINDS = (optim.SGD, optim.Adagrad)
"""The optimizers that take sparse gradients where they are not fused."""


def choose_implementation(
    kind: type[optim.Optimizer],
    options: Mapping[str, Any],
    groups: Sequence[Mapping[str, Any]],
    network: nn.Module | None,
) -> dict[str, bool]:
    """Return the setting that makes an optimizer run its fastest implementation; nothing if that is its default.

    :param kind: the class of the optimizer
    :param options: its arguments; if one of them says what to run, nothing is chosen
    :param groups: parameter groups with their options, ``params`` being pairs of name and parameter
    :param network: the module that they belong to; it tells whose gradients are certain to be dense
    """
    given = [(name, value) for settings in (options, *groups) for name, value in settings.items()]
    if any(name in CHOICES or (name == "lr" and isinstance(value, torch.Tensor)) for name, value in given):
        return {}
    parameters = [parameter for group in groups for _, parameter in group["params"]]
    devices = {parameter.device.type for parameter in parameters}
    if len(devices) != 1 or not all(map(_is_plain, parameters)):
        return {}
    device = devices.pop()
    is_dampened = any(name == "dampening" and value for name, value in given)
    if kind in FUSED.get(device, ()) and not is_dampened:  # else see FirstMomentum
        if kind not in _TAKE_BOTH_KINDS or certainly_dense(parameters, network):
            return {"fused": True}
    if device == "cpu" and kind in FOREACH_ON_CPU and _mean_size(parameters) <= SMALL:
        return {"foreach": True}
    return {}


def _is_plain(parameter: torch.Tensor) -> bool:
    """Whether all implementations compute the same: on the CPU the fused ones take every tensor for contiguous."""
    known = type(parameter) in (torch.Tensor, nn.Parameter) and parameter.dtype in (torch.float32, torch.float64)
    return known and parameter.is_contiguous()


def _mean_size(parameters: Iterable[torch.Tensor]) -> float:
    sizes = [parameter.numel() for parameter in parameters]
    return sum(sizes) / len(sizes)
