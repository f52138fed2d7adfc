"""From a task to the tasks of its slices."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from ...data.multi_task_dataset import MultiTaskDataset
from ...errors import ConfigError
from ..action import Action
from ..action_input import ActionInput
from ..select_column import SelectColumn
from ..target import Target
from ..task import Task
from .add_slice_labels import add_slice_labels
from .slice_heads import SliceHeads
from .slice_names import heads_name, indicator_name, missing_label, predictor_name, score_name
from .slicing_function import BASE, read_slices


def slice_tasks(
    task: Task,
    slices: Sequence[Callable[..., Any]],
    dataset: MultiTaskDataset | None = None,
    weight: float = 1.0,
    indicator_metrics: Sequence[Any] = ("f1",),
) -> list[Task]:
    """Return a task that attends to slices, under its own name, and the tasks of the slices.

    The last action of the task is its head; it gets what attention makes of the features of all slices. For each slice
    there are ``<task>_slice:ind_<slice>``, which learns which rows belong to it, ``<task>_slice:pred_<slice>``, which
    learns of its rows alone, and ``<task>_slice:<slice>``, which learns nothing and scores the predictions of the task
    on its rows. The slice ``base`` has all rows and is only learnt of.

    :param task: the task, which is left as it is; its head is a linear layer, or an ``nn.Sequential`` that begins with
        one, among the task's own modules, and reads features [n, width]
    :param slices: slicing functions, or functions of sources
    :param dataset: what gets the labels of the slices, by ``add_slice_labels``; None where it has them
    :param weight: what the losses of the slices' tasks are multiplied by, beside the weight of the task
    :param indicator_metrics: the metrics of the tasks that learn which rows belong to a slice
    :raise ConfigError: for a task that cannot have slices

    .. code-block:: yaml

        class: slice_tasks
        task:
          class: Task
          name: kind
          modules:
            trunk: {class: torch.nn.Linear, in_features: 4, out_features: 32}
            head: {class: torch.nn.Linear, in_features: 32, out_features: 3}
          flow:
            - {name: features, module: trunk, inputs: sizes}
            - {name: logits, module: head, inputs: features}
          label: kind
          loss: cross_entropy
          metrics: [accuracy]
        slices: [flowers.has_long_petals]
    """
    functions = read_slices(slices)
    head, features = _head_of(task)
    names = [one.name for one in functions]
    made = [task.name, *(of(task.name, name) for name in names for of in (indicator_name, predictor_name, score_name))]
    for name in made:
        if made.count(name) > 1:
            raise ConfigError(
                f"task {task.name!r}: two slice tasks would be called {name!r}; rename a slice", ("slices",)
            )
    missing: Any = missing_label(task)
    shared = heads_name(task.name)
    heads = SliceHeads(task.modules[head.module], features, names, _confidence(task))
    modules = {**task.modules, shared: heads}
    trunk = [*task.flow[:-1], _action(shared, shared, *head.inputs)]
    flow = [*trunk, _action(head.name, head.module, ActionInput(shared, ("features",)))]

    def derived(name: str, flow: Sequence[Action], **changes: Any) -> Task:
        own = {
            "name": name,
            "modules": modules,
            "flow": flow,
            "label": task.label,
            "loss": None if task.loss is None else task.loss.given,
            "output": task.output.given,
            "scorer": task.scorer,
            "weight": task.weight * weight,
            "missing_label": missing,
            "module_device": task.module_device,
            "require_prob_for_eval": task.require_prob_for_eval,
            "require_pred_for_eval": task.require_pred_for_eval,
            "num_classes": task.num_classes,
        }
        return Task(**{**own, **changes})

    attention = ActionInput(shared, ("attention",))
    base = {"weight": task.weight, "missing_label": task.missing_label}
    tasks = [derived(task.name, flow, **base, action_outputs=[*task.action_outputs, attention])]
    for column, part in enumerate((BASE, *names)):
        name = predictor_name(task.name, part)
        last = _action(f"{name}_output", f"{name}_output", ActionInput(shared, ("predictions",)))
        changes: dict[str, Any] = {"output": _of_head(task.output.given, head.name, last.name)}
        if task.loss is not None:
            changes["loss"] = _of_head(task.loss.given, head.name, last.name)
        if part != BASE:
            changes["label"] = name
        selecting = {**modules, last.module: SelectColumn(column)}
        tasks.append(derived(name, [*trunk, last], modules=selecting, **changes))
    for column, part in enumerate(names):
        name = indicator_name(task.name, part)
        last = _action(f"{name}_output", f"{name}_output", ActionInput(shared, ("indicators",)))
        tasks.append(
            Task(
                name,
                {**modules, last.module: SelectColumn(column)},
                [*trunk, last],
                label=name,
                loss="binary_cross_entropy_with_logits",
                metrics=indicator_metrics,
                weight=task.weight * weight,
                module_device=task.module_device,
            )
        )
        label = predictor_name(task.name, part)
        tasks.append(derived(score_name(task.name, part), flow, label=label, weight=0.0))
    if dataset is not None:
        add_slice_labels(dataset, task, functions)
    return tasks


def _head_of(task: Task) -> tuple[Action, int]:
    """Return the last action of a task and how many features it reads."""
    if type(task) is not Task:
        raise ConfigError(f"slices are made of a Task, not of a {type(task).__name__}", ("task",))
    where = f"task {task.name!r}: slices need a head of its own"
    head = task.flow[-1]
    if len(head.inputs) != 1:
        text = f"action {head.name!r} must have one input, not {len(head.inputs)}"
        raise ConfigError(f"{where}, the last action; {text}", ("task", "flow", len(task.flow) - 1, "inputs"))
    if len(task.flow) == 1:
        raise ConfigError(f"{where} on features, but {head.name!r} is the only action", ("task", "flow"))
    module = task.modules.get(head.module)
    if module is None:
        text = f"module {head.module!r} must be among the modules of the task"
        raise ConfigError(f"{where}; {text}", ("task", "modules"))
    first = module
    while isinstance(first, nn.Sequential) and len(first):
        first = first[0]
    if not isinstance(first, nn.Linear):
        text = f"module {head.module!r} must be a linear layer or an nn.Sequential that begins with one"
        raise ConfigError(f"{where}; {text}, not a {type(first).__name__}", ("task", "modules", head.module))
    return head, first.in_features


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
