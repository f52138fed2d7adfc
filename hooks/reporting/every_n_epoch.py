"""Act after every n-th epoch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.types import EpochData

from ..arguments import check_count, check_overridden


class EveryNEpoch(AbstractHook):
    """Base of hooks that act after every n-th epoch.

    ``_after_n_epoch(epoch_id=..., epoch_data=...)`` is called after the epochs whose numbers are multiples of
    ``every``; the zeroth counts. An epoch that ``TrainingTerminated`` or a signal cuts short is none.

    :param every: call it after every n-th epoch
    :raise ConfigError: if ``every`` is not positive, or ``_after_n_epoch`` is not overridden

    .. code-block:: python

        # greetings.py
        from emloop_mtl.hooks import EveryNEpoch

        class Greet(EveryNEpoch):
            def _after_n_epoch(self, epoch_id, epoch_data):
                print(f"epoch {epoch_id} is done")

    .. code-block:: yaml

        hooks:
          - greetings.Greet: {every: 5}
    """

    renamed: ClassVar[Mapping[str, str]] = {"n_epochs": "every"}

    def __init__(self, every: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_overridden(self, EveryNEpoch, "_after_n_epoch")
        self._every = check_count(self.name, "every", every)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Act if the epoch is an n-th one."""
        if epoch_id % self._every == 0:
            self._after_n_epoch(epoch_id=epoch_id, epoch_data=epoch_data)

    @abstractmethod
    def _after_n_epoch(self, **kwargs: Any) -> None:
        """Act: to be overridden.

        :param kwargs: ``epoch_id`` and ``epoch_data``
        """
