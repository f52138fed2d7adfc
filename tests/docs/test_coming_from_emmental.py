"""The page for people who come from Emmental: every setting of theirs is there, and every name of ours exists.

``tests/emmental/settings.json`` holds the settings of Emmental 0.1.1 with their defaults. In the tables of the page
the second column names what does the same here: a dotted name, a command, or YAML with Emmental's defaults.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import emloop_mtl
from emloop_mtl import MainLoop, MultiTaskModel
from emloop_mtl import hooks as all_hooks
from emloop_mtl.cli import main
from emloop_mtl.config.overrides import SECTIONS as CONFIG_SECTIONS
from emloop_mtl.config.yaml_text import read_yaml
from emloop_mtl.optim.optimizers import create_optimizer
from emloop_mtl.optim.update import Update
from emloop_mtl.tasks.metrics import create_metric
from emloop_mtl.tasks.task_network import TaskNetwork

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/emmental.md").read_text(encoding="utf-8")
SPAN = re.compile(r"`([^`]+)`")
NONE = "—"
SECTIONS = ("meta_config", "data_config", "model_config", "learner_config", "logging_config")


class Row(NamedTuple):
    heading: str
    theirs: str
    ours: str
    difference: str


def rows() -> Iterator[Row]:
    heading = ""
    for line in PAGE.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif line.startswith("| ") and not line.startswith("| Emmental |"):
            theirs, ours, difference = (cell.strip() for cell in line.strip("|").split("|"))
            yield Row(heading, theirs, ours, difference)


ROWS = list(rows())
SETTING_ROWS = [row for row in ROWS if row.heading.split(".")[0] in SECTIONS]
NAMES = sorted({span for row in ROWS if row.heading != "Names of metrics" for span in SPAN.findall(row.ours)})


def named_settings(row: Row) -> list[str]:
    """The settings of a row in full; ``.eps`` after ``adam_config.betas`` means ``adam_config.eps``."""
    names: list[str] = []
    for span in SPAN.findall(row.theirs):
        group = names[-1].rpartition(".")[0] if span.startswith(".") else row.heading
        names.append(f"{group}{span}" if span.startswith(".") else f"{group}.{span}")
    return names


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        is_section = name.endswith(("_config", "_scheduler_config")) and isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": value}
    return found


EMMENTAL = flat(json.loads((ROOT / "tests/emmental/settings.json").read_text(encoding="utf-8")))


def test_every_setting_of_emmental_is_in_the_table_once() -> None:
    named = [name for row in SETTING_ROWS for name in named_settings(row)]
    assert sorted(named) == sorted(EMMENTAL)


def test_a_setting_without_counterpart_has_a_reason() -> None:
    for row in SETTING_ROWS:
        assert row.ours == NONE or SPAN.search(row.ours), row
        assert row.ours != NONE or row.difference, row


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_ours_leads_to_something(name: str) -> None:
    if name.startswith("emloop-mtl "):
        check_command(name)
    elif ": " in name:
        check_yaml(name)
    else:
        check_dotted(name)


@pytest.mark.parametrize("row", [row for row in ROWS if row.heading == "Names of metrics"], ids=lambda row: row.theirs)
def test_a_metric_has_the_name_and_reports_under_it(row: Row) -> None:
    reported = [create_metric(span).name for span in SPAN.findall(row.ours)]
    if row.difference in ("its name", "their names"):
        assert reported == SPAN.findall(row.ours)
    else:
        assert reported == SPAN.findall(row.difference)[: len(reported)] or row.theirs == "`precision`, `recall`, `f1`"


def check_command(text: str) -> None:
    _, name, *options = text.split()
    command = main.commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert set(options) <= known, text


def check_yaml(text: str) -> None:
    """Build what the text says, and compare its values with Emmental's defaults."""
    data = read_yaml(text, lambda line, column: f"{text}, {line}:{column}")[0]
    ((kind, settings),) = data.items()
    if kind == "optimizer":
        sparse = settings["class"] == "sparse_adam"
        layer = torch.nn.Embedding(2, 2, sparse=sparse)
        create_optimizer(settings, layer.named_parameters())
    elif kind == "schedule":
        all_hooks.LRSchedule(schedule=settings, **watched(settings))
    else:
        pytest.fail(f"nobody builds {kind!r}")
    (row,) = [row for row in ROWS if f"`{text}`" in row.ours]
    theirs = {name.rpartition(".")[2]: EMMENTAL[name] for name in named_settings(row)}
    assert {key: value for key, value in settings.items() if key != "class"} == theirs


def watched(settings: Mapping[str, Any]) -> dict[str, str]:
    if settings["class"] != "plateau":
        return {}
    return {"stream": "valid", "variable": "loss", "mode": "min"}


def check_dotted(name: str) -> None:
    first, *rest = name.split(".")
    if first == "model":
        check_model(rest, name)
    elif first == "main_loop":
        assert rest[0] in inspect.signature(MainLoop).parameters, name
    elif first == "dataset":
        assert rest[0] in inspect.signature(emloop_mtl.MultiTaskDataset).parameters, name
    elif first in CONFIG_SECTIONS:
        assert not rest, name
    else:
        owner = getattr(emloop_mtl, first, None) or getattr(all_hooks, first)
        for part in rest:
            assert part in inspect.signature(owner).parameters or callable(getattr(owner, part, None)), name


def check_model(rest: list[str], name: str) -> None:
    first, *more = rest
    if first == "network":
        assert callable(getattr(TaskNetwork, more[0])), name
        return
    assert first in inspect.signature(MultiTaskModel).parameters, name
    if first == "update":
        assert more[0] in inspect.signature(Update).parameters, name
    elif first == "optimizer" and more != ["class"]:
        layer = torch.nn.Linear(1, 1)
        value = {"lr": 0.1, "weight_decay": 0.1, "parameters": lambda network: [{"params": list(layer.parameters())}]}
        create_optimizer({"class": "adam", more[0]: value[more[0]]}, layer.named_parameters())
