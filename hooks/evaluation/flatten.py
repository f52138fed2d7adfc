"""Make lists without nesting of batch variables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.types import EpochNumber

from ..arguments import check_names, check_streams
from .batch_variable import holds

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


class Flatten(AbstractHook):
    """Add variables to every batch that hold all entries of others in one dimension, for the hooks after it.

    A tensor or array becomes one of a single dimension, a list of tensors or arrays too; any other nested list becomes
    a list of all that is in it. Tensors stay on their device. The new variables have as many entries as there are, not
    one per sample.

    :param variables: name of a source or output -> name of the new variable
    :param streams: names of the streams whose batches get them; by default all
    :raise ConfigError: for a new name that is taken, and for a stream that does not exist

    .. code-block:: yaml

        hooks:
          - Flatten: {variables: {digit/prob: digit/flat_prob}}
          - ComputeStats: {variables: [digit/flat_prob]}
    """

    def __init__(self, variables: Mapping[str, str], streams: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(variables, Mapping) or not variables:
            text = f"variables must map names to new names, such as {{xs: xs_flat}}, not {variables!r}"
            raise ConfigError(f"{self.name}: {text}", ("variables",))
        check_names(self.name, "variables", variables)
        for old, new in variables.items():
            if not isinstance(new, str) or not new:
                raise ConfigError(f"{self.name}: the new name of {old!r} must be text, not {new!r}", ("variables", old))
            if new in variables or list(variables.values()).count(new) > 1:
                raise ConfigError(f"{self.name}: {new!r} names another variable, too", ("variables", old))
        self._variables = dict(variables)
        self._streams = None if streams is None else check_names(self.name, "streams", streams)

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the streams, and that the model gives no outputs of the new names."""
        super().register_mainloop(main_loop)
        check_streams(self, self._streams)
        for old, new in self._variables.items():
            if new in main_loop.model.output_names:
                raise ConfigError(f"{self.name}: the model has an output {new!r} already", ("variables", old))

    def requires(self) -> Collection[str | EpochNumber]:
        """Return the variables to flatten."""
        return tuple(self._variables)

    def requires_in_training(self) -> Collection[str | EpochNumber]:
        """Return the same, or nothing where batches that are trained on are left as they are."""
        takes_train = self._streams is None or self.main_loop.train_stream_name in self._streams
        return self.requires() if takes_train else ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return the new variables."""
        return tuple(self._variables.values())

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Add the new variables to a batch."""
        if self._streams is not None and stream_name not in self._streams:
            return
        for old, new in self._variables.items():
            if not holds(self, old, stream_name, batch_data):
                continue
            if new in batch_data:
                text = f"a batch of stream {stream_name!r} holds {new!r} already; choose another name"
                raise DataError(f"{self.name}: {text}")
            batch_data[new] = _flat(batch_data[old])


def _flat(value: Any) -> Any:
    """Return all entries of a value in one dimension."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.reshape(-1)
    leaves = list(_leaves(value))
    if leaves and all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        return torch.cat([leaf.reshape(-1) for leaf in leaves])
    if leaves and all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return np.concatenate([leaf.reshape(-1) for leaf in leaves])
    entries: list[Any] = []
    for leaf in leaves:
        entries.extend(leaf.reshape(-1) if isinstance(leaf, torch.Tensor | np.ndarray) else [leaf])
    return entries


def _leaves(value: Any) -> Iterator[Any]:
    """Yield what is in nested lists and tuples; text is one thing."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
