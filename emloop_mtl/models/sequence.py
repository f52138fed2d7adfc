"""Models that read what others give."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Any

from torch import Tensor

from ..data.batch import Batch
from ..data.stream_wrapper import StreamWrapper
from ..errors import ConfigError, DataError, nearest
from ..tasks.task import Task
from .composed_model import ComposedModel, adopt, fresh
from .member import Member

LOSS = "loss"
"""The total of a model's losses; that of a sequence is the sum of those of its models."""


class Sequence(ComposedModel):
    """Models one after the other; each reads the sources, and the outputs of those before it under their names.

    It gives the outputs of all models. A model is run for the tasks that a batch carries, and without labels for those
    of its tasks that a later model reads. It evaluates and predicts, and cannot be trained.

    :param options: ``models``, ``models_root``, ``eager_loading``, ``device``, ``open_run`` and ``name``, as of every
        ``ComposedModel``
    :raise ConfigError: for runs that cannot be opened, and for outputs or tasks that two models name alike

    .. code-block:: yaml

        model:
          class: Sequence
          models: [log/first, log/second]
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._check_names()
        self._read_later = [
            frozenset[str]().union(*(later.input_names for later in self.members[index + 1 :]))
            for index in range(len(self.members))
        ]
        self._others = [
            [
                name
                for name in member.tasks or ()
                if any(read.startswith(f"{name}/") for read in self._read_later[index])
            ]
            for index, member in enumerate(self.members)
        ]
        """The tasks of each model that later models read, so that they are run for every batch."""
        self._seen: set[Hashable] = set()
        self._tasks = self._find_tasks()

    @property
    def input_names(self) -> Collection[str]:
        """The sources that the models read, but for what other models give."""
        made: set[str] = set()
        read: set[str] = set()
        for member in self.members:
            read |= member.input_names - made
            made.update(member.output_names)
        return read

    @property
    def output_names(self) -> Collection[str]:
        """The outputs of all models."""
        return list(dict.fromkeys(name for member in self.members for name in member.output_names))

    def check_sources(self, batch: Batch) -> None:
        """Check, before the first batch, that every model can run batches with the sources and tasks of ``batch``."""
        for name in batch.tasks:
            if self._tasks is not None and name not in self._tasks:
                raise ConfigError(f"no model has a task {name!r}{nearest(name, self._tasks)}", ("models",))
        for index, made in self._steps(batch):
            try:
                own = self._batch_of(index, batch, made)
            except DataError as error:
                raise ConfigError(str(error), self.members[index].path) from error
            self.members[index].check_sources(own, self._others[index])

    def _find_tasks(self) -> Mapping[str, Task] | None:
        if any(member.tasks is None for member in self.members):
            return None
        return {name: task for member in self.members for name, task in (member.tasks or {}).items()}

    def _required_sources(self, batch: Batch) -> Collection[str]:
        needed: set[str] = set()
        for index, made in self._steps(batch):
            needed.update(self._required(index, batch, made) - made.keys())
        return needed

    def _run(self, batch: Batch, stream: StreamWrapper | None) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        losses: list[Any] = []
        prepared: list[Batch] = []
        for index, member in enumerate(self.members):
            if not self._is_run(index, batch):
                continue
            own = self._batch_of(index, batch, outputs)
            self._check_kind(index, batch, outputs, own)
            ran, found = member.run(own, self._asking(stream, self._read_later[index]), self._others[index])
            prepared.append(ran)
            if LOSS in found:
                losses.append(found.pop(LOSS))
            outputs.update(found)
        carried = dict(batch.tasks)
        for ran in prepared:
            adopt(batch, ran, [name for name in ran.tasks if not carried or name in carried])
        if losses:
            total = losses[0]
            for loss in losses[1:]:
                total = total + (loss.to(total.device) if isinstance(loss, Tensor) else loss)
            outputs[LOSS] = total
        return outputs

    def _steps(self, batch: Batch) -> Iterator[tuple[int, dict[str, None]]]:
        """Yield the number of each model that runs a batch, with the outputs of those before it."""
        made: dict[str, None] = {}
        for index, member in enumerate(self.members):
            if self._is_run(index, batch):
                yield index, made
                made.update(dict.fromkeys(name for name in member.output_names if name != LOSS))

    def _is_run(self, index: int, batch: Batch) -> bool:
        tasks = self.members[index].tasks
        return not batch.tasks or tasks is None or bool(self._others[index]) or not tasks.keys().isdisjoint(batch.tasks)

    def _batch_of(self, index: int, batch: Batch, made: Mapping[str, Any]) -> Batch:
        """Return what a model runs: the sources, the outputs of those before it, and its own tasks."""
        own = fresh(batch)
        for name, value in made.items():
            if name in own:
                giver = next(member for member in self.members if name in member.output_names)
                raise DataError(f"{name!r} is both a source and an output of model {giver.name}; rename one")
            own[name] = value
        tasks = self.members[index].tasks
        if batch.tasks and tasks is not None:
            carried = {name: label for name, label in batch.tasks.items() if name in tasks}
            own.tasks = {**dict.fromkeys(self._others[index]), **carried}
        return own

    def _required(self, index: int, batch: Batch, made: Mapping[str, Any]) -> set[str]:
        return self.members[index].required_sources(self._batch_of(index, batch, made), self._others[index])

    def _check_kind(self, index: int, batch: Batch, made: Mapping[str, Any], own: Batch) -> None:
        """Check, once for every kind of batch, that a model finds what it reads."""
        kind = index, tuple(own), tuple(own.tasks)
        if kind not in self._seen:
            for name in sorted(self._required(index, batch, made) - own.keys()):
                text = f"model {self.members[index].name} needs the source {name!r}"
                raise DataError(f"{text}, which neither the batch nor a model before it has{nearest(name, own)}")
            self._seen.add(kind)

    def _check_names(self) -> None:
        given: dict[str, Member] = {}
        sources = self.input_names
        for member in self.members:
            for name in member.output_names:
                if name in given and name != LOSS:
                    text = f"model {member.name} gives {name!r}, and so does model {given[name].name}"
                    raise ConfigError(f"{text}; the models of a sequence need outputs of different names", member.path)
                if name in sources:
                    reader = next(each for each in self.members if name in each.input_names)
                    text = f"model {member.name} gives {name!r}, which is a source that model {reader.name} reads"
                    is_later = self.members.index(reader) < self.members.index(member)
                    advice = "list it before that one" if is_later else "rename one"
                    raise ConfigError(f"{text}; {advice}", member.path)
                given[name] = member
