"""A head of a model with a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..tasks.metrics import Metric, find_metric
from ..tasks.scorer import Scorer


class Head:
    """A module on a backbone, with what a task says beside its flow.

    The module returns the output that ``loss`` compares with the label, or a mapping. A mapping with a ``loss`` of its
    own needs no ``loss`` here; its ``probs``, or the softmax of its ``logits``, are the probabilities.

    :param module: the module
    :param label: the source of the labels where a loader names no other; by default the head's name, None for a module
        that computes its own loss
    :param loss: as of a ``Task``, by name or a function ``f(outputs, label)``, where the module computes none
    :param output: as of a ``Task``
    :param scorer: the metrics, if they are more than names
    :param missing_label: the number, or nan, that marks a row without a label; a module that computes its own loss sees
        such rows, and has to leave them out itself
    :param metrics: names of metrics, mappings of ``class`` to such a name and of its options to values, or functions
        ``f(golds, probs, preds)``
    :param num_classes: the number of classes; read off the module where that is a linear layer
    :param outputs: keys of the mapping that are returned as ``<head>/<key>`` where somebody reads them
    :param tokens: as of a ``Task``, for a head that has a label for each token of sequences
    :param require_prob_for_eval: as of a ``Task``
    :param require_pred_for_eval: as of a ``Task``
    :param device: where the module is, if not on the model's device; -1 is the CPU
    :raise ConfigError: for something that is no module

    .. code-block:: yaml

        heads:
          digit: {module: {class: torch.nn.Linear, in_features: 64, out_features: 10}, loss: cross_entropy}
    """

    config_names: ClassVar[Mapping[str, Callable[..., Callable[..., Metric]]]] = {"metrics": find_metric}
    """Arguments whose objects the config may call by short names."""

    def __init__(
        self,
        module: nn.Module,
        label: str | None = None,
        loss: str | nn.Module | Callable[..., Tensor] | None = None,
        output: str | Callable[[Mapping[str, Any]], Tensor] | None = None,
        scorer: Scorer | None = None,
        missing_label: float | Literal["nan"] | None = None,
        metrics: Sequence[str | Callable[..., Any] | Metric | Mapping[str, Any]] | None = None,
        num_classes: int | None = None,
        outputs: Sequence[str] = (),
        tokens: str | None = None,
        require_prob_for_eval: bool = True,
        require_pred_for_eval: bool = True,
        device: int | str | torch.device | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise ConfigError(f"a head's module must be an nn.Module, not {module!r}", ("module",))
        if isinstance(outputs, str) or not all(isinstance(key, str) and "/" not in key for key in outputs):
            raise ConfigError(f"outputs must be a list of names without '/', not {outputs!r}", ("outputs",))
        self.module = module
        self.label = label
        self.loss = loss
        self.output = output
        self.scorer = scorer
        self.missing_label = missing_label
        self.metrics = metrics
        self.num_classes = num_classes
        self.outputs = tuple(outputs)
        self.tokens = tokens
        self.require_prob_for_eval = require_prob_for_eval
        self.require_pred_for_eval = require_pred_for_eval
        self.device = device
