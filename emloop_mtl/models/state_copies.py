"""Copies of what objects consist of."""

from __future__ import annotations

import copy
import functools
import io
import sys
import sysconfig
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from enum import Enum
from mmap import mmap
from queue import Queue, SimpleQueue
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MethodType,
    ModuleType,
    NoneType,
    SimpleNamespace,
)
from typing import Any
from weakref import ProxyTypes, ReferenceType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset

from .abstract_model import AbstractModel
from .cannot_tell import CannotTell
from .own_states import OwnStates, attributes_of, entries_of

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, range, torch.dtype, torch.device, *ProxyTypes})

_CONTAINERS: frozenset[type] = frozenset(
    {list, tuple, dict, set, frozenset, OrderedDict, defaultdict, deque, SimpleNamespace}
)
"""What is copied with all that is in it; kinds of them may be more than that."""

_SHARED = (
    *(type, FunctionType, ModuleType, ReferenceType, Enum, threading.Thread, io.IOBase),
    *(Dataset, DataLoader, AbstractModel),
)
"""What stands for itself: what cannot be copied, belongs to others, or is large and read only."""

_MOVING = (Iterator, torch.jit.ScriptModule, Queue, SimpleQueue, mmap, memoryview, MappingProxyType)
"""What would not stay what it is if it were shared, and so is copied or not used at all."""

_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}
"""Attributes of every module; those which are mappings hold hooks."""

_HEAP_TYPE = 1 << 9
"""The flag of a class that is not built in: ``Py_TPFLAGS_HEAPTYPE``."""

_ROOM = object.__basicsize__ + 16
"""Bytes of an object of a class that is written in Python from end to end, without slots."""


class StateCopies:
    """Gives objects states of their own: copies of the attributes that they have, and of what these consist of.

    Modules, and objects of classes that are written in Python, stand for themselves, so that whatever holds one of them
    holds the right one; they have other attributes for a while. Tensors, containers and what Python, torch and numpy
    make are copied. Functions, files, locks, threads and data stay what they are.
    """

    def __init__(self) -> None:
        self.states = OwnStates()
        """What the objects have for a while."""
        self._memo: dict[int, Any] = {}
        self._met: list[Any] = []
        self._ways: dict[type, Callable[[Any], Any]] = {}
        self._too_large: set[int] = set()
        """Parameters that are not copied, by their ``id``."""
        self._busy = _busy_modules()

    def share(self, value: Any) -> None:
        """Have a value stand for itself, as it is."""
        self._memo.setdefault(id(value), value)

    def add(self, modules: Iterable[nn.Module]) -> None:
        """Add modules, all of a network at once.

        Weights are copied, since modules may write to them even where they are evaluated, as an ``nn.Embedding`` with
        ``max_norm`` does; their gradients will take as much memory. Those that are not trained are, too, the smallest
        first, as long as they take no more; of others there are twins that share their memory.

        :raise torch.OutOfMemoryError: if there is no room for it
        :raise CannotTell: for what moves on where it is read, and cannot be copied
        """
        kept = [module for module in modules if not isinstance(module, torch.jit.ScriptModule)]
        parameters = {id(p): p for module in kept for p in module._parameters.values() if p is not None}
        sizes = {number: 0 if is_lazy(p) else p.nbytes for number, p in parameters.items()}
        room = sum(size for number, size in sizes.items() if parameters[number].requires_grad)
        frozen = [number for number, p in parameters.items() if not p.requires_grad]
        for number in sorted(frozen, key=sizes.__getitem__):
            room -= sizes[number]
            if room < 0:
                self._too_large.add(number)
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
            if isinstance(owner, dict):
                pairs = entries_of(owner)
                self.states.add_entries(owner, [(self._copied(key), self._copied(value)) for key, value in pairs])
            elif isinstance(owner, (list, set)):
                self.states.add_entries(owner, [self._copied(entry) for entry in entries_of(owner)])
            attributes = attributes_of(owner) if type(owner).__dictoffset__ else owner
            if attributes is not owner:  # as of a mapping whose entries are its attributes
                self.states.add(owner, {name: self._copied(value) for name, value in attributes.items()})

    def _meet(self, owner: Any) -> Any:
        kind = type(owner)
        if kind.__module__ in self._busy and not _is_installed(kind):
            text = f"a thread runs what {kind.__module__} defines"
            raise CannotTell(f"{text}, and may change a {kind.__name__} at any time")
        self._memo[id(owner)] = owner
        self._met.append(owner)
        if isinstance(owner, nn.Module):
            for name in _OF_EVERY_MODULE:
                hooks = attributes_of(owner).get(name)
                if isinstance(hooks, dict) and hooks:  # in which a handle looks for the one that it removes
                    self._memo[id(hooks)] = hooks
                    self.states.add_entries(hooks, entries_of(hooks))
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
        if issubclass(kind, _SHARED) or _is_of_engine(kind) or _is_empty(kind):
            return _itself
        if _is_installed(kind) and _package(kind.__module__) in map(_package, self._busy):
            return _itself
        is_worn = not _is_base(kind) and (_is_plain(kind) or issubclass(kind, (dict, list, set)))
        return self._meet if is_worn else self._leaf

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
        if id(parameter) not in self._too_large:
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
        kind = type(value)
        if isinstance(value, np.ndarray) and (isinstance(value, np.memmap) or not value.flags.writeable):
            return value
        if not _is_base(kind) or isinstance(value, _MOVING) or _package(kind.__module__) == "multiprocessing":
            return self._surely(copy.deepcopy, value)
        if (
            kind.__dictoffset__ and kind.__basicsize__ <= _ROOM and not attributes_of(value)
        ):  # a mark, asked for by ``is``
            return value
        if isinstance(value, Future) and not value.done():
            raise CannotTell("a thread has yet to make a result")
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
    package = _package(__name__)
    names = [parent.__module__ for parent in kind.__mro__ if parent.__module__.startswith(f"{package}.")]
    return any(not name.startswith((f"{package}.tasks.", f"{package}.models.")) for name in names)


