"""Whether somebody watches modules, or has replaced what they do."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from traceback import walk_tb
from types import CodeType
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module


def is_watched(module: nn.Module) -> bool:
    """Whether anybody has asked to be told when a module runs forward or backward, or has replaced what it does."""
    own = module.__dict__
    return bool(
        own["_forward_hooks"]
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
    )


def are_all_watched() -> bool:
    """Whether somebody is told of every module that runs, whichever it is."""
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def raised_by_watcher(error: BaseException, modules: Iterable[nn.Module]) -> bool:
    """Whether an error comes from somebody who is told when a module runs, and not from the module."""
    watchers: list[Any] = [
        *torch_module._global_forward_hooks.values(),
        *torch_module._global_forward_pre_hooks.values(),
    ]
    for module in modules:
        watchers += [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    codes = set(map(_code_of, watchers)) - {None}
    return any(frame.f_code in codes for frame, _ in walk_tb(error.__traceback__))


def raised_by_module(error: BaseException) -> bool:
    """Whether an error has come through a module that was called."""
    return any(frame.f_code is _CALL for frame, _ in walk_tb(error.__traceback__))


_CALL = nn.Module._call_impl.__code__


def _code_of(watcher: Any) -> CodeType | None:
    while isinstance(watcher, partial):
        watcher = watcher.func
    return getattr(watcher if hasattr(watcher, "__code__") else type(watcher).__call__, "__code__", None)
