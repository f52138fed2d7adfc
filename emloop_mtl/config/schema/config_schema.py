"""The schema of a whole config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import Any

from torch import nn

from ...abstract_hook import HANDED_OVER, AbstractHook
from ...data.abstract_dataset import AbstractDataset
from ...data.base_dataset import BaseDataset
from ...data.files.file_dataset import FileDataset
from ...errors import KeyPath
from ...loop_arguments import ACTIONS
from ...main_loop import MainLoop
from ...models.head import Head
from ...tasks.task import Task
from ..check import FREE_PREFIX, planner_for
from ..config import Config
from ..evaluation import EVALUATED_SECTIONS
from ..planner import PASSED_ON
from ..plans import CONFIG_TEXT, ENGINE_ARGUMENTS, FOR_DATASET, FOR_MODEL
from ..reflect import is_dotted, package_callables
from . import calls
from .parts import DOTTED, OBJECT, VALUE, Schema, any_of, described, named
from .search import search_schema

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What the editors' servers for YAML know best."""

_CLASS: Schema = {"class": {"type": "string"}}

_Calls = dict[str, dict[str, Callable[..., Any]]]


def config_schema(config: Config | None = None) -> Schema:
    """Return the JSON Schema of configs: sections, classes and hooks by name, with arguments, defaults and docs.

    What is named by a dotted path may have any arguments, unless it is a layer of ``torch.nn`` or named in ``config``.

    :param config: classes that it names by a dotted path are imported, and known as those of the package are
    :raise LocatedError: for one that cannot be found
    """
    found: _Calls = {
        "dataset": {name: kind for name, kind in package_callables("dataset").items() if _is_dataset(kind)},
        "model": {
            name: kind for name, kind in package_callables("model").items() if callable(getattr(kind, "run", None))
        },
        "object": {**package_callables("object"), **_layers()},
        "hook": {name: kind for name, kind in package_callables("hook").items() if _is_hook(kind)},
    }
    if config is not None:
        with config.located():
            for kind, name, target in _named_in(config):
                found[kind][name] = target
    definitions: Schema = {
        "value": {"if": {"type": "object", "required": ["class"]}, "then": OBJECT, "else": _inside()},
        **calls.item_definitions([Task, Head, *FileDataset.config_items.values()]),
        "optimizer": calls.optimizer_schema(),
        "schedule": calls.schedule_schema(),
        "metrics": calls.metrics_schema(),
        "initializer": calls.initializer_schema(),
        "hook": _hook(found["hook"]),
        "hooks": {"type": ["array", "null"], "items": {"$ref": "#/definitions/hook"}},
        "main_loop": _main_loop(),
    }
    _define(definitions, "object", found["object"], tuple(PASSED_ON))
    _define(definitions, "dataset", found["dataset"], FOR_DATASET)
    _define(definitions, "model", found["model"], FOR_MODEL)
    return {
        "$schema": DIALECT,
        "title": f"Config of emloop_mtl {version('emloop_mtl')}",
        "type": "object",
        "properties": _sections(),
        "patternProperties": {f"^{FREE_PREFIX}": {"description": "a place for anchors"}},
        "required": ["dataset", "model"],
        "additionalProperties": False,
        "definitions": definitions,
    }


def _inside() -> Schema:
    return {"items": VALUE, "additionalProperties": VALUE}


def _sections() -> Schema:
    seed: Schema = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1, "default": 0}
    parts: dict[str, tuple[Schema, str]] = {
        "seed": (seed, "one number that everything random derives from"),
        "dataset": ({"$ref": "#/definitions/dataset"}, "where the data comes from, an object"),
        "model": ({"$ref": "#/definitions/model"}, "what is trained, an object"),
        "main_loop": ({"$ref": "#/definitions/main_loop"}, "epochs and streams"),
        "hooks": ({"$ref": "#/definitions/hooks"}, "side concerns, which act in this order at every event"),
        "eval": (_evaluation(), "stream -> what is different when it is evaluated"),
        "search": (search_schema(), "what emloop-mtl search tries; of no account in a training"),
    }
    return {name: described(schema, text, {}, name) for name, (schema, text) in parts.items()}


def _evaluation() -> Schema:
    whole = {name: {"$ref": f"#/definitions/{name}"} for name in ("main_loop", "hooks")}
    parts = {name: whole.get(name, VALUE) for name in EVALUATED_SECTIONS if name in whole}
    # a part of a section is merged with the rest, so that neither class nor what must be there need be repeated
    parts |= {name: {"type": "object"} for name in EVALUATED_SECTIONS if name not in whole}
    stream = {"type": ["object", "null"], "properties": parts, "additionalProperties": False}
    return {"type": ["object", "null"], "additionalProperties": stream}


