"""The page for people who come from AllenNLP: every name of ours exists.

In the tables of the page the second column names what does the same here: a dotted name, or a command.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import emloop_mtl
from emloop_mtl import BackboneHeadsModel, MainLoop
from emloop_mtl import hooks as all_hooks
from emloop_mtl.cli import main
from emloop_mtl.tasks.task_network import TaskNetwork

PAGE = (Path(__file__).parents[2] / "docs/allennlp.md").read_text(encoding="utf-8")
SPAN = re.compile(r"`([^`]+)`")

ARGUMENTS = ("backbone", "heads", "loss_weights", "arg_name_mapping", "allowed_arguments", "initializer")
"""What AllenNLP's model takes beside a vocabulary."""

METHODS = ("forward", "get_metrics", "make_output_human_readable", "default_predictor", "get_forward_arguments")
"""What AllenNLP documents of its model and beside it."""


class Row(NamedTuple):
    theirs: str
    ours: str


def rows() -> Iterator[Row]:
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("| AllenNLP |"):
            theirs, ours, _ = (cell.strip() for cell in line.strip("|").split("|"))
            yield Row(theirs, ours)


NAMES = sorted({span for row in rows() for span in SPAN.findall(row.ours)})


@pytest.mark.parametrize("name", [*ARGUMENTS, *METHODS])
def test_what_allennlp_documents_of_its_model_is_in_the_table(name: str) -> None:
    assert any(re.search(rf"`[^`]*\b{name}\b[^`]*`", row.theirs) for row in rows())


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_model_takes_the_arguments_that_allennlps_model_takes(name: str) -> None:
    assert name in inspect.signature(BackboneHeadsModel).parameters


def test_each_row_names_something_of_ours() -> None:
    assert all(SPAN.search(row.ours) for row in rows())


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_ours_leads_to_something(name: str) -> None:
    first, *rest = name.split(".")
    if name.startswith("emloop-mtl "):
        assert name.removeprefix("emloop-mtl ") in main.commands  # type: ignore[attr-defined]
    elif first == "main_loop":
        assert rest[0] in inspect.signature(MainLoop).parameters
    elif first == "dataset":
        assert rest[0] in inspect.signature(emloop_mtl.MultiTaskDataset).parameters
    elif name.startswith("model.network."):
        assert callable(getattr(TaskNetwork, rest[1]))
    else:
        owner = getattr(emloop_mtl, first, None) or getattr(all_hooks, first)
        for part in rest:
            assert part in inspect.signature(owner).parameters or hasattr(owner, part), name
