"""Compares runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from ..constants import SCORES_FILE
from ..errors import ConfigError
from ..utils.flat_name import flat_name
from ..utils.shown import printable
from .compared_run import ComparedRun
from .run_config import RunConfig
from .run_numbers import RunNumbers, is_number
from .run_reading import MOST, is_run, saved_best
from .small_file import read_small
from .tables import print_table, print_text

LONGEST = 60
"""Characters of a setting that are shown in a table."""


def compare_runs(paths: Sequence[Path], last: bool, only: Sequence[str], as_json: bool) -> None:
    """Print the scores of runs side by side, and the settings in which they differ.

    :param last: take the numbers of the last epochs, not of the best ones
    :param only: patterns of the numbers to show; none for all
    :param as_json: print an object for programs instead of tables
    :raise ConfigError: if one is no run, or cannot be read
    """
    runs = [_read(path, last, only) for path in paths]
    named: set[str] = set()
    for run in runs:
        if run.run in named:
            raise ConfigError(f"{run.run}: is named twice; compare different runs")
        named.add(run.run)
    settings = differing([run.settings for run in runs])
    if as_json:
        _print_json(runs, settings)
    else:
        _print_tables(runs, settings, bool(only))


def flat_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a config by their keys joined by dots, as overrides name them: ``hooks.StopAfter.epochs``.

    A list of plain values is one value, and so is whatever is empty; a further hook of one class is called
    ``hooks.SaveBest#2``.
    """
    return dict(_flat(config, ""))


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of which not all have the same value, or that not all have, in the order of the configs."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({_text(each[key]) if key in each else "" for each in settings}) > 1]


def _read(path: Path, last: bool, only: Sequence[str]) -> ComparedRun:
    if not is_run(path.resolve()):
        what = "is not the folder of a run" if path.exists() else "no such folder"
        raise ConfigError(f"{printable(path)}: {what}")
    result = ComparedRun(printable(path))
    try:
        config = RunConfig.of(path, whole=True)
        numbers = RunNumbers(path, config)
        best = None if last else numbers.best(saved_best(path, config))
        place, scores = numbers.at(None if best is None else (best.epoch, best.step))
        if not last:
            scores |= _end_scores(path)
    except ValueError as error:
        raise ConfigError(f"{printable(path)}: {error}") from error
    if place is not None:
        result.epoch, result.step = place
    chosen = (name for name in scores if not only or any(fnmatchcase(name, pattern) for pattern in only))
    result.scores = {name: scores[name] for name in chosen}
    result.settings = flat_settings(config.data)
    return result


def _end_scores(path: Path) -> dict[str, float]:
    """Return the scores that the end of a training has left."""
    try:
        content = read_small(path / SCORES_FILE, MOST)
    except ValueError as error:
        raise ValueError(f"{SCORES_FILE} {error}") from error
    if content is None:
        return {}
    try:
        streams = json.loads(content)["scores"]
        return {
            flat_name(stream, variable, aggregation): number
            for stream, variables in streams.items()
            for variable, value in variables.items()
            for aggregation, number in (value.items() if isinstance(value, Mapping) else [(None, value)])
            if is_number(number)
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{SCORES_FILE} cannot be read: {type(error).__name__}") from error


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if key == "hooks" and isinstance(value, list):
        value = _named_hooks(value)
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        items = ((f"{key}.{name}" if key else str(name), item) for name, item in value.items())
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        items = ((f"{key}.{index}", item) for index, item in enumerate(value))
    elif key:
        yield key, value
        return
    found = False
    for name, item in items:
        found = True
        yield from _flat(item, name)
    if not found and key:
        yield key, value


def _named_hooks(hooks: Iterable[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for entry in hooks:
        for name, arguments in entry.items() if isinstance(entry, Mapping) else [(str(entry), {})]:
            number = 1 + sum(key.partition("#")[0] == name for key in named)
            named[name if number == 1 else f"{name}#{number}"] = {} if arguments is None else arguments
    return named


def _print_json(runs: Sequence[ComparedRun], settings: Sequence[str]) -> None:
    described = [{"run": run.run, "epoch": run.epoch, "step": run.step, "scores": run.scores} for run in runs]
    differ = {key: {run.run: run.settings[key] for run in runs if key in run.settings} for key in settings}
    print_text(json.dumps({"runs": described, "settings": strict(differ)}, indent=2, allow_nan=False))


def _print_tables(runs: Sequence[ComparedRun], settings: Sequence[str], is_chosen: bool) -> None:
    names = short_names([run.run for run in runs])
    numbers = dict.fromkeys(name for run in runs for name in run.scores)
    if numbers:
        rows = [["epoch", *("" if run.epoch is None else str(run.epoch) for run in runs)]]
        rows += [[printable(name), *(_number(run.scores.get(name)) for run in runs)] for name in numbers]
        print_table("Scores", ["", *names], rows, right=names)
    else:
        hint = "; --only fits none of them" if is_chosen else "; WriteJSON and WriteCSV write them"
        click.echo(f"there are no numbers to compare{hint}", err=True)
    if settings:
        rows = [
            [printable(key), *(_cell(run.settings[key]) if key in run.settings else "—" for run in runs)]
            for key in settings
        ]
        print_table("Settings that differ", ["", *names], rows)
    else:
        print_text("their settings are the same")


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the folders that all have in common, if they differ without."""
    parts = [Path(name).parts for name in names]
    common = 0
    while all(len(each) > common + 1 for each in parts) and len({each[common] for each in parts}) == 1:
        common += 1
    return ["/".join(each[common:]) for each in parts]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(value: Any) -> str:
    text = printable(value if isinstance(value, str) else _text(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def strict(value: Any) -> Any:
    """Return what strict JSON can hold: numbers that are not finite become texts."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value
