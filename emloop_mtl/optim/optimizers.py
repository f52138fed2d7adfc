"""Optimizers by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import Parameter
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, nearest
from .bert_adam import BertAdam
from .implementation import choose_implementation
from .parameter_groups import PATH as GROUPS_PATH
from .parameter_groups import make_groups
from .sparse_gradients import check_gradient_kinds, pack, unpack
from .stacked_state import split_entry

OptimizerClass = type[torch.optim.Optimizer]

OptimizerSettings = str | Mapping[str, Any] | OptimizerClass | partial[torch.optim.Optimizer]
"""What names an optimizer: its name, ``class`` with arguments, its class, or a partial of that."""

DEFAULT = {"class": "adam"}
"""The optimizer of a model that names none: Adam with torch's own defaults."""

_OURS = ("class", "parameters")
"""The settings that are not handed to the optimizer."""

_CATCH = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)

_CHOICES: Mapping[tuple[OptimizerClass, str], tuple[str | None, ...]] = {
    (torch.optim.LBFGS, "line_search_fn"): (None, "strong_wolfe")
}
"""Options that torch itself looks at in the first update only."""


def optimizer_classes() -> dict[str, OptimizerClass]:
    """Return torch's optimizers and those of this package by their short names, e.g. ``adamw``, ``bertadam``."""
    found = [*(getattr(torch.optim, name) for name in dir(torch.optim)), BertAdam]
    return {
        kind.__name__.lower(): kind
        for kind in found
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }


def find_optimizer(name: Any) -> OptimizerClass:
    """Return the optimizer class called ``name``; case and underscores do not matter (``rms_prop`` is RMSprop).

    :param name: a short name, or an optimizer class, which is returned as it is
    :raise ConfigError: for an unknown name, with the nearest one
    """
    if inspect.isclass(name) and issubclass(name, torch.optim.Optimizer):
        return name
    if not isinstance(name, str):
        what = name.__name__ if inspect.isclass(name) or inspect.isfunction(name) else repr(name)
        raise ConfigError(f"optimizer: {what} is no optimizer of torch", ("class",))
    known = optimizer_classes()
    kind = known.get(name.lower().replace("_", "").removeprefix("torch.optim."))
    if kind is None:
        hint = "; in Python give the class itself" if "." in name else nearest(name.lower(), known)
        raise ConfigError(f"optimizer: unknown class {name!r}{hint}", ("class",))
    return kind


def read_settings(given: OptimizerSettings | None) -> dict[str, Any]:
    """Return what names an optimizer in its long form, a mapping with ``class`` and arguments.

    :param given: a name or class, a ``functools.partial`` of a class, or a mapping whose ``class`` is one of these;
        None for the default
    :raise ConfigError: for anything else
    """
    if given is None:
        return dict(DEFAULT)
    settings = dict(given) if isinstance(given, Mapping) else {"class": given}
    kind = settings.get("class")
    if isinstance(kind, partial):
        if kind.args:
            raise ConfigError("optimizer: a partial must give its arguments by name", ("class",))
        settings = {**kind.keywords, **settings, "class": kind.func}
    elif isinstance(kind, torch.optim.Optimizer):
        name = type(kind).__name__
        raise ConfigError(f"optimizer: give the class {name} and its arguments, the model makes the object", ("class",))
    if "class" in settings and not isinstance(settings["class"], str | type):
        text = f"expected a name such as adamw, or {{class: adamw, lr: 0.001}}, not {settings['class']!r}"
        raise ConfigError(f"optimizer: {text}", ("class",) if isinstance(given, Mapping) else ())
    return settings


