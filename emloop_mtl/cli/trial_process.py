"""What the processes do in which a search trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..abstract_hook import AbstractHook
from ..config.config import Config
from ..config.reflect import resolve_class
from ..config.search_settings import SearchSettings
from ..config.searched_config import load_searched, trial_config

HOOK = "emloop_mtl.hooks.reporting.report_trial.ReportTrial"
"""Found by its name, as all hooks are."""


def try_as_ordered(
    working_folder: str,
    log: str,
    config: str,
    overrides: list[str],
    section: str | None,
    watch: dict[str, Any],
    number: int,
    values: dict[str, Any],
    study: str | None,
) -> None:
    """Train a trial in this process, which ends with it; or only check that it can be trained.

    :param working_folder: the folder that the command was called in
    :param log: what gets stdout and stderr
    :param config: the config of the search
    :param overrides: ``key.sub=value`` each
    :param section: a file that stands for the section ``search``
    :param watch: the number by which trials are compared, as a hook takes it
    :param number: of the trial
    :param values: name of a range -> its value
    :param study: the folder of the study; None to check only
    """
    from .reporting import reported
    from .training_server import become_new, unblock_signals

    become_new(working_folder, log)
    with reported():
        unblock_signals()
        searched = load_searched(Path(config), overrides, None if section is None else Path(section))
        settings = SearchSettings.of(searched.data["search"])
        chosen = trial_config(searched, settings, values, number)
        if study is None:
            _check(chosen, watch)
        else:
            _train(chosen, settings, watch, number, int(searched.data.get("seed", 0)), Path(study))
    raise SystemExit(0)


def _check(config: Config, watch: Mapping[str, Any]) -> None:
    from .checking import check_built

    check_built(config, more_hooks=[_hook(watch, lambda epoch, value: False)])


def _train(
    config: Config, settings: SearchSettings, watch: Mapping[str, Any], number: int, seed: int, folder: Path
) -> None:
    from .running import train_as
    from .study import Study, prepare_optuna

    prepare_optuna()
    study = Study(folder, settings, watch["mode"], seed)
    run_dir = folder / study.result(number).folder
    train_as(config, run_dir, [_hook(watch, lambda epoch, value: study.report(number, epoch, value))])


def _hook(watch: Mapping[str, Any], report: Callable[[int, float], bool]) -> AbstractHook:
    hook: AbstractHook = resolve_class(HOOK, "hook")(report, **watch)
    hook.config_path = ("search", "watch")
    return hook
