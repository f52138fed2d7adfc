"""``emloop-mtl ls``, ``compare`` and ``plot`` of runs that were trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .conftest import Command, command_here, copy_example, train_here


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs that differ in their seeds."""
    folder = tmp_path_factory.mktemp("trained")
    copy_example(folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("  - WriteJSON ", "  - WriteProfile\n  - WriteJSON: {steps: 1} "))
    for name, seed in (("one", 1), ("two", 2)):
        train_here(folder, f"seed={seed}", "--output-dir", f"log/{name}")
    return folder


@pytest.fixture
def command(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in this process, in the folder with the runs."""
    monkeypatch.chdir(trained)
    with command_here() as run:
        yield run


def test_a_real_training_is_listed(command: Command) -> None:
    shutil.copytree("log/one", "other/one")
    (real,) = json.loads(command("ls", "other", "--json").stdout)
    lines = [json.loads(line) for line in Path("log/one/metrics.jsonl").read_text().splitlines()]
    name = "digit/digits/valid/accuracy"
    assert (real["model"], real["dataset"], real["epochs"], real["steps"]) == ("digits", "digits.Digits", 2, 6)
    assert real["best"]["name"] == name
    assert real["best"]["value"] == max(line[name] for line in lines if name in line)
    assert (real["state"], real["fault"]) == ("finished", None)
    shutil.rmtree("other/one/checkpoints")
    assert json.loads(command("ls", "other", "--json").stdout)[0]["checkpoints"] == 0


def test_real_trainings_are_compared(command: Command) -> None:
    found = json.loads(command("compare", "log/one", "log/two", "--json").stdout)
    assert found["settings"] == {"seed": {"log/one": 1, "log/two": 2}}
    for run in found["runs"]:
        scores = json.loads(Path(run["run"], "scores.json").read_text())["scores"]
        assert run["scores"]["digit/digits/test/accuracy"] == scores["test"]["digit/digits/accuracy"]


def test_a_real_training_is_drawn(command: Command) -> None:
    done = command("plot", "log/one", "-o", "run.svg")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "run.svg\n", "")
    texts = {"".join(element.itertext()) for element in ElementTree.parse("run.svg").getroot().iter() if element.text}
    wanted = {f"digit · {metric}" for metric in ("loss", "accuracy", "f1_macro")}
    assert wanted | {"loss", "ink · loss", "parity · roc_auc", "learning rate", "time"} <= texts
    assert {"reading", "model", "hooks", "saving"} <= texts
