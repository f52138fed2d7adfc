"""What an update has made of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from .non_finite import Check, checks_of


def checks_of_training(model: Any) -> Iterator[tuple[str, Check]]:
    """Yield what there is to know about the trained weights of a model and their open gradients, without waiting.

    A loss can be finite where its gradient is not, so that nothing but the weights tells of it before the next batch.

    :param model: one that has a ``network`` and perhaps a ``precision``; in fp16 infinite gradients are in order, since
        an update leaves them out
    """
    network = getattr(model, "network", None)
    if not isinstance(network, nn.Module):
        return
    gradients = {} if getattr(model, "precision", None) == "fp16" else _gradients(model, network)
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            yield from _named(f"the weight {name!r}", parameter)
            if name in gradients:
                yield from _named(f"the gradient of {name!r}", gradients[name])


def _gradients(model: Any, network: nn.Module) -> dict[str, Tensor]:
    """Return the open gradients by parameter name; a model that trains parameters as one tells them itself."""
    if hasattr(model, "gradients"):
        told: dict[str, Tensor] = model.gradients()
        return told
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def _named(what: str, value: Tensor) -> Iterator[tuple[str, Check]]:
    for check in checks_of(value.coalesce().values() if value.is_sparse else value, with_infinity=True):
        yield what, check
