"""Every command, as people call it: by the installed program, in a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from emloop_mtl.cli import main

from .conftest import ENVIRONMENT, PROGRAM, SHORT, copy_example

pytestmark = pytest.mark.long

SEARCH = """
trials: 1
ranges:
  lr: {choices: [0.001, 0.01], keys: [model.optimizer.lr]}
"""

DATASET = """
    def rows(self, split):
        return f"{sum(len(each.dataset) for each in self.loaders() if each.split == split)} rows"
"""

FEW = ("dataset.max_rows=48", "hooks.StopAfter.epochs=1")

COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "check": (("config.yaml",), "Which hook acts when, in a training"),
    "compare": (("log/first", "log/second"), "digit/digits/valid/accuracy"),
    "dataset": (("rows", "config.yaml", "split=valid"), "300 rows"),
    "eval": (("valid", "log/first"), "accuracy"),
    "gridsearch": (("config.yaml", "model.optimizer.lr=[0.1,0.01]", *FEW), "2 finished"),
    "hooks": (("SaveBest",), "SaveBest"),
    "ls": ((), "first"),
    "new": (("project",), "emloop-mtl train project/config.yaml"),
    "plot": (("log/first", "-o", "curves.png"), "curves.png"),
    "predict": (("valid", "log/first"), '"task": "digit"'),
    "prune": (("--dry-run",), "there is nothing to remove"),
    "resume": (("log/first",), "nothing is left to do"),
    "schema": ((), '"$schema"'),
    "search": (("config.yaml", "--section", "search.yaml", *FEW), "trial"),
    "train": (("config.yaml", *FEW), "score it"),
    "verify": (("log/first",), "resume takes"),
    "verify-resume": (("config.yaml", "--at", "1", *FEW), "end exactly as the undisturbed one"),
}
"""Command -> what to call it with, and what it then says."""


def call(*words: str) -> str:
    done = subprocess.run(
        [str(PROGRAM), *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder: example 1 with a method of its dataset, and two runs of it."""
    folder = tmp_path_factory.mktemp("commands")
    copy_example(folder)
    (folder / "search.yaml").write_text(SEARCH)
    with (folder / "digits.py").open("a") as code:
        code.write(DATASET)
    with chdir(folder):
        for name in ("first", "second"):
            call("train", "config.yaml", *SHORT, "--output-dir", f"log/{name}")
        yield folder


def test_every_command_is_here() -> None:
    assert COMMANDS.keys() == main.commands.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_installed_program_does_what_it_is_called_for(folder: Path, name: str) -> None:
    words, says = COMMANDS[name]
    assert says in call(name, *words)
