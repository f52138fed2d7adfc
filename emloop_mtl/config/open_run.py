"""Makes the model of a run again, with the weights it has learnt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint, list_checkpoints, load_checkpoint
from ..constants import CHECKPOINT_FOLDER, CONFIG_FILE
from ..errors import CheckpointError, ConfigError
from ..utils.random import get_random_state, set_random_state
from .create import create_model
from .load import load_config
from .recorded_run import RecordedRun
from .reflect import own_modules_first
from .trust_policy import TrustPolicy

EXPORTED = ".safetensors"
"""The suffix of the weights that a model's ``save`` writes."""


def open_run(path: str | os.PathLike[str], dataset: Any = None, trust: bool = False, device: str | None = None) -> Any:
    """Return the model of a run, built from its config, with the weights it has learnt.

    Global random generators are left as they were.

    :param path: the folder of the run, whose best weights are taken if it has kept them, else its latest; the folder of
        one checkpoint in it; or a file in it that the model's ``save`` has written
    :param dataset: handed over if the model's constructor names it
    :param trust: build whatever the run's config names; else only what ``TrustPolicy`` lets a run folder name
    :param device: the device of the model, instead of what its config says
    :raise ConfigError: if there is no such run or it has no weights, or its config cannot be built
    :raise CheckpointError: if its weights cannot be read, or do not fit
    """
    given = Path(path)
    run = RecordedRun.existing(_folder_of(given))
    if not trust:
        run.check_links()
    config = load_config(run.config)
    checkpoint: Checkpoint | None = None
    if given == run.path:
        if not list_checkpoints(run.checkpoints):
            raise ConfigError(f"{run.path}: has no checkpoint, so there are no weights to take")
        checkpoint = run.choose_checkpoint()
    elif given.is_dir():
        checkpoint = load_checkpoint(given)
    section = config.data.get("model")
    if device is not None and isinstance(section, dict):
        config = config.replaced({**config.data, "model": {**section, "device": device}})
    policy = None if trust else TrustPolicy(run.source_folder, run.path)
    random_state = get_random_state()
    try:
        with own_modules_first():
            model = create_model(config, dataset, trust=policy, source_folder=run.source_folder, trust_runs=None)
    finally:
        set_random_state(random_state)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    elif callable(getattr(model, "load", None)):
        model.load(given)
    else:
        raise ConfigError(f"{given}: {type(model).__name__} has no method 'load' that could read it")
    return model


def load_weights(model: Any, checkpoint: Checkpoint) -> None:
    """Give a model the weights of a checkpoint.

    :raise CheckpointError: if they do not fit
    """
    try:
        model.load_state_dict(checkpoint.weights)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not fit the model: {error}") from error


def _folder_of(path: Path) -> Path:
    """Return the folder of the run that a path is of, or lies in."""
    if path.is_dir() and path.parent.name == CHECKPOINT_FOLDER and not (path / CONFIG_FILE).exists():
        return path.parent.parent
    if path.is_file() and path.suffix == EXPORTED:
        for folder in path.parents:
            if (folder / CONFIG_FILE).is_file():
                return folder
        raise ConfigError(f"{path}: lies in no folder of a run, so nothing says what model it is of")
    return path
