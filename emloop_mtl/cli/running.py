"""Trains in the folder of a run, from the beginning or from a checkpoint."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint, complete_checkpoint, list_checkpoints, newest_checkpoint
from ..config.check import check_config
from ..config.config import Config
from ..config.create import Training, create_training
from ..config.load import load_config
from ..errors import ConfigError
from .building import building
from .evaluating import check_evaluations, evaluate_at_end
from .reporting import SIGNAL_BASE, logging_to_file
from .run_folder import RunFolder
from .tables import print_scores

log = logging.getLogger(__name__)


def train_anew(
    config_path: Path, overrides: Sequence[str], output_root: Path, output_dir: Path | None, remove: bool
) -> None:
    """Train from the beginning in a new folder, which is removed again if the training cannot begin."""
    config = load_config(config_path, overrides)
    check_config(config)
    if output_dir is not None:
        folder = RunFolder.at(output_dir, remove, keep=config_path)
    else:
        folder = RunFolder.new(output_root, _name_of(config))
    training: Training | None = None
    try:
        with folder.locked(), logging_to_file(folder.log):
            with building(config):
                training = create_training(config, folder.path)
                _check(training)
            folder.write_config(training.config)
            folder.write_record(config_path)
            folder.begin()
            log.info("training in %s", folder.path)
            _train(training, folder, {})
    except BaseException as error:
        if _is_worth_nothing(training, error):
            folder.discard()
        raise


def train_on(run_dir: Path, overrides: Sequence[str], trust: bool) -> None:
    """Go on with a training from its newest checkpoint, or from the beginning if it was ended before the first."""
    folder = RunFolder.existing(run_dir)
    config = load_config(folder.config, overrides)
    trusted: dict[str, Any] = {"trusted_only": not trust, "source_folder": folder.source_folder}
    with folder.locked(), logging_to_file(folder.log):
        checkpoint = newest_checkpoint(folder.checkpoints) if list_checkpoints(folder.checkpoints) else None
        with building(config):
            training = create_training(config, folder.path, **trusted)
            _check(training)
        if checkpoint is not None:
            if checkpoint.finished and _has_nothing_left(training, checkpoint, overrides):
                complete_checkpoint(checkpoint)
                epochs, steps = checkpoint.position.epoch, checkpoint.position.step
                log.info("%s has finished, after %i epochs and %i steps; nothing is left to do", run_dir, epochs, steps)
                _suggest(training, folder)
                return
            training.main_loop.restore(checkpoint)
            log.info("going on in %s from %s (%s)", run_dir, checkpoint.path.name, _describe(checkpoint))
        else:
            folder.restart()
            log.info("%s has no checkpoint yet: beginning again", run_dir)
        if overrides:
            folder.write_config(training.config)
        _train(training, folder, trusted)


def _check(training: Training) -> None:
    """Check what can only be checked once everything is built."""
    training.main_loop.check()
    check_evaluations(training)


def _train(training: Training, folder: RunFolder, options: Mapping[str, Any]) -> None:
    """Run a training to its end, and tell what has come out and what can be done next.

    :param options: what ``create_training`` takes beside a config and a folder
    """
    main_loop = training.main_loop
    with _telling_what_is_left(training, folder), training.config.located():
        main_loop.run_training()
    if main_loop.interrupted_by is not None and main_loop.end == "interrupted":
        _suggest_resuming(folder)
        raise SystemExit(SIGNAL_BASE + main_loop.interrupted_by)
    log.info("the run lies in %s", folder.path)
    if training.config.data.get("eval") and list_checkpoints(folder.checkpoints):
        evaluate_at_end(training.config, folder, options)
    else:
        print_scores("Scores in the last epoch", main_loop.epoch_data)
    _suggest(training, folder)


def _has_nothing_left(training: Training, checkpoint: Checkpoint, overrides: Sequence[str]) -> bool:
    """Whether a finished run stays finished; one that a hook has ended early may go on once something is changed."""
    total = training.main_loop.total_steps
    return not overrides or (total is not None and checkpoint.position.step >= total)


def _is_worth_nothing(training: Training | None, error: BaseException) -> bool:
    """Whether a run that has ended with ``error`` leaves nothing that anybody could want."""
    if training is None or not training.main_loop.has_begun:
        return True
    return isinstance(error, ConfigError) and training.main_loop.position.step == 0


@contextmanager
def _telling_what_is_left(training: Training, folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not _is_worth_nothing(training, error) and not isinstance(error, ConfigError):
            log.info("the log is %s", folder.log)
            if list_checkpoints(folder.checkpoints):
                _suggest_resuming(folder)
        raise


def _suggest(training: Training, folder: RunFolder) -> None:
    names = {hook.name for hook in training.hooks}
    path = shlex.quote(str(folder.path))
    if "WriteTensorBoard" in names:
        log.info("look at it:  tensorboard --logdir %s", path)
    if list_checkpoints(folder.checkpoints):
        log.info("score it:    emloop-mtl eval %s %s", "STREAM", path)
    if "StopAfter" in names:
        log.info("train on:    emloop-mtl resume %s hooks.StopAfter.epochs=…", path)


def _suggest_resuming(folder: RunFolder) -> None:
    newest = next(iter(list_checkpoints(folder.checkpoints)), None)
    if newest is None:
        log.info("nothing was saved in %s", folder.path)
    else:
        log.info("saved in %s; go on with:  emloop-mtl resume %s", newest, shlex.quote(str(folder.path)))


def _describe(checkpoint: Checkpoint) -> str:
    return f"epoch {checkpoint.position.epoch}, step {checkpoint.position.step}"


def _name_of(config: Config) -> str:
    model = config.data["model"]
    name = model.get("name")
    return name if isinstance(name, str) else str(model["class"]).rpartition(".")[2]
