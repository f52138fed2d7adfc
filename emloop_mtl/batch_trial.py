"""Whether a model can run what its loaders hold, found out before a training."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batch_gate import check_disjoint, count_samples
from .data.batch import Batch
from .data.stream_wrapper import StreamWrapper
from .errors import ConfigError, DataError
from .hook_list import HookList
from .models.abstract_model import AbstractModel
from .models.cannot_tell import CannotTell
from .models.stand_in import StandIn
from .utils.model_note import ModelNote
from .utils.random import get_random_state, set_random_state

_LOGGER = logging.getLogger(__name__)


class BatchTrial:
    """Has stand-ins of a model run what comes first of streams, so that nothing of the model changes.

    :param model: the model
    :param hooks: those of the training, which may refuse a batch that will be evaluated, too
    :param train_stream_name: the stream that is trained on, whose batches are run as in training, too
    :param begins_with_training: whether it is enough if they can be run so
    :param size: how many rows a batch must have to be run; None for any number
    """

    def __init__(
        self,
        model: AbstractModel,
        hooks: HookList,
        train_stream_name: str,
        begins_with_training: bool,
        size: int | None,
    ) -> None:
        self._model = model
        self._train_stream_name = train_stream_name
        self._begins_with_training = begins_with_training
        self._hooks = hooks
        self._size = size
        self._as_trained: AbstractModel | None = None

    def run(self, names: Iterable[str], first_batches: Callable[[str], Iterable[Batch]]) -> None:
        """Try what comes first of some streams.

        :param names: of the streams
        :param first_batches: returns what comes first of a stream; not asked for a model without a stand-in
        :raise DataError: naming stream and loader, for data that cannot be used
        :raise Exception: what the model raises
        """
        random_state = get_random_state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they come where a batch is run for good
                stand_in = self._model.stand_in()
                if stand_in is not None:
                    for name in names:
                        self._try_stream(stand_in, name, first_batches(name))
        except (torch.OutOfMemoryError, MemoryError) as error:  # weights that are there twice may be too many
            _LOGGER.info("whether the modules fit will show in the first batch: %s", error)
        finally:
            set_random_state(random_state)

    def _try_stream(self, stand_in: AbstractModel, name: str, batches: Iterable[Batch]) -> None:
        stream = StreamWrapper(lambda: (), name=name)  # tells the model what is read
        stream.outputs = self._hooks.outputs(train=False)
        is_trained = name == self._train_stream_name
        is_evaluated = not (is_trained and self._begins_with_training)
        for batch in batches:
            size = count_samples(batch, stream)
            if not size or self._size not in (None, size) or self._may_get_tasks_of(batch):
                continue
            where = ", ".join(filter(None, (f"stream {name!r}", batch.place)))
            try:
                with _told_where(where):
                    evaluated = stand_in.prepare(_own(batch))
                    if isinstance(stand_in, StandIn) and stand_in.is_run_own:
                        outputs = stand_in.run(evaluated, train=not is_evaluated, stream=stream)
                    else:
                        outputs = self._evaluate(stand_in, evaluated, stream, is_evaluated)
                        if is_trained:
                            self._try_training(stand_in, batch)
            except CannotTell as error:
                _LOGGER.info("%s: whether the modules fit will show in the first batch: %s", where, error)
                continue
            check_disjoint(evaluated, outputs, stream)
            if outputs:
                evaluated.update(outputs)
                with _told_where(where):
                    self._hooks.try_batch(name, evaluated, train=not is_evaluated)

    def _may_get_tasks_of(self, batch: Batch) -> bool:
        """Whether a batch carries a task that the model has not, and that hooks may be about to add."""
        tasks = getattr(self._model, "tasks", batch.tasks)
        return self._hooks.may_add_tasks and any(name not in tasks for name in batch.tasks)

    @staticmethod
    def _evaluate(
        stand_in: AbstractModel, batch: Batch, stream: StreamWrapper, is_evaluated: bool
    ) -> Mapping[str, Any]:
        try:
            return stand_in.run(batch, train=False, stream=stream)
        except Exception:
            # Some modules can be trained but not evaluated, which is tried then.
            if is_evaluated or type(stand_in).try_training is AbstractModel.try_training:
                raise
            return {}

    def _try_training(self, stand_in: AbstractModel, batch: Batch) -> None:
        """Try a batch as it is trained on, also in evaluation where a hook may be about to switch modules to it."""
        if self._as_trained is None:
            self._as_trained = self._model.stand_in(as_trained=True)
        try:
            (self._as_trained or stand_in).try_training(_own(batch))
        except Exception:
            if self._as_trained is None or not self._hooks.may_change_modes:
                raise
            stand_in.try_training(_own(batch))


def _own(batch: Batch) -> Batch:
    """Return a copy with values of its own: modules and losses may write to what they are given."""
    twin = batch.copy()
    for name, value in twin.items():
        if isinstance(value, Tensor):
            twin[name] = value.clone()
        elif isinstance(value, np.ndarray):
            twin[name] = value.copy()
    return twin


@contextmanager
def _told_where(where: str) -> Iterator[None]:
    """Have errors say which batch they are of, unless they say more."""
    try:
        yield
    except DataError as error:
        raise error.within(where) from error
    except ConfigError as error:
        if error.path or ModelNote.on(error) is not None:
            raise
        raise ConfigError(f"{where}: {error}") from error
