"""What is known of a stream before it is read."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..schedulers import AbstractTaskScheduler
from .task_stream import TaskStream


class StreamFacts(NamedTuple):
    """Steps and batches of a pass, None where they are not known, and the task scheduler if there is one."""

    num_steps: int | None
    num_batches: int | None
    scheduler: AbstractTaskScheduler | None

    @classmethod
    def of(cls, stream: Any) -> StreamFacts:
        """Return what is known of what a stream's function returned."""
        if isinstance(stream, TaskStream):
            return cls(stream.num_steps, stream.num_batches, stream.scheduler)
        if isinstance(stream, (list, tuple)):
            return cls(sum(getattr(batch, "ends_step", True) for batch in stream), len(stream), None)
        return cls(None, None, None)
