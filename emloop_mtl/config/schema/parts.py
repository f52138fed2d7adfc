"""The pieces that the schema of a config is made of."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from ..annotations import LISTS, MAPPINGS, alternatives

Schema = dict[str, Any]

IS_OBJECT: Schema = {"type": "object", "required": ["class"]}
OBJECT: Schema = {"$ref": "#/definitions/object"}
"""A mapping with ``class``."""

VALUE: Schema = {"$ref": "#/definitions/value"}
"""Anything, in which every mapping with ``class`` is checked."""

DOTTED = r"^[^\s.]+(\.[^\s.]+)+$"
"""A dotted path."""

_SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string", type(None): "null"}


def annotation_schema(annotation: Any) -> Schema:
    """Return what fits an annotation, as ``check_type`` sees it; what is not known here is anything."""
    options = alternatives(annotation)
    known = [_known(option) for option in options]
    if any(schema is None for schema in known):
        return VALUE
    return or_object(any_of([schema for schema in known if schema is not None]))


def or_object(plain: Schema) -> Schema:
    """Return what fits ``plain`` or is a mapping with ``class``."""
    if plain == VALUE:
        return plain
    return {"if": IS_OBJECT, "then": OBJECT, "else": plain}


def any_of(schemas: Iterable[Schema]) -> Schema:
    """Return what fits one of several schemas, each once."""
    listed: list[Schema] = []
    for schema in schemas:
        if schema not in listed:
            listed.append(schema)
    return listed[0] if len(listed) == 1 else {"anyOf": listed}


def named(names: Iterable[str], pattern: str | None = None) -> Schema:
    """Return a schema of text that is one of the names, or fits the pattern."""
    options: list[Schema] = [{"enum": sorted(names)}, *([{"pattern": pattern}] if pattern else [])]
    return {"type": "string", **any_of(options)}


def described(schema: Schema, text: str | None, defaults: Mapping[str, Any], name: str) -> Schema:
    """Return a schema with a description, and with a default where that is plain data."""
    more: Schema = {"description": text} if text else {}
    if name in defaults and _is_plain(defaults[name]):
        default = defaults[name]
        more["default"] = list(default) if isinstance(default, tuple) else default
    if not more:
        return schema
    return {"allOf": [schema], **more} if "$ref" in schema else {**schema, **more}  # beside $ref nothing counts


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, str)


def _known(option: Any) -> Schema | None:
    origin, arguments = typing.get_origin(option) or option, typing.get_args(option)
    if origin in _SCALARS:
        return {"type": _SCALARS[origin]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in LISTS:
        return _list(origin, arguments)
    if origin in MAPPINGS:
        inner = annotation_schema(arguments[1]) if len(arguments) == 2 else VALUE
        return {"type": "object", "additionalProperties": inner}
    return None


def _list(origin: Any, arguments: tuple[Any, ...]) -> Schema:
    if origin is tuple and arguments and arguments[-1] is not ...:
        count = len(arguments)
        items: Any = [annotation_schema(argument) for argument in arguments]
        return {"type": "array", "items": items, "minItems": count, "maxItems": count}
    return {"type": "array", "items": annotation_schema(arguments[0]) if arguments else VALUE}
