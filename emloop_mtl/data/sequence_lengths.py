"""How long sequences may be in a batch."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import ConfigError


class SequenceLengths(NamedTuple):
    """Bounds of the length that ragged sources have in a batch.

    :param least: shorter batches are padded to this
    :param most: longer sequences are cut to this, at their end; 0 for no bound
    """

    least: int = 0
    most: int = 0

    @classmethod
    def of(cls, min_data_len: int, max_data_len: int, owner: str) -> SequenceLengths:
        """Return the bounds that two settings name.

        :param owner: whose settings they are, for messages
        :raise ConfigError: for what is no length, and for a least that is more than the most
        """
        for key, value in {"min_data_len": min_data_len, "max_data_len": max_data_len}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{owner}: {key} must be a whole number, 0 or more, not {value!r}", (key,))
        if 0 < max_data_len < min_data_len:
            text = f"min_data_len {min_data_len} is more than max_data_len {max_data_len}"
            raise ConfigError(f"{owner}: {text} (0 sets no bound)", ("min_data_len",))
        return cls(min_data_len, max_data_len)

    def width(self, longest: int) -> int:
        """Return the length that a batch has whose longest sequence is ``longest``."""
        return max(self.least, min(longest, self.most) if self.most else longest)
