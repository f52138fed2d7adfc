"""Checks a config before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest
from .config import Config
from .evaluation import checked_overrides, evaluation_config
from .overrides import SECTIONS
from .planner import Planner
from .plans import plan_dataset, plan_hooks, plan_main_loop, plan_model, plan_seed
from .reflect import put_on_path
from .search_settings import SearchSettings
from .source_folder import folder_of
from .training_plan import TrainingPlan
from .trust_policy import TrustPolicy

FREE_PREFIX = "x-"
"""Top-level keys that begin so are free for the user, as a place for anchors."""

_REQUIRED = ("dataset", "model")

_PLANS: Mapping[str, Callable[[Config, Planner], Any]] = {
    "dataset": plan_dataset,
    "model": plan_model,
    "main_loop": lambda config, planner: plan_main_loop(config),
    "hooks": plan_hooks,
}


def check_config(
    config: Config, *, trust: TrustPolicy | None = None, source_folder: Path | None = None
) -> TrainingPlan:
    """Check the whole config: sections, names, signatures and types, those of ``eval`` included.

    Modules that the config names are imported; nothing is built.

    :param trust: refuses what must not run; None trusts everything
    :param source_folder: where the config's modules are, the config's own folder by default; it is put on the path
    :raise LocatedError: for the first mistake, with its position
    """
    with config.located():
        plan = _plan(config, trust, source_folder)
        if config.data.get("search") is not None:  # no part of a training; only its form is checked
            SearchSettings.of(config.data["search"])
        for stream, overrides in checked_overrides(config).items():
            evaluated = evaluation_config(config, stream)
            with evaluated.located():
                planner = planner_for(config, trust, source_folder)
                for section in overrides or ():
                    _PLANS[section](evaluated, planner)
    return plan


def check_sections(config: Config) -> None:
    """Check that the config has the sections it must have and no unknown ones.

    :raise ConfigError: naming the section
    """
    for name in config.data:
        if name not in SECTIONS and not str(name).startswith(FREE_PREFIX):
            hint = nearest(str(name), SECTIONS)
            if "did you mean" not in hint:
                hint += f", and '{FREE_PREFIX}…' for your own anchors"
            raise ConfigError(f"unknown section {name!r}{hint}", (name,))
    for name in _REQUIRED:
        if name not in config.data:
            raise ConfigError(f"missing section {name!r}")


def planner_for(config: Config, trust: TrustPolicy | None, source_folder: Path | None = None) -> Planner:
    """Return what makes the blueprints of a config, with the folder of its modules on the path."""
    folder = source_folder if source_folder is not None and source_folder.is_dir() else None
    if trust is not None:
        folder = trust.trusted_folder
    elif folder is None and config.path is not None:
        folder = folder_of(config.path)
    if folder is not None:
        put_on_path(folder)
    return Planner(trust)


def _plan(config: Config, trust: TrustPolicy | None, source_folder: Path | None) -> TrainingPlan:
    check_sections(config)
    planner = planner_for(config, trust, source_folder)
    return TrainingPlan(
        seed=plan_seed(config),
        dataset=plan_dataset(config, planner),
        model=plan_model(config, planner),
        hooks=plan_hooks(config, planner),
        main_loop=plan_main_loop(config),
    )
