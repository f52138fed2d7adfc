"""Finds classes and functions by name, at run time."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from ..abstract_hook import AbstractHook
from ..errors import ConfigError, nearest
from .trust_policy import TrustPolicy

_PACKAGES = {
    "hook": ("hooks",),
    "model": ("models",),
    "dataset": ("data",),
    "scheduler": ("schedulers",),
    "object": ("schedulers", "data", "tasks", "models", "weighting"),
    "function": (),
}
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_config_folders: list[str] = []


def is_dotted(name: str) -> bool:
    """Whether ``name`` looks like ``module.Class``."""
    return _DOTTED.fullmatch(name) is not None


def resolve_class(name: str, kind: str = "object", trust: TrustPolicy | None = None) -> Callable[..., Any]:
    """Return the class or function called ``name``.

    :param name: the name of a class of this package, or a dotted path
    :param kind: ``hook``, ``model``, ``dataset``, ``scheduler``, ``object`` (any of these but hooks) or ``function``
    :param trust: refuses what must not run, before it is imported; None trusts everything
    :raise ConfigError: if there is no such module or attribute, the module cannot be imported, or what is found is
        not of this kind
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a class is named by text such as 'module.Class', got {name!r}")
    found = _by_path(name, trust) if "." in name else _of_package(name, kind)
    if trust is not None:
        trust.check_object(name, found)
    if not callable(found):
        raise ConfigError(f"{name!r} is not a class or function but a {type(found).__name__}")
    if kind == "hook" and not (isinstance(found, type) and issubclass(found, AbstractHook)):
        raise ConfigError(f"{name!r} is not a hook: it does not inherit from AbstractHook")
    return cast(Callable[..., Any], found)


def package_callables(kind: str) -> dict[str, Callable[..., Any]]:
    """Return the classes and functions of this package that need no path, by name; abstract classes are left out.

    :param kind: as of ``resolve_class``
    """
    found: dict[str, Any] = {}
    for package in _PACKAGES[kind]:
        if importlib.util.find_spec(f"emloop_mtl.{package}") is None:
            continue
        module = _import(f"emloop_mtl.{package}")
        found |= {name: getattr(module, name) for name in getattr(module, "__all__", ())}
        for file in pkgutil.iter_modules(module.__path__):
            name = _class_name(file.name)
            if name not in found and hasattr(part := _import(f"{module.__name__}.{file.name}"), name):
                found[name] = getattr(part, name)
    return {name: value for name, value in found.items() if callable(value) and not inspect.isabstract(value)}


def put_on_path(folder: Path) -> None:
    """Put a config's folder first on ``sys.path``, for good: workers and pickle need it later.

    A module of the same name that came from another config's folder is forgotten, so that it is not taken for this
    one's.
    """
    entry = str(folder.resolve())
    others = [other for other in _config_folders if other != entry]
    for top in {module.name for module in pkgutil.iter_modules([entry])} & sys.modules.keys():
        if _folder(sys.modules[top]) in others:
            for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
                del sys.modules[name]
    if entry in sys.path:
        sys.path.remove(entry)
    sys.path.insert(0, entry)
    if entry not in _config_folders:
        _config_folders.append(entry)
    importlib.invalidate_caches()


@contextmanager
def own_modules_first() -> Iterator[None]:
    """Let what is put on ``sys.path`` inside stand last on it afterwards, and no module take the place of another."""
    path, modules = list(sys.path), dict(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
        sys.modules.update(modules)
        importlib.invalidate_caches()


def _folder(module: ModuleType) -> str | None:
    """The folder on the path that a top-level module was found in."""
    file = getattr(module, "__file__", None)
    if not file:
        return None
    path = Path(file).resolve()
    return str(path.parent.parent if path.stem == "__init__" else path.parent)


def _of_package(name: str, kind: str) -> Any:
    known: set[str] = set()
    for package in _PACKAGES[kind]:
        if importlib.util.find_spec(f"emloop_mtl.{package}") is None:
            continue
        module = _import(f"emloop_mtl.{package}")
        offered = set(getattr(module, "__all__", ()))
        if name in offered:
            return _attribute(module, name)
        for file in pkgutil.iter_modules(module.__path__):
            class_name = _class_name(file.name)
            if class_name == name and hasattr(part := _import(f"{module.__name__}.{file.name}"), name):
                return getattr(part, name)
            if not module.__dict__.get("__all__"):
                offered.add(class_name)
        known |= offered
    if not known:
        raise ConfigError(f"{name!r} is no dotted path such as 'module.{name}'")
    hint = nearest(name, known)
    if "did you mean" not in hint:
        hint += "; any other needs a dotted path"
    raise ConfigError(f"unknown {kind if kind != 'object' else 'class'} {name!r}{hint}")


def _class_name(file: str) -> str:
    """The name of the class that a file is named after."""
    return "".join(word.capitalize() for word in file.split("_"))


def _by_path(name: str, trust: TrustPolicy | None) -> Any:
    if not is_dotted(name):
        raise ConfigError(f"{name!r} is no dotted path such as 'module.Class'")
    top, *parts = name.split(".")
    if trust is not None:
        trust.check_module(top)
    found: Any = _import_top(top, name)
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        submodule = f"{found.__name__}.{part}" if isinstance(found, ModuleType) and hasattr(found, "__path__") else None
        if submodule and not (is_last and part in vars(found)) and _exists(submodule):
            if trust is not None:
                trust.check_module(submodule)
            found = _import(submodule)
            continue
        if trust is not None and isinstance(found, ModuleType):
            trust.check_module(found.__name__)
        found = _attribute(found, part)
    return found


def _import_top(top: str, name: str) -> ModuleType:
    if _exists(top):
        return _import(top)
    folders = [folder for folder in sys.path if folder in _config_folders]
    known = {module.name for module in pkgutil.iter_modules(folders)} | {"emloop_mtl", "torch"}
    raise ConfigError(f"there is no module {top!r} for {name!r}{nearest(top, known)}")


def _exists(module: str) -> bool:
    """Whether a module can be found; its parents have been imported by now."""
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _attribute(owner: Any, name: str) -> Any:
    kind = "module" if isinstance(owner, ModuleType) else "class"
    shown = f"{kind} {getattr(owner, '__name__', owner)!r}"
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise ConfigError(f"{shown} has no {name!r}{nearest(name, _public_names(owner))}") from error
    except ImportError as error:  # of a package that imports lazily
        raise ConfigError(f"{name!r} of {shown} cannot be imported: {' '.join(str(error).split())}") from error


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"module {name!r} cannot be imported: {text}") from error


def _public_names(owner: Any) -> set[str]:
    """The names that ``owner`` offers; a package's submodules among them."""
    names = set(getattr(owner, "__all__", None) or (name for name in dir(owner) if not name.startswith("_")))
    if isinstance(owner, ModuleType) and hasattr(owner, "__path__"):
        names |= {module.name for module in pkgutil.iter_modules(owner.__path__) if not module.name.startswith("_")}
    return names
