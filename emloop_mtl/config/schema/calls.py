"""Schemas of calls, from the signatures of what is called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ...data.multi_task_dataset import SETTINGS as STREAM_SETTINGS
from ...data.multi_task_dataset import MultiTaskDataset
from ...models.ensemble import AGGREGATIONS, Ensemble
from ...models.head import Head
from ...models.initializer import NAMES as INITIALIZERS
from ...models.initializer import PREVENT, find_initializer
from ...models.multi_task_model import PRECISIONS, MultiTaskModel
from ...optim.optimizers import optimizer_classes
from ...optim.schedules.by_name import SCHEDULES
from ...optim.update import Update
from ...optim.update_settings import NAMES as UPDATE_SETTINGS
from ...tasks.action import Action
from ...tasks.loss import LOSS_NAMES
from ...tasks.metrics import METRICS, find_metric
from ...tasks.output import OUTPUTS
from ...tasks.task import Task
from ..arguments import Arguments
from ..documented import argument_defaults, argument_docs, summary
from ..planner import NOT_OVERRIDABLE
from .parts import DOTTED, VALUE, Schema, annotation_schema, any_of, described, named, or_object

_NULL: Schema = {"type": "null"}
_DECLARED = ("config_sections", "config_items", "config_names")
_TOP_ACCURACY = "accuracy@[1-9][0-9]*"
_POSITIONS: Schema = {"type": "array", "items": VALUE, "description": "arguments by position"}


def call_schema(
    target: Callable[..., Any],
    handed_over: Collection[str] = (),
    own: Mapping[str, Schema] | None = None,
    without: Collection[str] = (),
) -> Schema:
    """Return the schema of the arguments of a call, in a mapping.

    :param target: the class or function
    :param handed_over: names of what the engine fills in
    :param own: keys of the mapping that are no arguments
    :param without: arguments that cannot be given
    """
    known = Arguments.of(target)
    keys: Schema = dict(own or {})
    if known is None:
        return {"type": "object", "properties": keys, "additionalProperties": VALUE}
    docs, defaults = argument_docs(target), argument_defaults(target)
    hidden = {*without, *(name for name in handed_over if name in NOT_OVERRIDABLE)}
    quiet = [name for name in handed_over if name not in known.named and name in known.accepted and name not in hidden]
    for name, annotation in known.accepted.items():
        if name not in hidden and name not in quiet:
            value = _argument(target, name, annotation)
            if value != VALUE and (name in known.nullable or defaults.get(name, ...) is None):
                value = any_of([value, _NULL])
            keys[name] = described(value, docs.get(name), defaults, name)
    if known.is_open:  # what the class declares is read so, even if only **kwargs takes it
        declared = [name for how in _DECLARED for name in getattr(target, how, {})]
        keys |= {name: _argument(target, name, Any) for name in declared if name not in keys}
    keys.setdefault("args", _POSITIONS)
    schema: Schema = {"type": "object", "properties": keys}
    if text := summary(target):
        schema["description"] = text
    if quiet:  # can be given, but need not be offered
        schema["patternProperties"] = {f"^({'|'.join(quiet)})$": VALUE}
    schema["additionalProperties"] = VALUE if known.is_open else False
    needed = [name for name in known.named if name in known.required and name not in {*handed_over, *without}]
    if needed:
        schema["anyOf"] = [{"required": needed}, {"required": ["args"]}]
    return schema


def class_choice(
    calls: Mapping[str, Schema], quiet: Iterable[str] = (), refused: str | None = None, others: Schema | None = None
) -> Schema:
    """Return the schema of a mapping whose ``class`` decides which other keys there are.

    :param calls: name of a class -> the schema of its call
    :param quiet: names that are known, but need not be offered
    :param refused: a pattern of dotted paths that name nothing unless they are among ``calls``
    :param others: what the arguments of other classes are; by default anything, as these decide how they are read
    """
    unknown = f"^(?!({refused})$)" + DOTTED.removeprefix("^") if refused else DOTTED
    quiet = sorted(quiet)
    patterns = [*([f"^({'|'.join(quiet)})$"] if quiet else []), unknown]
    names = {"type": "string", "anyOf": [{"enum": sorted(calls)}, *({"pattern": pattern} for pattern in patterns)]}
    text = "a name, or a dotted path such as module.Class"
    cases = [{"if": {"properties": {"class": {"const": name}}}, "then": call} for name, call in sorted(calls.items())]
    is_known = {"properties": {"class": {"enum": sorted(calls)}}}
    return {
        "type": "object",
        "required": ["class"],
        "properties": {"class": {**names, "description": text}},
        "allOf": [*cases, {"if": {"not": is_known}, "then": {"additionalProperties": others or {}}}],
    }


def optimizer_schema() -> Schema:
    """Return the schema of ``model.optimizer``."""
    classes = optimizer_classes()
    groups = described(VALUE, "the dotted path of a function that makes parameter groups", {}, "")
    cases, spelt = [], []
    for name, kind in sorted(classes.items()):
        # case and underscores do not matter, and a schema has no other way to say so
        pattern = "^(torch\\.optim\\.)?_*" + "".join(f"[{sign}{sign.upper()}]_*" for sign in name) + "$"
        spelt.append(pattern)
        known = Arguments.of(kind)
        first = () if known is None else known.positions[:1]
        keys = {"class": {"type": "string"}, "parameters": groups}
        call = call_schema(kind, own=keys, without=[*first, "args"])
        call["properties"].pop("args", None)
        cases.append({"if": {"properties": {"class": {"pattern": pattern}}}, "then": call})
    choices = [{"enum": sorted(classes)}, *({"pattern": each} for each in (*spelt, DOTTED))]
    names: Schema = {
        "type": "string",
        "anyOf": choices,
        "description": "an optimizer of torch's by name, or a dotted path",
    }
    long = {"type": "object", "required": ["class"], "properties": {"class": names}, "allOf": cases}
    return any_of([names, long, _NULL])


def schedule_schema() -> Schema:
    """Return the schema of ``LRSchedule``'s schedule."""
    calls = {name: call_schema(kind, own={"class": {"type": "string"}}) for name, kind in SCHEDULES.items()}
    return any_of([named(SCHEDULES, DOTTED), class_choice(calls)])


