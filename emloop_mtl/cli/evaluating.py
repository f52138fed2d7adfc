"""Scores the weights of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint, list_checkpoints, newest_checkpoint
from ..config.config import Config
from ..config.create import Training, create_training
from ..config.evaluation import checked_overrides, evaluation_config
from ..config.load import load_config
from ..constants import SCORES_FILE
from ..errors import CheckpointError, ConfigError, nearest
from ..types import EpochData
from .building import building, running
from .end_scores import EndScores
from .reporting import SIGNAL_BASE
from .run_folder import RunFolder
from .tables import print_scores

log = logging.getLogger(__name__)

PREFERRED = ("best", "latest")
"""Whose weights are scored: the first of these that is there."""


def evaluate_run(
    run_dir: Path, stream: str, overrides: Sequence[str], tag: str | None, output_dir: Path | None, trust: bool
) -> None:
    """Score a stream with the weights of a run and print the table."""
    folder = RunFolder.existing(run_dir)
    if not trust:
        folder.check_links()
    config = load_config(folder.config, overrides)
    checkpoint = choose_checkpoint(folder, tag)
    options = {"output_dir": output_dir, "trusted_only": not trust, "source_folder": folder.source_folder}
    scores: EpochData = {}
    _score(config, [stream], checkpoint, options, scores.__setitem__)
    print_scores(f"Scores of {describe_weights(checkpoint)}", scores)


def evaluate_at_end(config: Config, folder: RunFolder, options: Mapping[str, Any]) -> None:
    """Score all streams that the section ``eval`` lists and print one table; hooks write into the run's folder.

    Streams that have been scored before, with the same weights, are not evaluated again.

    :param options: what ``create_training`` takes beside a config and a folder
    """
    streams = list(checked_overrides(config))
    checkpoint = choose_checkpoint(folder)
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


def choose_checkpoint(folder: RunFolder, tag: str | None = None) -> Checkpoint:
    """Return the checkpoint whose weights are taken.

    :param tag: its tag; None for the best if there is one, else the latest
    :raise ConfigError: if there is none of this tag
    :raise CheckpointError: if there is none at all, or none can be read
    """
    if tag is None:
        tag = next((tag for tag in PREFERRED if list_checkpoints(folder.checkpoints, tag)), None)
    elif not list_checkpoints(folder.checkpoints, tag):
        tags = {path.name.rpartition("-")[0] for path in list_checkpoints(folder.checkpoints)}
        raise ConfigError(f"{folder.path}: has no checkpoint {tag!r}{nearest(tag, tags)}")
    return newest_checkpoint(folder.checkpoints, tag)


def describe_weights(checkpoint: Checkpoint) -> str:
    """Return what the weights are called, and how far they were trained."""
    position = checkpoint.position
    return f"the weights {checkpoint.tag!r} (epoch {position.epoch}, step {position.step})"


def _score(
    config: Config,
    streams: Sequence[str],
    checkpoint: Checkpoint,
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
            load_weights(training.model, checkpoint)
        run_stream(training, stream, checkpoint)
        keep(stream, dict(training.main_loop.epoch_data.get(stream, {})))


def run_stream(training: Training, stream: str, checkpoint: Checkpoint) -> None:
    """Evaluate a stream with weights that are loaded already.

    :param checkpoint: where the weights come from
    :raise SystemExit: if a signal interrupts it
    """
    main_loop = training.main_loop
    main_loop.check_stream(stream)
    with running(training.config, lambda: not main_loop.has_begun):
        main_loop.run_evaluation(stream, checkpoint.position)
    if main_loop.interrupted_by is not None and main_loop.end == "interrupted":
        raise SystemExit(SIGNAL_BASE + main_loop.interrupted_by)


def load_weights(model: Any, checkpoint: Checkpoint) -> None:
    """Give a model the weights of a checkpoint.

    :raise CheckpointError: if they do not fit
    """
    try:
        model.load_state_dict(checkpoint.weights)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not fit the model: {error}") from error
