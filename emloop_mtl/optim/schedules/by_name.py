"""Learning-rate schedules by name."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch.optim import lr_scheduler

from ...errors import ConfigError, nearest
from .abstract_schedule import AbstractSchedule
from .constant import Constant
from .cosine_annealing import CosineAnnealing
from .cyclic import Cyclic
from .exponential import Exponential
from .function_schedule import FunctionSchedule
from .linear import Linear
from .multi_step import MultiStep
from .one_cycle import OneCycle
from .plateau import Plateau
from .step import Step
from .torch_schedule import TorchSchedule

SCHEDULES: Mapping[str, type[AbstractSchedule]] = MappingProxyType(
    {
        "none": Constant,
        "linear": Linear,
        "exponential": Exponential,
        "plateau": Plateau,
        "step": Step,
        "multi_step": MultiStep,
        "cyclic": Cyclic,
        "one_cycle": OneCycle,
        "cosine_annealing": CosineAnnealing,
    }
)
"""The schedules by their short names."""

BESIDE = ("min_lr", "unit", "frequency", "reset_state", "stream", "variable", "mode", "aggregation")
"""Arguments of ``LRSchedule`` that are easily taken for options of a schedule."""

_TORCH = "torch.optim.lr_scheduler."


def find_schedule(name: Any) -> Callable[..., AbstractSchedule]:
    """Return what makes the schedule that is called ``name``, from its options.

    :param name: a short name, a class that inherits from ``AbstractSchedule``, a scheduler class of torch's or one that
        inherits from it, or a function ``f(base, x, horizon)``
    :raise ConfigError: for what is none of these, with the nearest name
    """
    if isinstance(name, str) and name in SCHEDULES:
        return SCHEDULES[name]
    if isinstance(name, str) and name.startswith(_TORCH):
        name = getattr(lr_scheduler, name.removeprefix(_TORCH), name)
    if isinstance(name, str):
        # A beginning comes before what is spelt alike: 'cosine' is nearer to 'none' by letters.
        begun = [known for known in SCHEDULES if name and known.startswith(name.lower())]
        text = f"unknown schedule {name!r}{nearest(name, begun or SCHEDULES)}"
        raise ConfigError(text if "." not in name else f"schedule {name!r}: give the class or function itself")
    if isinstance(name, type) and issubclass(name, AbstractSchedule):
        return name
    if isinstance(name, type) and issubclass(name, lr_scheduler.LRScheduler):
        if issubclass(name, lr_scheduler.ReduceLROnPlateau):
            raise ConfigError(f"schedule {name.__name__}: it watches a number, for which 'plateau' is there")
        if issubclass(name, lr_scheduler.SequentialLR | lr_scheduler.ChainedScheduler):
            text = "it takes schedulers that exist already; write a function f(base, x, horizon)"
            raise ConfigError(f"schedule {name.__name__}: {text}")
        return partial(TorchSchedule, name)
    if isinstance(name, type) or not callable(name):
        shown = name.__name__ if isinstance(name, type) else repr(name)
        text = f"schedule {shown}: it is neither a function f(base, x, horizon) nor an AbstractSchedule"
        raise ConfigError(f"{text} nor a scheduler of torch's")
    return partial(FunctionSchedule, name)


def create_schedule(schedule: Any) -> AbstractSchedule:
    """Create a schedule.

    :param schedule: what ``find_schedule`` knows, or a mapping with that as ``class`` and its options beside; an
        ``AbstractSchedule`` is copied, so that one may serve several trainings
    :raise ConfigError: for an unknown schedule or option or a wrong value; its path is that within the mapping
    """
    if isinstance(schedule, AbstractSchedule):
        return copy.deepcopy(schedule)
    if not isinstance(schedule, Mapping):
        make = find_schedule(schedule)
        return _made(make, str(getattr(schedule, "__name__", schedule)), {})
    if "class" not in schedule:
        raise ConfigError("schedule: the key 'class' is missing, e.g. {class: step, step_size: 5}")
    name = schedule["class"]
    try:
        make = find_schedule(name)
    except ConfigError as error:
        raise error.below(("class",)) from error
    options = {key: value for key, value in schedule.items() if key != "class"}
    return _made(make, str(getattr(name, "__name__", name)), options)


def _made(make: Callable[..., AbstractSchedule], name: str, options: dict[str, Any]) -> AbstractSchedule:
    if isinstance(make, type):
        check_options(make, name, options)
    try:
        return make(**options)
    except TypeError as error:
        raise ConfigError(f"schedule {name}: {error}") from error


def check_options(kind: type[AbstractSchedule], name: str, options: Mapping[str, Any]) -> None:
    """Check the names of options before a schedule is made.

    :param name: what the schedule is called in errors
    :raise ConfigError: for one that the class does not have, with the nearest one
    """
    parameters = inspect.signature(kind).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            hint = nearest(option, parameters) or "; it has none"
            if option in BESIDE:
                hint = "; it stands beside 'schedule', not in it"
            raise ConfigError(f"schedule {name}: unknown argument {option!r}{hint}", (option,))
