"""Trains in the folder of a run, from the beginning or from a checkpoint."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..abstract_hook import AbstractHook
from ..checkpoint import (
    Checkpoint,
    complete_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    remove_checkpoint,
    sequence_of,
)
from ..config.check import check_config
from ..config.config import Config
from ..config.create import Training, create_training
from ..config.load import load_config
from ..config.source_folder import folder_of
from ..config.trust_policy import TrustPolicy
from ..constants import SCORES_FILE
from ..errors import ConfigError, NotFiniteError
from ..utils.cleared import Cleared
from ..utils.wait_given_up import WaitGivenUp
from .building import building, running
from .evaluating import check_evaluations, evaluate_at_end
from .reporting import SIGNAL_BASE, TERMINAL_ONLY, logging_to_file
from .run_folder import RunFolder
from .tables import print_scores

log = logging.getLogger(__name__)


def train_anew(
    config_path: Path,
    overrides: Sequence[str],
    output_root: Path,
    output_dir: Path | None,
    remove: bool,
    more_hooks: Sequence[AbstractHook] = (),
) -> None:
    """Train from the beginning in a new folder, which is removed again if the training cannot begin.

    :param more_hooks: hooks that act after those of the config
    """
    config = load_config(config_path, overrides)
    check_config(config)
    if output_dir is not None:
        folder = RunFolder.at(output_dir, remove, keep=config_path)
    else:
        folder = RunFolder.new(output_root, name_of(config))
    with folder.locked():
        _begin(folder, config, config_path, {"more_hooks": more_hooks})


def train_on(run_dir: Path, overrides: Sequence[str], trust: bool, more_hooks: Sequence[AbstractHook] = ()) -> None:
    """Go on with a training from its newest checkpoint, or from the beginning if it was ended before the first.

    :param more_hooks: hooks that act after those of the config
    """
    folder = RunFolder.existing(run_dir)
    with folder.locked():
        _go_on(folder, overrides, trust, more_hooks)


def train_to_the_end(run_dir: Path, config_path: Path | None, overrides: Sequence[str], trust: bool) -> None:
    """Begin a training, go on with it or leave it as it is, whatever is due.

    :param config_path: the config of the training, which is begun if there is none; None if there has to be one
    """
    config = None
    if config_path is not None and not RunFolder(run_dir).is_begun:
        config = load_config(config_path, overrides)
        check_config(config)
    folder = RunFolder.begun_or_new(run_dir, may_begin=config is not None)
    with folder.locked():
        if config is None or config_path is None or folder.is_begun:  # by another process, only now kept out
            _go_on(folder, overrides, trust)
        else:
            _begin(folder, config, config_path, {}, None if trust else TrustPolicy(folder_of(config_path), folder.path))


def train_as(config: Config, run_dir: Path, more_hooks: Sequence[AbstractHook]) -> None:
    """Train as a config says in a folder that is its own, from the beginning or from the newest checkpoint.

    :param config: with all that its file has been changed by, and with its seed
    :raise ConfigError: if there is the run of another config
    """
    assert config.path is not None
    folder = RunFolder.begun_or_new(run_dir, may_begin=True)
    with folder.locked():
        if not folder.is_begun:
            _begin(folder, config, config.path, {"more_hooks": more_hooks})
        elif not load_config(folder.config).says_the_same(config):
            raise ConfigError(f"{folder.path}: is the run of another config")
        else:
            _go_on(folder, [], trust=True, more_hooks=more_hooks)


def _begin(
    folder: RunFolder, config: Config, config_path: Path, options: Mapping[str, Any], trust: TrustPolicy | None = None
) -> None:
    """Train from the beginning in a folder that is locked.

    :param options: what ``create_training`` takes beside a config and a folder
    :param trust: what it must not name, since it could not be resumed either
    """
    training: Training | None = None
    try:
        with logging_to_file(folder.log):
            if trust is not None:
                check_config(config, trust=trust)
            folder.clear_up()
            # Before anything is built, and the record first: where a process is killed from here on there is a run.
            folder.write_record(config_path)
            folder.write_config(config)
            with building(config):
                training = create_training(config, folder.path, **options)
                _check(training)
            _try(training)
            training.main_loop.check_room()
            folder.write_config(training.config)
            folder.begin()
            log.info("training in %s", folder.path)
            _train(training, folder, {}, is_resumed=False)
    except BaseException as error:
        if _is_worth_nothing(training, error):
            folder.discard()
        raise


def _go_on(folder: RunFolder, overrides: Sequence[str], trust: bool, more_hooks: Sequence[AbstractHook] = ()) -> None:
    """Go on with the training in a folder that is locked."""
    if not trust:
        folder.check_links()
    config = load_config(folder.config, overrides)
    is_changed = bool(overrides) and not config.says_the_same(load_config(folder.config))
    trusted: dict[str, Any] = {"trusted_only": not trust, "source_folder": folder.source_folder}
    ends = False
    with logging_to_file(folder.log):
        checkpoint = newest_checkpoint(folder.checkpoints) if list_checkpoints(folder.checkpoints) else None
        if not is_changed and folder.is_noted("ended", 0 if checkpoint is None else checkpoint.sequence):
            _leave(folder, config, checkpoint)
            return
        cleared = _cleared(folder)
        if cleared is not None and not is_changed:
            _conclude(folder, config, cleared, trusted)
            return
        if cleared is not None and checkpoint is None:
            text = "has finished, and ClearCheckpoints has removed what it could go on from"
            raise ConfigError(f"{folder.path}: {text}; begin a new one with emloop-mtl train")
        if checkpoint is None:
            folder.check_restart()
        folder.clear_up()
        with building(config):
            training = create_training(config, folder.path, more_hooks=more_hooks, **trusted)
            _check(training)
        if checkpoint is not None:
            ends = _ends(training, folder, checkpoint, is_changed)
            if ends and folder.is_noted("ended", checkpoint.sequence):
                _leave(folder, config, checkpoint)
                return
            training.main_loop.restore(checkpoint, stay_finished=ends)
            _try(training)
            log.info("going on in %s from %s (%s)", folder.path, checkpoint.path.name, _describe(checkpoint))
            if cleared is not None:
                log.warning("ClearCheckpoints has removed the end, so it is trained again from there on")
                Cleared.forget(folder.checkpoints)
            if not ends and (checkpoint.finished or folder.is_noted("ended", checkpoint.sequence)):
                folder.note("longer", checkpoint.sequence)
        else:
            _try(training)
            folder.restart()
            log.info("%s has no checkpoint yet: beginning again", folder.path)
        if is_changed or not ends:  # other weights may come to the same step, or be scored in another way
            (folder.path / SCORES_FILE).unlink(missing_ok=True)
        if is_changed:
            folder.write_config(training.config)
        _train(training, folder, trusted, is_resumed=True)


def _ends(training: Training, folder: RunFolder, checkpoint: Checkpoint, is_changed: bool) -> bool:
    """Whether a training ends where its checkpoint stands; one that was ended early may go on if it is changed."""
    if not checkpoint.finished:
        return False
    total = training.main_loop.total_steps
    is_longer = is_changed or folder.is_noted("longer", checkpoint.sequence)
    return not is_longer or (total is not None and checkpoint.position.step >= total)


def _cleared(folder: RunFolder) -> Cleared | None:
    """Return what is known of the end of a run that has finished, if its checkpoint was removed then."""
    cleared = Cleared.read(folder.checkpoints)
    return cleared if cleared is not None and cleared.is_end_gone(list_checkpoints(folder.checkpoints)) else None


def _conclude(folder: RunFolder, config: Config, cleared: Cleared, options: Mapping[str, Any]) -> None:
    """Do what a kill has left undone of a run that has finished and removes its checkpoints."""
    for name in cleared.names:
        if (folder.checkpoints / name).is_dir():
            remove_checkpoint(folder.checkpoints / name)
    left = list_checkpoints(folder.checkpoints)
    if config.data.get("eval") and left:
        evaluate_at_end(config, folder, options)
    folder.note("ended", sequence_of(left[0]) if left else 0)
    _leave(folder, config, newest_checkpoint(folder.checkpoints) if left else None)


def _leave(folder: RunFolder, config: Config, checkpoint: Checkpoint | None) -> None:
    """Leave a run as it is that has finished, and tell so."""
    position = None if checkpoint is None else checkpoint.position
    if checkpoint is not None:
        complete_checkpoint(checkpoint)
    cleared, removed = _cleared(folder), ""
    if cleared is not None:
        position = cleared.position
        removed = ", and ClearCheckpoints has removed its checkpoints"
        if checkpoint is not None:
            removed += f" but {', '.join(sorted(path.name for path in list_checkpoints(folder.checkpoints)))}"
    after = "" if position is None else f", after {position.epoch} epochs and {position.step} steps"
    log.info("%s has finished%s%s; nothing is left to do", folder.path, after, removed, extra=TERMINAL_ONLY)
    _suggest(config, folder, TERMINAL_ONLY)


def _check(training: Training) -> None:
    """Check what can only be checked once everything is built."""
    training.main_loop.check_trainable()
    training.main_loop.check()
    check_evaluations(training)


def _try(training: Training) -> None:
    """Find out by what comes first of the data whether all fits."""
    with running(training.config, lambda: True):
        training.main_loop.try_batches()


def _train(training: Training, folder: RunFolder, options: Mapping[str, Any], is_resumed: bool) -> None:
    """Run a training to its end, and tell what has come out and what can be done next.

    :param options: what ``create_training`` takes beside a config and a folder
    :param is_resumed: whether the folder stays even if nothing is done
    """
    main_loop = training.main_loop
    main_loop.check_room()
    with _telling_what_is_left(training, folder), running(training.config, lambda: main_loop.position.step == 0):
        try:
            main_loop.run_training()
        except WaitGivenUp as error:
            assert main_loop.interrupted_by is not None
            _suggest_resuming(folder)
            raise SystemExit(SIGNAL_BASE + main_loop.interrupted_by) from error
    interrupted_by = main_loop.interrupted_by
    if interrupted_by is not None and main_loop.end == "interrupted":
        if is_resumed or main_loop.has_begun:  # else nothing is kept
            _suggest_resuming(folder)
        raise SystemExit(SIGNAL_BASE + interrupted_by)
    log.info("the run lies in %s", folder.path)
    if training.config.data.get("eval") and list_checkpoints(folder.checkpoints):
        if interrupted_by is not None:  # too late to interrupt the training
            _suggest_scoring(folder)
            raise SystemExit(SIGNAL_BASE + interrupted_by)
        try:
            evaluate_at_end(training.config, folder, options)
        except BaseException:
            _suggest_scoring(folder)
            raise
    elif main_loop.epoch_data:  # there are none where a training that had finished only ends once more
        print_scores("Scores in the last epoch", main_loop.epoch_data)
    newest = next(iter(list_checkpoints(folder.checkpoints)), None)
    folder.note("ended", 0 if newest is None else sequence_of(newest))
    _suggest(training.config, folder)


def _is_worth_nothing(training: Training | None, error: BaseException) -> bool:
    """Whether a run that has ended with ``error`` leaves nothing that anybody could want."""
    if isinstance(error, NotFiniteError):  # in its first batch, perhaps, which is kept
        return False
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
    except KeyboardInterrupt as error:
        if not _is_worth_nothing(training, error):
            _suggest_resuming(folder)
        raise


def _suggest_scoring(folder: RunFolder) -> None:
    path = shlex.quote(str(folder.path))
    log.info("the training has finished, but not all is scored; go on with:  emloop-mtl resume %s", path)


def _suggest(config: Config, folder: RunFolder, extra: Mapping[str, object] | None = None) -> None:
    names = {name for hook in config.data.get("hooks") or () for name in ([hook] if isinstance(hook, str) else hook)}
    path = shlex.quote(str(folder.path))
    if "WriteTensorBoard" in names:
        log.info("look at it:  tensorboard --logdir %s", path, extra=extra)
    if list_checkpoints(folder.checkpoints):
        log.info("score it:    emloop-mtl eval %s %s", "STREAM", path, extra=extra)
    if "StopAfter" in names and _cleared(folder) is None:
        log.info("train on:    emloop-mtl resume %s hooks.StopAfter.epochs=…", path, extra=extra)


def _suggest_resuming(folder: RunFolder) -> None:
    newest = next(iter(list_checkpoints(folder.checkpoints)), None)
    if newest is None:
        log.info("nothing was saved in %s", folder.path)
    else:
        log.info("saved in %s; go on with:  emloop-mtl resume %s", newest, shlex.quote(str(folder.path)))


def _describe(checkpoint: Checkpoint) -> str:
    return f"epoch {checkpoint.position.epoch}, step {checkpoint.position.step}"


def name_of(config: Config) -> str:
    """Return what the folder of a training is called after: its model, else the class of that."""
    model = config.data["model"]
    name = model.get("name")
    return name if isinstance(name, str) else str(model["class"]).rpartition(".")[2]
