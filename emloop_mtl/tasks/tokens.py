"""Labels of the tokens of sequences."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..constants import MASK_SUFFIX
from ..errors import DataError
from .label_check import LabelCheck, as_tensor

IGNORED = -100
"""What torch's losses leave out; it stands where a token has no label, unless the task names another number."""


class Tokens:
    """The tokens of sequences, each of which has a label of its own.

    A task of tokens tells of a batch with ``n`` sequences, the longest of which has ``l`` tokens, as of ``n * l`` rows,
    sequence after sequence. Those that are padding, or have no label, count nowhere.

    :param source: the source of the sequences, [n, l, ...]
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.mask = source + MASK_SUFFIX
        """The source that is True where a sequence is padded, where there is one."""

    def labelled(
        self, check: LabelCheck, batch: MutableMapping[str, Any], label: str, rows: Tensor | None = None
    ) -> Tensor:
        """Return the int64 indices of the labelled tokens, counted through all sequences and their padding.

        :param check: the rules that labels follow
        :param batch: the labels, the sequences and their masks, on the host; labels of some rows alone are padded to
            the length of the sequences
        :param label: the source of the labels, [n, l, ...]
        :param rows: int64 indices of the sequences that the task is about; None for all
        :raise DataError: for labels that do not fit the tokens, that can neither be used nor are marked as missing
        """
        values = as_tensor(batch[label])
        if rows is not None and values.dim() > 1:
            values = self._widened(batch, label, values)
        is_token = ~self._padding(batch, label, values, rows)
        if rows is not None:
            about = is_token.new_zeros(len(is_token)).index_fill_(0, rows.to(is_token.device), True)
            is_token &= about[:, None]
        places = is_token.flatten().nonzero().squeeze(1)
        width = values.shape[1]
        found = check(values.flatten(0, 1)[places], lambda token: _name(int(places[token]), width))
        return places if found is None else places[found]

    def pairs(
        self, outputs: Mapping[str, Any], last: str, label: Tensor, rows: Tensor | None
    ) -> tuple[Mapping[str, Any], Tensor]:
        """Return the output of the last action, under its name, and the labels, both token by token.

        :param outputs: the outputs of a flow by the names of its actions
        :param last: the last action, whose output is [n, l, ...]
        :param label: the labels, [n, l, ...]
        :param rows: int64 indices of the tokens to keep; None for all
        :raise DataError: if there is not something for every token
        """
        output = outputs[last]
        if isinstance(output, Tensor):
            if output.dim() < 2 or output.shape[:2] != label.shape[:2]:
                wanted = f"{label.shape[0]} sequences of {label.shape[1]} tokens, padding included"
                raise DataError(f"output of shape {tuple(output.shape)} does not begin with the dimensions of {wanted}")
            output = select_tokens(output, rows)
        return {last: output}, select_tokens(label, rows)

    @staticmethod
    def marked(label: Tensor, rows: Tensor | None, missing: float | None) -> Tensor:
        """Return labels that mark what has none, padding included, by ``missing``; by -100 or nan if that is None.

        :param label: [n, l, ...]
        :param rows: int64 indices of the labelled tokens; None for all
        """
        if rows is None:
            return label
        flat = label.flatten(0, 1)
        flat = flat.long() if flat.dtype in (torch.bool, torch.uint8) else flat
        if not flat.is_floating_point():
            mark: float = IGNORED if missing is None or math.isnan(missing) else int(missing)
        else:
            mark = math.nan if missing is None else missing
        places = rows.to(flat.device, non_blocking=True)
        return torch.full_like(flat, mark).index_copy(0, places, flat.index_select(0, places)).view(label.shape)

    def _widened(self, batch: MutableMapping[str, Any], label: str, values: Tensor) -> Tensor:
        """Return labels padded to the length of the sequences, of which the longest may be a row without labels."""
        tokens, own = _sequences(batch[self.source], self.source), batch.get(label + MASK_SUFFIX)
        missing = tokens.shape[1] - values.shape[1] if tokens.dim() > 1 else 0
        if own is None or missing <= 0:
            return values
        shape = (len(values), missing)
        batch[label] = values = torch.cat([values, values.new_zeros((*shape, *values.shape[2:]))], 1)
        batch[label + MASK_SUFFIX] = torch.cat([own, own.new_ones(shape)], 1)
        return values

    def _padding(self, batch: Mapping[str, Any], label: str, values: Tensor, rows: Tensor | None) -> Tensor:
        """Return where the sequences are padded, [n, l]; labels of ``rows`` must be padded at the same places."""
        tokens = _sequences(batch[self.source], self.source)
        for name, value in ((self.source, tokens), (label, values)):
            if value.dim() < 2:
                text = f"source {name!r} holds no sequences, it has the shape {tuple(value.shape)}"
                raise DataError(f"{text}; a task of tokens needs a label for each token")
        masks = [
            torch.zeros(value.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
            for value, mask in ((tokens, batch.get(self.mask)), (values, batch.get(label + MASK_SUFFIX)))
        ]
        # Labels without a mask are what they are; what stands where sequences are padded means nothing.
        same = masks[0].shape == masks[1].shape
        compared = masks if rows is None or not same else [mask[rows.cpu()] for mask in masks]
        if not same or (label + MASK_SUFFIX in batch and not torch.equal(*compared)):
            self._refuse(label, masks[0], masks[1], rows)
        return masks[0].to(values.device)

    def _refuse(self, label: str, of_tokens: Tensor, of_labels: Tensor, rows: Tensor | None) -> NoReturn:
        if len(of_tokens) != len(of_labels):
            text = f"there are {len(of_labels)} sequences of labels for {len(of_tokens)} sequences of {self.source!r}"
            raise DataError(text)
        lengths = (~of_tokens).sum(1), (~of_labels).sum(1)
        about = torch.arange(len(of_tokens)) if rows is None else rows.cpu()
        odd = about[lengths[0][about] != lengths[1][about]]
        if not len(odd):
            raise DataError(f"sequences of {self.source!r} and their labels are padded at different places")
        row = int(odd[0])
        raise DataError(length_mismatch(row, self.source, int(lengths[0][row]), label, int(lengths[1][row])))


def length_mismatch(row: int, tokens: str, num_tokens: int, label: str, num_labels: int) -> str:
    """Return what to say of a row with more or fewer labels than tokens."""
    return (
        f"row {row} has {num_tokens} tokens in {tokens!r}, but {num_labels} labels in {label!r}; each token needs one "
        f"(missing_label marks those that have none)"
    )


def select_tokens(value: Any, rows: Tensor | None) -> Any:
    """Return what is said about tokens, [n, l, ...], token by token; what is no tensor stays as it is.

    :param rows: int64 indices of the tokens to keep; None for all
    """
    if not isinstance(value, Tensor):
        return value
    flat = value.flatten(0, 1)
    return flat if rows is None else flat.index_select(0, rows.to(flat.device, non_blocking=True))


def _sequences(value: Any, source: str) -> Tensor:
    try:
        tokens: Tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"source {source!r} must hold sequences of numbers to be the tokens of a task") from error
    return tokens


def _name(place: int, width: int) -> str:
    return f"row {place // width}, token {place % width},"
