"""From a backbone and heads to one plan that a batch is run by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.module import _has_any_global_hook

from ..data.batch import Batch
from ..data.share import Share
from ..errors import ConfigError
from ..tasks.action_input import INPUT
from ..tasks.flow_outputs import FlowOutputs
from ..tasks.plan import Plan, _Modules, move
from ..tasks.quick_call import quick_call
from ..tasks.select_rows import select_rows
from ..utils.model_note import ModelNote
from .component import BACKBONE, Component
from .given import Given
from .head_task import HeadTask
from .share_outputs import ShareOutputs

Names = tuple[str, ...]


class HeadsPlan(Plan):
    """The backbone, then some heads, each with the values of a batch that its ``forward`` has arguments for.

    Which these are is found out once for the names that a batch has and for those that the backbone returns.

    :param tasks: the heads
    :param backbone: the arguments of the backbone
    :param heads: those of the heads, in their order
    :param devices: the devices of heads that are not where the batch is, by name
    """

    def __init__(
        self,
        tasks: Sequence[HeadTask],
        backbone: Component,
        heads: Sequence[Component],
        devices: Mapping[str, torch.device],
    ) -> None:
        super().__init__(tasks)
        self._slots = {name: slot for slot, name in enumerate([INPUT, BACKBONE, *self.task_names])}
        self._backbone = backbone
        self._heads = tuple(heads)
        self._devices = devices
        self.sources = tuple(dict.fromkeys(name for component in (backbone, *heads) for name in component.names))
        """All that may be read where a batch has it."""
        self.takes_all_sources = any(component.takes_any for component in (backbone, *heads))
        self._encoding: dict[Names, tuple[Given, ...]] = {}
        """What the backbone gets, by the names of the sources."""
        self._reading: dict[tuple[Names, Names], tuple[tuple[Given, ...], ...]] = {}
        """What each head gets, by the names of the sources and by those of what the backbone returns."""

    @property
    def action_names(self) -> tuple[str, ...]:
        """The names of all that is returned in the order in which it is made: of the backbone, and of each head."""
        return BACKBONE, *self.task_names

    def run(self, modules: _Modules, batch: Mapping[str, Any], quick: bool = False) -> FlowOutputs:
        """Run the backbone and the heads and return what they returned, in the heads' shares of the batch.

        :param modules: module name -> what is called
        :param batch: the sources, on the device where the modules are
        :param quick: whether modules are ``torch.nn.Module``s and may be called by ``quick_call``
        :raise ConfigError: if an argument is found nowhere, or more than once
        """
        quick = quick and not _has_any_global_hook()  # type: ignore[no-untyped-call]
        return self.decode(modules, batch, self.encode(modules, batch, quick), quick)

    def encode(self, modules: _Modules, batch: Mapping[str, Any], quick: bool = False) -> Any:
        """Run the backbone and return what it returned."""
        sources = tuple(batch)
        given = None if torch.compiler.is_compiling() else self._encoding.get(sources)
        if given is None:
            given = bound(self._backbone, sources)
            if not torch.compiler.is_compiling():  # what is compiled would be so again when the dictionary has changed
                self._encoding[sources] = given
        values = {each.argument: batch[each.name] for each in given}
        return _call(self._backbone, modules[BACKBONE], values, quick)

    def decode(self, modules: _Modules, batch: Mapping[str, Any], encoded: Any, quick: bool = False) -> FlowOutputs:
        """Run the heads on what the backbone has returned."""
        shares: Mapping[str, Share] = batch.shares if isinstance(batch, Batch) else {}
        reading = self.reading(tuple(batch), encoded)
        found = [batch, encoded]
        gathered = _gathered(encoded, [shares[head.name] for head in self._heads if head.name in shares], batch)
        for head, given in zip(self._heads, reading, strict=True):
            if head.name in shares:
                assert isinstance(batch, Batch)
                values = _values_of_share(shares[head.name], given, encoded, next(gathered), batch)
            else:
                values = {each.argument: _value(each, encoded, batch) for each in given}
            if head.name in self._devices:
                values = {argument: move(value, self._devices[head.name]) for argument, value in values.items()}
            found.append(_call(head, modules[head.name], values, quick))
        if not shares:
            return FlowOutputs(self._slots, found)
        assert isinstance(batch, Batch)
        return ShareOutputs(self._slots, found, shares, batch.count() or 0)

    def reading(self, sources: Names, encoded: Any) -> tuple[tuple[Given, ...], ...]:
        """Return what each head gets in a batch with these sources, of which the backbone has made ``encoded``."""
        names = tuple(encoded) if isinstance(encoded, Mapping) else ()
        reading = None if torch.compiler.is_compiling() else self._reading.get((sources, names))
        if reading is None:
            reading = tuple([bound(head, sources, names) for head in self._heads])
            if not torch.compiler.is_compiling():
                self._reading[sources, names] = reading
        return reading


def bound(component: Component, sources: Names, encoded: Names | None = None) -> tuple[Given, ...]:
    """Return what a component gets, in a batch with these sources."""
    try:
        return component.bind(sources, encoded)
    except ConfigError as error:
        raise error.below(("model",)) from error


def _values_of_share(
    share: Share, given: Sequence[Given], encoded: Any, gathered: Tensor | None, batch: Batch
) -> dict[str, Any]:
    """Return what a head gets for the rows that are for it.

    :param gathered: what the backbone has returned for them, where that is known already
    """
    size = batch.count() or 0
    values = {}
    for each in given:
        if each.is_encoded and gathered is not None:
            values[each.argument] = gathered
            continue
        value = _value(each, encoded, batch)
        values[each.argument] = select_rows(value, share.rows, size) if each.is_encoded else _select(value, share, size)
    return values


def _gathered(encoded: Any, shares: Sequence[Share], batch: Mapping[str, Any]) -> Iterator[Tensor | None]:
    """Return the rows of each share of the one value that the backbone has returned, None where it is none.

    Taken one by one, each would have a gradient of its own that is as large as the batch.
    """
    if len(shares) > 1 and isinstance(encoded, Tensor) and isinstance(batch, Batch):
        if encoded.dim() and encoded.shape[0] == batch.count():
            order = torch.cat([share.rows for share in shares]).to(encoded.device, non_blocking=True)
            sizes = [share.rows.shape[0] for share in shares]
            return iter(torch.split(encoded.index_select(0, order), sizes))
    return repeat(None)


def _select(value: Any, share: Share, size: int) -> Any:
    """Return rows of a source, which may be a list of whatever the rows hold."""
    if isinstance(value, list | tuple) and len(value) == size:
        return [value[row] for row in share.host.tolist()]
    return value[share.host.numpy()] if isinstance(value, np.ndarray) else select_rows(value, share.rows, size)


def _value(given: Given, encoded: Any, batch: Mapping[str, Any]) -> Any:
    if not given.is_encoded:
        return batch[given.name]
    return encoded[given.name] if isinstance(encoded, Mapping) else encoded


def _call(component: Component, module: Callable[..., Any], values: dict[str, Any], quick: bool) -> Any:
    try:
        if quick and len(values) == 1 and component.first in values:
            return quick_call(module, values[component.first])
        by_position = []
        for name in component.positions:
            if name not in values:
                break
            by_position.append(values.pop(name))
        return module(*by_position, **values)
    except Exception as error:
        path = component.path
        error.add_note(ModelNote(f"in {component.label}", path, path[:2]))
        raise
