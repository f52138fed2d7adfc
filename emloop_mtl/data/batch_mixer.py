"""Making one batch of rows of several loaders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..constants import MASK_SUFFIX, UID_SOURCE
from ..errors import ConfigError, DataError, nearest
from .batch import Batch
from .cut_batch import is_mask_of
from .joined_values import join_values
from .mix import Mix
from .mixed_part import MixedPart
from .piece import Piece
from .share import Share
from .task_loader import TaskLoader

MOST_NAMES = 4
"""Loaders that are named one by one where the data of all of them is meant."""


class BatchMixer:
    """Joins rows of several loaders to mixed batches.

    A batch has the sources of all of its loaders. Where a loader lacks one, its rows are filled up, and no task that is
    about them may read it. A task is about the rows of the loaders that carry it.

    :param loaders: all loaders of the stream
    :param task_source: the source to add that holds the name of each row's task; None for none
    :raise ConfigError: for loaders whose rows cannot be told apart, or put together
    """

    def __init__(self, loaders: Sequence[TaskLoader], task_source: str | None = None) -> None:
        self.task_source = task_source
        named: dict[str, list[str]] = {}
        self._labels: dict[str, str | None] = {}
        self._check_named(loaders)
        for loader in loaders:
            for task, label in loader.tasks.items():
                if self._labels.setdefault(task, label) != label:
                    places = f"{_place(self._labels[task])} in loader {named[task][0]!r} and"
                    places += f" {_place(label)} in loader {loader.name!r}"
                    raise ConfigError(f"task {task!r} has {places}; those of mixed batches must have one source")
                named.setdefault(task, []).append(loader.name)
            if task_source is not None:
                self._check_task_source(loader, task_source)
        try:
            self._sources([batch for loader in loaders if (batch := loader.no_rows()) is not None])
        except DataError as error:
            raise ConfigError(str(error)) from error
        self.data_name = _joined([loader.name for loader in loaders])
        """What the data of all loaders together is called."""
        self.data_names = {task: _joined(names) for task, names in named.items()}
        """Task name -> what the data of the loaders that carry it is called."""

    def join(self, batches: Sequence[Batch]) -> Batch:
        """Return one batch of the rows of several, those of one loader side by side.

        :raise DataError: naming source and loaders, for values that do not go together
        """
        parts: list[MixedPart] = []
        first = 0
        added = frozenset([] if self.task_source is None else [self.task_source])
        for batch in batches:
            stop = first + (batch.count() or 0)
            part = MixedPart(batch.data_name, first, stop, batch.tasks, added.union(batch))
            if parts and parts[-1]._replace(first=first, stop=stop) == part:
                parts[-1] = parts[-1]._replace(stop=stop)
            else:
                parts.append(part)
            first = stop
        joined = Batch(self._sources(batches), data_name=self.data_name, split=batches[0].split, size=first)
        if self.task_source is not None:
            for batch in batches:
                if self.task_source in batch:
                    text = f"loader {batch.data_name!r} holds a source {self.task_source!r} of its own"
                    raise DataError(f"{text}; give task_source of the scheduler another name")
            names = [(next(iter(part.tasks)), part.stop - part.first) for part in parts]
            joined[self.task_source] = [name for name, count in names for _ in range(count)]
        if not self.data_names and len({part.sources for part in parts}) > 1:
            odd = next(part for part in parts if part.sources != parts[0].sources)
            raise DataError(_unnamed(parts[0].data_name, odd.data_name))
        joined.mix = Mix(parts, self.data_names)
        _share_out(joined, parts)
        return joined

    def _sources(self, batches: Sequence[Batch]) -> dict[str, Any]:
        names = dict.fromkeys(name for batch in batches for name in batch)
        sources: dict[str, Any] = {}
        for name in names:
            pieces = [Piece(each.data_name, each.size or 0, each.get(name), name in each) for each in batches]
            mask = name + MASK_SUFFIX
            if name.endswith(MASK_SUFFIX) and _is_mask(name.removesuffix(MASK_SUFFIX), names, batches):
                sources[name] = join_values(name, pieces, is_ragged=True, padding=True)
            elif mask in names and _is_mask(name, names, batches):
                sources[name] = join_values(name, pieces, is_ragged=True, padding=0)
            elif name == UID_SOURCE:
                sources[name] = _uids(pieces)
            else:
                sources[name] = join_values(name, pieces, is_ragged=False, padding=0)
        return sources

    def _check_named(self, loaders: Sequence[TaskLoader]) -> None:
        unnamed = next((loader for loader in loaders if not loader.tasks), None)
        named = next((loader for loader in loaders if loader.tasks), None)
        if unnamed is not None and named is not None:
            text = f"loader {unnamed.name!r} names no tasks, but loader {named.name!r} does"
            raise ConfigError(f"{text}; in mixed batches all must, or none")
        known = [(loader, set(loader.sources)) for loader in loaders if loader.sources is not None]
        odd = next((loader for loader, sources in known if sources != known[0][1]), None)
        if named is None and odd is not None:
            raise ConfigError(_unnamed(known[0][0].name, odd.name))

    def _check_task_source(self, loader: TaskLoader, source: str) -> None:
        if len(loader.tasks) != 1:
            text = f"loader {loader.name!r} names {len(loader.tasks)} tasks"
            raise ConfigError(f"task_source: {text}, so that no name tells the one of a row", ("task_source",))
        if loader.sources is not None and source in loader.sources:
            text = f"loader {loader.name!r} holds a source {source!r} of its own; take another name"
            raise ConfigError(f"task_source: {text}", ("task_source",))


def _share_out(batch: Batch, parts: Sequence[MixedPart]) -> None:
    """Find the rows that each task is about, on the host; which of them have labels is for the model to find."""
    size = batch.size or 0
    about: dict[str, list[Tensor]] = {}
    for part in parts:
        rows = torch.arange(part.first, part.stop)
        for task, label in part.tasks.items():
            if label is not None and label not in part.sources:
                text = f"loader {part.data_name!r}, task {task!r}: the batch lacks the label source {label!r}"
                raise DataError(f"{text}{nearest(label, part.sources)}")
            batch.tasks[task] = label
            about.setdefault(task, []).append(rows)
    for task, places in about.items():
        rows = torch.cat(places) if len(places) > 1 else places[0]
        if len(rows) < size:
            batch.shares[task] = Share(rows, rows)
            if batch.tasks[task] is not None:
                batch.rows[task] = rows


def _unnamed(loader: str, other: str) -> str:
    text = (
        f"loaders {loader!r} and {other!r} name no tasks, so that these cannot be told from sources that not all hold"
    )
    return f"{text}; name the tasks of loaders whose rows are mixed"


def _place(label: str | None) -> str:
    return "no labels" if label is None else f"its labels in {label!r}"


def _is_mask(name: str, names: Iterable[str], batches: Sequence[Batch]) -> bool:
    """Tell whether a source is ragged in the loaders that hold it."""
    mask = name + MASK_SUFFIX
    if name not in names:
        return False
    with_mask = [batch for batch in batches if mask in batch]
    if not with_mask or not all(is_mask_of(batch[mask], batch.get(name)) for batch in with_mask):
        return False
    dense = next((batch for batch in batches if name in batch and mask not in batch), None)
    if dense is not None:
        ragged, other = with_mask[0].data_name, dense.data_name
        raise DataError(f"source {name!r} differs in length in loader {ragged!r}, and has no mask in loader {other!r}")
    return True


def _uids(pieces: Sequence[Piece]) -> Any:
    """Return what identifies the rows, which may be numbers in one loader and texts in another."""
    try:
        return join_values(UID_SOURCE, pieces, is_ragged=False, padding=-1)
    except DataError:
        return [
            uid
            for piece in pieces
            for uid in (
                [None] * piece.size
                if not piece.is_held
                else piece.value.tolist()
                if hasattr(piece.value, "tolist")
                else piece.value
            )
        ]


def _joined(loaders: Iterable[str]) -> str:
    names = list(dict.fromkeys(loaders))  # two splits of one name are one
    if len(names) <= MOST_NAMES:
        return "+".join(names)
    return "+".join([*names[: MOST_NAMES - 1], f"{len(names) - MOST_NAMES + 1} more"])
