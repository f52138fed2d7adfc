"""Finds and checks the objects that a config asks for."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..abstract_hook import AbstractHook
from ..errors import ConfigError, KeyPath, nearest
from .annotations import accepts, is_object, item_annotation, show
from .arguments import Arguments, check_arguments, check_name
from .blueprint import Blueprint
from .reflect import is_dotted, resolve_class
from .trust_policy import TrustPolicy

NOT_OVERRIDABLE = frozenset({"model", "dataset", "open_run"})
"""What the engine hands over even if the config names it."""

PASSED_ON = frozenset({"open_run"})
"""What it hands over to the objects among the arguments of an object, too."""


class Planner:
    """Turns plain data into blueprints and checks them.

    A class may say how its arguments are to be read:

    * ``config_sections: ClassVar[Mapping[str, str]]``: arguments that are the settings of an ``optimizer``, which only
      the model can build since it has the parameters, or a ``schedule`` of the learning rate; its name -> which
    * ``config_items: ClassVar[Mapping[str, type]]``: arguments that are mappings of a name to the arguments of an
      object of this class, which receives the name as ``name`` if it takes one; a list of such objects; or the dotted
      path of a function that returns them and receives ``dataset`` if it names it
    * ``config_names: ClassVar[Mapping[str, Callable[..., Callable]]]``: arguments whose objects may have a short name
      as their ``class``, with the function that returns what such a name, or what a dotted path names, stands for; it
      gets the options beside it, too

    Where an argument's annotation allows a callable, a dotted path stands for a Python function or class; where it
    allows a ``Path`` and no ``str``, text stands for a path.

    :param trust: refuses what must not run; None trusts everything
    """

    def __init__(self, trust: TrustPolicy | None = None) -> None:
        self._trust = trust

    def value(self, value: Any, path: KeyPath, handed_over: Collection[str] = ()) -> Any:
        """Return ``value`` with every object in it as a blueprint.

        :param handed_over: names of what their constructors may receive from the engine
        """
        if is_object(value):
            return self.object(value, path, handed_over=handed_over)
        if isinstance(value, Mapping):
            return {key: self.value(item, (*path, key), handed_over) for key, item in value.items()}
        if isinstance(value, list):
            return [self.value(item, (*path, index), handed_over) for index, item in enumerate(value)]
        return value

    def object(
        self, section: Mapping[str, Any], path: KeyPath, kind: str = "object", handed_over: Collection[str] = ()
    ) -> Blueprint:
        """Return the blueprint of a mapping with ``class``.

        :param handed_over: names of what its constructor may receive from the engine
        """
        name = section["class"]
        target = self.resolve(name, kind, (*path, "class"))
        return self.call(target, name, {k: v for k, v in section.items() if k != "class"}, path, handed_over)

    def resolve(self, name: Any, kind: str, path: KeyPath) -> Callable[..., Any]:
        """Return the class or function called ``name``; errors carry ``path``."""
        try:
            return resolve_class(name, kind, self._trust)
        except ConfigError as error:
            raise error.below(path) from error

    def call(
        self,
        target: Callable[..., Any],
        name: str,
        arguments: Mapping[str, Any],
        path: KeyPath,
        handed_over: Collection[str] = (),
    ) -> Blueprint:
        """Return the blueprint of a call with ``arguments`` as the config has them."""
        known = Arguments.of(target)
        annotations = {} if known is None else {**known.accepted, **known.named}
        args = arguments.get("args", [])
        if not isinstance(args, list):
            raise ConfigError(f"expected a list of arguments by position, got {show(args)}", (*path, "args"))
        for key in arguments:
            if key in handed_over and key in NOT_OVERRIDABLE:
                raise ConfigError(f"argument {key!r} is handed over by the engine and cannot be set", (*path, key))
            if known is not None and key != "args":  # before what it is given, which is of another class then
                try:
                    check_name(target, key, known, handed_over)
                except ConfigError as error:
                    raise ConfigError(_with_class(name, path, error), (*path, *error.path)) from error
        planned_args = [self.value(arg, (*path, "args", index)) for index, arg in enumerate(args)]
        kwargs: dict[str, Any] = {}
        for key, value in arguments.items():
            here = (*path, key)
            if key == "args":
                continue
            if key in getattr(target, "config_sections", {}):
                is_optimizer = target.config_sections[key] == "optimizer"  # type: ignore[attr-defined]
                kwargs[key] = self._optimizer(value, here) if is_optimizer else self._schedule(value, here)
            elif key in getattr(target, "config_items", {}):
                kwargs[key] = self._items(target.config_items[key], value, here, handed_over)  # type: ignore[attr-defined]
            elif key in getattr(target, "config_names", {}):
                named = self._named(target.config_names[key], value, here)  # type: ignore[attr-defined]
                kwargs[key] = self._converted(named, annotations.get(key, Any), here)
            else:
                planned = self.value(value, here, PASSED_ON.intersection(handed_over))
                kwargs[key] = self._converted(planned, annotations.get(key, Any), here)
        takes = _taken(target, known, handed_over) - kwargs.keys()
        if self._trust is not None:
            positions = () if known is None else known.positions
            try:
                self._trust.check_call(target, {**dict(zip(positions, planned_args, strict=False)), **kwargs})
            except ConfigError as error:
                raise error.below(path) from error
        try:
            check_arguments(target, kwargs, takes, planned_args)
        except ConfigError as error:
            raise ConfigError(_with_class(name, path, error), (*path, *error.path)) from error
        return Blueprint(target, name, planned_args, kwargs, path, takes)

    def _optimizer(self, value: Any, path: KeyPath) -> dict[str, Any] | None:
        """Return the settings of an optimizer, checked, with what dotted paths in them name."""
        from ..optim.optimizers import check_optimizer, find_optimizer

        if value is None:
            return None
        is_name = isinstance(value, str)
        if not is_name and not isinstance(value, Mapping):
            text = f"expected a name, or a mapping such as {{class: adamw, lr: 0.001}}, got {show(value)}"
            raise ConfigError(text, path)
        settings = {"class": value} if is_name else dict(value)
        for name in ("class", "parameters"):
            # an optimizer may have a short name, a function of the network has none
            if isinstance(settings.get(name), str) and (name == "parameters" or is_dotted(settings[name])):
                settings[name] = self.resolve(settings[name], "function", path if is_name else (*path, name))
        try:
            check_optimizer(settings)
            options = {name: option for name, option in settings.items() if name not in ("class", "parameters")}
            target = find_optimizer(settings["class"])
            known = Arguments.of(target)
            if known is not None:
                check_arguments(target, options, known.positions[:1])
        except ConfigError as error:
            text = str(error).removeprefix("optimizer: ").removeprefix("optimizer ")  # the path says so already
            raise ConfigError(text, path if is_name else (*path, *error.path)) from error
        return settings

    def _schedule(self, value: Any, path: KeyPath) -> Blueprint:
        """Return the blueprint of a schedule for the learning rate: a class, a function, or a scheduler of torch's."""
        from ..optim.schedules.by_name import check_options, find_schedule

        section = value if isinstance(value, Mapping) else {"class": value}
        if "class" not in section:
            raise ConfigError("missing 'class', as in {class: step, step_size: 5}", path)
        here = (*path, "class") if isinstance(value, Mapping) else path
        name = section["class"]
        if not isinstance(name, str):
            text = "expected the name of a schedule, or a mapping with it as 'class' and its options beside"
            raise ConfigError(f"{text}, got {show(name)}", here)
        target = self.resolve(name, "function", here) if is_dotted(name) else name
        try:
            make = find_schedule(target)
        except ConfigError as error:
            raise ConfigError(str(error), here) from error
        options = {key: item for key, item in section.items() if key != "class"}
        if isinstance(make, type):
            try:
                check_options(make, name, options)
            except ConfigError as error:
                raise error.below(path) from error
            return self.call(make, name, options, path)
        assert not isinstance(target, str), "only schedules of the package have short names"
        # What a scheduler of torch's or a function is called with first, it gets later; the options are checked now.
        known = Arguments.of(target)
        first: Sequence[str] = ("optimizer",)
        if isinstance(target, type):  # torch's annotations do not say at run time which options are functions
            options = {key: self._converted(item, Callable, (*path, key)) for key, item in options.items()}
        elif known is not None:
            first = known.positions[:3]
        plan = self.call(target, name, options, path, [each for each in first if each not in options])
        return replace(plan, target=make, takes=frozenset())

    def _named(self, find: Callable[..., Callable[..., Any]], value: Any, path: KeyPath) -> Any:
        """Return ``value`` with blueprints for the objects in it, whose class may be a name that ``find`` knows."""
        if isinstance(value, list):
            return [self._named(find, item, (*path, index)) for index, item in enumerate(value)]
        name = value["class"] if is_object(value) else None
        if not isinstance(name, str):
            return self.value(value, path)
        options = {key: item for key, item in value.items() if key != "class"}
        here = (*path, "class")
        named = self.resolve(name, "object", here) if is_dotted(name) else name
        try:
            target = find(named, options)
        except ConfigError as error:
            raise error.below(here) from error
        return self.call(target, name, options, path)

    def _items(self, default: type, value: Any, path: KeyPath, handed_over: Collection[str]) -> Any:
        """Return blueprints for an argument that is declared in ``config_items``."""
        if isinstance(value, str):
            return self.call(self.resolve(value, "function", path), value, {}, path, handed_over)
        if is_object(value):
            return self.object(value, path, "object", handed_over)
        if isinstance(value, Mapping):
            known = Arguments.of(default)
            is_named = known is not None and "name" in known.accepted
            return {
                key: self._item(default, item, (*path, key), {"name": key} if is_named else {})
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self._item(default, item, (*path, index), {}) for index, item in enumerate(value)]
        raise ConfigError(
            f"expected a mapping of names to the arguments of {default.__name__}, got {show(value)}", path
        )

    def _item(self, default: type, value: Any, path: KeyPath, named: Mapping[str, Any]) -> Blueprint:
        if not isinstance(value, Mapping):
            hint = nearest(str(path[-1]), ["class"])
            text = f"expected the arguments of {default.__name__} as a mapping, got {show(value)}"
            raise ConfigError(f"{text}{hint if 'did you mean' in hint else ''}", path)
        arguments = {**named, **value}
        if is_object(value):
            return self.object(arguments, path)
        return self.call(default, default.__name__, arguments, path)

    def _converted(self, value: Any, annotation: Any, path: KeyPath) -> Any:
        """Return ``value`` with dotted paths turned into what they name, as far as ``annotation`` allows it."""
        if isinstance(value, str):
            if is_dotted(value) and accepts(annotation, Callable, type):
                return self.resolve(value, "function", path)
            return Path(value) if accepts(annotation, Path) and not accepts(annotation, str) else value
        if isinstance(value, list | dict):
            inner = item_annotation(annotation, value)
            if typing.get_origin(inner) is None and inner is Any:
                return value
            items = enumerate(value) if isinstance(value, list) else value.items()
            converted = {key: self._converted(item, inner, (*path, key)) for key, item in items}
            return list(converted.values()) if isinstance(value, list) else converted
        return value


def _with_class(name: str, path: KeyPath, error: ConfigError) -> str:
    """Return the text of an error about an argument; where it is about its name, the class tells whose it is not."""
    is_plain = path[-1:] == (name,) or str(error).startswith("expected")
    return str(error) if is_plain else f"{name}: {error}"


def _taken(target: Any, known: Arguments | None, handed_over: Collection[str]) -> frozenset[str]:
    """Return what the engine hands over: what is named, and to a hook everything that ``**kwargs`` takes."""
    if known is None:
        return frozenset()
    if known.is_open and known.catch_all == "kwargs" and isinstance(target, type) and issubclass(target, AbstractHook):
        return frozenset(handed_over)
    return frozenset(name for name in handed_over if name in known.accepted)
