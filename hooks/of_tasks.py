"""The model of a hook that works on tasks."""

from __future__ import annotations

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.models.multi_task_model import MultiTaskModel


def multi_task_model_of(hook: AbstractHook) -> MultiTaskModel:
    """Return the model that a hook is registered with.

    :raise ConfigError: if it consists of no tasks
    """
    model = hook.main_loop.model
    if not isinstance(model, MultiTaskModel):
        raise ConfigError(f"{hook.name} needs a model that consists of tasks, which {type(model).__name__} does not")
    return model
