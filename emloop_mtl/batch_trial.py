"""Whether a model can run what its loaders hold, found out before a training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import torch

from .batch_gate import count_samples
from .data.batch import Batch
from .data.stream_wrapper import StreamWrapper
from .errors import ConfigError, DataError
from .models.abstract_model import AbstractModel
from .utils.model_note import ModelNote
from .utils.random import get_random_state, set_random_state

_LOGGER = logging.getLogger(__name__)


class BatchTrial:
    """Has stand-ins of a model run what comes first of streams, so that nothing of the model changes.

    :param model: the model
    :param train_stream_name: the stream that is trained on, whose batches are run as in training, too
    :param begins_with_training: whether it is enough if they can be run so
    :param outputs: names of the outputs that somebody reads of batches that are evaluated; None for all
    :param size: how many rows a batch must have to be run; None for any number
    """

    def __init__(
        self,
        model: AbstractModel,
        train_stream_name: str,
        begins_with_training: bool,
        outputs: frozenset[str] | None,
        size: int | None,
    ) -> None:
        self._model = model
        self._train_stream_name = train_stream_name
        self._begins_with_training = begins_with_training
        self._outputs = outputs
        self._size = size

    def run(self, names: Iterable[str], first_batches: Callable[[str], Iterable[Batch]]) -> None:
        """Try what comes first of some streams.

        :param names: of the streams
        :param first_batches: returns what comes first of a stream; not asked for a model without a stand-in
        :raise DataError: naming stream and loader, for data that cannot be used
        :raise Exception: what the model raises
        """
        random_state = get_random_state()
        try:
            stand_in = self._model.stand_in()
            if stand_in is not None:
                for name in names:
                    self._try_stream(stand_in, name, first_batches(name))
        except torch.OutOfMemoryError as error:  # weights that are there twice may be too many
            _LOGGER.info("whether the modules fit will show in the first batch: %s", error)
        finally:
            set_random_state(random_state)

    def _try_stream(self, stand_in: AbstractModel, name: str, batches: Iterable[Batch]) -> None:
        stream = StreamWrapper(lambda: (), name=name)  # tells the model what is read
        stream.outputs = self._outputs
        for batch in batches:
            size = count_samples(batch, stream)
            if not size or self._size not in (None, size):
                continue
            where = ", ".join(filter(None, (f"stream {name!r}", batch.place)))
            try:
                self._try_evaluation(stand_in, batch, stream)
                if name == self._train_stream_name:
                    self._try_training(stand_in, batch)
            except DataError as error:
                raise error.within(where) from error
            except ConfigError as error:
                if error.path or ModelNote.on(error) is not None:
                    raise
                raise ConfigError(f"{where}: {error}") from error

    def _try_evaluation(self, stand_in: AbstractModel, batch: Batch, stream: StreamWrapper) -> None:
        try:
            stand_in.run(batch, train=False, stream=stream)
        except Exception:
            # Some modules can be trained but not evaluated, which is tried then.
            only_trains = self._begins_with_training and stream.name == self._train_stream_name
            if not only_trains or type(stand_in).try_training is AbstractModel.try_training:
                raise

    def _try_training(self, stand_in: AbstractModel, batch: Batch) -> None:
        try:
            stand_in.try_training(batch)
        except Exception:
            # Some modules give a loss in training only; others a hook is yet to switch to evaluation.
            as_trained = self._model.stand_in(as_trained=True)
            if as_trained is None:
                raise
            as_trained.try_training(batch)
