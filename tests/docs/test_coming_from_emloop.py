"""The page for people who come from emloop: every hook of theirs is there, and every name of ours exists."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import emloop_mtl
from emloop_mtl import hooks
from emloop_mtl.cli import main
from emloop_mtl.config.schema import config_schema

PAGE = (Path(__file__).parents[2] / "docs" / "emloop.md").read_text(encoding="utf-8")
SPAN = re.compile(r"`([^`]+)`")

THEIRS = (
    *("AccumulateVariables", "Benchmark", "Check", "ClassificationMetrics", "ComputeStats", "EveryNEpoch", "Flatten"),
    *("LogDir", "LogProfile", "LogVariables", "LogitsToCsv", "OnPlateau", "PlotLines", "SaveBest"),
    *("SaveConfusionMatrix", "SaveEvery", "SaveFile", "SaveLatest", "SequenceToCsv", "ShowProgress", "StopAfter"),
    *("StopOnNaN", "StopOnPlateau", "TrainingTrace", "WriteCSV"),
)
"""The hooks of emloop 0.2.1."""

THEIR_SETTINGS = {
    "train_stream_name": "train",
    "extra_streams": (),
    "buffer": 0,
    "on_empty_batch": "error",
    "on_empty_stream": "error",
    "on_unused_sources": "warn",
    "on_incorrect_config": "error",
    "fixed_batch_size": None,
    "fixed_epoch_size": None,
    "skip_zeroth_epoch": False,
}
"""The settings of its main loop, with their defaults."""


def rows(heading: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of the first table below a heading, without its first line."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_hook_has_a_row_and_is_there_under_its_name() -> None:
    named: list[str] = []
    for theirs, ours, _ in rows("Hooks"):
        assert SPAN.findall(theirs) == SPAN.findall(ours)
        named += SPAN.findall(ours)
    assert sorted(named) == sorted(THEIRS)
    for name in named:
        assert issubclass(getattr(hooks, name), emloop_mtl.AbstractHook)


def test_what_differs_names_what_there_is() -> None:
    for _, ours, difference in rows("Hooks"):
        known = {
            *hooks.__all__,
            *("epoch_0",),
            *(argument for name in SPAN.findall(ours) for argument in _arguments(name)),
        }
        assert set(SPAN.findall(difference)) <= known


@pytest.mark.parametrize("row", list(rows("What differs")), ids=lambda row: f"{row[0]} {row[1]}".replace("`", ""))
def test_renamed_arguments_are_errors_that_print_the_new_name(row: list[str]) -> None:
    names, old, new = row
    for name in SPAN.findall(names):
        kind = getattr(hooks, name)
        renamed = dict(zip(SPAN.findall(old), SPAN.findall(new), strict=False))
        for argument in SPAN.findall(old):
            told = kind.unknown_argument(argument)
            if new.startswith("gone"):
                assert told.startswith(f"the argument {argument!r} is ")
            else:
                assert told == f"the argument {argument!r} is called {renamed[argument]!r} here"
                assert renamed[argument] in _arguments(name)


def test_every_renamed_argument_has_a_row() -> None:
    told = {
        (name, each)
        for names, old, _ in rows("What differs")
        for name in SPAN.findall(names)
        for each in SPAN.findall(old)
    }
    known = {(name, old) for name in THEIRS for old in getattr(hooks, name).renamed}
    # what is left are arguments that other hooks have, of emloop or of ours
    assert {argument for _, argument in known - told} <= {"objective", "on_failure"}


def test_every_setting_has_a_row_and_is_there_with_its_default() -> None:
    parameters = inspect.signature(emloop_mtl.MainLoop).parameters
    found = {}
    options = {option for command in main.commands.values() for each in command.params for option in each.opts}
    for theirs, ours, _ in rows("Settings"):
        for name in SPAN.findall(ours):
            section, _, setting = name.partition(".")
            if section == "main_loop":
                assert theirs == ours
                found[setting] = parameters[setting].default
            else:
                assert name in options or section in config_schema()["properties"]
    assert found == THEIR_SETTINGS


def test_imports_and_commands_exist() -> None:
    for _, ours in rows("Imports"):
        for name in SPAN.findall(ours.split(":")[0]):
            if name.startswith("emloop-mtl "):
                assert name.split()[1] in main.commands
            elif name in main.commands or "…" in name:
                continue
            else:
                assert hasattr(emloop_mtl, name.removeprefix("emloop_mtl."))


def _arguments(name: str) -> set[str]:
    return {
        argument
        for kind in getattr(hooks, name).__mro__
        if "__init__" in vars(kind)
        for argument in inspect.signature(kind.__init__).parameters
    }
