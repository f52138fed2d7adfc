"""Scores the weights of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint
from ..config.config import Config
from ..config.create import Training, create_training
from ..config.evaluation import checked_overrides, evaluation_config
from ..config.load import load_config
from ..config.open_run import load_weights
from ..constants import RUN_FILE, SCORES_FILE
from ..errors import ConfigError
from ..types import EpochData
from .building import building, running
from .end_scores import EndScores
from .reporting import SIGNAL_BASE
from .run_folder import RunFolder
from .tables import print_scores

log = logging.getLogger(__name__)

CONFIG_SUFFIXES = (".yaml", ".yml")
"""What tells a config from other files."""


def evaluate_run(
    run_dir: Path, stream: str, overrides: Sequence[str], tag: str | None, output_dir: Path | None, trust: bool
) -> None:
    """Score a stream with the weights of a run and print the table."""
    config, checkpoint, options = open_evaluated(run_dir, overrides, tag, trust)
    scores: EpochData = {}
    _score(config, [stream], checkpoint, {**options, "output_dir": output_dir}, scores.__setitem__)
    print_scores(f"Scores of {run_dir if checkpoint is None else describe_weights(checkpoint)}", scores)


def open_evaluated(
    path: Path, overrides: Sequence[str], tag: str | None, trust: bool
) -> tuple[Config, Checkpoint | None, dict[str, Any]]:
    """Return the config of what is evaluated, its weights, and what ``create_training`` has to be told.

    :param path: the folder of a run; or the config of a model that is made of trained ones, which has no weights itself
    :raise ConfigError: if it is neither
    """
    if path.is_file() and path.suffix in CONFIG_SUFFIXES:
        if tag is not None:
            raise ConfigError(f"--checkpoint {tag}: {path} is a config, and only runs have checkpoints")
        if (path.parent / RUN_FILE).is_file():  # which may come from elsewhere, and is not trusted as a config is
            raise ConfigError(f"{path}: is the config of a run; give the folder of the run, {path.parent}")
        return load_config(path, overrides), None, {"trust_runs": trust}
    folder = RunFolder.existing(path)
    if not trust:
        folder.check_links()
    config = load_config(folder.config, overrides)
    options = {"trusted_only": not trust, "source_folder": folder.source_folder, "trust_runs": trust}
    return config, folder.choose_checkpoint(tag), options


def evaluate_at_end(config: Config, folder: RunFolder, options: Mapping[str, Any]) -> None:
    """Score all streams that the section ``eval`` lists and print one table; hooks write into the run's folder.

    Streams that have been scored before, with the same weights, are not evaluated again.

    :param options: what ``create_training`` takes beside a config and a folder
    """
    streams = list(checked_overrides(config))
    checkpoint = folder.choose_checkpoint()
    scores = EndScores(folder.path / SCORES_FILE, checkpoint)
    _score(config, scores.missing(streams), checkpoint, {**options, "output_dir": folder.path}, scores.add)
    print_scores(f"Scores of {describe_weights(checkpoint)}", scores.of(streams))


def check_evaluations(training: Training) -> None:
    """Check, before a training, that the streams exist that the section ``eval`` lists.

    :raise ConfigError: with the place of one that does not
    """
    for stream, overrides in checked_overrides(training.config).items():
        if "dataset" not in (overrides or {}):
            try:
                training.main_loop.check_stream(stream)
            except ConfigError as error:
                raise ConfigError(str(error), ("eval", stream)) from error


def describe_weights(checkpoint: Checkpoint) -> str:
    """Return what the weights are called, and how far they were trained."""
    position = checkpoint.position
    return f"the weights {checkpoint.tag!r} (epoch {position.epoch}, step {position.step})"


def _score(
    config: Config,
    streams: Sequence[str],
    checkpoint: Checkpoint | None,
    options: Mapping[str, Any],
    keep: Callable[[str, dict[str, Any]], None],
) -> None:
    """Evaluate streams one after the other.

    :param keep: called with each stream and its scores, once they are there
    """
    training: Training | None = None
    data: Mapping[str, Any] | None = None
    for stream in streams:
        with config.located():
            evaluated = evaluation_config(config, stream)
            lists_hooks = "hooks" in (checked_overrides(config).get(stream) or {})
        if training is None or evaluated.data != data:  # streams that are evaluated alike share what was built
            with building(evaluated):
                training = create_training(evaluated, for_training=lists_hooks, **options)
            data = evaluated.data
            give_weights(training, checkpoint)
        run_stream(training, stream, checkpoint)
        keep(stream, dict(training.main_loop.epoch_data.get(stream, {})))


def give_weights(training: Training, checkpoint: Checkpoint | None) -> None:
    """Load the weights that are evaluated.

    :param checkpoint: None for a model that consists of trained ones
    :raise ConfigError: if the model has to be trained first
    :raise CheckpointError: if they do not fit
    """
    if checkpoint is not None:
        load_weights(training.model, checkpoint)
    elif training.model.can_be_trained:
        kind = type(training.model).__name__
        text = f"{kind} has no weights before it is trained; give the folder of its run instead of a config"
        with training.config.located():
            raise ConfigError(text, ("model", "class"))


def run_stream(training: Training, stream: str, checkpoint: Checkpoint | None) -> None:
    """Evaluate a stream with weights that are loaded already.

    :param checkpoint: where the weights come from
    :raise SystemExit: if a signal interrupts it
    """
    main_loop = training.main_loop
    main_loop.check_stream(stream)
    with running(training.config, lambda: not main_loop.has_begun):
        main_loop.run_evaluation(stream, None if checkpoint is None else checkpoint.position)
    if main_loop.interrupted_by is not None and main_loop.end == "interrupted":
        raise SystemExit(SIGNAL_BASE + main_loop.interrupted_by)
