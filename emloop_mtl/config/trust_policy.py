"""Which classes a run folder may name."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType
from typing import Any

from ..abstract_hook import AbstractHook
from ..errors import ConfigError

_PACKAGES = ("emloop_mtl", "torch.nn", "torch.optim")
_HOOKS = "emloop_mtl.hooks"
_CLASSES = (
    *("emloop_mtl.data", "emloop_mtl.models", "emloop_mtl.optim", "emloop_mtl.schedulers", "emloop_mtl.tasks"),
    *("emloop_mtl.testing", "emloop_mtl.weighting", _HOOKS, "torch.nn", "torch.optim"),
)
"""Where classes are defined that are parts of a training, and not of the engine, which writes files."""

_METRICS = "sklearn.metrics"
_FUNCTIONS = ("emloop_mtl.tasks", "torch.nn.functional", "torch.nn.init", _METRICS)
_NEVER = ("emloop_mtl.cli", "emloop_mtl.config")

_PATHS = ("path", "folder", "output_dir", "log_dir", "restore_from", "models_root", "models", "files")
"""Arguments of the package's classes that say where they write and read; some are lists."""


@dataclass(frozen=True)
class TrustPolicy:
    """Lets a config name only what may run without asking: a run folder may come from elsewhere.

    Trusted are the classes of ``emloop_mtl``, ``torch.nn`` and ``torch.optim``, the functions of ``sklearn.metrics``
    where scikit-learn is installed beside torch, and modules below the source folder if that lies inside the working
    folder and outside the run folder. A module is judged by where it would be loaded from, before any of its code runs.
    What the package's own classes write stays inside the run folder.

    :param source_folder: where the run's own modules came from, as the run recorded it
    :param run_folder: the folder that holds the config
    :param working_folder: what the user works in
    """

    source_folder: Path | None = None
    run_folder: Path | None = None
    working_folder: Path = field(default_factory=Path.cwd)

    @property
    def trusted_folder(self) -> Path | None:
        """The source folder, if what lies in it is trusted."""
        if self.source_folder is None:
            return None
        folder = self.source_folder.resolve()
        if self.run_folder is not None and folder.is_relative_to(self.run_folder.resolve()):
            return None  # what lies on the path would be taken for modules that the engine imports
        return folder if folder.is_dir() and folder.is_relative_to(self.working_folder.resolve()) else None

    def check_module(self, name: str) -> None:
        """Refuse a module that must not be imported; nothing is executed to find out.

        :raise ConfigError: if it lies elsewhere
        """
        if any(_is_below(part, name) for part in _NEVER):
            raise self._refusal(name)
        if name in ("emloop_mtl", "torch") or any(_is_below(part, name) for part in _PACKAGES):
            return
        if name in ("sklearn", _METRICS) and all(map(_is_beside_torch, _specs(name))):
            return
        if not all(self._is_trusted_spec(spec) for spec in _specs(name)):
            raise self._refusal(name)

    def check_object(self, name: str, found: Any) -> None:
        """Refuse an object that a trusted module merely holds, such as a module or a function it has imported.

        :raise ConfigError: if it was defined elsewhere
        """
        module = getattr(found, "__module__", None)
        if not isinstance(module, str) or not isinstance(found, type | FunctionType):
            raise self._refusal(name)
        known = _FUNCTIONS if isinstance(found, FunctionType) else _CLASSES
        if any(_is_below(part, module) for part in known):
            if _is_below(_HOOKS, module) and not (isinstance(found, type) and issubclass(found, AbstractHook)):
                raise self._refusal(name)
            return
        if not all(self._is_trusted_spec(spec) for spec in _specs(module)):
            raise self._refusal(name)

    def check_call(self, target: Any, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments by which the package's own classes would write elsewhere or to others, or run a program.

        :param arguments: by name
        :raise ConfigError: with the argument's name as path
        """
        is_hook = isinstance(target, type) and issubclass(target, AbstractHook)
        if not is_hook and not _is_below("emloop_mtl", getattr(target, "__module__", "")):
            return
        for name in _PATHS:
            given = arguments.get(name)
            for path in given if isinstance(given, list) else [given]:
                if isinstance(path, str | Path) and (Path(path).is_absolute() or ".." in Path(path).parts):
                    text = f"{str(path)!r} leads out of the run folder; --trust lets it"
                    raise ConfigError(text, (name,))
        if is_hook and arguments.get("entity") is not None:  # W&B's word for whom a run belongs to
            text = f"{arguments['entity']!r} would get the numbers; --trust lets it"
            raise ConfigError(text, ("entity",))
        how = arguments.get("compile")
        if isinstance(how, Mapping) and "options" in how:
            text = "options of the compiler can name programs that it runs, and are not trusted; --trust lets them"
            raise ConfigError(text, ("compile", "options"))

    def _is_trusted_spec(self, spec: ModuleSpec | None) -> bool:
        folder = self.trusted_folder
        if spec is None or folder is None:
            return False
        places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or [])
        files = [Path(place).resolve() for place in places if place]
        run_folder = None if self.run_folder is None else self.run_folder.resolve()
        return bool(files) and all(
            file.is_relative_to(folder) and not (run_folder and file.is_relative_to(run_folder)) for file in files
        )

    @staticmethod
    def _refusal(name: str) -> ConfigError:
        return ConfigError(
            f"{name!r} is not trusted: without --trust a run folder may name only classes of emloop_mtl, torch.nn, "
            f"torch.optim and of its source folder, if that lies inside the working folder, and functions of {_METRICS}"
        )


def _is_beside_torch(spec: ModuleSpec | None) -> bool:
    """Whether a module would be loaded from the folder that torch was installed into."""
    import torch

    if spec is None or not spec.has_location or spec.origin is None:
        return False
    return Path(spec.origin).resolve().is_relative_to(Path(str(torch.__file__)).resolve().parents[1])


def _is_below(parent: str, name: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def _specs(name: str) -> list[ModuleSpec | None]:
    """Return what would be executed to import ``name``: its parents and itself, found without executing any."""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module in sys.modules that was not imported, such as __main__
        return [None]
    specs = [spec]
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return [*specs, None]
        loaded = sys.modules.get(f"{spec.name}.{part}")
        full_name, places = f"{spec.name}.{part}", list(spec.submodule_search_locations)
        spec = loaded.__spec__ if loaded is not None else PathFinder.find_spec(full_name, places)
        specs.append(spec)
    return specs
