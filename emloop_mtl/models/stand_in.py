"""A model that runs batches in the place of another one."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from ..data.batch import Batch
from ..errors import EmloopError
from ..tasks.watched import raised_by_module, raised_by_watcher
from ..utils.model_note import ModelNote
from .abstract_model import AbstractModel
from .abstract_task_model import AbstractTaskModel
from .cannot_tell import CannotTell
from .own_states import OwnStates

if TYPE_CHECKING:
    from ..data.stream_wrapper import StreamWrapper


class StandIn(AbstractModel):
    """Runs batches as a model does, but in another state, which the model and its modules have meanwhile.

    Nothing is compiled by it. What methods of somebody's own raise by themselves, or hooks of modules, may be for want
    of a training, and tells nothing; what the engine, modules or functions of tasks raise does.

    :param model: the model
    :param states: what it and its modules have while they run
    :param is_run_own: whether the model's ``run`` is somebody's own, and with it what training on a batch means
    """

    def __init__(self, model: AbstractTaskModel, states: OwnStates, is_run_own: bool) -> None:
        self._model = model
        self._states = states
        self.is_run_own = is_run_own

    @property
    def input_names(self) -> Collection[str]:
        """Names of the sources that the model reads."""
        return self._model.input_names

    @property
    def output_names(self) -> Collection[str]:
        """Names of the outputs that ``run`` may return."""
        return self._model.output_names

    def prepare(self, batch: Batch) -> Batch:
        """Make a fresh batch ready for ``run``.

        :raise DataError: if the batch cannot be used
        :raise CannotTell: if that is not known
        """
        with self.in_place():
            return self._model.prepare(batch)

    def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Mapping[str, Any]:
        """Run one batch and return its outputs by name.

        :raise CannotTell: if it is not known whether it could be run in a training
        """
        with self.in_place():
            return self._model.run(batch, train=train, stream=stream)

    def try_training(self, batch: Batch) -> None:
        """Run a batch as one that is trained on, but without an update.

        :raise CannotTell: if it is not known whether it could be run in a training
        :raise Exception: if it cannot be trained on
        """
        with self.in_place():
            self._model.try_training(batch)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the model is what stands in for it."""
        compiles = "torch._dynamo" in sys.modules  # else nothing was compiled so far
        with self._states.worn(), torch.compiler.set_stance("force_eager") if compiles else nullcontext():
            try:
                yield
            except Exception as error:
                if self._is_told(error):
                    raise
                raise CannotTell(f"{type(self._model).__name__} raises {type(error).__name__}: {error}") from error

    def _is_told(self, error: Exception) -> bool:
        """Whether an error says by itself what it tells; else it may be one that a training would not raise."""
        if raised_by_watcher(error, self._model.network.modules()):
            return False
        return (
            isinstance(error, (EmloopError, CannotTell)) or ModelNote.on(error) is not None or raised_by_module(error)
        )
