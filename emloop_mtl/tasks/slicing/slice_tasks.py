"""From a task to the tasks of its slices."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ...data.multi_task_dataset import MultiTaskDataset
from ...errors import ConfigError, nearest
from ...utils.shown import shown
from ..action import Action
from ..action_input import ActionInput
from ..metrics import find_metric
from ..select_column import SelectColumn
from ..target import Target
from ..task import Task
from .add_slice_labels import add_slice_labels
from .slice_heads import SliceHeads
from .slice_names import heads_name, indicator_name, missing_label, predictor_name, score_name
from .slicing_function import BASE, SlicingFunction, read_slices


def slice_tasks(
    tasks: Task | Iterable[Task] | Mapping[str, Task],
    slices: Sequence[Callable[..., Any]] | Mapping[str, Sequence[Callable[..., Any]]],
    dataset: MultiTaskDataset | None = None,
    modules: Mapping[str, nn.Module] | None = None,
    weight: float = 1.0,
    indicator_metrics: Sequence[Any] = ("f1",),
) -> list[Task]:
    """Return tasks that attend to slices, under their own names, and the tasks of the slices.

    The last action of a task is its head; it gets what attention makes of the features of all slices. For each slice
    there are ``<task>_slice:ind_<slice>``, which learns which rows belong to it, ``<task>_slice:pred_<slice>``, which
    learns of its rows alone, and ``<task>_slice:<slice>``, which learns nothing and scores the predictions of the task
    on its rows. The slice ``base`` has all rows and is only learnt of.

    :param tasks: a task or several, which are left as they are; the head of one that has slices is a linear layer, or
        an ``nn.Sequential`` that begins with one, and reads features [n, width]
    :param slices: slicing functions, or functions of sources; of several tasks, task name -> these
    :param dataset: what gets the labels of the slices, by ``add_slice_labels``; None where it has them
    :param modules: modules that the tasks may name without defining them
    :param weight: what the losses of the slices' tasks are multiplied by, beside the weight of the task, >= 0
    :param indicator_metrics: the metrics of the tasks that learn which rows belong to a slice
    :raise ConfigError: for a task that cannot have slices

    .. code-block:: yaml

        class: slice_tasks
        modules:
          trunk: {class: torch.nn.Linear, in_features: 4, out_features: 32}
          head: {class: torch.nn.Linear, in_features: 32, out_features: 3}
        tasks:
          kind:
            flow:
              - {name: features, module: trunk, inputs: sizes}
              - {name: logits, module: head, inputs: features}
            label: kind
            loss: cross_entropy
            metrics: [accuracy]
        slices: [flowers.has_long_petals]
    """
    listed = _listed(tasks)
    chosen = _by_task(slices, [task.name for task in listed])
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise ConfigError(f"weight must be a number >= 0, not {shown(weight)}", ("weight",))
    made: list[Task] = []
    shared = dict(modules or {})
    for task in listed:
        if task.name not in chosen:
            made.append(task)
            continue
        functions = chosen[task.name]
        made += _slice(task, [one.name for one in functions], shared, float(weight), indicator_metrics)
        if dataset is not None:
            try:
                add_slice_labels(dataset, task, functions)
            except ConfigError as error:
                place = ("slices", task.name) if isinstance(slices, Mapping) else ("slices",)
                raise ConfigError(str(error), (*place, *error.path[1:])) from error
    return made


slice_tasks.config_items = {"tasks": Task}  # type: ignore[attr-defined]  # how the config reads these arguments
slice_tasks.config_names = {"indicator_metrics": find_metric}  # type: ignore[attr-defined]


def _listed(tasks: Any) -> list[Task]:
    listed = [tasks] if isinstance(tasks, Task) else tasks
    listed = list(listed.values()) if isinstance(listed, Mapping) else listed
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise ConfigError(f"slices need a task or several, not {shown(tasks)}", ("tasks",))
    listed = list(listed)
    for task in listed:
        if not isinstance(task, Task):
            raise ConfigError(f"slices are made of tasks, not of a {type(task).__name__}", ("tasks",))
    return listed


def _by_task(slices: Any, names: Sequence[str]) -> dict[str, tuple[SlicingFunction, ...]]:
    """Return the slices of each task that has any."""
    if not isinstance(slices, Mapping):
        if len(names) != 1:
            text = f"there are {len(names)} tasks; set slices to a mapping of their names to slicing functions"
            raise ConfigError(text, ("slices",))
        return {names[0]: read_slices(slices)}
    if not slices:
        raise ConfigError("slices names no task; set it to a mapping of names to slicing functions", ("slices",))
    found = {}
    for name, functions in slices.items():
        if name not in names:
            raise ConfigError(f"slices: there is no task {name!r}{nearest(str(name), names)}", ("slices", name))
        try:
            found[name] = read_slices(functions)
        except ConfigError as error:
            raise ConfigError(f"task {name!r}: {error}", ("slices", name, *error.path[1:])) from error
    return found


def _slice(
    task: Task, names: Sequence[str], shared: dict[str, nn.Module], weight: float, indicator_metrics: Sequence[Any]
) -> list[Task]:
    """Return the tasks of one task; the first one of all defines the shared modules."""
    head, first = _head_of(task, {**shared, **task.modules})
    made = [task.name, *(of(task.name, name) for name in names for of in (indicator_name, predictor_name, score_name))]
    for name in made:
        if made.count(name) > 1:
            text = f"two slice tasks would be called {name!r}; rename a slice"
            raise ConfigError(f"task {task.name!r}: {text}", ("slices",))
    missing: Any = missing_label(task)
    heads_of = heads_name(task.name)
    own_head = task.modules.get(head.module, shared.get(head.module))
    assert own_head is not None
    heads = SliceHeads(own_head, first.in_features, names, _confidence(task))
    modules = {**shared, **task.modules, heads_of: heads}
    trunk = [*task.flow[:-1], _action(heads_of, heads_of, *head.inputs)]
    flow = [*trunk, _action(head.name, head.module, ActionInput(heads_of, ("features",)))]

    def derived(name: str, flow: Sequence[Action], **changes: Any) -> Task:
        own = {
            "name": name,
            "modules": modules,
            "flow": flow,
            "label": task.label,
            "loss": None if task.loss is None else task.loss.given,
            "output": task.output.given,
            "scorer": task.scorer,
            "weight": task.weight * (1.0 if task.loss is None else weight),
            "missing_label": missing,
            "module_device": task.module_device,
            "require_prob_for_eval": task.require_prob_for_eval,
            "require_pred_for_eval": task.require_pred_for_eval,
            "num_classes": task.num_classes,
        }
        return Task(**{**own, **changes})

    attention = ActionInput(heads_of, ("attention",))
    outputs = [*task.action_outputs, attention]
    base = derived(task.name, flow, weight=task.weight, missing_label=task.missing_label, action_outputs=outputs)
    tasks = [base]
    for column, part in enumerate((BASE, *names)):
        name = predictor_name(task.name, part)
        last = _action(f"{name}_output", f"{name}_output", ActionInput(heads_of, ("predictions",)))
        changes: dict[str, Any] = {"output": _of_head(task.output.given, head.name, last.name)}
        if task.loss is not None:
            changes["loss"] = _of_head(task.loss.given, head.name, last.name)
        if part != BASE:
            changes["label"] = name
        changes["modules"] = {**modules, last.module: SelectColumn(column)}
        tasks.append(derived(name, [*trunk, last], num_classes=base.num_classes, **changes))
    for column, part in enumerate(names):
        name = indicator_name(task.name, part)
        last = _action(f"{name}_output", f"{name}_output", ActionInput(heads_of, ("indicators",)))
        indicator = Task(
            name,
            {**modules, last.module: SelectColumn(column)},
            [*trunk, last],
            label=name,
            loss="binary_cross_entropy_with_logits",
            metrics=indicator_metrics,
            weight=task.weight * weight,
            module_device=task.module_device,
        )
        label = predictor_name(task.name, part)
        tasks += [indicator, derived(score_name(task.name, part), flow, label=label, weight=0.0)]
    return tasks


def _head_of(task: Task, modules: Mapping[str, nn.Module]) -> tuple[Action, nn.Linear]:
    """Return the last action of a task, and the layer that reads its features."""
    place = ("tasks", task.name)
    if type(task) is not Task:
        raise ConfigError(f"task {task.name!r}: slices are made of a Task, not of a {type(task).__name__}", place)
    if task.tokens is not None:
        text = "its labels are those of tokens, and slices are sets of rows"
        raise ConfigError(f"task {task.name!r}: {text}", (*place, "tokens"))
    made = heads_name(task.name)
    if made in modules or any(action.name == made for action in task.flow):
        text = f"it has slices already, or a module or action called {made!r}"
        raise ConfigError(f"task {task.name!r}: {text}", place)
    where = f"task {task.name!r}: slices need a head, the last action"
    head = task.flow[-1]
    if len(task.flow) == 1:
        raise ConfigError(f"{where}, and one before it that makes features; {head.name!r} is the only one", place)
    if len(head.inputs) != 1:
        text = f"action {head.name!r} must have one input, not {len(head.inputs)}"
        raise ConfigError(f"{where}; {text}", (*place, "flow", len(task.flow) - 1))
    if head.module not in modules:
        text = f"module {head.module!r} must be one of the task, or stand under 'modules' beside 'tasks'"
        raise ConfigError(f"{where}; {text}{nearest(head.module, modules)}", (*place, "flow", len(task.flow) - 1))
    first = modules[head.module]
    while isinstance(first, nn.Sequential) and len(first):
        first = first[0]
    if not isinstance(first, nn.Linear):
        text = f"module {head.module!r} must be a linear layer or an nn.Sequential that begins with one"
        raise ConfigError(f"{where}; {text}, not a {type(first).__name__}", place)
    return head, first


def _confidence(task: Task) -> Literal["softmax", "sigmoid", "exp"] | None:
    """Return how the probability of what is most probable is found."""
    name = task.output.name
    if name == "softmax":
        return "softmax"
    if name == "sigmoid":
        return "sigmoid"
    return "exp" if name == "exp" and task.loss is not None and task.loss.target is Target.CLASS else None


def _action(name: str, module: str, *inputs: ActionInput) -> Action:
    return Action(name, module, list(inputs))


def _of_head(given: Any, head: str, name: str) -> Any:
    """Return a loss or an output that finds another output under the name of the head's; what has a name is the same.

    :param given: the name, module or function of the task
    """
    if isinstance(given, str | nn.Module) or given is None:
        return given
    return _OfHead(given, head, name)


class _OfHead:
    """A function of all action outputs that finds another output under the name of the head's."""

    def __init__(self, function: Callable[..., Tensor], head: str, name: str) -> None:
        self.function = function
        self.head = head
        self.name = name
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, outputs: Mapping[str, Any], *label: Any) -> Tensor:
        return self.function(ChainMap({self.head: outputs[self.name]}, outputs), *label)  # type: ignore[arg-type]
