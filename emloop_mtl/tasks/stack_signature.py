"""What modules must have in common to be run as one."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import nn
from torch.nn.utils import parametrize

from .watched import is_watched

_ACTIVATIONS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Identity: (),
    nn.ReLU: ("inplace",),
    nn.ReLU6: ("inplace",),
    nn.LeakyReLU: ("negative_slope", "inplace"),
    nn.ELU: ("alpha", "inplace"),
    nn.CELU: ("alpha", "inplace"),
    nn.SELU: ("inplace",),
    nn.GELU: ("approximate",),
    nn.SiLU: ("inplace",),
    nn.Mish: ("inplace",),
    nn.Hardswish: ("inplace",),
    nn.Hardsigmoid: ("inplace",),
    nn.Tanh: (),
    nn.Sigmoid: (),
    nn.LogSigmoid: (),
    nn.Softsign: (),
    nn.Softplus: ("beta", "threshold"),
}
"""Modules that treat each number by itself, and their settings; what draws random numbers is none of them."""


def is_activation(module: nn.Module) -> bool:
    """Whether a module treats each number by itself and has no parameters."""
    return type(module) in _ACTIVATIONS


def module_signature(module: nn.Module) -> Hashable | None:
    """Return what is equal for modules that compute the same but for their weights; None for one that runs apart.

    Exact classes only, since a subclass may compute anything; and nothing that somebody watches or has replaced.
    """
    if is_watched(module) or parametrize.is_parametrized(module):
        return None
    kind = type(module)
    if kind is nn.Sequential:
        children = [module_signature(child) for child in module.children()]
        return None if None in children else (kind, tuple(children))
    settings: Hashable | None = None
    if kind in _ACTIVATIONS:
        settings = tuple(getattr(module, name) for name in _ACTIVATIONS[kind])
    elif kind is nn.Linear:
        settings = ()
    elif isinstance(module, nn.LayerNorm) and kind is nn.LayerNorm and len(module.normalized_shape) == 1:
        settings = module.normalized_shape, module.eps
    if settings is None or any(True for _ in module.children()) or module._buffers:
        return None
    parameters = [(name, _parameter_signature(parameter)) for name, parameter in module._parameters.items()]
    known = all(signature is not False for _, signature in parameters)
    return (kind, settings, tuple(parameters)) if known else None


def _parameter_signature(parameter: nn.Parameter | None) -> Hashable:
    """Return what stacked parameters have in common, None where there is none, False for one that is not stacked."""
    if parameter is None:
        return None
    hooked = parameter._backward_hooks or parameter._post_accumulate_grad_hooks
    plain = type(parameter) is nn.Parameter and parameter.is_leaf and parameter.is_floating_point()
    if hooked or not plain or parameter.layout is not torch.strided or not parameter.dim() or not parameter.numel():
        return False
    return tuple(parameter.shape), parameter.dtype, parameter.device, parameter.requires_grad
