"""Gradients that hold only the rows of an embedding that were looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from ..types import State

_PACKED = "sparse"

_TAKES_SPARSE = (torch.optim.SparseAdam, torch.optim.SGD, torch.optim.Adagrad, torch.optim.LBFGS)
"""The optimizers of torch's that take sparse gradients; of those the first takes no others."""


def check_gradient_kinds(optimizer: torch.optim.Optimizer, network: nn.Module) -> None:
    """Check, as far as the modules tell it beforehand, that the optimizer takes the gradients it will get.

    :param network: the module whose parameters it updates
    :raise ConfigError: naming a parameter whose gradients it cannot work with
    """
    kinds = _gradient_kinds(network)
    names = {parameter: name for name, parameter in network.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter in kinds and (text := _problem(optimizer, group, kinds[parameter])) is not None:
                raise ConfigError(f"optimizer {type(optimizer).__name__}: {names[parameter]!r} has {text}")


def certainly_dense(parameters: Iterable[nn.Parameter], network: nn.Module | None) -> bool:
    """Whether the modules of a network tell that none of these parameters can get a sparse gradient."""
    if network is None:
        return False
    dense, sparse, unknown = _parameters_by_kind(network)
    return (dense - sparse - unknown).issuperset(parameters)


def explain_gradients(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], error: RuntimeError
) -> None:
    """Raise an error of the optimizer as one of the config, if gradients of a kind it does not take are the reason.

    :param parameters: the parameters by name
    :raise ConfigError: naming the parameter and what to change
    """
    names = {parameter: name for name, parameter in parameters.items()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            text = _problem(optimizer, group, parameter.grad.is_sparse)
            if text is not None:
                kind = type(optimizer).__name__
                raise ConfigError(
                    f"optimizer {kind}: {names[parameter]!r} has {text}", ("model", "optimizer")
                ) from error


def gradient_values(parameters: Iterable[nn.Parameter]) -> list[torch.Tensor]:
    """Return the values of all gradients, those of a sparse one for its rows alone, each row summed up once.

    To sum up rows waits for the device.
    """
    values = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad._values())
        else:
            values.append(parameter.grad)
    return values


def clip_values(values: list[torch.Tensor], max_norm: float) -> None:
    """Scale values in place so that their norm is ``max_norm`` at most, to the bit as ``clip_grad_norm_`` does."""
    device = values[0].device
    if all(value.device == device for value in values):
        # torch's own goes from tensor to tensor in Python where they are on the CPU.
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(values)))
        torch._foreach_mul_(values, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
        return
    factor = torch.clamp(max_norm / (nn.utils.get_total_norm(values) + 1e-6), max=1.0)
    for value in values:
        value.mul_(factor.to(value.device))


def pack(value: State) -> State:
    """Return a tensor as it can be checkpointed: a sparse one as its parts, any other as it is."""
    if not isinstance(value, torch.Tensor) or not value.is_sparse:
        return value
    parts = {"indices": value._indices(), "values": value._values()}
    return {_PACKED: {**parts, "size": list(value.shape), "coalesced": value.is_coalesced()}}


def unpack(value: State) -> State:
    """Return what was packed."""
    if not isinstance(value, dict) or value.keys() != {_PACKED}:
        return value
    parts = value[_PACKED]
    return torch.sparse_coo_tensor(
        parts["indices"], parts["values"], parts["size"], is_coalesced=parts["coalesced"], check_invariants=False
    )


def _gradient_kinds(network: nn.Module) -> dict[nn.Parameter, bool]:
    """Return whether the gradients of parameters are sparse, for those whose modules tell."""
    dense, sparse, unknown = _parameters_by_kind(network)
    # Of a parameter that several modules share, one dense gradient makes the sum dense.
    return {**dict.fromkeys(sparse - unknown, True), **dict.fromkeys(dense, False)}


def _parameters_by_kind(network: nn.Module) -> tuple[set[nn.Parameter], set[nn.Parameter], set[nn.Parameter]]:
    """Return the parameters of modules that give dense, sparse, and unknown gradients; a shared one is in several."""
    dense: set[nn.Parameter] = set()
    sparse: set[nn.Parameter] = set()
    unknown: set[nn.Parameter] = set()
    for module in network.modules():
        holds_for_others = isinstance(module, nn.ParameterList | nn.ParameterDict)
        if not type(module).__module__.startswith("torch.nn.") or holds_for_others:
            kind = unknown
        else:
            kind = sparse if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse else dense
        kind.update(module.parameters(recurse=False))
    return dense, sparse, unknown


def _problem(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], sparse: bool) -> str | None:
    """Return what hinders an update, None if nothing is known to."""
    takes_sparse = isinstance(optimizer, _TAKES_SPARSE)
    if not sparse:
        only_sparse = isinstance(optimizer, torch.optim.SparseAdam)
        text = "dense gradients, and it takes sparse ones only; use adam, or freeze it with requires_grad_(False)"
        return text if only_sparse else None
    if not takes_sparse and type(optimizer).__module__.startswith(("torch.optim.", "emloop_mtl.")):
        return "sparse gradients, and it takes none; use sparse_adam, sgd or adagrad, or sparse: false in its module"
    if takes_sparse and group.get("fused"):
        return "sparse gradients, and the fused implementation takes none; set fused: false"
    if takes_sparse and group.get("weight_decay"):
        return "sparse gradients, and with them weight_decay must be 0; a parameter group of its own can have that"
    return None