def check_optimizer(settings: Mapping[str, Any]) -> None:
    """Check the name and the arguments of an optimizer before its parameters exist.

    :param settings: ``class``, the arguments of its constructor, and ``parameters``
    :raise ConfigError: for an unknown class or argument, or a missing one
    """
    if "class" not in settings:
        raise ConfigError("optimizer: the key 'class' is missing, e.g. {class: adamw, lr: 0.001}")
    kind = find_optimizer(settings["class"])
    options = {name: value for name, value in settings.items() if name not in _OURS}
    _check_options(kind, options)
    accepted, _ = _signature(kind)
    missing = [name for name, p in accepted.items() if p.default is Parameter.empty and name not in options]
    if missing:
        raise ConfigError(f"optimizer {kind.__name__}: missing argument {missing[0]!r}")
    function = settings.get("parameters")
    if function is not None and not callable(function):
        text = "optimizer.parameters must be a function of the network that returns parameter groups"
        dotted = "; in Python give the function itself" if isinstance(function, str) else ""
        raise ConfigError(f"{text}, not {function!r}{dotted}", GROUPS_PATH)


def create_optimizer(
    settings: Mapping[str, Any], parameters: Iterable[tuple[str, nn.Parameter]], network: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Create an optimizer for named parameters, in the implementation that ``choose_implementation`` finds.

    :param settings: ``class``, the arguments of its constructor, and ``parameters``, a function that gets the
        network and returns a list of groups, each a mapping with ``params`` and options that win over the arguments
    :param parameters: the parameters to train, with the names they are checkpointed under
    :param network: the network that they belong to
    :raise ConfigError: for an unknown class, an unknown argument, a value that the optimizer refuses, groups that do
        not hold each parameter once, or parameters whose gradients the optimizer cannot work with
    """
    check_optimizer(settings)
    kind = find_optimizer(settings["class"])
    # YAML has no tuples
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items() if key not in _OURS}
    function = settings.get("parameters")
    if function is None:
        pairs = [(name, p) for name, p in parameters if p.requires_grad]
        options |= choose_implementation(kind, options, [{"params": pairs}], network)
        optimizer = _make(kind, pairs, options)
    else:
        groups = make_groups(function, network, parameters)
        options |= choose_implementation(kind, options, groups, network)
        optimizer = _make(kind, groups, options, GROUPS_PATH if len(groups) > 1 else ())
        for index, group in enumerate(groups):
            _check_group(optimizer, index, group)
    if network is not None:
        check_gradient_kinds(optimizer, network)
    return optimizer


def named_parameters(optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """Return all parameters of an optimizer by the names they are checkpointed under."""
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer evaluates a step several times, as LBFGS does."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is Parameter.empty


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what the optimizer remembers of each parameter, by parameter name.

    Options such as ``weight_decay`` are not part of it: they come from the config, so that a run can be resumed
    with others.
    """
    plain = optimizer.state_dict()
    return {
        member: {key: pack(value) for key, value in entry.items()}
        for index, name in _names(plain).items()
        if index in plain["state"]
        for member, entry in split_entry(name, plain["state"][index])
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore what ``optimizer_state`` returned.

    :raise KeyError: if the state speaks of a parameter that the optimizer does not have
    """
    plain = optimizer.state_dict()
    index_of = {name: index for index, name in _names(plain).items()}
    missing = [name for name in state if name not in index_of]
    if missing:
        raise KeyError(f"the optimizer has no parameter {missing[0]!r}")
    restored = {index_of[name]: {key: unpack(v) for key, v in entry.items()} for name, entry in state.items()}
    optimizer.load_state_dict({"state": restored, "param_groups": plain["param_groups"]})
    # torch casts what it loads to the dtype of the parameter; NAdam, for one, keeps a product in another.
    parameters = named_parameters(optimizer)
    for name, index in index_of.items():
        for key, value in restored.get(index, {}).items():
            if isinstance(value, torch.Tensor):
                parameter = parameters[name]
                entry = optimizer.state[parameter]
                kept = entry[key] if entry[key].dtype == value.dtype else value.to(entry[key].device)
                entry[key] = laid_out_like(parameter, kept)


def laid_out_like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return a value of the parameter's shape with its strides too, since fused optimizers take that for granted."""
    if value.is_sparse or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _names(plain: Mapping[str, Any]) -> dict[int, str]:
    return {
        index: name
        for group in plain["param_groups"]
        for index, name in zip(group["params"], group["param_names"], strict=True)
    }


def _signature(kind: Callable[..., Any]) -> tuple[dict[str, Parameter], bool]:
    """Return the arguments behind the parameters to train, and whether any others are taken."""
    every = list(inspect.signature(kind).parameters.values())
    accepted = {p.name: p for p in every[1:] if p.kind not in _CATCH}
    return accepted, any(p.kind is Parameter.VAR_KEYWORD for p in every)


def _check_options(kind: OptimizerClass, options: Mapping[str, Any]) -> None:
    """Compare options with the names and the defaults of an optimizer's arguments; errors lead to the option."""
    accepted, is_open = _signature(kind)
    for name, value in options.items():
        if name in accepted:
            text = _mismatch(accepted[name].default, value)
            choices = _CHOICES.get((kind, name))
            if choices is not None and value not in choices:
                text = f"one of {', '.join('null' if choice is None else choice for choice in choices)}"
            if text is not None:
                raise ConfigError(f"optimizer {kind.__name__}: {name} must be {text}, not {value!r}", (name,))
        elif not is_open:
            hint = nearest(name, {*accepted, "parameters"})
            raise ConfigError(f"optimizer {kind.__name__}: unknown argument {name!r}{hint}", (name,))


def _mismatch(default: Any, value: Any) -> str | None:
    """Return what a value should be if, by the default in its place, it cannot be right."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float):
        wrong = "a finite number" if isinstance(value, float) else "a number"
        return None if _is_number(value) else wrong
    if isinstance(default, tuple) and default and all(_is_number(item) for item in default):
        fits = isinstance(value, list | tuple) and len(value) == len(default) and all(map(_is_number, value))
        return None if fits else f"a list of {len(default)} numbers"
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int | torch.Tensor) and not isinstance(value, bool)


def _check_group(optimizer: torch.optim.Optimizer, index: int, group: Mapping[str, Any]) -> None:
    """Check the options of a group, which torch takes as they are."""
    kind = type(optimizer)
    own = {name: value for name, value in group.items() if name != "params"}
    problem: ConfigError | None = None
    for name, value in own.items():
        if name not in optimizer.defaults:
            problem = ConfigError(f"unknown option {name!r}{nearest(name, optimizer.defaults)}")
        elif (text := _mismatch(optimizer.defaults[name], value)) is not None:
            problem = ConfigError(f"{name} must be {text}, not {value!r}")
    if problem is None and kind in optimizer_classes().values():
        try:  # their constructors check values, but not those of groups; their defaults are what they take
            taken = _signature(kind)[0]
            options = {name: value for name, value in {**optimizer.defaults, **own}.items() if name in taken}
            _make(kind, group["params"], options)
        except ConfigError as error:
            problem = error
    if problem is not None:
        text = str(problem).removeprefix(f"optimizer {kind.__name__}: ")
        raise ConfigError(f"optimizer.parameters: group {index}: {text}", GROUPS_PATH) from problem.__cause__


def _make(
    kind: OptimizerClass, parameters: list[Any], options: Mapping[str, Any], path: tuple[str, ...] = ()
) -> torch.optim.Optimizer:
    """Make the optimizer for pairs of name and parameter, or for groups of them."""
    grouped = bool(parameters) and isinstance(parameters[0], Mapping)
    groups = parameters if grouped else [{"params": parameters}]
    names = {id(parameter): name for group in groups for name, parameter in group["params"]}
    plain = [{**group, "params": [parameter for _, parameter in group["params"]]} for group in groups]
    try:
        optimizer = kind(plain if grouped else plain[0]["params"], **options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(f"optimizer {kind.__name__}: {' '.join(str(error).split())}", path) from error
    # Not handed over, since a constructor of somebody's own may expect parameters and no pairs.
    for group in optimizer.param_groups:
        group["param_names"] = [names[id(parameter)] for parameter in group["params"]]
    return optimizer
