"""What hooks have in common that compare predicted classes with labels."""

from __future__ import annotations

from abc import ABC
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from emloop_mtl.types import EpochNumber, State

from ..arguments import check_names, check_streams
from .accumulate_variables import AccumulateVariables
from .batch_variable import holds
from .kept_values import KeptValues

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


class AbstractPredictedClasses(AccumulateVariables, ABC):
    """Keep predictions and labels of an epoch, and hand over those of the rows that have a label.

    Predictions called ``<task>/…`` are taken from batches that carry the task with its labels; of these the rows, or
    tokens, that have one.

    :param predicted: name of the predictions
    :param expected: name of the labels
    :param others: further variables with an entry per sample
    :param streams: names of the streams; None for all
    """

    def __init__(
        self,
        predicted: str,
        expected: str,
        others: Sequence[str] = (),
        streams: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(variables=[predicted, expected, *others], **kwargs)
        self._predicted = predicted
        self._expected = expected
        self._streams = None if streams is None else check_names(self.name, "streams", streams)

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the streams, and find the task that the predictions are of."""
        super().register_mainloop(main_loop)
        check_streams(self, self._streams)
        self._task = self._predicted.partition("/")[0] if "/" in self._predicted else ""

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        """Return the same, or nothing where batches that are trained on are left out."""
        takes_train = self._streams is None or self.main_loop.train_stream_name in self._streams
        return self.requires() if takes_train else ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Keep what a batch holds of labelled rows, and which these are."""
        if self._streams is not None and stream_name not in self._streams:
            return
        if not holds(self, self._predicted, stream_name, batch_data):
            return
        if batch_data.tasks.get(self._task, "") is None:
            return
        super().after_batch(stream_name, batch_data)
        expected = batch_data[self._expected]
        rows = batch_data.rows.get(self._task)
        if rows is None:
            labelled = torch.ones(len(expected), dtype=torch.bool)
        else:
            shape = expected.shape[: 2 if self._task in batch_data.masks else 1]
            # made where the rows are, so that nobody waits for them
            labelled = torch.zeros(shape, dtype=torch.bool, device=rows.device)
            labelled.view(-1).index_fill_(0, rows, True)
        self._labelled.setdefault(stream_name, KeptValues()).add(labelled)

    def state_dict(self) -> dict[str, State]:
        """Return the values of the epoch under way."""
        labelled = {stream: kept.state_dict() for stream, kept in self._labelled.items()}
        return {"values": super().state_dict(), "labelled": labelled}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the epoch that was under way."""
        super().load_state_dict(state["values"])
        for stream, labelled in state["labelled"].items():
            self._labelled[stream] = KeptValues()
            self._labelled[stream].load_state_dict(labelled)

    def _reset_accumulator(self) -> None:
        super()._reset_accumulator()
        self._labelled: dict[str, KeptValues] = {}

    def _labelled_rows(self) -> Iterator[tuple[str, dict[str, list[Any]]]]:
        """Yield each stream with the entries of its variables, those of labelled rows or tokens only."""
        for stream, variables in self.accumulated.items():
            labelled = self._labelled[stream].rows()
            yield stream, {name: _chosen(values, labelled) for name, values in variables.items()}


def _chosen(values: Sequence[Any], labelled: Sequence[Any]) -> list[Any]:
    if len(values) != len(labelled):
        return list(values)  # told by whoever compares their lengths
    chosen: list[Any] = []
    for value, choice in zip(values, labelled, strict=True):
        if choice.ndim:
            chosen.extend(value[choice])
        elif choice:
            chosen.append(value)
    return chosen
