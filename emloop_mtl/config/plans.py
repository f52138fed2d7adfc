"""The sections of a config as blueprints: found and checked, nothing built."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from ..abstract_hook import HANDED_OVER
from ..errors import ConfigError, KeyPath, nearest
from ..loop_arguments import ACTIONS
from ..main_loop import MainLoop
from .annotations import show
from .arguments import Arguments, check_arguments
from .blueprint import Blueprint
from .config import Config
from .hook_plan import HookPlan
from .planner import Planner

log = logging.getLogger(__name__)

CONFIG_TEXT = "config_str"
"""The argument by which emloop's datasets take their section as YAML text."""

FOR_DATASET = ("seed", "output_dir", "config_folder")
FOR_MODEL = ("dataset", "output_dir", "log_dir", "restore_from", "open_run")

ENGINE_ARGUMENTS = frozenset({"model", "dataset", "hooks", "output_dir", "seed"})


def plan_seed(config: Config) -> int:
    """Return the seed; 0 if the config has none, so that every run can be repeated."""
    seed = config.data.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ConfigError(f"expected an integer from 0 to 2**63 - 1, got {show(seed)}", ("seed",))
    return seed


def plan_dataset(config: Config, planner: Planner) -> Blueprint:
    """Return the dataset's blueprint; one that names ``config_str`` gets its section as text, unchecked."""
    section = _object_section(config, "dataset")
    name = section["class"]
    target = planner.resolve(name, "dataset", ("dataset", "class"))
    known = Arguments.of(target)
    if known is not None and CONFIG_TEXT in known.named:
        return Blueprint(target, name, [], {}, ("dataset",), frozenset({CONFIG_TEXT}))
    return planner.object(section, ("dataset",), "dataset", FOR_DATASET)


def plan_model(config: Config, planner: Planner) -> Blueprint:
    """Return the model's blueprint."""
    plan = planner.object(_object_section(config, "model"), ("model",), "model", FOR_MODEL)
    if isinstance(plan.target, type) and not callable(getattr(plan.target, "run", None)):
        raise ConfigError(f"{plan.name!r} is not a model: it has no method 'run'", ("model", "class"))
    return plan


def plan_hooks(config: Config, planner: Planner) -> list[HookPlan]:
    """Return the hooks in the order of the config."""
    entries = config.data.get("hooks")
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise ConfigError(f"expected a list of hooks, got {show(entries)}; write '- ' before each", ("hooks",))
    return [_plan_hook(entry, ("hooks", index), planner) for index, entry in enumerate(entries)]


def plan_main_loop(config: Config) -> dict[str, Any]:
    """Return the arguments of the main loop; unknown ones are treated as ``on_incorrect_config`` says."""
    section = config.data.get("main_loop")
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"expected a mapping, got {show(section)}", ("main_loop",))
    parameters = inspect.signature(MainLoop).parameters.values()
    known = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - ENGINE_ARGUMENTS
    for name, value in section.items():
        if name in known and str(name).startswith("on_") and value not in ACTIONS:
            choices = ", ".join(map(repr, ACTIONS))
            hint = nearest(str(value), ACTIONS)
            text = f"expected one of {choices}, got {show(value)}{hint if 'did you mean' in hint else ''}"
            raise ConfigError(text, ("main_loop", name))
    action = section.get("on_incorrect_config", "error")
    for name in [name for name in section if name not in known]:
        text = f"unknown argument {name!r}{nearest(str(name), known)}"
        setting = "main_loop.on_incorrect_config"
        if action == "error":
            raise ConfigError(f"{text}; set {setting} to 'warn' to go on all the same", ("main_loop", name))
        if action == "warn":
            log.warning("%s: main_loop: %s; set %s to 'ignore' to hide this", _at(config, name), text, setting)
    arguments = {name: value for name, value in section.items() if name in known}
    try:
        check_arguments(MainLoop, arguments, ENGINE_ARGUMENTS)
    except ConfigError as error:
        raise error.below(("main_loop",)) from error
    return arguments


def _at(config: Config, name: str | int) -> str:
    return config.position(("main_loop", name))


def _object_section(config: Config, name: str) -> Mapping[str, Any]:
    section = config.data[name]
    if not isinstance(section, Mapping):
        raise ConfigError(f"expected a mapping with 'class', got {show(section)}", (name,))
    if "class" not in section:
        hint = nearest("class", [key for key in section if isinstance(key, str)])
        raise ConfigError(f"missing 'class'{hint if 'did you mean' in hint else ''}", (name,))
    return section


def _plan_hook(entry: Any, path: KeyPath, planner: Planner) -> HookPlan:
    name, arguments = _hook_entry(entry, path)
    target = planner.resolve(name, "hook", path)
    here = (*path, name)
    given = arguments.get("name")
    if "name" in arguments and not isinstance(given, str):
        raise ConfigError(f"expected text, got {show(given)}", (*here, "name"))
    known = Arguments.of(target)
    if known is None or "name" not in known.accepted:
        arguments = {key: value for key, value in arguments.items() if key != "name"}
    return HookPlan(planner.call(target, name, arguments, here, HANDED_OVER), given)


def _hook_entry(entry: Any, path: KeyPath) -> tuple[str, Mapping[str, Any]]:
    """Return name and arguments of an entry: ``Name``, ``Name: null`` or ``Name: {argument: value}``."""
    if isinstance(entry, str):
        return entry, {}
    if not isinstance(entry, Mapping) or not entry:
        raise ConfigError(f"expected a hook's name, or its name with arguments, got {show(entry)}", path)
    if len(entry) > 1:
        names = ", ".join(map(repr, entry))
        raise ConfigError(f"expected one hook, got {names}; indent the arguments deeper than the hook's name", path)
    [(name, arguments)] = entry.items()
    if arguments is None:
        return str(name), {}
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"expected a mapping of arguments, got {show(arguments)}", (*path, name))
    return str(name), arguments
