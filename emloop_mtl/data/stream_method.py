"""The method that provides a stream made of loaders."""

from __future__ import annotations

from .task_stream import TaskStream


class StreamMethod:
    """What ``dataset.<name>_stream`` is: called, it returns the stream."""

    deterministic = True

    def __init__(self, stream: TaskStream) -> None:
        self._stream = stream

    def __call__(self) -> TaskStream:
        return self._stream

    def info(self) -> TaskStream:
        """Return the stream for its loaders and lengths, without beginning to read."""
        return self._stream
