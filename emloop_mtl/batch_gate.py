"""What a batch must pass before the model runs it."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from torch import Tensor

from .constants import MASK_SUFFIX, UID_SOURCE
from .data.batch import Batch
from .data.empty_stream_error import EmptyStreamError
from .data.stream_wrapper import StreamWrapper
from .errors import DataError, nearest
from .models.abstract_model import AbstractModel

log = logging.getLogger(__name__)


class BatchGate:
    """Lets the batches of a stream through that the model can run, and complains about the others as configured.

    Which sources a batch holds is compared with what the model needs once per kind of batch, so that further
    batches of the kind cost a look-up.

    :param model: tells which sources a batch must hold
    :param on_empty_batch: ``error``, ``warn`` or ``ignore``
    :param on_empty_stream: the same
    :param on_unused_sources: the same
    :param fixed_batch_size: leave out batches of another size; None lets all through
    """

    def __init__(
        self,
        model: AbstractModel,
        on_empty_batch: str,
        on_empty_stream: str,
        on_unused_sources: str,
        fixed_batch_size: int | None,
    ) -> None:
        self._model = model
        self._on_empty_batch = on_empty_batch
        self._on_empty_stream = on_empty_stream
        self._on_unused_sources = on_unused_sources
        self._fixed_batch_size = fixed_batch_size
        self._warned_of_unused = False
        self._seen: set[Hashable] = set()

    def accepted(self, stream: StreamWrapper, train: bool, may_be_empty: bool = False) -> Iterator[Batch]:
        """Yield the batches of one epoch that are neither empty nor of the wrong size.

        When training, the last accepted batch of a step ends it, even if a later one of the step is left out.

        :param may_be_empty: whether no batch at all is in order, as where an epoch is gone on with
        :raise DataError: naming stream, batch, loader and source; also when training on a stream whose last step
            does not end
        """
        held: Batch | None = None
        found = 0
        for batch in stream:
            wanted = self._is_wanted(batch, stream)
            found += wanted
            if not train or (wanted and batch.ends_step and held is None):
                if wanted:
                    yield batch
                continue
            # In a step of several batches it is open which accepted one is the last, so one is held back.
            if wanted:
                if held is not None:
                    yield held
                held = batch
            if batch.ends_step and held is not None:
                held.ends_step = True
                yield held
                held = None
        if held is not None:
            text = "ended in the middle of a step; the last batch of every step needs ends_step = True"
            raise DataError(f"stream {stream.name!r} {text}")
        if not found and not may_be_empty:
            _complain(self._on_empty_stream, f"stream {stream.name!r} is empty", "on_empty_stream", EmptyStreamError)

    def _is_wanted(self, batch: Batch, stream: StreamWrapper) -> bool:
        size = count_samples(batch, stream)
        if size == 0:
            text = f"{_where(batch, stream)}: the batch is empty"
            _complain(self._on_empty_batch, text, "on_empty_batch")
            return False
        if self._fixed_batch_size not in (None, size):
            log.debug("%s: left out, it has %i samples", _where(batch, stream), size)
            return False
        kind = batch.kind or (stream.name, tuple(batch), tuple(batch.tasks))
        if kind not in self._seen:
            self._check_sources(batch, _where(batch, stream))
            self._seen.add(kind)
        return True

    def _check_sources(self, batch: Batch, where: str) -> None:
        needed = set(self._model.required_sources(batch))
        missing = sorted(needed - batch.keys())
        if missing:
            raise DataError(f"{where}: the model needs the source {missing[0]!r}{nearest(missing[0], batch)}")
        used = needed | set(self._model.input_names) | set(self._model.label_names)
        unused = [name for name in batch if name not in used and not _is_known(name, batch)]
        if not unused:
            return
        text = f"{where}: the model does not read {', '.join(map(repr, unused))}"
        if self._on_unused_sources == "error" or not self._warned_of_unused:
            _complain(self._on_unused_sources, text, "on_unused_sources")
            self._warned_of_unused = True


def check_disjoint(batch: Batch, outputs: Mapping[str, Any], stream: StreamWrapper) -> None:
    """Check that the model returned outputs, and that none is named like a source.

    :raise TypeError: if it returned something else
    :raise DataError: naming those that are
    """
    if not isinstance(outputs, Mapping):
        raise TypeError(f"the model's run returned a {type(outputs).__name__}; a mapping of output names is needed")
    if not batch.keys().isdisjoint(outputs):
        names = ", ".join(sorted(map(repr, batch.keys() & outputs.keys())))
        raise DataError(f"stream {stream.name!r}: {names}: both a source and an output of the model; rename one")


def count_samples(batch: Batch, stream: StreamWrapper) -> int:
    """Return how many samples a batch has.

    :raise DataError: naming stream, batch, loader and source, if they differ in that
    """
    size = -1
    for source, value in batch.items():
        try:
            # A tensor's own len() takes three times as long.
            length = value.shape[0] if type(value) is Tensor and value.ndim else len(value)
        except TypeError as error:
            text = f"source {source!r} must hold one entry per sample, but has no length ({type(value).__name__})"
            raise DataError(f"{_where(batch, stream)}: {text}") from error
        if length != size:
            if size >= 0:
                text = f"sources differ in length: {next(iter(batch))!r} has {size} entries, {source!r} has {length}"
                raise DataError(f"{_where(batch, stream)}: {text}")
            size = length
    batch.size = size = max(size, 0)
    return size


def _is_known(name: str, batch: Batch) -> bool:
    return (
        name == UID_SOURCE
        or name in batch.tasks.values()
        or (name.endswith(MASK_SUFFIX) and name.removesuffix(MASK_SUFFIX) in batch)
    )


def _where(batch: Batch, stream: StreamWrapper) -> str:
    tasks = f", task {', '.join(map(repr, batch.tasks))}" if batch.tasks else ""
    return f"stream {stream.name!r}, {batch.place}{tasks}"


def _complain(action: str, text: str, setting: str, kind: type[DataError] = DataError) -> None:
    if action == "error":
        raise kind(f"{text}; set main_loop.{setting} to 'warn' or 'ignore' to go on all the same")
    if action == "warn":
        log.warning("%s; set main_loop.%s to 'ignore' to hide this warning", text, setting)
