"""Calling modules without what torch looks up for hooks that are not there."""

from __future__ import annotations

from typing import Any

from torch.nn import Module, Sequential

_CALL = Module.__call__


def quick_call(module: Any, value: Any) -> Any:
    """Return what ``module(value)`` returns, in half the time where nothing watches the module.

    What torch does around ``forward`` takes as long as an activation of a small batch. Whatever could notice the
    difference is looked for in every call: hooks of the module, a module that is compiled or called in a way of its
    own, and a ``Module.__call__`` that somebody has replaced, as tracers do. Hooks of all modules are the caller's.

    :param module: a ``torch.nn.Module``
    :param value: its only argument
    """
    kind = type(module)
    if (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._compiled_call_impl is not None
        or kind.__call__ is not _CALL
    ):
        return module(value)
    if kind is Sequential and "forward" not in module.__dict__:
        for child in module._modules.values():
            value = quick_call(child, value)
        return value
    return module.forward(value)
