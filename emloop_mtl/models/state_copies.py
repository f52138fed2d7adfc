"""Copies of what objects consist of."""

from __future__ import annotations

import copy
import functools
import io
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from threading import Thread
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from weakref import ProxyTypes, ReferenceType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset

from .abstract_model import AbstractModel
from .cannot_tell import CannotTell
from .own_states import OwnStates

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, range, torch.dtype, torch.device, *ProxyTypes})

_CONTAINERS: frozenset[type] = frozenset(
    {list, tuple, dict, set, frozenset, OrderedDict, defaultdict, deque, SimpleNamespace}
)

_SHARED = (type, FunctionType, ModuleType, ReferenceType, Enum, Thread, io.IOBase, Dataset, DataLoader, AbstractModel)
"""What stands for itself: what cannot be copied, belongs to others, or is large and read only."""

_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
"""Attributes of every module; those which are mappings hold hooks."""

_HEAP_TYPE = 1 << 9
_ROOM = object.__basicsize__ + 16
"""Bytes of an object of a class that is written in Python from end to end, without slots."""


class StateCopies:
    """Gives objects states of their own: copies of the attributes that they have, and of what these consist of.

    Modules, and objects of the user's classes, stand for themselves, so that whatever holds one of them holds the right
    one; they have other attributes for a while. Tensors, mappings, lists and what libraries make are copied. Functions,
    files, threads and data stay what they are, and so does what cannot be copied, such as a lock.
    """

    def __init__(self) -> None:
        self.states = OwnStates()
        """What the objects have for a while."""
        self._memo: dict[int, Any] = {}
        self._met: list[Any] = []
        self._ways: dict[type, Callable[[Any], Any]] = {}
        self._copies_frozen = False

    def share(self, value: Any) -> None:
        """Have a value stand for itself, as it is."""
        self._memo.setdefault(id(value), value)

    def add(self, modules: Iterable[nn.Module]) -> None:
        """Add modules, all of a network at once.

        Weights are copied, since modules may write to them even where they are evaluated, as an ``nn.Embedding`` with
        ``max_norm`` does; their gradients will take as much memory. Those that are not trained are, too, if they are
        not more; of others there are twins that share their memory.

        :raise torch.OutOfMemoryError: if there is no room for it
        :raise CannotTell: for what moves on where it is read, and cannot be copied
        """
        kept = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
        parameters = {id(p): p for module in kept for p in module._parameters.values() if p is not None}
        sizes = {False: 0, True: 0}
        for parameter in parameters.values():
            sizes[parameter.requires_grad] += 0 if is_lazy(parameter) else parameter.nbytes
        self._copies_frozen = sizes[False] <= sizes[True]
        for module in kept:
            self._meet(module)
        for number, parameter in parameters.items():
            self._memo[number] = self._twin(parameter)
        self._finish()

    def copied(self, value: Any) -> Any:
        """Return what stands for a value.

        :raise torch.OutOfMemoryError: if there is no room for it
        :raise CannotTell: for what moves on where it is read, and cannot be copied
        """
        made = self._copied(value)
        self._finish()
        return made

    def _finish(self) -> None:
        while self._met:
            owner = self._met.pop()
            self.states.add(owner, {name: self._copied(value) for name, value in vars(owner).items()})

    def _meet(self, owner: Any) -> Any:
        self._memo[id(owner)] = owner
        self._met.append(owner)
        if isinstance(owner, nn.Module):
            for name in _OF_EVERY_MODULE:
                hooks = vars(owner).get(name)
                if isinstance(hooks, dict) and hooks:  # in which a handle looks for the one that it removes
                    self._memo[id(hooks)] = hooks
                    self.states.add_entries(hooks)
        return owner

    def _copied(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        known = self._memo.get(id(value), self)
        if known is not self:
            return known
        way = self._ways.get(kind)
        if way is None:
            way = self._ways[kind] = self._way_of(kind)
        made = self._memo[id(value)] = way(value)
        return made

    def _way_of(self, kind: type) -> Callable[[Any], Any]:
        """Return what makes of an object of a class that which stands for it."""
        if kind in _CONTAINERS:
            return self._container
        if issubclass(kind, Tensor):
            return self._tensor
        if issubclass(kind, nn.Module) and not issubclass(kind, torch.jit.ScriptModule):
            return self._meet
        if kind in (MethodType, BuiltinFunctionType):
            return self._method
        if kind is functools.partial:
            return self._partial
        if issubclass(kind, _SHARED) or _is_of_engine(kind):
            return _itself
        return self._meet if _is_plain(kind) else self._leaf

    def _container(self, value: Any) -> Any:
        kind, made = type(value), None
        if kind in (tuple, frozenset):
            made = kind(map(self._copied, value))
            return self._memo.get(id(value), made)  # one that holds itself has been met on the way
        if kind in (dict, OrderedDict, defaultdict):
            made = self._memo[id(value)] = defaultdict(value.default_factory) if kind is defaultdict else kind()
            for key, part in value.items():
                made[self._copied(key)] = self._copied(part)
        elif kind is SimpleNamespace:
            made = self._memo[id(value)] = SimpleNamespace()
            vars(made).update({name: self._copied(part) for name, part in vars(value).items()})
        elif kind is set:
            made = self._memo[id(value)] = set()
            made.update(map(self._copied, value))
        else:
            made = self._memo[id(value)] = deque(maxlen=value.maxlen) if kind is deque else []
            made.extend(map(self._copied, value))
        return made

    def _method(self, value: Any) -> Any:
        own = self._copied(value.__self__)
        if own is value.__self__:
            return value
        return MethodType(value.__func__, own) if isinstance(value, MethodType) else getattr(own, value.__name__)

    def _partial(self, value: functools.partial[Any]) -> functools.partial[Any]:
        function, args, keywords = map(self._copied, (value.func, value.args, value.keywords))
        return functools.partial(function, *args, **keywords)

    def _tensor(self, value: Tensor) -> Tensor:
        if isinstance(value, nn.Parameter):
            return self._twin(value)
        if isinstance(value, nn.UninitializedBuffer):  # which torch cannot copy
            return nn.UninitializedBuffer(value.requires_grad, value.device, value.dtype)  # type: ignore[arg-type]
        if not value.is_leaf:  # such as the weight that ``weight_norm`` computes
            return value.detach().clone()
        made: Tensor = self._surely(copy.deepcopy, value)
        return made

    def _twin(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.requires_grad or self._copies_frozen:
            twin: nn.Parameter = self._surely(copy.deepcopy, parameter)
        else:
            twin = self._surely(_with_same_memory, parameter)
        twin.__dict__.update(parameter.__dict__)  # which torch leaves out
        return twin

    def _surely(self, make: Callable[[Any, dict[int, Any]], Any], value: Any) -> Any:
        try:
            return make(value, self._memo)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # there is no end to what objects raise that cannot be copied
            text = f"a {type(value).__name__} cannot be copied, and would not stay what it is"
            raise CannotTell(f"{text} ({type(error).__name__}: {error})") from error

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and (isinstance(value, np.memmap) or not value.flags.writeable):
            return value
        if isinstance(value, (Iterator, torch.jit.ScriptModule)):
            return self._surely(copy.deepcopy, value)
        known = len(self._memo)
        try:
            return copy.deepcopy(value, self._memo)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:  # see above
            while len(self._memo) > known:  # what was half copied
                self._memo.popitem()
            return value


def _itself(value: Any) -> Any:
    return value


def _with_same_memory(parameter: nn.Parameter, memo: object) -> nn.Parameter:
    return copy.copy(parameter)


def _is_of_engine(kind: type) -> bool:
    """Whether objects of a class are parts of the engine, but for those that tasks and models consist of."""
    package = __name__.partition(".")[0]
    names = [parent.__module__ for parent in kind.__mro__ if parent.__module__.startswith(f"{package}.")]
    return any(not name.startswith((f"{package}.tasks.", f"{package}.models.")) for name in names)


def _is_plain(kind: type) -> bool:
    """Whether an object of a class is what lies in its ``__dict__``, and no library has made it but the engine."""
    return (
        kind.__dictoffset__ != 0
        and kind.__basicsize__ <= _ROOM
        and all(parent.__flags__ & _HEAP_TYPE and not vars(parent).get("__slots__") for parent in kind.__mro__[:-1])
        and not _is_of_library(kind.__module__)
    )


def _is_of_library(module: str) -> bool:
    package = module.partition(".")[0]
    if package == __name__.partition(".")[0]:
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return package in sys.stdlib_module_names or "site-packages" in file or "dist-packages" in file
