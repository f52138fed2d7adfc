"""The schema of the section ``search``."""

from __future__ import annotations

from ..documented import argument_docs
from ..search_range import SearchRange
from ..search_settings import MODES, SearchSettings
from .parts import Schema, any_of, described

_NUMBER: Schema = {"type": "number"}
_CHOICES: Schema = {"type": "array", "minItems": 1}
_WHOLE: Schema = {"type": "integer", "minimum": 1}
_TEXT: Schema = {"type": "string"}


def search_schema() -> Schema:
    """Return the schema of the section ``search``."""
    object_: Schema = {"type": "object", "required": ["class"], "properties": {"class": _TEXT}}
    watch = {
        "stream": _TEXT,
        "variable": _TEXT,
        "mode": {"enum": list(MODES)},
        "aggregation": {"type": ["string", "null"]},
    }
    parts: dict[str, Schema] = {
        "trials": _WHOLE,
        "ranges": {"type": "object", "minProperties": 1, "additionalProperties": _range()},
        "watch": {"type": ["object", "null"], "properties": watch, "additionalProperties": False},
        "sampler": any_of([_TEXT, object_, {"type": "null"}]),
        "pruner": any_of([_TEXT, object_, {"type": "null"}]),
        "max_failures": _WHOLE,
    }
    defaults = {"max_failures": SearchSettings.max_failures}
    keys = {name: described(part, argument_docs(SearchSettings)[name], defaults, name) for name, part in parts.items()}
    whole: Schema = {
        "type": "object",
        "properties": keys,
        "required": ["trials", "ranges"],
        "additionalProperties": False,
    }
    return any_of([whole, {"type": "null"}])


def _range() -> Schema:
    parts: dict[str, Schema] = {
        "choices": _CHOICES,
        "low": _NUMBER,
        "high": _NUMBER,
        "step": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "log": {"type": "boolean"},
        "keys": {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True},
    }
    keys = {name: described(part, argument_docs(SearchRange)[name], {}, name) for name, part in parts.items()}
    mapping: Schema = {"type": "object", "properties": keys, "additionalProperties": False}
    mapping["oneOf"] = [{"required": ["choices"]}, {"required": ["low", "high"]}]
    return any_of([_CHOICES, mapping])
