"""The outputs of layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, nearest
from ..tasks.nested import map_tensors
from .component import BACKBONE


class Activations:
    """Takes up what layers of a backbone return, without their gradients, while it is run.

    Nothing is watched while nobody asks for it.

    :param backbone: the backbone
    :param layers: names of modules in it; None for what it returns itself: the entries of a mapping, or one value
    :raise ConfigError: for a layer that there is not
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[str] | None = None) -> None:
        known = dict(backbone.named_modules())
        known.pop("")
        if layers is not None and (isinstance(layers, str) or not isinstance(layers, Sequence)):
            raise ConfigError(f"activations must be a list of names of layers, not {layers!r}", ("activations",))
        for index, name in enumerate(layers or ()):
            if name not in known:
                text = f"the backbone has no layer {name!r}{nearest(str(name), known)}"
                raise ConfigError(text, ("activations", index))
        self._watched = {BACKBONE: backbone} if layers is None else {name: known[name] for name in layers}
        self._is_whole = layers is None

    @contextmanager
    def taken(self) -> Iterator[dict[str, Any]]:
        """A context that gives the outputs by layer of what is run in it."""
        found: dict[str, Any] = {}

        def take(name: str, told: Any) -> None:
            value = map_tensors(told, Tensor.detach)
            found.update(value if self._is_whole and isinstance(value, Mapping) else {name: value})

        handles = [
            module.register_forward_hook(lambda _module, _args, told, name=name: take(name, told))
            for name, module in self._watched.items()
        ]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()
