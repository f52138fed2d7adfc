"""Log where the time of every epoch goes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.types import EpochNumber, TimeProfile

log = logging.getLogger(__name__)

LEAST_SHARE = 0.001
"""A hook that takes less of the time is not named."""


class LogProfile(AbstractHook):
    """Log where the time of every epoch goes: waiting for data, the model on each stream, and the hooks by name.

    The lines read ``epoch 3  time 41.2 s  waiting for data 1.03 s (2.5 %)  train 36.1 s (87.6 %)  valid 2.9 s (7.0 %)
    hooks 1.17 s (2.8 %)`` and ``epoch 3  hooks  ScoreTasks 0.61 s (1.5 %)  ShowProgress 0.2 s (0.5 %)``. Shares are of
    the sum of all that is measured. Where checkpoints were saved since the line before, ``saving`` is their time. On a
    device that works on its own the model's time is that of handing it the work; whoever reads a number from it waits
    for the rest. The times of single hooks are estimated from some of the batches, one in 17; hooks with less than a
    thousandth are left out.

    .. code-block:: yaml

        hooks:
          - LogProfile
    """

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def after_epoch_profile(self, epoch_id: int, profile: TimeProfile, streams: list[str]) -> None:
        """Log the times."""
        waiting = sum(_total(profile, f"read_batch_{stream}") for stream in streams)
        model = {stream: _total(profile, f"eval_batch_{stream}") for stream in streams}
        hooks = sum(_total(profile, f"after_batch_hooks_{stream}") for stream in streams)
        hooks += _total(profile, "after_epoch_hooks") + self.main_loop.hooks.times.before_epoch
        total = waiting + sum(model.values()) + hooks
        parts = {"waiting for data": waiting, **model, "hooks": hooks}
        log.info("epoch %i  time %.3g s  %s", epoch_id, total, _shown(parts, total))
        times = self.main_loop.hooks.times.seconds()
        named = {name: times[name] for name in sorted(times, key=lambda name: -times[name])}
        text = _shown({name: seconds for name, seconds in named.items() if seconds >= LEAST_SHARE * total}, total)
        if text:
            log.info("epoch %i  hooks  %s", epoch_id, text)


def _total(profile: TimeProfile, activity: str) -> float:
    return sum(profile.get(activity, ()))


def _shown(parts: Mapping[str, float], total: float) -> str:
    return "  ".join(
        f"{name} {seconds:.3g} s ({100 * seconds / total if total else 0:.1f} %)" for name, seconds in parts.items()
    )
