"""What the command says about itself, without importing torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import emloop_mtl
from emloop_mtl.cli import main

from .conftest import PROGRAM

COMMANDS = (
    "train",
    "resume",
    "eval",
    "predict",
    "check",
    "verify",
    "verify-resume",
    "ls",
    "compare",
    "plot",
    "prune",
    "gridsearch",
    "dataset",
    "hooks",
    "search",
    "schema",
    "new",
)


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout == f"emloop-mtl, version {emloop_mtl.__version__}\n"


def test_all_commands_are_listed() -> None:
    assert sorted(main.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"], prog_name="emloop-mtl")
    assert shown.exit_code == 0
    assert f"emloop-mtl {name} " in shown.stdout[shown.stdout.index("Example:") :]
    assert "-v, --verbose" in shown.stdout


def test_help_comes_without_torch() -> None:
    script = """
import sys
from emloop_mtl.cli import main
for words in (["--help"], ["--version"], *([name, "--help"] for name in sys.argv[1:])):
    main(words, standalone_mode=False)
    print("torch" in sys.modules, "numpy" in sys.modules)
"""
    line = [sys.executable, "-c", script, *COMMANDS]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert re.findall("^(?:True|False).*", done.stdout, re.M) == ["False False"] * (len(COMMANDS) + 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["hooks", "SaveBest"]], ids=["help", "command"])
def test_a_full_disk_is_one_line(words: list[str]) -> None:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:  # as Python ends, it tries once more to write what it has kept
        done = subprocess.run(
            [PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, env=variables, check=False
        )
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*No space left on device.*\n", done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("word", ["nope", "--nope", "train"])
def test_a_mistake_that_cannot_be_told_has_its_exit_code(word: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([PROGRAM, word], stdout=subprocess.PIPE, stderr=full, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, b"")


def test_an_unknown_option_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["train", "--fast", "config.yaml"]).exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_script_that_completes(shell: str) -> None:
    variables = {"_EMLOOP_MTL_COMPLETE": f"{shell}_source"}
    done = CliRunner().invoke(main, [], prog_name="emloop-mtl", env=variables)
    assert done.exit_code == 0
    assert f"_EMLOOP_MTL_COMPLETE={shell}_complete" in done.stdout


def test_a_command_is_completed() -> None:
    variables = {"_EMLOOP_MTL_COMPLETE": "bash_complete", "COMP_WORDS": "emloop-mtl verify-", "COMP_CWORD": "1"}
    done = CliRunner().invoke(main, [], prog_name="emloop-mtl", env=variables)
    assert done.stdout == "plain,verify-resume\n"
