"""Adam as BERT was trained with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import Optimizer, ParamsT


class BertAdam(Optimizer):
    """Adam without bias correction, with weight decay outside the moments.

    With gradient ``g``, moments ``m`` and ``v`` that begin at 0 and betas ``b1, b2``:
    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g²``, ``p = p - lr (m / (sqrt(v) + eps) + weight_decay p)``.
    Parameters without a gradient are left alone, their weights do not decay.

    From the published code of Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding, 2018; it clips gradients itself, which ``update.clip_norm`` does here.

    :param params: parameters, named ones, or groups of them with options of their own
    :param lr: the learning rate, 0 or more
    :param betas: how much of the moments stays in each update, each from 0 to under 1
    :param eps: added to the root of the second moment
    :param weight_decay: share of a weight, times ``lr``, that is taken off in each update
    :raise ValueError: for an option out of range, and for complex parameters

    .. code-block:: yaml

        optimizer: {class: bert_adam, lr: 2.0e-5, weight_decay: 0.01}
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options that it does not have are those of the optimizer."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for name in ("lr", "eps", "weight_decay"):
            if isinstance(group[name], torch.Tensor):
                raise ValueError(f"{name} must be a number, not a tensor")
            if not group[name] >= 0:
                raise ValueError(f"{name} must be 0 or more, not {group[name]}")
        if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must be two numbers from 0 to under 1, not {group['betas']}")
        if any(parameter.is_complex() for parameter in group["params"]):
            raise ValueError("complex parameters have no place in it; use adam")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters.

        :param closure: computes loss and gradients anew
        :return: what ``closure`` returned
        :raise RuntimeError: for a sparse gradient
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # The fused loops over many tensors take those of one device and one dtype.
            alike: dict[tuple[torch.device, torch.dtype], list[list[torch.Tensor]]] = {}
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if gradient.is_sparse:
                    raise RuntimeError("BertAdam does not take sparse gradients, use SparseAdam instead")
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                    state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                key = parameter.device, parameter.dtype
                if key not in alike:
                    alike[key] = [[], [], [], []]
                for tensors, tensor in zip(
                    alike[key], (parameter, gradient, state["exp_avg"], state["exp_avg_sq"]), strict=True
                ):
                    tensors.append(tensor)
            for tensor_lists in alike.values():
                _update(group, *tensor_lists)
        return loss


def _update(
    group: dict[str, Any],
    parameters: list[torch.Tensor],
    gradients: list[torch.Tensor],
    means: list[torch.Tensor],
    squares: list[torch.Tensor],
) -> None:
    lr, (beta1, beta2) = group["lr"], group["betas"]
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    scales = torch._foreach_sqrt(squares)
    torch._foreach_add_(scales, group["eps"])
    if group["weight_decay"]:
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
    torch._foreach_addcdiv_(parameters, means, scales, -lr)
