"""Which heads learn."""

from __future__ import annotations

import logging
from collections.abc import Container

from torch import nn

_LOGGER = logging.getLogger(__name__)


class LearningHeads(dict[str, bool | None]):
    """Head -> whether it has had a loss with a gradient, None where it has had no loss; of heads that are trained."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def warn(self, network: nn.ModuleDict, known: Container[str]) -> None:
        """Warn, once, of each head that is trained but has learnt nothing so far.

        :param network: the modules by name
        :param known: the heads that there are
        """
        for name, learns in self.items():
            if learns or name in self._told or name not in known:
                continue
            if learns is None:
                text = "is trained on batches that hold no labels for it, or under another name, and learns nothing so"
                text = f"{text} far; see arg_name_mapping.{name}"
            elif any(parameter.requires_grad for parameter in network[name].parameters()):
                text = (
                    "returns a 'loss' without a gradient, as of a tensor that was detached, and learns nothing so far"
                )
            else:
                continue
            self._told.add(name)
            _LOGGER.warning("head %r %s", name, text)
