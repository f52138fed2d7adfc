"""What the arguments of a loader may be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from sys import maxsize
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from .task_loader import TaskLoader


def check_loader(loader: TaskLoader) -> None:
    """Check the arguments that a loader was made with.

    :raise ConfigError: naming the loader, for one that is out of range
    """
    where = f"loader {loader.name!r}"
    for key, text in {"name": loader.name, "split": loader.split}.items():
        if not isinstance(text, str):
            raise ConfigError(f"{where}: {key} must be a word, not {text!r}", (key,))
    for key, given in {"batch_size": loader.batch_size, "n_batches": loader.n_batches, "seed": loader.seed}.items():
        if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
            raise ConfigError(f"{where}: {key} must be a whole number, not {given!r}", (key,))
    if loader.batch_size is None and loader.has_rows:
        text = "batch_size may be None only for an iterable dataset that yields whole batches"
        raise ConfigError(f"{where}: {text}", ("batch_size",))
    if loader.batch_size is not None and loader.batch_size < 1:
        raise ConfigError(f"{where}: batch_size {loader.batch_size} is less than 1", ("batch_size",))
    if loader.batch_size is not None and loader.batch_size > maxsize:
        text = f"batch_size {loader.batch_size} is more than a dataset can hold"
        raise ConfigError(f"{where}: {text}", ("batch_size",))
    if loader.n_batches is not None and loader.n_batches < 0:
        text = f"n_batches {loader.n_batches} is less than 0 (0 or None takes all batches)"
        raise ConfigError(f"{where}: {text}", ("n_batches",))
    number: object = loader.num_workers
    if number != "auto" and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
        text = f"num_workers {number!r} is neither a number of processes, 0 or more, nor 'auto'"
        raise ConfigError(f"{where}: {text}", ("num_workers",))
    if loader.has_rows and not hasattr(loader.dataset, "__len__"):
        raise ConfigError(f"{where}: {type(loader.dataset).__name__} has no __len__; make it an IterableDataset")
    if not loader.has_rows:
        if not isinstance(loader.dataset, Iterable) or isinstance(loader.dataset, Iterator):
            raise ConfigError(
                f"{where}: a {type(loader.dataset).__name__} cannot be read in every pass; give a dataset with "
                f"__len__ and __getitem__, or one whose __iter__ begins anew each time"
            )
        if loader.shuffle:
            raise ConfigError(f"{where}: an iterable dataset cannot be shuffled; set shuffle: false")
        if loader.drop_last and loader.batch_size is None:
            raise ConfigError(f"{where}: drop_last needs a batch_size")
