"""Several models that answer together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..data.batch import Batch
from ..data.stream_wrapper import StreamWrapper
from ..errors import ConfigError, DataError, nearest
from ..tasks.task import Task
from ..utils.model_note import ModelNote
from .aggregation import aggregate
from .composed_model import ComposedModel, adopt, fresh
from .member import Member

AGGREGATIONS = ("mean", "major_vote")


class Ensemble(ComposedModel):
    """Models with the same outputs, whose answers are put together; it evaluates and predicts, and cannot be trained.

    Losses, probabilities and all that is floating-point are averaged, over all models: where one gives nan, so does the
    ensemble. ``mean`` predicts what the averaged probabilities say. ``major_vote`` predicts what most models do, the
    lowest class where several are equally frequent; its predictions may thus be others than its probabilities say.

    :param outputs: names of the outputs to give; by default all, which must be the same for all models. A task is
        scored if its loss, ``prob`` and ``pred`` are among them
    :param inputs: names of the sources that the models read, which are checked; by default whatever they read
    :param aggregation: ``mean`` or ``major_vote``
    :param options: ``models``, ``models_root``, ``eager_loading``, ``device``, ``open_run`` and ``name``, as of every
        ``ComposedModel``
    :raise ConfigError: for runs that cannot be opened, and for models that do not fit each other

    .. code-block:: yaml

        model:
          class: Ensemble
          models: [log/first, log/second]
          aggregation: mean
    """

    def __init__(
        self,
        outputs: Sequence[str] | None = None,
        inputs: Sequence[str] | None = None,
        aggregation: str = "major_vote",
        **options: Any,
    ) -> None:
        if aggregation not in AGGREGATIONS:
            raise ConfigError(
                f"unknown aggregation {aggregation!r}{nearest(aggregation, AGGREGATIONS)}", ("aggregation",)
            )
        super().__init__(**options)
        self._votes = aggregation == "major_vote"
        self._output_names = self._check_outputs(_names("outputs", outputs))
        self._chosen = None if outputs is None else frozenset(outputs)
        self._check_inputs(_names("inputs", inputs))
        self._check_tasks()
        self._tasks = self._find_tasks()
        tasks = {} if self._votes else self.members[0].tasks or {}
        self._said = {f"{name}/pred": task for name, task in tasks.items()}
        """The tasks whose predictions follow from averaged probabilities, by the names of the predictions."""

    @property
    def input_names(self) -> Collection[str]:
        """The sources that the models read."""
        return frozenset().union(*(member.input_names for member in self.members))

    @property
    def output_names(self) -> Collection[str]:
        """The outputs that all models have."""
        return self._output_names

    def check_sources(self, batch: Batch) -> None:
        """Check, before the first batch, that every model can run batches with the sources and tasks of ``batch``."""
        self._check_labels(batch)
        for member in self.members:
            member.check_sources(self._batch_of(member, batch))

    def _find_tasks(self) -> Mapping[str, Task] | None:
        tasks = self.members[0].tasks
        if tasks is None:
            return None
        return {name: task for name, task in tasks.items() if _outputs_of(task) <= set(self._output_names)}

    def _required_sources(self, batch: Batch) -> Collection[str]:
        needed: set[str] = set()
        for member in self.members:
            needed.update(member.required_sources(self._batch_of(member, batch)))
        return needed

    def _run(self, batch: Batch, stream: StreamWrapper | None) -> dict[str, Any]:
        asked = self._asking(stream, self._more_outputs(stream))
        results = [member.run(self._batch_of(member, batch), asked) for member in self.members]
        found = [outputs for _, outputs in results]
        for member, outputs in zip(self.members, found, strict=True):
            for name in found[0].keys() ^ outputs.keys():
                if self._chosen is None or name in self._chosen:
                    has, lacks = (member, self.members[0]) if name in outputs else (self.members[0], member)
                    error = DataError(f"model {has.name} gives {name!r}, model {lacks.name} does not")
                    error.add_note(ModelNote(f"in model {member.name}", member.path))
                    raise error
        outputs = self._put_together(found)
        ran = results[0][0]
        if self._tasks is not None:
            batch.tasks = {name: label for name, label in ran.tasks.items() if name in self._tasks}
            adopt(batch, ran, list(batch.tasks))
        return outputs

    def _batch_of(self, member: Member, batch: Batch) -> Batch:
        """Return what a model runs; where outputs were chosen, without the tasks that only other models have."""
        own = fresh(batch)
        if self._chosen is not None and member.tasks is not None:
            others = {name for other in self.members for name in other.tasks or ()} - member.tasks.keys()
            own.tasks = {name: label for name, label in own.tasks.items() if name not in others}
        return own

    def _more_outputs(self, stream: StreamWrapper | None) -> list[str]:
        """Return what has to be known beside what somebody reads: averaged probabilities say what is predicted."""
        if stream is None or stream.outputs is None:
            return []
        return [f"{task.name}/prob" for pred, task in self._said.items() if pred in stream.outputs]

    def _put_together(self, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        known: dict[int, Any] = {}
        """By what the first model gives: predicted values are one object with what stands for their probabilities."""

        def put_together(name: str) -> Any:
            first = found[0][name]
            task = self._said.get(name)
            if task is not None and f"{task.name}/prob" in found[0]:
                return task.predictions(put_together(f"{task.name}/prob"))
            if id(first) not in known:
                try:
                    known[id(first)] = aggregate([each[name] for each in found], self._votes)
                except DataError as error:
                    error.add_note(ModelNote("in the models", ("models",)))
                    raise error.within(f"output {name!r}") from error
            return known[id(first)]

        return {name: put_together(name) for name in found[0] if self._chosen is None or name in self._chosen}

    def _check_outputs(self, chosen: Sequence[str] | None) -> tuple[str, ...]:
        first = self.members[0]
        for index, name in enumerate(chosen or ()):
            for member in self.members:
                if name not in member.output_names:
                    text = f"model {member.name} has no output {name!r}{nearest(name, member.output_names)}"
                    raise ConfigError(text, ("outputs", index))
        if chosen is not None:
            return tuple(dict.fromkeys(chosen))
        for member in self.members[1:]:
            for has, lacks in ((first, member), (member, first)):
                missing = [name for name in has.output_names if name not in lacks.output_names]
                if missing:
                    text = f"model {lacks.name} has no output {missing[0]!r}, which model {has.name} has"
                    raise ConfigError(f"{text}; 'outputs' names those to take", member.path)
        return first.output_names

    def _check_inputs(self, allowed: Sequence[str] | None) -> None:
        for member in self.members if allowed is not None else ():
            for name in sorted(member.input_names.difference(allowed or ())):
                text = f"model {member.name} reads the source {name!r}, which is not among them"
                raise ConfigError(text, ("inputs",))
        for index, name in enumerate(allowed or ()):
            if name not in self.input_names:
                raise ConfigError(
                    f"no model reads a source {name!r}{nearest(name, self.input_names)}", ("inputs", index)
                )

    def _check_tasks(self) -> None:
        """Refuse tasks of one name whose probabilities or predictions are not of the same things."""
        for member, task, first in self._twins():
            given = {kind for kind in ("prob", "pred") if f"{task.name}/{kind}" in self._output_names}
            counts, kinds = (task.num_classes, first.num_classes), (_predicted(task), _predicted(first))
            if "prob" in given and None not in counts and counts[0] != counts[1]:
                raise self._differing(member, task, f"has {counts[0]} classes", f"{counts[1]}")
            if given and None not in kinds and kinds[0] != kinds[1]:
                raise self._differing(member, task, f"predicts {kinds[0]}", f"{kinds[1]}")

    def _check_labels(self, batch: Batch) -> None:
        """Refuse tasks of one name whose labels have different sources, where the batch does not name one."""
        for member, task, first in self._twins() if not batch.tasks else ():
            if task.label != first.label and not batch.keys().isdisjoint((task.label, first.label)):
                here, there = f"reads the label {task.label!r}", f"{first.label!r}"
                raise self._differing(member, task, here, f"{there}; name the source in the tasks of the loader")

    def _twins(self) -> Iterator[tuple[Member, Task, Task]]:
        """Yield the tasks of each model that the first one has, too, with those of the first one."""
        known = self.members[0].tasks or {}
        for member in self.members[1:]:
            for name, task in (member.tasks or {}).items():
                if name in known:
                    yield member, task, known[name]

    def _differing(self, member: Member, task: Task, here: str, there: str) -> ConfigError:
        first = f"in model {self.members[0].name} {there}"
        return ConfigError(f"task {task.name!r} {here} in model {member.name}, and {first}", member.path)


def _names(argument: str, given: Any) -> Sequence[str] | None:
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise ConfigError(f"expected a list of names, got {given!r}", (argument,))
    if not given:
        raise ConfigError("the list is empty; leave it out for all", (argument,))
    return given


def _outputs_of(task: Task) -> set[str]:
    """Return the outputs without which a task cannot be scored."""
    kinds = ("prob", "pred") if task.loss is None else ("loss", "prob", "pred")
    return {f"{task.name}/{kind}" for kind in kinds}


def _predicted(task: Task) -> str | None:
    """Return what a task predicts, None where that is not known."""
    if task.output.predicts_values:
        return "values"
    return {True: "labels that are 0 or 1", False: "classes", None: None}[task.output.predicts_label_sets]
