"""``emloop-mtl dataset``: any method of the dataset, with arguments."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PROGRAM, Command, command_here

MODULE = """
from pathlib import Path
import numpy as np
import torch
from emloop_mtl import BaseDataset

class Numbers(BaseDataset):
    limit = 3

    def _configure_dataset(self, size=2, **kwargs):
        if size > 9:
            raise FileNotFoundError(2, "No such file or directory", "numbers.csv")
        self.size = size

    @property
    def costly(self):
        raise RuntimeError("computed")

    def train_stream(self):
        for number in range(self.size):
            yield {"x": torch.tensor([number, 2.5])}

    def download(self):
        Path("downloaded").touch()

    def statistics(self, split, factor: float = 1.0):
        return {"split": split, "size": self.size * factor, "mean": np.float32(0.5), "rest": (float("nan"), Path("a"))}

    def anything(self, **kwargs):
        return kwargs

    def rows(self):
        return np.arange(3)

    def endless(self):
        while True:
            yield "more"

    def broken(self):
        raise KeyError("lost")

    def odd(self):
        return object()

    @staticmethod
    def text():
        return "some [red] text"
"""
CONFIG = "dataset: {class: numbers_of_dataset.Numbers, size: 3}\nmodel: {class: nowhere.Model}\n"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder with a dataset; its model does not exist, and is not needed."""
    monkeypatch.chdir(tmp_path)
    Path("numbers_of_dataset.py").write_text(MODULE)
    Path("config.yaml").write_text(CONFIG)
    with command_here() as run:
        yield run


def test_a_method_without_a_result_prints_nothing(command: Command) -> None:
    done = command("dataset", "download", "config.yaml")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert Path("downloaded").is_file()
    assert command("dataset", "download", "config.yaml", "--json").stdout == "null\n"


def test_arguments_are_yaml_and_overrides_have_dots(command: Command) -> None:
    words = ("split=valid", "factor=1.5", "dataset.size=4")
    shown = command("dataset", "statistics", "config.yaml", *words)
    assert shown.exit_code == 0, shown.stderr
    assert "'size': 6.0" in shown.stdout
    found = json.loads(command("dataset", "statistics", "config.yaml", *words, "--json").stdout)
    assert found == {"split": "valid", "size": 6.0, "mean": 0.5, "rest": ["nan", "a"]}
    found = json.loads(command("dataset", "anything", "config.yaml", "a=[1, {b: no}]", "c=", "--json").stdout)
    assert found == {"a": [1, {"b": "no"}], "c": None}


def test_what_a_method_yields_is_printed_line_by_line(command: Command) -> None:
    done = command("dataset", "train_stream", "config.yaml", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"x": [float(n), 2.5]} for n in range(3)]
    assert len(command("dataset", "train_stream", "config.yaml").stdout.splitlines()) == 3


def test_an_array_is_one_value(command: Command) -> None:
    assert command("dataset", "rows", "config.yaml").stdout == "array([0, 1, 2])\n"
    assert json.loads(command("dataset", "rows", "config.yaml", "--json").stdout) == [0, 1, 2]


@pytest.mark.long
def test_what_has_no_end_ends_when_nobody_reads_it(command: Command) -> None:
    line = f"{PROGRAM} dataset endless config.yaml | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("more\n141\n", "")


def test_text_is_printed_as_it_is(command: Command) -> None:
    assert command("dataset", "text", "config.yaml").stdout == "some [red] text\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["downlaod", "config.yaml"], "dataset Numbers has no method 'downlaod'; did you mean 'download'?"),
        (["limit", "config.yaml"], "'limit' of dataset Numbers is no method but a int"),
        (["__init__", "config.yaml"], "'__init__' is no method to be called from here"),
        (["download", "config.yaml", "fast=1"], "Numbers.download: unknown argument 'fast'"),
        (
            ["statistics", "config.yaml", "splitt=a"],
            "Numbers.statistics: unknown argument 'splitt'; did you mean 'split'?",
        ),
        (
            ["statistics", "config.yaml"],
            "Numbers.statistics: missing argument 'split'",
        ),
        (
            ["statistics", "config.yaml", "split=1", "split=2"],
            "command line: split=2: the argument 'split' is given twice",
        ),
        (
            ["statistics", "config.yaml", "valid"],
            "command line: valid: an argument of the method is written name=value; an override has a dot, "
            "e.g. dataset.size=3",
        ),
        (["odd", "config.yaml", "--json"], "--json: what the method returns is not JSON: Object of type object is not"),
        (["download", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["statistics", "config.yaml", "split=1", "factor=b"], "Numbers.statistics: factor: expected float, got 'b'"),
        (["download", "empty.yaml"], "empty.yaml:1:1: missing section 'dataset'"),
        (["download", "config.yaml", "dataset.size=10"], "config.yaml:1:1: dataset: numbers_of_dataset.Numbers: File"),
        (["download", "config.yaml", "dataset.class=nix.Data"], "command line: dataset.class=nix.Data: "),
        (["anything", "config.yaml", "a=[1"], "command line: a=[1: not valid YAML"),
    ],
)
def test_a_mistake_is_one_line(command: Command, words: list[str], says: str) -> None:
    Path("empty.yaml").write_text("model: {class: a.B}\n")
    done = command("dataset", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(says)


def test_an_error_of_the_method_is_one_line_too(command: Command) -> None:
    done = command("dataset", "broken", "config.yaml")
    assert (done.exit_code, done.stderr) == (1, "error: KeyError: 'lost' (-v shows the traceback)\n")


def test_methods_of_a_multi_task_dataset_are_called(folder: Path) -> None:
    with command_here() as run:
        names = run("dataset", "stream_names", "config.yaml", "--json").stdout
        lines = run("dataset", "valid_stream", "config.yaml", "dataset.max_rows=40", "--json").stdout.splitlines()
    assert json.loads(names) == ["test", "train", "valid"]
    assert [len(json.loads(line)["digit"]) for line in lines] == [32, 8]
