"""``emloop-mtl compare``: scores side by side, and the settings that differ."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.cli.comparing import differing, flat_settings, short_names

from .conftest import Command, command_here
from .made_runs import NAME, make_run


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder with two runs."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("log/a"), epochs=3, scores={1: 0.5, 2: 0.75, 3: 0.625})
    make_run(
        Path("log/b"),
        epochs=2,
        scores={1: 0.875, 2: 0.25},
        lr=0.1,
        save_best="{mode: max, variable: kind/iris/accuracy}",
    )
    with command_here() as run:
        yield run


def compared(command: Command, *words: object) -> dict[str, Any]:
    done = command("compare", *words, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_scores_stand_side_by_side_with_the_settings_that_differ(command: Command) -> None:
    done = command("compare", "log/a", "log/b")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()}
    assert rows["epoch"] == ["2", "1"]
    assert rows[NAME] == ["0.75", "0.875"]
    assert rows["model.optimizer.lr"] == ["0.01", "0.1"]
    assert "seed" not in done.stdout
    assert "hooks.SaveBest" not in done.stdout  # the order of keys is no difference


def test_programs_get_all_of_it(command: Command) -> None:
    found = compared(command, "log/a", "log/b")
    assert found["runs"] == [
        {"run": "log/a", "epoch": 2, "step": 20, "scores": {NAME: 0.75, "train/loss": 1 / 3}},
        {"run": "log/b", "epoch": 1, "step": 10, "scores": {NAME: 0.875, "train/loss": 1 / 2}},
    ]
    assert found["settings"] == {"model.optimizer.lr": {"log/a": 0.01, "log/b": 0.1}}


def test_the_last_epochs_are_compared_on_request(command: Command) -> None:
    found = compared(command, "log/a", "log/b", "--last")
    assert [(run["epoch"], run["scores"][NAME]) for run in found["runs"]] == [(3, 0.625), (2, 0.25)]


def test_numbers_are_chosen_by_patterns(command: Command) -> None:
    found = compared(command, "log/a", "log/b", "--only", "*/loss")
    assert [list(run["scores"]) for run in found["runs"]] == [["train/loss"], ["train/loss"]]
    found = compared(command, "log/a", "log/b", "--only", "*/loss", "--only", "kind/*")
    assert {*found["runs"][0]["scores"]} == {"train/loss", NAME}
    done = command("compare", "log/a", "log/b", "--only", "nothing")
    assert done.exit_code == 0
    assert done.stderr == "there are no numbers to compare; --only fits none of them\n"


def test_the_scores_of_the_end_of_a_training_are_compared_as_well(command: Command) -> None:
    scores = {"checkpoint": {}, "scores": {"test": {"kind/iris/accuracy": 0.5, "loss": {"mean": 2.0}, "odd": "nan"}}}
    scores["scores"]["valid"] = {"kind/iris/accuracy": 0.125}
    Path("log/a/scores.json").write_text(json.dumps(scores))
    a, b = compared(command, "log/a", "log/b")["runs"]
    assert (a["scores"]["kind/iris/test/accuracy"], a["scores"]["test/loss/mean"]) == (0.5, 2.0)
    assert a["scores"][NAME] == 0.125, "what the end has scored counts"
    assert "test/odd" not in a["scores"]
    assert "kind/iris/test/accuracy" not in b["scores"]
    assert "kind/iris/test/accuracy" not in compared(command, "log/a", "log/b", "--last")["runs"][0]["scores"]


def test_equal_settings_are_said_to_be_equal(command: Command) -> None:
    make_run(Path("log/c"), scores={1: 0.5})
    assert command("compare", "log/a", "log/c").stdout.endswith("their settings are the same\n")


def test_runs_without_numbers_have_settings_all_the_same(command: Command) -> None:
    for name in ("a", "b"):
        Path("log", name, "metrics.jsonl").unlink()
    done = command("compare", "log/a", "log/b")
    assert done.stderr == "there are no numbers to compare; WriteJSON and WriteCSV write them\n"
    assert "model.optimizer.lr" in done.stdout


def test_names_lack_the_folders_that_all_have_in_common() -> None:
    assert short_names(["log/a/one"]) == ["one"]
    assert short_names(["log/a/one", "log/b/one"]) == ["a/one", "b/one"]
    assert short_names(["log", "log/a"]) == ["log", "log/a"]


def test_settings_are_named_as_overrides_name_them() -> None:
    config = {
        "model": {"args": [{"class": "a"}, {"class": "b"}], "sizes": [1, 2], "none": None, "empty": {}},
        "hooks": ["ScoreTasks", {"SaveBest": {"mode": "max"}}, {"SaveBest": {"mode": "min"}}, {"StopAfter": None}],
    }
    assert flat_settings(config) == {
        "model.args.0.class": "a",
        "model.args.1.class": "b",
        "model.sizes": [1, 2],
        "model.none": None,
        "model.empty": {},
        "hooks.ScoreTasks": {},
        "hooks.SaveBest.mode": "max",
        "hooks.SaveBest#2.mode": "min",
        "hooks.StopAfter": {},
    }


def test_a_setting_that_is_absent_differs_from_one_that_is_null() -> None:
    assert differing([{"a": None, "b": 1}, {"b": 1}]) == ["a"]
    assert differing([{"a": 1}, {"a": True}, {"a": 1}]) == ["a"]
    assert differing([{"a": 1.5, "b": {}}, {"a": 1.5, "b": {}}]) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["log/a", "nowhere"], "nowhere: no such folder"),
        (["log/a", "log"], "log: is not the folder of a run"),
        (["log/a", "log/b", "log/a"], "log/a: is named twice; compare different runs"),
    ],
)
def test_what_cannot_be_compared_is_refused(command: Command, words: list[str], says: str) -> None:
    done = command("compare", *words)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"{says}\n")


def test_one_run_is_no_comparison(command: Command) -> None:
    done = command("compare", "log/a")
    assert done.exit_code == 2
    assert "two runs or more" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.yaml", "a: !!python/name:os.abort", "config.yaml:1:4: tag !!python/name:os.abort is refused"),
        ("scores.json", "[1]", "scores.json cannot be read"),
        ("scores.json", None, "scores.json is no regular file"),
        ("metrics.jsonl", "\x1b[31m\n", "a line of metrics.jsonl is no JSON"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_line(command: Command, name: str, content: str | None, says: str) -> None:
    if content is None:
        os.mkfifo(f"log/b/{name}")
    else:
        Path("log/b", name).write_text(content)
    done = command("compare", "log/a", "log/b")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"log/b: {says}")
    assert done.stderr.strip().isprintable()
