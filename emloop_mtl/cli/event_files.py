"""Reading the scalars that TensorBoard shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

NAME = "events.out.tfevents"
"""What TensorBoard finds event files by."""

HEADER = 12
"""Bytes before each record: its length in 8, and a sum of that in 4."""

FOOTER = 4
"""Bytes after each record: its sum."""


def is_event_file(path: Path) -> bool:
    """Whether TensorBoard would read a file."""
    return NAME in path.name and path.is_file()


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return tag -> step and value of each scalar, in the order in which the event files of a folder hold them."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    files = sorted(path for path in folder.iterdir() if is_event_file(path)) if folder.is_dir() else []
    for file in files:
        for record in _records(file):
            event = Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def _records(file: Path) -> Iterator[bytes]:
    """Yield the records of an event file; one that was cut short ends it."""
    content = file.read_bytes()
    begin = 0
    while begin + HEADER <= len(content):
        length = int.from_bytes(content[begin : begin + 8], "little")
        record = content[begin + HEADER : begin + HEADER + length]
        if len(record) < length:
            return
        yield record
        begin += HEADER + length + FOOTER
