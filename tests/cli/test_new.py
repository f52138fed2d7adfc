"""The project that the command begins with: it trains at once, its tests pass, and its code is as strict as ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ENVIRONMENT, PROGRAM, ROOT, Command, Program

FILES = [".gitignore", "README.md", "config.yaml", "count_records.py", "points.py", "pyproject.toml", "test_project.py"]
TOOLS = PROGRAM.parent
PATIENCE = 900
"""Seconds that mypy may take to read torch on a busy machine; it takes a good half minute on a quiet one."""


@pytest.fixture
def project(program: Program, folder: Path) -> Path:
    done = program("new", "made/project")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "  emloop-mtl train made/project/config.yaml"
    return folder / "made/project"


def run(project: Path, *words: object) -> str:
    environment = {**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*map(str, words)], cwd=project, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_trains_at_once(command: Command, project: Path, folder: Path) -> None:
    before = set(sys.modules)
    done = command("train", "made/project/config.yaml", "hooks.StopAfter.epochs=2", "--output-dir", "run")
    for name in {"points", "count_records"} - before:
        sys.modules.pop(name, None)
    assert done.exit_code == 0, done.output
    assert "ring" in done.stdout
    assert '"valid/records": ' in (folder / "run/metrics.jsonl").read_text()
    assert len((folder / "run/profile.jsonl").read_text().splitlines()) == 3


@pytest.mark.long
def test_its_tests_pass(project: Path) -> None:
    assert "2 passed" in run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")


def test_its_code_is_clean(project: Path) -> None:
    ruff, config = TOOLS / "ruff", ROOT / "pyproject.toml"
    formatted = run(project, ruff, "format", "--check", "--no-cache", "--config", config, ".")
    assert formatted == "4 files already formatted\n"  # the code, and what README.md shows of it
    theirs = "lint.isort.known-first-party=[]"  # what is first-party here is not so there
    for settings in (["--config", config, "--config", theirs], []):
        assert run(project, ruff, "check", "--no-cache", *settings, ".") == "All checks passed!\n"


@pytest.mark.long
@pytest.mark.timeout(PATIENCE)
def test_its_types_are_right(project: Path, tmp_path: Path) -> None:
    found = run(project, TOOLS / "mypy", "--strict", "--cache-dir", tmp_path / "types", ".")
    assert found == "Success: no issues found in 3 source files\n"


def test_the_command_that_trains_it_can_be_typed_as_it_is_told(command: Command, folder: Path) -> None:
    done = command("new", "zwei Wörter")
    assert done.stdout.splitlines()[-1] == "  emloop-mtl train 'zwei Wörter/config.yaml'"
    assert sorted(path.name for path in (folder / "zwei Wörter").iterdir()) == sorted(FILES)


def test_a_folder_that_holds_something_is_left_alone(command: Command, project: Path, folder: Path) -> None:
    (project / "config.yaml").write_text("mine")
    for target, said in {
        "made/project": "made/project: the folder holds '.gitignore' and 6 more; a project begins in an empty one",
        "made": "made: the folder holds 'project'; a project begins in an empty one",
        "config.yaml": "config.yaml: config.yaml is no folder",
        "config.yaml/project": "config.yaml/project: config.yaml/project is no folder",
        "x" * 300: "the project cannot be written: File name too long",
    }.items():
        done = command("new", target)
        assert done.exit_code == 2
        assert done.stderr.endswith(f"{said}\n")
        assert len(done.stderr.splitlines()) == 1
    assert (project / "config.yaml").read_text() == "mine"


def test_an_empty_folder_is_taken(command: Command, folder: Path) -> None:
    (folder / "empty").mkdir()
    assert command("new", "empty").exit_code == 0
    assert sorted(path.name for path in (folder / "empty").iterdir()) == FILES
