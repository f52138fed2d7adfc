"""Runs that SIGKILL ends at random moments, in a save, in an evaluation, anywhere: they end as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from .conftest import ENVIRONMENT
from .same_runs import what_differs

pytestmark = pytest.mark.long

HERE = Path(__file__).parent

SEED = int(os.environ.get("KILLS_SEED") or random.SystemRandom().randrange(2**32))
"""What the moments derive from; shown if a test fails, to be set again as ``KILLS_SEED``."""

EPOCHS = 2

Killed = tuple[Path, dict[str, dict[str, Any]]]

HOOKS: list[Any] = [
    {"ShowProgress": {"plain_interval": 0.01}},
    {"Evaluate": {"streams": ["valid", "test"]}},
    "ScoreTasks",
    {"ComputeStats": {"variables": ["loss"]}},
    {"Warmup": {"steps": 3}},
    {"LRSchedule": {"schedule": {"class": "plateau", "patience": 0}, "stream": "valid", "variable": "loss"}},
    "LogVariables",
    "LogProfile",
    {"WriteJSON": {"steps": 2}},
    "WriteCSV",
    "WriteTensorBoard",
    "WritePredictions",
    "TrainingTrace",
    "StopOnNaN",
    {"StopOnPlateau": {"stream": "valid", "variable": "loss", "mode": "min", "long_term": 50, "short_term": 5}},
    {"SaveLatest": {"steps": 2}},
    {"SaveBest": {"stream": "valid", "variable": "loss", "mode": "min"}},
    {"SaveEvery": {"steps": 3, "keep": 2}},
    "RestoreBest",
    {"StopAfter": {"epochs": EPOCHS}},
]

WEIGHT_HOOKS: list[Any] = [
    {"Evaluate": {"streams": ["valid", "test"]}},
    "ScoreTasks",
    {"ComputeStats": {"variables": ["loss", "one/loss"]}},
    {"Freeze": {"modules": ["trunk.0"], "from_epoch": 2}},
    {"Freeze": {"name": "FreezeHead", "modules": ["two_head"], "until_epoch": 1}},
    {"AverageWeights": {"decay": 0.8, "ramp": True}},
    {"GradientNorms": {"tasks": True}},
    {"Warmup": {"steps": 3}},
    {"LRSchedule": {"schedule": "cosine_annealing"}},
    {"WriteJSON": {"steps": 2}},
    {"WriteCSV": {"steps": 3}},
    "WritePredictions",
    {"StopOnNaN": {"after_batch": True}},
    {"SaveLatest": {"steps": 2}},
    {"SaveBest": {"stream": "valid", "also": {"one/loss": "min", "one/one/accuracy": "max"}, "runway": 4}},
    {"SaveEvery": {"steps": 3, "keep": 2}},
    {"RestoreBest": {"tag": "best_one_loss"}},
    {"ClearCheckpoints": {"what": "intermediate"}},
    {"StopAfter": {"epochs": EPOCHS}},
]
"""Those that change the weights that are trained, evaluated, saved, or left in the end."""

NETWORK = [
    {"class": "torch.nn.Linear", "in_features": 4, "out_features": 8},
    {"class": "torch.nn.BatchNorm1d", "num_features": 8},
    {"class": "torch.nn.Dropout", "p": 0.3},
]


def config(
    dataset: dict[str, Any], model: dict[str, Any] | None = None, hooks: list[Any] = HOOKS, **main_loop: Any
) -> dict[str, Any]:
    modules = {"trunk": {"class": "torch.nn.Sequential", "args": NETWORK}}
    tasks = {}
    for task, classes in (("one", 3), ("two", 2)):
        modules[f"{task}_head"] = {"class": "torch.nn.Linear", "in_features": 8, "out_features": classes}
        flow = [
            {"name": "features", "module": "trunk", "inputs": "x"},
            {"name": f"{task}_logits", "module": f"{task}_head", "inputs": "features"},
        ]
        metrics = ["accuracy"]
        tasks[task] = {"flow": flow, "label": f"{task}_y", "loss": "cross_entropy", "metrics": metrics}
    defaults = {"class": "MultiTaskModel", "device": "cpu", "optimizer": {"class": "adamw", "lr": 0.01}}
    return {
        "seed": 3,
        "dataset": dataset,
        "model": {**defaults, "modules": modules, "tasks": tasks, **(model or {})},
        "main_loop": main_loop,
        "hooks": hooks,
        "eval": {"valid": {"hooks": ["ScoreTasks"]}, "test": {"hooks": ["ScoreTasks"]}},
    }


def train_with(scheduler: dict[str, Any]) -> dict[str, Any]:
    return {"streams": {"train": {"scheduler": scheduler}}}


CONFIGS = {
    "accumulate": config(
        {"class": "little.Columns", **train_with({"class": "RoundRobin", "shuffle": True})},
        {"update": {"accumulate": 3, "clip_norm": 1.0}},
        hooks=WEIGHT_HOOKS,
        fixed_epoch_size=7,
    ),
    "mixed_bf16_ahead": config(
        {"class": "little.Columns", **train_with({"class": "Mixed", "fillup": True})},
        {"precision": "bf16"},
        buffer=4,
        asynchronous_saving=True,
    ),
    "fp16_cut": config(
        {"class": "little.Columns"},
        {"precision": "fp16", "optimizer": {"class": "sgd", "lr": 0.1, "momentum": 0.9}},
        fixed_epoch_size={"samples": 30},
    ),
    "augmented": config(
        {"class": "little.Rows", **train_with({"class": "Dynamic", "function": "little.weights"})}, buffer=2
    ),
    "workers": config({"class": "little.Rows", "num_workers": 2, **train_with({"class": "Mixed"})}, buffer=2),
    "generators": config({"class": "little.Plain"}, fixed_epoch_size=7),
}


@pytest.fixture(scope="module")
def killed() -> Iterator[Killed]:
    """The folder of all configs, each trained undisturbed and once with seven kills, and what became of these runs."""
    # In memory if possible: it is processes that are killed, not the machine, and saving to a disk takes its time.
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as temporary:
        root = Path(temporary)
        for name, data in CONFIGS.items():
            (root / name).mkdir()
            shutil.copy(HERE / "little.py", root / name)
            (root / name / "config.yaml").write_text(json.dumps(data))
        given = json.dumps({"folders": [str(root / name) for name in CONFIGS], "seed": SEED})
        environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
        line = [sys.executable, str(HERE / "killed_runs.py")]
        done = subprocess.run(line, input=given, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        yield root, {Path(job["folder"]).name: job for job in json.loads(done.stdout)}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_was_not(name: str, killed: Killed) -> None:
    root, jobs = killed
    told = f"KILLS_SEED={SEED}, {jobs[name]['plans']}, {jobs[name]['ends']}"
    assert {end["status"] for end in jobs[name]["ends"] if not end["killed"]} == {0}, told
    assert what_differs(root / name / "run", root / name / "whole") == [], told


def test_they_were_killed(killed: Killed) -> None:
    kills = [end for job in killed[1].values() for end in job["ends"] if end["killed"]]
    assert len(kills) >= 30, f"the processes were faster than their killer: {len(kills)} of 42 are dead"
    assert any(end["saving"] for end in kills)
