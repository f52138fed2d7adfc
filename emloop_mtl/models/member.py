"""One of the models that another model is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from ..data.batch import Batch
from ..data.stream_wrapper import StreamWrapper
from ..errors import ConfigError, DataError, EmloopError, KeyPath
from ..tasks.task import Task
from ..utils.model_note import ModelNote
from .abstract_model import AbstractModel

_T = TypeVar("_T")


class Member:
    """A trained model, or how it is built from its run.

    It is built at once, so that whatever is wrong with it is found, and what it says of itself is known.

    :param name: what errors call it
    :param path: its place below the section of the model that it is part of
    :param build: returns the model
    :param keep: whether to keep it; else it is built anew whenever it is used, and dropped afterwards
    :raise ConfigError: if it is none, or cannot be built
    """

    def __init__(self, name: str, path: KeyPath, build: Callable[[], Any], keep: bool) -> None:
        self.name = name
        self.path = path
        self.kept: AbstractModel | None = None
        """The model, if it is kept."""
        self.input_names: frozenset[str] = frozenset()
        self.output_names: tuple[str, ...] = ()
        self.label_names: frozenset[str] = frozenset()
        self.tasks: Mapping[str, Task] | None = None
        """Its tasks without their modules; None for a model that has no tasks."""
        self._build = build
        model = self._built()
        if not isinstance(model, AbstractModel):
            raise ConfigError(f"model {name} does not inherit from AbstractModel", path)
        self._learn(model)
        if keep:
            self.kept = model

    def use(self, act: Callable[[AbstractModel], _T]) -> _T:
        """Return what ``act`` returns, which must not keep the model that it gets.

        :raise ConfigError: that ``act`` has raised, with the name of the model and its place; or if the run of a model
            that is not kept cannot be opened any more
        """
        model = self._built() if self.kept is None else self.kept
        try:
            return act(model)
        except DataError as error:
            told = error.within(f"model {self.name}")
            told.add_note(self._own(ModelNote.on(error)))
            raise told from error
        except ConfigError as error:  # its path leads into the config of another run
            raise ConfigError(f"model {self.name}: {error}", self.path) from error
        except Exception as error:
            notes: list[str] = getattr(error, "__notes__", [])
            notes[:] = [self._own(note) if isinstance(note, ModelNote) else note for note in notes]
            raise

    def required_sources(self, batch: Batch, others: Collection[str] = ()) -> set[str]:
        """Return the sources that the model needs of a batch, which nobody has prepared and nobody else uses.

        :param others: tasks to run without labels if the batch does not carry them
        """
        return self.use(lambda model: set(model.required_sources(_carrying(model, batch, others))))

    def check_sources(self, batch: Batch, others: Collection[str] = ()) -> None:
        """Check that the model can run batches like this one.

        :raise ConfigError: naming what is missing
        """
        self.use(lambda model: model.check_sources(_carrying(model, batch, others)))

    def run(
        self, batch: Batch, stream: StreamWrapper | None, others: Collection[str] = ()
    ) -> tuple[Batch, dict[str, Any]]:
        """Run a batch; return it as the model has prepared it, and the outputs.

        :param batch: a batch that nobody has prepared and nobody else uses
        :param stream: tells which outputs somebody reads; None for all
        :param others: tasks to run without labels if the batch does not carry them
        """
        return self.use(lambda model: _run(model, batch, stream, others))

    def _own(self, note: ModelNote | None) -> ModelNote:
        """Return a note that leads to this model, and not into the config of its run."""
        return ModelNote(f"{'in' if note is None else f'{note} of'} model {self.name}", self.path)

    def _built(self) -> Any:
        try:
            return self._build()
        except (EmloopError, OSError) as error:
            raise ConfigError(str(error), self.path) from error

    def _learn(self, model: AbstractModel) -> None:
        self.input_names, self.label_names = frozenset(model.input_names), frozenset(model.label_names)
        self.output_names = tuple(model.output_names)
        tasks = getattr(model, "tasks", None)
        if isinstance(tasks, Mapping):
            self.tasks = {name: _without_modules(task) for name, task in tasks.items()}


def _carrying(model: AbstractModel, batch: Batch, others: Collection[str]) -> Batch:
    """Let a batch carry tasks without labels, beside its own or those that follow from its sources."""
    if any(name not in batch.tasks for name in others):
        infer: Callable[[Batch], dict[str, str | None]] = getattr(model, "tasks_of", lambda batch: {})
        batch.tasks = {**dict.fromkeys(others), **(batch.tasks or infer(batch))}
    return batch


def _run(
    model: AbstractModel, batch: Batch, stream: StreamWrapper | None, others: Collection[str]
) -> tuple[Batch, dict[str, Any]]:
    batch = model.prepare(_carrying(model, batch, others))
    outputs = model.run(batch, train=False, stream=stream)
    if not isinstance(outputs, Mapping):
        raise TypeError(f"the model's run returned a {type(outputs).__name__}; a mapping of output names is needed")
    for name in outputs:
        if name in batch:
            raise DataError(f"{name!r} is both a source and an output; rename one")
    batch.kind, batch.stacked = None, {}  # which know the model
    return batch, dict(outputs)


def _without_modules(task: Task) -> Task:
    twin = copy.copy(task)
    twin.modules = {}
    return twin
