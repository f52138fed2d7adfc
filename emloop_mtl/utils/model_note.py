"""A note on an error that tells which part of a model it came from."""

from __future__ import annotations

from ..errors import KeyPath


class ModelNote(str):
    """A note, for ``error.add_note``, that knows where the faulty part may stand in a config.

    :param text: what the user reads
    :param paths: where the part may have been declared, below the model, the most likely place first
    """

    paths: tuple[KeyPath, ...]

    def __new__(cls, text: str, *paths: KeyPath) -> ModelNote:
        note = super().__new__(cls, text)
        note.paths = paths
        return note

    @staticmethod
    def on(error: BaseException | None) -> ModelNote | None:
        """Return the first such note on an error or on what has caused it; None if there is none."""
        while error is not None:
            for note in getattr(error, "__notes__", ()):
                if isinstance(note, ModelNote):
                    return note
            error = error.__cause__
        return None
