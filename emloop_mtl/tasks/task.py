"""A learning goal: its flow, its loss, what it says about a row, and how that is scored."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError, DataError, KeyPath, nearest
from ..utils.model_note import ModelNote
from .action import Action
from .action_input import ActionInput, InputForm, follow
from .label_check import LabelCheck
from .loss import Loss
from .mapped_outputs import MappedOutputs
from .metric_fit import find_misfit
from .metrics import Metric, PositiveCounts, find_metric
from .nested import map_tensors
from .output import CLASS_DIM, Output
from .scorer import Scorer
from .select_rows import connected_zero, select_rows
from .target import Target
from .tokens import Tokens

_T = TypeVar("_T")


class Task:
    """A learning goal.

    :param name: the task's name, without ``/``
    :param modules: modules by name; modules of one name are one module for all tasks, the first definition holds
    :param flow: the actions in the order in which they run, or mappings with their arguments; the last one makes the
        output that losses and outputs by name take
    :param label: the source of the labels where a loader names no other; None for a task without labels
    :param loss: the name of a loss in ``torch.nn.functional`` or a module, called with the last output and the label
        in float32, or a function ``f(outputs, label)`` of all action outputs by name; losses per row are averaged
    :param output: ``softmax``, ``sigmoid``, ``exp``, ``identity`` or a function ``f(outputs)``; by default what suits
        the loss
    :param scorer: the metrics, if they are more than names
    :param weight: what the loss is multiplied by in the model's loss, >= 0
    :param missing_label: the number, or nan, that marks a row without a label; loss and scores leave such rows out
    :param action_outputs: what to return beside probabilities, in the forms of an action's inputs, one or a list
    :param module_device: module name -> device, where it is not the model's; -1 is the CPU
    :param require_prob_for_eval: whether metrics may ask for probabilities
    :param require_pred_for_eval: whether metrics may ask for predictions; most do with probabilities instead
    :param metrics: names of metrics, paths of functions of ``sklearn.metrics``, functions ``f(golds, probs, preds)``,
        ``f(golds, preds)`` or ``f(golds, probs)``, or mappings of ``class`` to any of these and of its options to
        values, instead of a ``scorer``
    :param num_classes: the number of classes, where labels or predictions are classes; read off the last module where
        that is a linear layer
    :param tokens: the source of sequences each of whose tokens has a label, [n, tokens], and an output, [n, tokens, …];
        by default a row has one label. Loss and scores leave out what is padded, and tokens without a label
    :raise ConfigError: for a mistake in any of these
    """

    config_names: ClassVar[Mapping[str, Callable[..., Callable[..., Metric]]]] = {"metrics": find_metric}
    """Arguments whose objects the config may call by short names."""

    kind: ClassVar[str] = "task"
    """What it is called in messages; the section of the config that it stands in is the plural."""

    outputs_setting: ClassVar[str] = "action_outputs"
    """What the argument ``action_outputs`` is called in the config."""

    def __init__(
        self,
        name: str,
        modules: Mapping[str, nn.Module] | nn.ModuleDict | None = None,
        flow: Sequence[Action | Mapping[str, Any]] = (),
        label: str | None = None,
        loss: str | nn.Module | Callable[..., Tensor] | None = None,
        output: str | Callable[[Mapping[str, Any]], Tensor] | None = None,
        scorer: Scorer | None = None,
        weight: float = 1.0,
        missing_label: float | Literal["nan"] | None = None,
        action_outputs: InputForm | Sequence[InputForm] | None = (),
        module_device: Mapping[str, int | str | torch.device] | None = None,
        require_prob_for_eval: bool = True,
        require_pred_for_eval: bool = True,
        metrics: Sequence[str | Callable[..., Any] | Metric | Mapping[str, Any]] | None = None,
        num_classes: int | None = None,
        tokens: str | None = None,
    ) -> None:
        if not isinstance(name, str) or not name or "/" in name or name == "model":
            raise ConfigError(f"{name!r} cannot name a task; take a word without '/', other than 'model'")
        self.name = name
        if label is not None and (not isinstance(label, str) or not label):
            raise self._error(f"label must name a source, not {label!r}", "label")
        self.label = label
        self.weight = self._number("weight", weight)
        if not 0 <= self.weight <= sys.float_info.max:
            raise self._error(f"weight must be a finite number >= 0, not {weight}", "weight")
        self.weight = float(self.weight)  # tensors cannot be multiplied by large integers
        missing_label = math.nan if missing_label == "nan" else missing_label
        self.missing_label = None if missing_label is None else self._number("missing_label", missing_label)
        if self.missing_label is not None and math.isinf(self.missing_label):
            raise self._error("missing_label must be a finite number or nan", "missing_label")
        if num_classes is not None and (
            isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1
        ):
            raise self._error(f"num_classes must be a whole number > 0, not {num_classes!r}", "num_classes")
        self.flow = self._read_flow(flow)
        self.modules = self._read_modules(modules)
        self.action_outputs = self._read_action_outputs(action_outputs)
        places: Any = module_device or {}
        if not isinstance(places, Mapping):
            text = f"module_device must be a mapping of module names to devices, not {places!r}"
            raise self._error(text, "module_device")
        self.module_device = {key: self._read_device(key, device) for key, device in places.items()}
        self.loss = None if loss is None else self._named(Loss, loss, self.missing_label)
        self._adopt_loss_module()
        if self.loss is None and self.weight not in (0, 1):
            raise self._error("weight has no effect without a loss; leave it out, or set 'loss'", "weight")
        target = Target.OTHER if self.loss is None else self.loss.target
        default = "identity" if self.loss is None else self.loss.default_output
        if tokens is not None and (not isinstance(tokens, str) or not tokens):
            raise self._error(f"tokens must name a source, not {tokens!r}", "tokens")
        self.tokens = None if tokens is None else Tokens(tokens)
        """The tokens that have labels; None if rows have."""
        class_dim = CLASS_DIM if tokens is None else CLASS_DIM + 1
        self.output = self._named(Output, default if output is None else output, target, class_dim)
        if num_classes is not None and self.loss is not None and self.output.predicts_values:
            text = f"num_classes has no effect where labels and predictions are values, as of loss {self.loss.name!r}"
            raise self._error(f"{text}; leave it out, or set another loss", "num_classes")
        self.scorer = self._read_scorer(scorer, metrics)
        self._scorer_path: KeyPath = () if scorer is None else ("scorer",)
        self.require_prob_for_eval = self._flag("require_prob_for_eval", require_prob_for_eval)
        self.require_pred_for_eval = self._flag("require_pred_for_eval", require_pred_for_eval)
        self.eval_outputs = self._find_eval_outputs()
        ignored = None if self.loss is None else self.loss.ignored_label
        self._label_check = LabelCheck(target, num_classes, self.missing_label, ignored)
        self.infer_num_classes(self.modules)

    @property
    def num_classes(self) -> int | None:
        """The number of classes, None where it is neither given nor read off the last module."""
        return self._label_check.num_classes

    @property
    def may_be_stacked(self) -> bool:
        """Whether it computes what its settings say, so that it can be run as one with others of the same settings."""
        return type(self) is Task

    @property
    def output_name(self) -> str:
        """The name of the last action."""
        return self.flow[-1].name

    @property
    def action_output_names(self) -> list[str]:
        """The names of ``action_outputs`` in a batch: ``<task>/<action>`` or ``<task>/<action>_<index>``."""
        return [f"{self.name}/{part.flat_name}" for part in self.action_outputs]

    def device_path(self, module: str) -> KeyPath:
        """Return where in the task's settings the device of a module stands."""
        return "module_device", module

    def infer_num_classes(self, modules: Mapping[str, nn.Module]) -> None:
        """Read the number of classes off the flow's last module, unless it is known or the loss has no classes.

        :param modules: where to look for the module by its name
        :raise ConfigError: if a metric looks for a class that there is not
        """
        if self.num_classes is None and self.loss is not None and self.loss.target is Target.CLASS and self.flow:
            name = self.flow[-1].module
            self._label_check.num_classes = _out_features(modules[name]) if name in modules else None
        if self.scorer is not None:
            ignored = None if self.loss is None else self.loss.ignored_label
            try:
                self.scorer = self.scorer.of_task(
                    self.num_classes, ignored, self.output.predicts_label_sets, self._metric_note
                )
            except ConfigError as error:
                raise self._error(str(error), *self._scorer_path, *error.path) from error
        self._check_positives()

    def check_labels(self, label: Any, source: str | None = None) -> Tensor | None:
        """Return the int64 indices of the labelled rows, or None if all rows are labelled.

        :param label: the labels of a batch, [n, ...], on the host
        :param source: the source they come from, for messages
        :raise DataError: for a label that is neither usable nor marked as missing
        """
        try:
            return self._label_check(label)
        except DataError as error:
            raise self.label_error(error, source) from error

    def labelled_tokens(self, batch: MutableMapping[str, Any], source: str, rows: Tensor | None = None) -> Tensor:
        """Return the int64 indices of the labelled tokens, counted through all sequences and their padding.

        :param batch: the labels, the sequences and their masks, on the host; labels of some rows alone are padded to
            the length of the sequences
        :param source: the source of the labels
        :param rows: int64 indices of the sequences that the task is about; None for all
        :raise DataError: for labels that do not fit the tokens, or are neither usable nor marked as missing
        """
        assert self.tokens is not None
        try:
            return self.tokens.labelled(self._label_check, batch, source, rows)
        except DataError as error:
            raise self.label_error(error, source) from error

    def label_error(self, error: DataError, source: str | None) -> DataError:
        """Return an error of labels as one that names the task and the source, and leads to them in the config."""
        error.add_note(self._note("label"))
        return DataError(f"task {self.name!r}, source {source or self.label!r}: {error}")

    def unlabelled(self, batch: Collection[str]) -> DataError:
        """Return what a batch is refused with that is to be trained on and carries the task without labels.

        :param batch: its sources
        """
        text = f"the batch cannot be trained on, it holds no label for the {self.kind}"
        if self.label in batch:
            text += f"; its loader names none, although there is {self.label!r}"
        elif self.label is not None:
            text += f": there is no source {self.label!r}{nearest(self.label, batch)}"
        error = DataError(f"{self.kind} {self.name!r}: {text}")
        error.add_note(self._note("label"))
        return error

    @property
    def loss_checks_labels(self) -> bool:
        """Whether ``checked_loss`` does all that ``check_labels`` would do, where labels and outputs are on the CPU."""
        checks = self.loss is not None and self.loss.refuses_classes and self.missing_label is None
        checks = checks and self.tokens is None
        kind = type(self)
        return checks and kind.check_labels is Task.check_labels and kind.task_loss is Task.task_loss

    def checked_loss(self, outputs: Mapping[str, Any], label: Any, source: str | None = None) -> Tensor:
        """Return the loss of a batch all of whose rows are labelled, as ``task_loss`` does, and check the labels.

        The loss looks at every label anyway, so it is asked for its opinion first.

        :param outputs: all action outputs of the task by name
        :param label: the labels, [n, ...], on the CPU like the outputs
        :param source: the source they come from, for messages
        :raise DataError: for a label that cannot be used, and if output and labels do not fit each other
        """
        assert self.loss is not None
        loss = self.loss.strict(outputs[self.output_name], label, self.num_classes)
        return self.task_loss(outputs, label, self.check_labels(label, source)) if loss is None else loss

    def task_loss(self, outputs: Mapping[str, Any], label: Any, rows: Tensor | None = None) -> Tensor:
        """Return the 0-d loss of a batch, not yet weighted, without waiting for the device.

        :param outputs: all action outputs of the task by name
        :param label: the labels, [n, ...], or None
        :param rows: int64 indices of the labelled rows, or tokens; None if all are. Without any the loss is a zero that
            gives zero gradients
        :raise DataError: if output and labels do not fit each other
        """
        if self.loss is None:
            raise self._error("it has no loss", "loss")
        if isinstance(label, Tensor) and (label.shape[0] if rows is None else rows.shape[0]) == 0:
            parameters = list(self.loss.module.parameters()) if self.loss.module is not None else []
            return connected_zero([outputs[action.name] for action in self.flow], parameters)
        if self.tokens is None and rows is not None and isinstance(label, Tensor):
            outputs = MappedOutputs(outputs, partial(select_rows, rows=rows, size=label.shape[0]))
            label = label.index_select(0, rows.to(label.device, non_blocking=True))
        try:
            if self.tokens is not None and isinstance(label, Tensor):
                if self.loss.takes_all_outputs:
                    label = self.tokens.marked(label, rows, self.missing_label)
                else:
                    outputs, label = self.tokens.pairs(outputs, self.output_name, label, rows)
            return self.loss(outputs, self.output_name, label)
        except (ConfigError, DataError) as error:
            error.add_note(self._note("loss"))
            raise type(error)(f"task {self.name!r}: {error}") from error
        except Exception as error:
            error.add_note(self._note("loss"))
            raise

    def probabilities(self, outputs: Mapping[str, Any]) -> Tensor:
        """Return what the task says about each row: [n, classes] probabilities, [n] probabilities of 1, or values.

        :param outputs: all action outputs of the task by name
        """
        try:
            return self.output.probabilities(outputs, self.output_name)
        except Exception as error:
            self._place(error, "output")
            raise

    def predictions(self, prob: Tensor) -> Tensor:
        """Return the predicted classes as int64, or the predicted values.

        :param prob: what ``probabilities`` returned
        """
        return self.output.predictions(prob)

    def predict(self, outputs: Mapping[str, Any]) -> Tensor:
        """Return the predictions where nobody asks for the probabilities, which are not computed if that can be.

        :param outputs: all action outputs of the task by name
        """
        try:
            return self.output.predict(outputs, self.output_name)
        except Exception as error:
            self._place(error, "output")
            raise

    def select_outputs(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``action_outputs`` by the names that ``action_output_names`` lists, without their gradients.

        :param outputs: all action outputs of the task by name
        """
        try:
            return {
                name: map_tensors(follow(outputs[part.name], part.path), Tensor.detach)
                for name, part in zip(self.action_output_names, self.action_outputs, strict=True)
            }
        except LookupError as error:
            self._place(ConfigError(f"{self.outputs_setting}: {error.args[0]}"), self.outputs_setting)
            raise

    def note(self, part: str, called: str | None = None, path: KeyPath = ()) -> ModelNote:
        """Return what an error in a batch is told with.

        :param part: the argument that it is about
        :param called: what stands there; None for what ``part`` says
        :param path: where it stands below the task; () for ``part``
        """
        place = (f"{self.kind}s", self.name)
        text = f"in {self.kind} {self.name!r}, {part}" + ("" if called is None else f" {called!r}")
        return ModelNote(text, (*place, *(path or (part,))), place)

    def _note(self, part: str) -> ModelNote:
        return self.note(part, self.loss.name if part == "loss" and self.loss is not None else self.label)

    def _place(self, error: Exception, part: str) -> None:
        """Give an error of a batch the place of the argument it is about; raise a mistake with the task's name."""
        note = self.note(part)
        error.add_note(note)
        if isinstance(error, ConfigError):
            raise ConfigError(f"{self.kind} {self.name!r}: {error}", ("model", *note.paths[0])) from error

    def _error(self, message: str, *path: str | int) -> ConfigError:
        return ConfigError(f"task {self.name!r}: {message}", path)

    def _named(self, kind: Callable[..., _T], *arguments: Any) -> _T:
        try:
            return kind(*arguments)
        except ConfigError as error:
            raise self._error(str(error), *error.path) from error

    def _number(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._error(f"{key} must be a number, not {value!r}", key)
        return value

    def _flag(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._error(f"{key} must be true or false, not {value!r}", key)
        return value

    def _read_flow(self, flow: Iterable[Action | Mapping[str, Any]]) -> tuple[Action, ...]:
        actions: list[Action] = []
        if not isinstance(flow, Iterable) or isinstance(flow, str | Mapping):
            raise self._error(f"flow must be a list of actions, not {flow!r}", "flow")
        for index, entry in enumerate(flow):
            try:
                actions.append(Action.from_config(entry) if isinstance(entry, Mapping) else entry)
            except ConfigError as error:
                raise self._error(f"flow[{index}]: {error}", "flow", index, *error.path) from error
            if not isinstance(actions[-1], Action):
                raise self._error(f"flow[{index}] must be an Action or a mapping, not {entry!r}", "flow", index)
        if not actions:
            raise self._error("its flow has no action", "flow")
        return tuple(actions)

    def _read_modules(self, modules: Mapping[str, nn.Module] | nn.ModuleDict | None) -> dict[str, nn.Module]:
        if modules is not None and not isinstance(modules, Mapping | nn.ModuleDict):
            raise self._error(f"modules must be a mapping of names to modules, not {modules!r}", "modules")
        known = dict(modules.items()) if modules is not None else {}
        for key, module in known.items():
            if not isinstance(module, nn.Module):
                raise self._error(f"module {key!r} must be an nn.Module, not {module!r}", "modules", key)
        return known

    def _read_action_outputs(self, forms: Any) -> tuple[ActionInput, ...]:
        several = isinstance(forms, list) or (isinstance(forms, tuple) and not forms)
        parts: list[ActionInput] = []
        for form in forms if several else () if forms is None else [forms]:
            try:
                parts.append(ActionInput.parse(form))
            except ConfigError as error:
                raise self._error(f"action_outputs: {error}", "action_outputs") from error
        made = [action.name for action in self.flow]
        for part in parts:
            if part.name not in made and not part.is_source:
                raise self._error(
                    f"action_outputs: no action {part.name!r}{nearest(part.name, made)}", "action_outputs"
                )
        return tuple(dict.fromkeys(parts))

    def _read_device(self, module: str, device: Any) -> torch.device:
        try:
            return torch.device("cpu" if device == -1 else device)
        except (RuntimeError, TypeError) as error:
            raise self._error(f"device of module {module!r}: {error}", "module_device", module) from error

    def _adopt_loss_module(self) -> None:
        """Let a loss that has parameters or buffers be trained, moved and saved with the other modules."""
        module = self.loss.module if self.loss is not None else None
        if module is None or not (any(True for _ in module.parameters()) or any(True for _ in module.buffers())):
            return
        name = f"{self.name}_loss"
        if self.modules.setdefault(name, module) is not module:
            raise self._error(f"rename module {name!r}: the loss has parameters and takes that name", "modules", name)

    def _read_scorer(self, scorer: Scorer | None, metrics: Sequence[Any] | None) -> Scorer | None:
        if metrics is None or (not metrics and scorer is None):
            if scorer is not None and not isinstance(scorer, Scorer):
                raise self._error(f"scorer must be a Scorer, not {scorer!r}; name metrics under 'metrics'", "scorer")
            return scorer
        if scorer is not None:
            raise self._error("give 'metrics' or a 'scorer', not both", "metrics")
        return self._named(Scorer, metrics)

    def _check_positives(self) -> None:
        for metric in self.scorer.metrics if self.scorer is not None and self.num_classes is not None else ():
            if isinstance(metric, PositiveCounts) and metric.positive >= (self.num_classes or 0):
                text = f"metric {metric.name!r} looks for class {metric.positive}, but there are {self.num_classes}"
                raise self._error(f"{text} classes, counted from 0", *self._metric_path(metric), "positive")

    def _metric_note(self, metric: Metric) -> ModelNote:
        return self.note("metric", metric.name, self._metric_path(metric))

    def _metric_path(self, metric: Metric) -> KeyPath:
        assert self.scorer is not None
        return (*self._scorer_path, *self.scorer.path_of(metric))

    def _find_eval_outputs(self) -> frozenset[str]:
        """Return the outputs that the metrics read, e.g. ``digit/pred``; probabilities stand in for predictions."""
        allowed = {"prob": self.require_prob_for_eval, "pred": self.require_pred_for_eval}
        found: set[str] = set()
        for metric in self.scorer.metrics if self.scorer is not None else ():
            path = self._metric_path(metric)
            misfit = find_misfit(metric, self.output, self.require_pred_for_eval)
            if misfit is not None:
                raise self._error(misfit, *path)
            kinds = {kind for kind in metric.needs if allowed[kind]}
            if not kinds and "pred" in metric.needs and allowed["prob"]:
                kinds = {"prob"}
            if metric.needs and not kinds:
                settings = " and ".join(f"require_{kind}_for_eval" for kind in sorted(metric.needs))
                raise self._error(f"metric {metric.name!r} needs {settings}", *path)
            found |= kinds
        return frozenset(f"{self.name}/{kind}" for kind in found)


def _out_features(module: nn.Module) -> int | None:
    """Return the width of a linear layer, also at the end of a Sequential; a guess inside other modules is none."""
    if isinstance(module, nn.Sequential):
        kept = [
            child for child in module if not isinstance(child, nn.Dropout | nn.Identity | nn.Softmax | nn.LogSoftmax)
        ]
        return _out_features(kept[-1]) if kept else None
    width = getattr(module, "out_features", None)
    return width if isinstance(width, int) and width > 0 else None