def _is_plain(kind: type) -> bool:
    """Whether an object of a class is what lies in its ``__dict__``."""
    parents = kind.__mro__[:-1]
    return (
        kind.__dictoffset__ != 0
        and kind.__basicsize__ <= _ROOM
        and all(parent.__flags__ & _HEAP_TYPE and not vars(parent).get("__slots__") for parent in parents)
        and all(isinstance(vars(parent).get("__dict__"), (NoneType, GetSetDescriptorType)) for parent in parents)
    )


def _is_empty(kind: type) -> bool:
    """Whether there is nothing in an object of a class, as in a mark that is asked for by ``is``."""
    return kind.__basicsize__ == object.__basicsize__ and kind.__dictoffset__ == 0


def _is_base(kind: type) -> bool:
    """Whether a class is of Python's own library, of torch or of numpy."""
    package = _package(kind.__module__)
    if package not in sys.stdlib_module_names:
        return package in ("torch", "numpy")
    file = getattr(sys.modules.get(package), "__file__", None)
    return file is None or file.startswith(sysconfig.get_path("stdlib"))  # else it only has the name of one


def _is_installed(kind: type) -> bool:
    """Whether a class is of a package that was installed, beside the engine."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return _package(kind.__module__) != _package(__name__) and ("site-packages" in file or "dist-packages" in file)


def _busy_modules() -> set[str]:
    """Return the names of modules of which threads run something at present, beside the engine and Python's own."""
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    parts = [part for thread in threads for part in (type(thread), getattr(thread, "_target", None))]
    names = {getattr(part, "__module__", None) or "" for part in parts}
    ours = {*sys.stdlib_module_names, "torch", _package(__name__), ""}
    return {name for name in names if _package(name) not in ours}


def _package(module: str) -> str:
    return module.partition(".")[0]
