"""Evaluate streams after training epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError

from ..arguments import check_count, check_names, check_streams

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class Evaluate(AbstractHook):
    """Evaluate streams in the zeroth epoch and at the end of every n-th training epoch.

    :param streams: names of the streams to evaluate, in order
    :param every: evaluate in every n-th epoch, epoch numbers being multiples of it
    :param zeroth: whether to evaluate in the zeroth epoch, before anything has been trained
    :raise ConfigError: if a stream does not exist, lacks a source that the model needs, or is the one trained on

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid], every: 2}
    """

    training_only = True

    def __init__(self, streams: Sequence[str], every: int = 1, zeroth: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.streams = check_names(self.name, "streams", streams)
        self._every = check_count(self.name, "every", every)
        self._zeroth = zeroth

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check the streams."""
        super().register_mainloop(main_loop)
        train = main_loop.train_stream_name
        if train in self.streams:
            raise ConfigError(
                f"{self.name}: the stream {train!r} is the one that is trained on; to evaluate its data after each "
                f"epoch give them a second stream: dataset.streams.{train}_eval.splits: [{train}]",
                ("streams", self.streams.index(train)),
            )
        check_streams(self, self.streams)

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Add the streams to those that are evaluated."""
        if epoch_id % self._every == 0 and (epoch_id > 0 or self._zeroth):
            eval_streams.extend(self.streams)


def evaluated_streams(main_loop: MainLoop) -> set[str]:
    """Return the names of all streams that ``extra_streams`` or an ``Evaluate`` lists."""
    listed = [hook.streams for hook in main_loop.hooks if isinstance(hook, Evaluate)]
    return {*main_loop.extra_streams, *(name for streams in listed for name in streams)}
