"""Shows what has come out of a grid."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..config.yaml_text import inline_yaml
from ..utils.shown import printable
from .best_score import BestScore
from .comparing import LONGEST, strict
from .grid_run import GridRun
from .seeds_score import SeedsScore
from .tables import print_table, print_text

SEED = "seed"


def print_results(folder: Path, runs: Iterable[GridRun], short_names: Mapping[str, str], as_json: bool) -> None:
    """Print the runs of a grid, the best first, and what several seeds have come to.

    :param short_names: key -> what it is called in a table
    :param as_json: print an object for programs instead of tables
    """
    ranked = sorted(runs, key=lambda run: (run.best is None, 0 if run.best is None else _rank(run.best)))
    seeds = over_seeds(ranked)
    if as_json:
        described = {"folder": str(folder), "runs": list(map(asdict, ranked)), "over_seeds": list(map(asdict, seeds))}
        print_text(json.dumps(strict(described), indent=2, allow_nan=False))
        return
    rows = [[*map(_shown, run.values.values()), run.state, str(run.epochs), *(_described(run.best))] for run in ranked]
    columns = [*short_names.values(), "state", "epochs", "best", "score"]
    print_table(f"Runs in {printable(folder)}, the best first", columns, rows, right=("epochs", "best"))
    if seeds:
        columns = [*(name for key, name in short_names.items() if key != SEED), "runs", "mean ± std", "score"]
        rows = [
            [*map(_shown, each.values.values()), str(each.runs), _spread(each), printable(each.name)] for each in seeds
        ]
        print_table("Over the seeds", columns, rows, right=("runs", "mean ± std"))
    if ranked[0].best is None:
        hint = "SaveBest says which number that is, and WriteJSON or WriteCSV keeps it"
        click.echo(f"no run has a best score; {hint}", err=True)
    else:
        print_text(f"the best is in {printable(ranked[0].run)}")


def over_seeds(runs: Iterable[GridRun]) -> list[SeedsScore]:
    """Return mean and deviation of the best scores of finished runs that differ in their seed only, the best first."""
    groups: dict[str, list[tuple[Mapping[str, Any], BestScore]]] = {}
    for run in runs:
        if SEED in run.values and run.state == "finished" and run.best is not None:
            others = {key: value for key, value in run.values.items() if key != SEED}
            groups.setdefault(inline_yaml(others), []).append((others, run.best))
    found = [_score_of(*group[0], [best.value for _, best in group]) for group in groups.values()]
    return sorted(found, key=lambda score: score.mean if score.mode == "min" else -score.mean)


def _score_of(values: Mapping[str, Any], first: BestScore, scores: Sequence[float]) -> SeedsScore:
    std = statistics.stdev(scores) if len(scores) > 1 else None
    return SeedsScore(values, first.name, first.mode, len(scores), statistics.fmean(scores), std)


def _rank(best: BestScore) -> float:
    return best.value if best.mode == "min" else -best.value


def _described(best: BestScore | None) -> tuple[str, str]:
    return ("", "") if best is None else (f"{best.value:.4g}", printable(best.name))


def _spread(score: SeedsScore) -> str:
    return f"{score.mean:.4g}" if score.std is None else f"{score.mean:.4g} ± {score.std:.2g}"


def _shown(value: Any) -> str:
    text = printable(value if isinstance(value, str) else inline_yaml(value))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