def _define(
    definitions: Schema, kind: str, found: Mapping[str, Callable[..., Any]], handed_over: tuple[str, ...]
) -> None:
    """Add the schema of each class, and that of the mapping that names one of them."""
    quiet = {name for name in found if kind == "object" and not is_dotted(name) and not _is_public(name)}
    named_calls: dict[str, Schema] = {}
    for name, target in found.items():
        if name not in quiet:
            definitions[f"{kind}.{name}"] = calls.call_schema(target, handed_over, _CLASS)
            named_calls[name] = {"$ref": f"#/definitions/{kind}.{name}"}
    refused = r"torch\.nn\.[A-Z]\w*" if kind == "object" else None
    definitions[kind] = calls.class_choice(named_calls, quiet, refused, VALUE if kind == "dataset" else None)


def _hook(found: Mapping[str, Callable[..., Any]]) -> Schema:
    """Return the schema of an entry of ``hooks``: a name, or a name with arguments."""
    keys: Schema = {}
    alone: list[str] = []
    for name, target in found.items():
        call = calls.call_schema(target, HANDED_OVER)
        call["properties"].setdefault("name", {"type": "string", "description": "tells two hooks of a class apart"})
        if "anyOf" not in call:
            call["type"] = ["object", "null"]
            alone.append(name)
        keys[name] = call
    unknown = {"type": ["object", "null"]}
    dotted = f"^(?!({'|'.join(name for name in sorted(found) if is_dotted(name)) or '-'})$)" + DOTTED[1:]
    entry = {"type": "object", "properties": keys, "patternProperties": {dotted: unknown}}
    return any_of(
        [named(alone, dotted), {**entry, "additionalProperties": False, "minProperties": 1, "maxProperties": 1}]
    )


def _main_loop() -> Schema:
    schema = calls.call_schema(MainLoop, without=ENGINE_ARGUMENTS)
    keys = schema["properties"]
    del keys["args"]
    for name in keys:
        if name.startswith("on_"):
            keys[name] = {**keys[name], "enum": list(ACTIONS)}
            del keys[name]["if"], keys[name]["then"], keys[name]["else"]
    lenient = {"required": ["on_incorrect_config"], "properties": {"on_incorrect_config": {"enum": ["warn", "ignore"]}}}
    strict = {"type": ["object", "null"], "propertyNames": {"enum": sorted(keys)}}
    return {"properties": keys, "if": {"type": "object", **lenient}, "then": {}, "else": strict}


def _is_dataset(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, AbstractDataset | BaseDataset)


def _is_hook(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, AbstractHook) and kind is not AbstractHook


def _is_public(name: str) -> bool:
    packages = ("emloop_mtl", "emloop_mtl.data", "emloop_mtl.schedulers", "emloop_mtl.tasks")
    return any(name in import_module(package).__all__ for package in packages)


def _layers() -> dict[str, Callable[..., Any]]:
    """Return the classes of ``torch.nn`` by their dotted path."""
    found = {name: getattr(nn, name) for name in dir(nn) if name[:1].isupper()}
    return {f"torch.nn.{name}": kind for name, kind in found.items() if inspect.isclass(kind)}


def _named_in(config: Config) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Yield what a config names by a dotted path, with the kind that its place makes it.

    :raise ConfigError: for what cannot be found
    """
    planner = planner_for(config, None)
    for path, name in _paths(config.data, ()):
        kind = path[0] if path in (("dataset", "class"), ("model", "class")) else "object"
        is_entry = len(path) in (2, 3) and path[0] == "hooks"
        kind = "hook" if is_entry else str(kind)
        target = planner.resolve(name, kind, path)
        takes_text = kind == "dataset" and CONFIG_TEXT in inspect.signature(target).parameters
        if not takes_text:  # its keys are its own business
            yield kind, name, target


def _paths(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield the dotted paths under ``class`` and in the list of hooks, with their place."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            here = (*path, key)
            if key == "class" and isinstance(item, str) and is_dotted(item):
                yield here, item
            elif len(path) == 2 and path[0] == "hooks" and isinstance(key, str) and is_dotted(key):
                yield here, key
            yield from _paths(item, here)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            here = (*path, index)
            if path == ("hooks",) and isinstance(item, str) and is_dotted(item):
                yield here, item
            yield from _paths(item, here)
