"""How often a hook acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


def ends_nth_step(main_loop: MainLoop, batch: Batch, every: int | None) -> bool:
    """Return whether a batch ends a training step whose number is a multiple of ``every``.

    :param batch: the batch of the event
    :param every: a number of steps; None for never
    """
    if every is None or not batch.ends_step or not main_loop.is_training:
        return False
    return main_loop.position.step % every == 0
