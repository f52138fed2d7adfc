"""``emloop-mtl hooks``: all hooks, one of them, or the order of those of a config."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emloop_mtl import create_training
from emloop_mtl import hooks as package
from emloop_mtl.abstract_hook import EVENTS, AbstractHook
from emloop_mtl.cli.explained_hook import ExplainedHook

from .conftest import PROGRAM, Command, command_here

NAMES = [
    name
    for name in package.__all__
    if name not in ("AbstractHook", "AbstractWriter", "RecordFile", "TrainingTerminated", "WatchedNumber")
]

OWN = '''
from emloop_mtl import AbstractHook

class Own(AbstractHook):
    """Do [this] and
    that.

    :param often: how often
    """

    def __init__(self, often: int, seldom=float("inf"), **kwargs):
        super().__init__(**kwargs)

    def after_epoch(self, epoch_id, epoch_data):
        pass
'''


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder with a hook of one's own."""
    monkeypatch.chdir(tmp_path)
    Path("own_of_hooks.py").write_text(OWN)
    with command_here() as run:
        yield run


def test_all_hooks_are_listed_by_concern_with_a_line_each(command: Command) -> None:
    done = command("hooks")
    assert (done.exit_code, done.stderr) == (0, "")
    starts = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.split()]
    assert sorted(set(NAMES) & set(starts)) == sorted(NAMES)
    assert "Hooks that ask for checkpoints" in done.stdout


def test_programs_get_all_hooks(command: Command) -> None:
    found = json.loads(command("hooks", "--json").stdout)
    assert sorted(each["name"] for each in found) == sorted(NAMES)
    assert all(each["summary"] for each in found)
    folders = {path.name for path in Path(package.__file__ or "").resolve().parent.iterdir() if path.is_dir()}
    assert {each["concern"] for each in found} <= folders
    assert next(each for each in found if each["name"] == "SaveBest")["concern"] == "checkpointing"


@pytest.mark.parametrize("name", NAMES)
def test_each_hook_is_explained_whole(name: str) -> None:
    hook = ExplainedHook.of(name, getattr(package, name))
    assert hook.summary
    assert hook.example.startswith("hooks:")
    assert [key for key, about in hook.arguments.items() if not about["meaning"]] == []


def test_a_hook_is_explained_by_arguments_defaults_and_example(command: Command) -> None:
    done = command("hooks", "SaveBest")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("SaveBest: ")
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.split()}
    assert rows["variable"][1:3] == ["str", "loss"]
    assert rows["aggregation"][1:5] == ["str", "|", "None", "null"]
    assert rows["condition"][1:] == ["is", "called", "mode", "here"]
    assert "It acts at: after_epoch\n" in done.stdout
    assert "hooks:\n  - Evaluate: {streams: [valid]}\n" in done.stdout


def test_programs_get_what_is_known_of_a_hook(command: Command) -> None:
    hook = json.loads(command("hooks", "SaveBest", "--json").stdout)
    assert (hook["name"], hook["concern"], hook["events"]) == ("SaveBest", "checkpointing", ["after_epoch"])
    assert hook["training_only"] is True
    mode = hook["arguments"]["mode"]
    assert (mode["type"], mode["required"], mode["default"]) == ("'min' | 'max'", False, "min")


def test_a_hook_of_ones_own_is_explained_as_well(command: Command) -> None:
    hook = json.loads(command("hooks", "own_of_hooks.Own", "--json").stdout)
    assert (hook["summary"], hook["concern"], hook["events"]) == ("Do [this] and that.", "", ["after_epoch"])
    assert hook["arguments"] == {
        "often": {"type": "int", "required": True, "default": None, "meaning": "how often"},
        "seldom": {"type": "any", "required": False, "default": "inf", "meaning": ""},
    }
    shown = command("hooks", "own_of_hooks.Own").stdout
    assert shown.startswith("own_of_hooks.Own: Do [this] and that.\n")
    assert "required" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["SaveBset"], "unknown hook 'SaveBset'; did you mean 'SaveBest'?"),
        (["own_of_hooks.Other"], "module 'own_of_hooks' has no 'Other'"),
        (["os.getcwd"], "'os.getcwd' is not a hook: it does not inherit from AbstractHook"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["config.yaml", "hooks.SaveBest.mod=max"], "command line: hooks.SaveBest.mod=max: hooks[1] SaveBest: unknown"),
    ],
)
def test_a_mistake_is_one_line(command: Command, words: list[str], says: str) -> None:
    Path("config.yaml").write_text("dataset: {class: a.B}\nmodel: {class: a.B}\nhooks: [LogVariables, SaveBest: {}]\n")
    done = command("hooks", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(says)


def test_overrides_need_a_config(command: Command) -> None:
    assert command("hooks", "SaveBest", "hooks.SaveBest.mode=max").exit_code == 2


def test_the_order_is_that_in_which_the_hooks_of_a_training_act(folder: Path) -> None:
    with command_here() as run:
        words = ("config.yaml", "hooks.SaveBest.name=Best")
        order = json.loads(run("hooks", *words, "--json").stdout)
        training = create_training("config.yaml", "run", overrides=words[1:])
        for event in EVENTS:
            assert order[event] == [hook.name for hook in training.main_loop.hooks.acting_at(event)]
        assert "Best" in order["after_epoch"]
        shown = run("hooks", *words).stdout
        assert ", ".join(order["before_training"]) in shown


def test_the_order_needs_neither_data_nor_model(command: Command) -> None:
    hooks = "hooks: [own_of_hooks.Own: {often: 1, name: mine}, LogVariables]"
    Path("config.yaml").write_text(f"dataset: {{class: nowhere.Data}}\nmodel: {{class: nowhere.Model}}\n{hooks}\n")
    order = json.loads(command("hooks", "config.yaml", "--json").stdout)
    assert order["after_epoch"] == ["mine", "LogVariables"]
    assert order["after_batch"] == []


@pytest.mark.long
def test_the_installed_program_explains_a_hook() -> None:
    line = [str(PROGRAM), "hooks", "SaveBest", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert set(json.loads(done.stdout)["arguments"]) >= {"stream", "variable", "mode", "aggregation", "tag"}
    assert issubclass(package.SaveBest, AbstractHook)
