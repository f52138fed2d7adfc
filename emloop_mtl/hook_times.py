"""Which hooks the time of an epoch goes to."""

from __future__ import annotations

from collections.abc import Sequence

EVERY = 17
"""One of so many batches is timed. A prime number, so that what a hook does after every 128th batch, say, does not
always, or never, fall on a batch that is timed."""


class HookTimes:
    """The seconds that each hook has taken in an epoch, estimated from some of its batches.

    The first batch of a stream is timed and counts once, since hooks prepare themselves there; of the others the
    second is timed, and then one of ``EVERY``. These stand for the rest. Between them a batch costs no look at a clock.

    :param names: the hooks that act after batches, in order
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self.begin()

    def begin(self) -> None:
        """Begin an epoch."""
        self.stream: str | None = None
        """The stream of the last batch that was timed."""
        self.left = 0
        """How many batches of that stream are still to come that are not timed; whoever hands out batches counts."""
        self.before_epoch = 0.0
        """The seconds that all hooks have taken before the epoch, which are part of no profile."""
        self._planned = 0
        self._walks: dict[str, _Walk] = {}
        self._seconds: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        """Take in what a hook has taken at an event that is always timed."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def add_batch(self, stream: str, seconds: Sequence[float]) -> None:
        """Take in what each hook has taken after a batch that was timed, and plan when the next one is.

        :param stream: where the batch comes from
        :param seconds: in the order of the hooks
        """
        self._count_untimed()
        walk = self._walks.get(stream)
        if walk is None:
            self._walks[stream] = _Walk(seconds)
            self._planned = 0
        else:
            walk.sampled = [total + new for total, new in zip(walk.sampled, seconds, strict=True)]
            walk.samples += 1
            walk.batches += 1
            self._planned = EVERY - 1
        self.stream, self.left = stream, self._planned

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each hook that has acted in the epoch so far, by its name."""
        self._count_untimed()
        found = dict(self._seconds)
        for walk in self._walks.values():
            scale = walk.batches / walk.samples if walk.samples else 0.0
            for name, first, sampled in zip(self._names, walk.first, walk.sampled, strict=True):
                found[name] = found.get(name, 0.0) + first + sampled * scale
        return found

    def _count_untimed(self) -> None:
        if self.stream is not None:
            self._walks[self.stream].batches += self._planned - self.left
            self._planned = self.left


class _Walk:
    """What is known of the batches of one stream."""

    def __init__(self, first: Sequence[float]) -> None:
        self.first = list(first)
        self.sampled = [0.0] * len(self.first)
        """Sums over the timed batches after the first."""
        self.samples = 0
        """How many these are."""
        self.batches = 0
        """How many they stand for."""
