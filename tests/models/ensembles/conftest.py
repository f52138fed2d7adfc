"""Three runs that answer together, and some that do not fit them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from emloop_mtl import load_config
from emloop_mtl.checkpoint import save_checkpoint
from emloop_mtl.config.create import create_model
from emloop_mtl.config.yaml_text import write_yaml
from emloop_mtl.types import Position

from ..trained_runs import KIND, config_of, train, working_in

OTHER_FLOW = [{"name": "kind_out", "module": "kind_head", "inputs": "y"}]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with three runs that differ in their seeds only."""
    folder = tmp_path_factory.mktemp("ensemble")
    with working_in(folder), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, name in enumerate("abc"):
            train(folder, name, config_of(seed))
        yield folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture(scope="module")
def variants(trained: Path) -> None:
    """Runs that do not fit the others, nor themselves; one that has no checkpoint."""
    heads = config_of()["model"]["modules"]
    four = {**heads, "kind_head": {**heads["kind_head"], "out_features": 4}}
    wide = {"class": "torch.nn.Sequential", "args": [four["kind_head"], {"class": "torch.nn.Flatten"}]}
    log, tasks = trained / "log", config_of()["model"]["tasks"]
    configs = {
        "one": config_of(modules={"kind_head": heads["kind_head"]}, tasks={"kind": KIND}),
        "four": config_of(modules=four),
        "other": config_of(tasks={**tasks, "kind": {**KIND, "flow": OTHER_FLOW}}),
        "bare": config_of(),
        "sets": config_of(tasks={**tasks, "kind": {**KIND, "output": "sigmoid", "metrics": []}}),
        "values": config_of(tasks={**tasks, "kind": {**KIND, "loss": "mse_loss", "metrics": []}}),
        "labels": config_of(tasks={**tasks, "kind": {**KIND, "label": "k"}}),
        "wide": config_of(modules={**heads, "kind_head": wide}),
    }
    for name, config in configs.items():
        (log / name).mkdir()
        shutil.copy(log / "a" / "run.yaml", log / name)
        (log / name / "config.yaml").write_text(write_yaml(config))
        if name != "bare":
            model = create_model(load_config(log / name / "config.yaml"), None)
            position = Position(epoch=1, step=3, passes=1, samples=20)
            save_checkpoint(log / name / "checkpoints", ["latest"], model.state_dict(), {}, position)
    shutil.copytree(log / "four", log / "unfit")
    (log / "unfit" / "config.yaml").write_text(write_yaml(config_of()))
    (trained / "empty").mkdir()
    (trained / "stray.safetensors").write_bytes(b"")
