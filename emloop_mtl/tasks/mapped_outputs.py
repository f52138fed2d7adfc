"""The outputs of a flow in another form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from .nested import map_tensors


class MappedOutputs(Mapping[str, Any]):
    """The outputs of a flow with a function applied to their tensors; what nobody looks at costs nothing."""

    def __init__(self, outputs: Mapping[str, Any], function: Callable[[Tensor], Tensor]) -> None:
        self._outputs = outputs
        self._function = function
        self._mapped: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._mapped:
            self._mapped[name] = map_tensors(self._outputs[name], self._function)
        return self._mapped[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)
