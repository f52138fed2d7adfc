"""Reading the scalars that TensorBoard shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .small_file import read_small

NAME = "events.out.tfevents"
"""What TensorBoard finds event files by."""

HEADER = 12
"""Bytes before each record: its length in 8, and a sum of that in 4."""

FOOTER = 4
"""Bytes after each record: its sum."""

MOST = 2**27
"""Bytes of a file from elsewhere that is read; two million scalars take as many."""


def is_event_file(path: Path) -> bool:
    """Whether TensorBoard would read a file."""
    return NAME in path.name and path.is_file()


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return tag -> step and value of each scalar, in the order in which the event files of a folder hold them."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    files = sorted(path for path in folder.iterdir() if is_event_file(path)) if folder.is_dir() else []
    for file in files:
        for record in _records(file.read_bytes()):
            event = Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def numbers_of(folder: Path) -> dict[str, dict[int, float]]:
    """Return tag -> step -> value of each number, in a folder that may come from anybody; what was written last counts.

    :raise ValueError: if a file cannot be read
    """
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for file in sorted(path for path in folder.iterdir() if is_event_file(path)) if folder.is_dir() else ():
        try:
            for record in _records(read_small(file, MOST) or b""):
                event = Event.FromString(record)
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        found.setdefault(value.tag, {})[event.step] = value.simple_value
        except DecodeError as error:
            raise ValueError(f"{file.name} is no file of TensorBoard's") from error
        except ValueError as error:
            raise ValueError(f"{file.name} {error}") from error
    return found


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the records of an event file; one that was cut short ends it."""
    begin = 0
    while begin + HEADER <= len(content):
        length = int.from_bytes(content[begin : begin + 8], "little")
        record = content[begin + HEADER : begin + HEADER + length]
        if len(record) < length:
            return
        yield record
        begin += HEADER + length + FOOTER
