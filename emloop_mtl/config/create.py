"""Builds what a config asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ..abstract_hook import AbstractHook
from ..data.multi_task_dataset import MultiTaskDataset
from ..errors import ConfigError, DataError
from ..main_loop import MainLoop
from ..models.composed_model import ComposedModel
from ..utils.random import seed_everything
from .blueprint import Blueprint
from .check import check_config, check_sections, planner_for
from .config import Config
from .hook_plan import HookPlan
from .load import load_config
from .overrides import SECTIONS
from .plans import CONFIG_TEXT, plan_dataset, plan_hooks, plan_model, plan_seed
from .source_folder import folder_of
from .training import Training
from .trust_policy import TrustPolicy

__all__ = ["Training", "create_dataset", "create_hooks", "create_model", "create_training"]


def create_training(
    config: Config | str | os.PathLike[str] | Mapping[str, Any],
    output_dir: str | os.PathLike[str] | None = None,
    *,
    overrides: Sequence[str] = (),
    trusted_only: bool = False,
    source_folder: str | os.PathLike[str] | None = None,
    for_training: bool = True,
    more_hooks: Sequence[AbstractHook] = (),
    trust_runs: bool = False,
) -> Training:
    """Check a config, then build dataset, model, hooks and main loop.

    :param config: a loaded config, the path of a config file, or the data of one
    :param output_dir: folder of the run; created if need be
    :param overrides: ``key.sub=value`` each, if ``config`` is a path
    :param trusted_only: refuse classes that a run folder from elsewhere must not name, see ``TrustPolicy``
    :param source_folder: where the modules that the config names are; its own folder by default
    :param for_training: whether to build the hooks, too, that only make sense in a training
    :param more_hooks: hooks that act after those of the config
    :param trust_runs: whether runs that the model is made of may name what a run folder from elsewhere must not
    :raise LocatedError: for any mistake in the config, with its position
    """
    if overrides and not isinstance(config, str | os.PathLike):
        raise ConfigError("overrides need the path of a config file; a loaded config has had its chance")
    config = _as_config(config, overrides)
    folder = None if source_folder is None else Path(source_folder)
    trust = TrustPolicy(folder, config.path.parent if config.path else None) if trusted_only else None
    if "seed" not in config.data:
        config = config.replaced({"seed": 0, **config.data})
    plan = check_config(config, trust=trust, source_folder=folder)
    directory = None if output_dir is None else os.fspath(output_dir)
    if directory is not None:
        _make_folder(directory)
    with config.located():
        dataset = _build_dataset(plan.dataset, config, plan.seed, directory, folder)
        model = _build_model(plan.model, plan.seed, dataset, directory, trust_runs)
        chosen = [hook for hook in plan.hooks if for_training or not _only_trains(hook)]
        hooks = [*_build_hooks(chosen, model, dataset, directory), *more_hooks]
        try:
            main_loop = MainLoop(
                model=model, dataset=dataset, hooks=hooks, output_dir=directory, seed=plan.seed, **plan.main_loop
            )
        except ConfigError as error:
            if error.path and error.path[0] not in SECTIONS:
                raise error.below(("main_loop",)) from error
            raise
    main_loop.config = config.data
    # Hooks and what they import may draw random numbers too; which hooks are listed must not change the training.
    seed_everything(plan.seed)
    return Training(config, dataset, model, hooks, main_loop, directory)


def create_dataset(
    config: Config, output_dir: str | os.PathLike[str] | None = None, *, trust: TrustPolicy | None = None
) -> Any:
    """Build the dataset alone.

    It gets ``seed``, ``output_dir`` and ``config_folder`` if its constructor names them. A constructor that names
    ``config_str`` gets its section as YAML text instead, as emloop's datasets do; ``output_dir`` is among its keys.

    :raise LocatedError: for a mistake in the section ``dataset``
    """
    with config.located():
        check_sections(config)
        plan = plan_dataset(config, planner_for(config, trust))
        return _build_dataset(plan, config, plan_seed(config), _text(output_dir))


def create_model(
    config: Config,
    dataset: Any,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    trust: TrustPolicy | None = None,
    source_folder: Path | None = None,
    trust_runs: bool | None = False,
) -> Any:
    """Build the model alone.

    It gets ``dataset``, ``output_dir``, ``log_dir`` (emloop's name for it) and ``restore_from`` (None) if its
    constructor names them. Its initial parameters depend on ``seed`` and not on what the dataset drew.

    :param source_folder: where the modules that the config names are; its own folder by default
    :param trust_runs: as for ``create_training``; None refuses a model that is made of runs
    :raise LocatedError: for a mistake in the section ``model``
    """
    with config.located():
        check_sections(config)
        plan = plan_model(config, planner_for(config, trust, source_folder))
        return _build_model(plan, plan_seed(config), dataset, _text(output_dir), trust_runs)


def create_hooks(
    config: Config,
    model: Any,
    dataset: Any,
    output_dir: str | os.PathLike[str] | None = None,
    *,
    trust: TrustPolicy | None = None,
) -> list[AbstractHook]:
    """Build the hooks alone, in the order of the config.

    Each gets ``model``, ``dataset`` and ``output_dir`` if its constructor names them or takes ``**kwargs``.

    :raise LocatedError: for a mistake in the section ``hooks``
    """
    with config.located():
        check_sections(config)
        plans = plan_hooks(config, planner_for(config, trust))
        return _build_hooks(plans, model, dataset, _text(output_dir))


def _as_config(config: Config | str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str]) -> Config:
    if isinstance(config, Config):
        return config
    return Config(config) if isinstance(config, Mapping) else load_config(config, overrides)


def _build_dataset(
    plan: Blueprint, config: Config, seed: int, output_dir: str | None, source_folder: Path | None = None
) -> Any:
    arguments = {key: value for key, value in config.data["dataset"].items() if key != "class"}
    if output_dir is not None:
        arguments.setdefault("output_dir", output_dir)
    seed_everything(seed)
    from .yaml_text import write_yaml  # see load_config

    folder = source_folder or (config.path and folder_of(config.path))
    handed = {"seed": seed, "output_dir": output_dir, "config_folder": _text(folder)}
    dataset = plan.build({**handed, CONFIG_TEXT: write_yaml(arguments)})
    if isinstance(dataset, MultiTaskDataset):
        if plan.kwargs.get("streams") and not dataset.stream_settings:
            text = f"{plan.name} does not hand 'streams' on: its constructor must call super().__init__(**kwargs)"
            raise ConfigError(text, ("dataset", "streams"))
        dataset.set_default_seed(seed)  # its constructor need not hand one on
        try:
            _ = dataset.task_streams  # made now, so that a mistake in loaders() is known to be one of this section
        except ConfigError as error:
            # Loaders are made in Python, of whatever the section says; only what stands in it has a place there.
            place = ("dataset", *error.path)
            raise ConfigError(str(error), place if config.knows(place[:2]) else ("dataset",)) from error
        except DataError as error:
            raise ConfigError(str(error), ("dataset",)) from error
        except FileNotFoundError as error:
            raise ConfigError(f"no such file: {error.filename or error}", ("dataset",)) from error
    return dataset


def _build_model(plan: Blueprint, seed: int, dataset: Any, output_dir: str | None, trust_runs: bool | None) -> Any:
    from .open_run import open_run  # which builds models by this very function

    seed_everything(seed)
    opener = None if trust_runs is None else partial(open_run, dataset=dataset, trust=trust_runs)
    handed = {"dataset": dataset, "output_dir": output_dir, "log_dir": output_dir, "restore_from": None}
    model = plan.build({**handed, "open_run": opener})
    _check_trained(model, plan)
    return model


def _check_trained(model: Any, plan: Blueprint) -> None:
    """Refuse what a model is made of if it is built anew, has to be trained, and never will be.

    What somebody's own class or function returns may have got its weights there.
    """
    for member in model.members if isinstance(model, ComposedModel) else ():
        given: Any = plan.kwargs
        with suppress(LookupError):  # of what was not given by name
            for key in member.path:
                given = given[key]
        if not isinstance(given, Blueprint) or member.kept is None:
            continue
        kind = type(member.kept)
        if member.kept.can_be_trained and kind is given.target and kind.__module__.startswith("emloop_mtl."):
            text = f"{kind.__name__} has no weights before it is trained; give the folder of its run"
            raise ConfigError(text, (*given.path, "class"))
        _check_trained(member.kept, given)


def _build_hooks(plans: list[HookPlan], model: Any, dataset: Any, output_dir: str | None) -> list[AbstractHook]:
    hooks = []
    for plan in plans:
        hook = plan.blueprint.build({"model": model, "dataset": dataset, "output_dir": output_dir})
        hook.config_path = plan.blueprint.path
        if plan.name is not None:
            hook.name = plan.name
        hooks.append(hook)
    return hooks


def _only_trains(plan: HookPlan) -> bool:
    return bool(getattr(plan.blueprint.target, "training_only", False))


def _make_folder(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output_dir {path!r} cannot be created: {error.strerror}") from error


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)
