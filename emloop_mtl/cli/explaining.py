"""Explains hooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import Any, cast

from ..abstract_hook import EVENTS, HANDED_OVER, AbstractHook
from ..config.blueprint import Blueprint
from ..config.check import check_sections, planner_for
from ..config.load import load_config
from ..config.plans import plan_hooks
from ..config.reflect import put_on_path, resolve_class
from .evaluating import CONFIG_SUFFIXES
from .explained_hook import ExplainedHook, acting
from .tables import print_table, print_text

PACKAGE = "emloop_mtl.hooks"

CONCERNS = ("evaluation", "learning_rate", "weights", "checkpointing", "writing", "stopping", "reporting")
"""In the order in which they are listed; others come last."""


def is_config(what: str) -> bool:
    """Whether a word means the file of a config, not the name of a hook."""
    return Path(what).suffix in CONFIG_SUFFIXES or "/" in what


def list_hooks(as_json: bool) -> None:
    """Print all hooks of the package by concern, one line each."""
    package = import_module(PACKAGE)
    found = [
        ExplainedHook.of(name, hook)
        for name in package.__all__
        if isinstance(hook := getattr(package, name), type)
        and issubclass(hook, AbstractHook)
        and hook is not AbstractHook
        and not isabstract(hook)
    ]
    concerns = {*CONCERNS, *(hook.concern for hook in found)}
    order = sorted(concerns, key=lambda name: (CONCERNS.index(name) if name in CONCERNS else len(CONCERNS), name))
    if as_json:
        _print_json(
            [
                {"name": hook.name, "concern": hook.concern, "summary": hook.summary}
                for concern in order
                for hook in found
                if hook.concern == concern
            ]
        )
        return
    for concern in order:
        rows = [[hook.name, hook.summary] for hook in found if hook.concern == concern]
        if rows:
            about = (import_module(f"{PACKAGE}.{concern}").__doc__ or concern).strip().removesuffix(".")
            print_table(about, ["hook", "what it does"], rows)
    print_text("emloop-mtl hooks HOOK explains one of them")


def explain_hook(name: str, as_json: bool) -> None:
    """Print what there is to know of a hook.

    :param name: as in a config
    :raise ConfigError: if there is no such hook
    """
    if "." in name:
        put_on_path(Path.cwd())
    hook = ExplainedHook.of(name, cast(type[AbstractHook], resolve_class(name, "hook")))
    if as_json:
        _print_json(asdict(hook))
        return
    print_text("\n\n".join(part for part in (f"{name}: {hook.summary}", hook.text) if part))
    print_text("")
    if hook.arguments:
        rows = [
            [argument, about["type"], "required" if about["required"] else _yaml(about["default"]), about["meaning"]]
            for argument, about in hook.arguments.items()
        ]
        print_table("Arguments", ["argument", "type", "default", "meaning"], rows)
    if hook.renamed:
        rows = [
            [theirs, f"is called {ours} here" if ours.isidentifier() else ours] for theirs, ours in hook.renamed.items()
        ]
        print_table("Arguments of emloop's", ["argument", ""], rows)
    print_text(f"It acts at: {', '.join(hook.events) or 'no event'}")
    if hook.training_only:
        print_text("It is left out where a run is only evaluated, unless the section eval lists it.")
    if hook.example:
        print_text(f"\nExample:\n\n{hook.example}")


def show_order(config_path: str, overrides: Sequence[str], as_json: bool) -> None:
    """Print which hooks of a config act at each event, in order; neither data nor a model are needed.

    :raise ConfigError: for a mistake in the section ``hooks``
    """
    config = load_config(config_path, overrides)
    with config.located():
        check_sections(config)
        plans = plan_hooks(config, planner_for(config, None))
    hooks = [(plan.name or plan.blueprint.target.__name__, _acting(plan.blueprint)) for plan in plans]
    order = {event: [name for name, events in hooks if event in events] for event in EVENTS}
    if as_json:
        _print_json(order)
        return
    rows = [[event, ", ".join(names) or "none"] for event, names in order.items()]
    print_table(f"Which hook of {config_path} acts when", ["event", "hooks, in order"], rows)


def _acting(blueprint: Blueprint) -> list[str]:
    """Return the events at which a hook acts; some leave out one that their arguments make no use of."""
    try:
        return acting(blueprint.build(dict.fromkeys(HANDED_OVER)))
    except Exception:  # it cannot be made without a model: then its class has to tell
        return acting(cast(type[AbstractHook], blueprint.target))


def _print_json(value: Any) -> None:
    print_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
