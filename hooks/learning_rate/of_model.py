"""The learning rate of a model."""

from __future__ import annotations

from emloop_mtl.errors import ConfigError
from emloop_mtl.models.abstract_model import AbstractModel
from emloop_mtl.optim.learning_rate import LearningRate


def learning_rate_of(model: AbstractModel, hook: str) -> LearningRate:
    """Return the model's learning rate.

    :param hook: name of the hook that wants to configure it
    :raise ConfigError: if the model has none
    """
    learning_rate = getattr(model, "learning_rate", None)
    if not isinstance(learning_rate, LearningRate):
        raise ConfigError(f"{hook} needs a model with a LearningRate 'learning_rate'; {type(model).__name__} has none")
    return learning_rate
