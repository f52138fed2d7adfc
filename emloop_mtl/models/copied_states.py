"""Copies of what modules consist of."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

Memo = dict[int, Any]
"""What stands for an object wherever a copy refers to it, by the object's ``id``: that of ``copy.deepcopy``."""

_PLAIN = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
"""Attributes of every module; those which are mappings hold hooks."""


def module_memo(modules: Iterable[nn.Module]) -> Memo:
    """Return what stands for modules, which stand for themselves, and for what they consist of.

    Hooks stay what they are. Weights that are not trained, which may be many, are shared. Others are copied, since
    modules may write to them even where they are evaluated, as an ``nn.Embedding`` with ``max_norm`` does; their
    gradients will take as much memory. Modules of ``torch.jit``, which do not consist of attributes, are left out, so
    that they are copied whole.

    :param modules: all modules that belong together
    :raise torch.OutOfMemoryError: if there is no room for it
    """
    memo: Memo = {}
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):
            continue
        memo[id(module)] = module
        memo.update((id(hooks), hooks) for hooks in hooks_of(module))
        for value in (*vars(module).values(), *module._buffers.values()):
            if isinstance(value, Tensor) and not value.is_leaf:  # such as the weight that ``weight_norm`` computes
                memo[id(value)] = value.detach().clone()
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in memo:
                memo[id(parameter)] = _twin(parameter)
    return memo


def hooks_of(module: nn.Module) -> list[dict[Any, Any]]:
    """Return the mappings of a module that hold hooks, in which handles look for those that they remove."""
    own = vars(module)
    return [own[name] for name in _PLAIN if isinstance(own.get(name), dict) and own[name]]


def copied(value: Any, memo: Memo) -> Any:
    """Return a copy of a value; the value itself, which stands for itself from then on, where there is none to be had.

    What ends with an object, such as a folder, would end with its copy; and who owns a method may be anybody.

    :param value: any value
    :param memo: what stands for parts of it; gets what was copied
    :raise torch.OutOfMemoryError: if there is no room for it
    """
    for part in _parts(value):
        if hasattr(type(part), "__del__"):
            memo[id(part)] = part
        elif isinstance(part, MethodType) and not isinstance(part.__self__, nn.Module):
            memo[id(part.__self__)] = part.__self__
    known = len(memo)
    try:
        return copy.deepcopy(value, memo)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception:  # there is no end to what objects raise that cannot be copied
        while len(memo) > known:  # what was half copied
            memo.popitem()
        memo[id(value)] = value
        return value


def _twin(parameter: nn.Parameter) -> nn.Parameter:
    if not parameter.requires_grad:
        return parameter
    twin: nn.Parameter = copied(parameter, {})
    if twin is not parameter:
        twin.__dict__.update(parameter.__dict__)  # which torch leaves out
    return twin


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, list | tuple):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
