"""Prints what a search has found."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.search_range import SearchRange
from ..config.search_settings import SearchSettings
from ..utils.flat_name import flat_name
from ..utils.shown import printable
from .tables import print_table, print_text
from .trial_result import TrialResult

SHOWN = 10
"""How many trials the table has."""

LONGEST = 40
"""Characters of a value that are shown."""


def values_of(settings: SearchSettings, trial: TrialResult) -> dict[str, Any]:
    """Return the value of each range that a trial has; a process that was killed may not have chosen all."""
    return {each.name: each.value(trial.stored[each.name]) for each in settings.ranges if each.name in trial.stored}


def described(settings: SearchSettings, trial: TrialResult) -> str:
    """Return the settings of a trial on one line."""
    values = values_of(settings, trial)
    names = _short(settings.ranges)
    return ", ".join(
        f"{name}={_cell(values.get(each.name))}" for each, name in zip(settings.ranges, names, strict=True)
    )


def print_results(
    folder: Path,
    settings: SearchSettings,
    watch: Mapping[str, Any],
    results: Sequence[TrialResult],
    best: Sequence[TrialResult],
    as_json: bool,
) -> None:
    """Print the best trials as a table, or all of them as JSON.

    :param folder: of the study
    :param watch: the number that trials are compared by
    :param best: those that have finished, the best one first
    """
    if as_json:
        listed = [_plain(folder, settings, result) for result in results]
        found = {
            "study": str(folder),
            "watch": dict(watch),
            "best": _plain(folder, settings, best[0]) if best else None,
            "trials": listed,
        }
        print_text(json.dumps(found, indent=2, allow_nan=False))
        return
    counts = Counter(result.state for result in results)
    some = ", ".join(f"{count} {state}" for state, count in counts.items())
    number = flat_name(watch["stream"], watch["variable"], watch.get("aggregation"))
    names = _short(settings.ranges)
    rows = []
    for result in best[:SHOWN]:
        values = values_of(settings, result)
        cells = [_cell(values.get(each.name)) for each in settings.ranges]
        rows.append([str(result.number), f"{result.value:.4g}", str(result.epoch), *cells])
    title = f"The best of {len(results)} trials ({some}) by {printable(number)}, {watch['mode']}"
    print_table(title, ["trial", "value", "epoch", *names], rows, right=("trial", "value", "epoch"))


def _plain(folder: Path, settings: SearchSettings, result: TrialResult) -> dict[str, Any]:
    value = result.value if result.value is None or math.isfinite(result.value) else str(result.value)
    found = {"trial": result.number, "state": result.state, "value": value, "epoch": result.epoch}
    more = {"epochs": result.epochs, "run": str(folder / result.folder), "settings": values_of(settings, result)}
    return {**found, **more, **({} if result.failure is None else {"failure": result.failure})}


def _short(ranges: Sequence[SearchRange]) -> list[str]:
    """Return the last parts of names, as many as it takes to tell them apart."""
    names = [each.name.split(".") for each in ranges]
    for count in range(1, max(map(len, names))):
        short = [".".join(parts[-count:]) for parts in names]
        if len(set(short)) == len(short):
            return [printable(name) for name in short]
    return [printable(each.name) for each in ranges]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
