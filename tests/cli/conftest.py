"""Example 1 and the command, for the tests of the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from emloop_mtl.cli import main

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "01_digits"
PROGRAM = Path(sys.executable).with_name("emloop-mtl")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

SHORT = ("dataset.max_rows=96", "hooks.StopAfter.epochs=2")
"""Overrides that make a training of example 1 as short as it can be: 3 steps in each of 2 epochs."""

Process = subprocess.CompletedProcess[str]
Program = Callable[..., Process]
Command = Callable[..., Result]


def copy_example(folder: Path) -> None:
    for name in ("config.yaml", "digits.py"):
        shutil.copy(EXAMPLE / name, folder)


def train_here(folder: Path, *words: object) -> None:
    """Train the config in a folder, as short as it can be; for runs that the tests of a file share."""
    with chdir(folder), command_here() as run:
        done = run("train", "config.yaml", *SHORT, *words)
    assert done.exit_code == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, made the working folder; it holds a copy of example 1."""
    copy_example(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def program(folder: Path) -> Program:
    """Runs the installed program in a process of its own."""

    def run(*words: object) -> Process:
        line = [str(PROGRAM), *map(str, words)]
        return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)

    return run


@contextmanager
def command_here() -> Iterator[Command]:
    """Give what runs the command in this process, which has imported torch already, and forget what it imports."""
    path, modules = list(sys.path), set(sys.modules)
    yield lambda *words: CliRunner().invoke(main, [*map(str, words)], prog_name="emloop-mtl")
    sys.path[:] = path
    for name in {"digits", "other"} - modules:
        sys.modules.pop(name, None)


@pytest.fixture
def command(folder: Path) -> Iterator[Command]:
    """Runs the command in this process, in the folder."""
    with command_here() as run:
        yield run