def _argument(target: Callable[..., Any], name: str, annotation: Any) -> Schema:
    section = getattr(target, "config_sections", {}).get(name)
    if section is not None:
        return {"$ref": f"#/definitions/{section}"}
    item = getattr(target, "config_items", {}).get(name)
    if item is not None:
        return _items(item)
    find = getattr(target, "config_names", {}).get(name)
    if find is find_metric:
        return {"$ref": "#/definitions/metrics"}
    if find is find_initializer:
        return {"$ref": "#/definitions/initializer"}
    for base in target.__mro__ if isinstance(target, type) else (target,):
        if (base, name) in _REFINED:
            return _REFINED[base, name]()
    return annotation_schema(annotation)


def _items(kind: type) -> Schema:
    """Return the schema of an argument that is declared in ``config_items``."""
    item = or_object({"$ref": f"#/definitions/{kind.__name__}"})
    entry = or_object({"$ref": f"#/definitions/{kind.__name__}.named"})
    path = {"type": "string", "pattern": DOTTED}
    return or_object(
        any_of([{"type": "object", "additionalProperties": entry}, {"type": "array", "items": item}, path])
    )


def item_definitions(kinds: Iterable[type]) -> dict[str, Schema]:
    """Return the definitions that arguments of ``config_items`` refer to, with and without a name beside them."""
    found: dict[str, Schema] = {}
    for kind in kinds:
        found[kind.__name__] = call_schema(kind)
        found[f"{kind.__name__}.named"] = call_schema(kind, handed_over=["name"])
    return found


def metrics_schema() -> Schema:
    """Return the schema of metrics: names, and mappings of ``class`` to a name with its options beside."""
    calls = {key: call_schema(make, own={"class": {"type": "string"}}) for key, make in METRICS.items()}
    choice = class_choice(calls, quiet=[_TOP_ACCURACY])
    metric = any_of([named(METRICS, f"^{_TOP_ACCURACY}$|{DOTTED}"), choice])
    return {"type": ["array", "null"], "items": metric}


def initializer_schema() -> Schema:
    """Return the schema of the pairs of patterns and functions that set parameters."""
    spelt = "^(torch\\.nn\\.init\\.)?\\w+_?$"
    name = {"type": "string", "anyOf": [{"enum": sorted([*INITIALIZERS, PREVENT])}, {"pattern": spelt}]}
    function = {"type": "object", "required": ["class"], "additionalProperties": VALUE}
    pair = [{"type": "string", "description": "a regular expression"}, any_of([name, {"pattern": DOTTED}, function])]
    return {"type": "array", "items": {"type": "array", "items": pair, "minItems": 2, "maxItems": 2}}


def _update() -> Schema:
    schema = call_schema(Update)
    keys = {name: schema["properties"][name] for name in UPDATE_SETTINGS}
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _choices(values: Iterable[str]) -> Schema:
    return {"enum": list(values)}


def _stream_settings() -> Schema:
    text = {"scheduler": "whose batch comes next, such as {class: RoundRobin}", "splits": "the splits it takes"}
    keys = {name: described(VALUE, text.get(name), {}, "") for name in STREAM_SETTINGS}
    stream = {"type": "object", "properties": keys, "additionalProperties": False}
    return {"type": "object", "additionalProperties": stream}


def _flow() -> Schema:
    return or_object({"type": "array", "items": or_object(call_schema(Action))})


def _loss() -> Schema:
    return or_object(any_of([named(LOSS_NAMES, DOTTED), _NULL]))


def _output() -> Schema:
    return or_object(any_of([named(OUTPUTS, DOTTED), _NULL]))


_REFINED: dict[tuple[Any, str], Callable[[], Schema]] = {
    (Task, "flow"): _flow,
    (Task, "loss"): _loss,
    (Task, "output"): _output,
    (Head, "loss"): _loss,
    (Head, "output"): _output,
    (Ensemble, "aggregation"): lambda: _choices(AGGREGATIONS),
    (MultiTaskModel, "precision"): lambda: _choices(PRECISIONS),
    (MultiTaskModel, "update"): _update,
    (MultiTaskDataset, "streams"): _stream_settings,
}
"""Arguments of which more is known than their annotation says."""
