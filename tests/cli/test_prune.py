"""``emloop-mtl prune``: runs that have not come far are removed, and nothing else ever is."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from emloop_mtl.cli import main, pruning
from emloop_mtl.cli.run_folder import RunFolder

from .conftest import PROGRAM, Command, command_here
from .made_runs import make_run


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder with runs of 0, 1 and 5 epochs."""
    monkeypatch.chdir(tmp_path)
    for epochs in (0, 1, 5):
        make_run(Path(f"log/run{epochs}"), epochs=epochs)
    with command_here() as run:
        yield run


def left() -> list[str]:
    return sorted(path.name for path in Path("log").iterdir())


@pytest.mark.parametrize(
    ("words", "stay"),
    [
        ([], ["run1", "run5"]),
        (["--epochs", "5"], ["run5"]),
        (["-e", "6"], []),
        (["-e", "0"], ["run0", "run1", "run5"]),
    ],
)
def test_runs_of_too_few_epochs_are_removed(command: Command, words: list[str], stay: list[str]) -> None:
    done = command("prune", "--yes", *words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert left() == stay
    number = 3 - len(stay)
    said = f"removed {number} run{'s' * (number != 1)}" if number else "there is nothing to remove"
    assert done.stdout.splitlines()[-1] == said


def test_runs_without_a_checkpoint_are_removed_on_request(command: Command) -> None:
    shutil.rmtree("log/run5/checkpoints")
    command("prune", "--yes")
    assert left() == ["run1", "run5"]
    command("prune", "--yes", "--without-checkpoint")
    assert left() == ["run1"]


def test_a_dry_run_removes_nothing(command: Command) -> None:
    done = command("prune", "--dry-run", "-e", "2")
    assert done.exit_code == 0
    assert [name for name in ("run0", "run1", "run5") if name in done.stdout] == ["run0", "run1"]
    assert done.stdout.endswith("nothing was removed\n")
    assert left() == ["run0", "run1", "run5"]


@pytest.mark.parametrize(("answer", "stay"), [("y\n", ["run1", "run5"]), ("n\n", ["run0", "run1", "run5"])])
def test_it_asks_before_it_removes(command: Command, answer: str, stay: list[str]) -> None:
    done = CliRunner().invoke(main, ["prune"], input=answer)
    assert done.exit_code == 0
    assert "Remove 1 run, " in done.stderr
    assert left() == stay


def test_where_nobody_answers_nothing_is_removed(command: Command) -> None:
    done = command("prune")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "nothing was removed: nobody has answered; --yes removes without asking"
    assert left() == ["run0", "run1", "run5"]


def test_programs_get_an_object(command: Command) -> None:
    assert command("prune", "--json").exit_code == 2
    shown = json.loads(command("prune", "--json", "--dry-run").stdout)
    assert (shown["dry_run"], [run["run"] for run in shown["removed"]]) == (True, ["log/run0"])
    done = json.loads(command("prune", "--json", "--yes").stdout)
    assert (done["dry_run"], [run["run"] for run in done["removed"]]) == (False, ["log/run0"])
    assert (done["kept"], done["failed"]) == ({}, {})
    assert left() == ["run1", "run5"]


def test_folders_below_are_looked_into_on_request(command: Command) -> None:
    make_run(Path("log/deep/run0"), epochs=0)
    command("prune", "--yes")
    assert Path("log/deep/run0").is_dir()
    command("prune", "--yes", "-r")
    assert not Path("log/deep/run0").exists()
    assert Path("log/deep").is_dir()


def test_a_run_that_is_trained_stays(command: Command) -> None:
    with RunFolder(Path("log/run0")).locked():
        shown, done = command("prune", "--dry-run"), command("prune", "--yes")
    assert shown.stdout == "there is nothing to remove\n"
    assert (shown.exit_code, done.exit_code) == (0, 0)
    assert shown.stderr == done.stderr == "kept: log/run0: a process trains in it\n"
    assert left() == ["run0", "run1", "run5"]


def other_project(folder: Path) -> None:
    """A folder that looks like a run: configs and checkpoints are called like that everywhere."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("lr: 1\n")
    (folder / "train.py").write_text("print()\n")


def other_record(folder: Path) -> None:
    other_project(folder)
    (folder / "run.yaml").write_text("command: python train.py\n")


def without_record(folder: Path) -> None:
    make_run(folder, epochs=0)
    (folder / "run.yaml").unlink()


def without_config(folder: Path) -> None:
    make_run(folder, epochs=0)
    (folder / "config.yaml").unlink()


def broken_trace(folder: Path) -> None:
    make_run(folder, epochs=0)
    (folder / "trace.yaml").write_text("epochs_done: many\n")


def broken_checkpoint(folder: Path) -> None:
    make_run(folder, epochs=0)
    (folder / "checkpoints/latest-00000001/manifest.json").write_text("{}")


def holds_modules(folder: Path) -> None:
    make_run(folder, epochs=0)
    (folder / "run.yaml").write_text(f"config: c\nsource_folder: {(folder / 'code').resolve()}\nworking_folder: /\n")


def no_run(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def linked_run(folder: Path) -> None:
    make_run(Path("elsewhere"), epochs=0)
    folder.symlink_to(Path("elsewhere").resolve())


def linked_config(folder: Path) -> None:
    make_run(folder, epochs=0)
    (folder / "config.yaml").rename("config.yaml")
    (folder / "config.yaml").symlink_to(Path("config.yaml").resolve())


KEPT = (
    other_project,
    other_record,
    without_record,
    without_config,
    broken_trace,
    broken_checkpoint,
    holds_modules,
    no_run,
    linked_run,
    linked_config,
)


@pytest.mark.parametrize("make", KEPT, ids=lambda make: make.__name__)
def test_what_is_not_certainly_a_run_stays(command: Command, make: Callable[[Path], None]) -> None:
    make(Path("log/mine"))
    before = sorted(Path("log/mine").resolve().rglob("*"))
    done = command("prune", "--yes", "--without-checkpoint", "-r", "-e", "9")
    assert done.exit_code == 0, done.stderr
    assert left() == ["mine"]
    assert sorted(Path("log/mine").resolve().rglob("*")) == before


def test_the_working_folder_stays(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("log/run0/checkpoints")
    done = command("prune", "--yes", "../..")
    assert done.stderr == "kept: ../../run0: holds the working folder\n"
    assert Path("../../run0").is_dir()


def test_links_inside_of_a_run_are_removed_and_not_followed(command: Command) -> None:
    Path("mine").mkdir()
    Path("mine/file").touch()
    Path("log/run0/link").symlink_to(Path("mine").resolve())
    Path("log/run0/checkpoints/link").symlink_to(Path("mine/file").resolve())
    command("prune", "--yes")
    assert left() == ["run1", "run5"]
    assert Path("mine/file").is_file()


def test_what_cannot_be_removed_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("log/.run0-removed-" + str(os.getpid())).mkdir()
    Path("log/.run0-removed-" + str(os.getpid()), "in the way").touch()
    make_run(Path("log/run00"), epochs=0)
    done = command("prune", "--yes")
    assert done.exit_code == 1
    assert done.stderr.startswith("cannot be removed: log/run0: ")
    assert done.stdout.endswith("removed 1 run\n")  # the others are removed all the same
    assert Path("log/run0/config.yaml").is_file()


def test_a_run_that_somebody_else_removes_meanwhile_is_no_failure(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(runs: object) -> bool:
        shutil.rmtree("log/run0")
        return True

    monkeypatch.setattr(pruning, "_confirmed", confirmed)
    done = command("prune", "-e", "2")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("removed 1 run\n")
    assert left() == ["run5"]


def test_a_run_that_trains_or_is_another_one_by_the_time_of_the_answer_stays(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(runs: object) -> bool:
        Path("log/run0/trace.yaml").write_text(Path("log/run5/trace.yaml").read_text())
        return True

    monkeypatch.setattr(pruning, "_confirmed", confirmed)
    done = command("prune", "-e", "1")
    assert done.stderr == "kept: log/run0: has come further meanwhile\n"
    assert left() == ["run0", "run1", "run5"]
    with ExitStack() as stack:
        monkeypatch.setattr(
            pruning, "_confirmed", lambda runs: stack.enter_context(RunFolder(Path("log/run1")).locked()) is None
        )
        done = command("prune", "-e", "2")
    assert done.stderr == "kept: log/run1: a process trains in it\n"
    assert left() == ["run0", "run1", "run5"]


def test_a_run_that_takes_the_place_of_another_one_meanwhile_stays(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock

    def replaced(handle: int, how: int) -> None:
        lock(handle, how)
        if how & fcntl.LOCK_EX:
            Path("log/run0").rename("other")
            make_run(Path("log/run0"), epochs=0)

    monkeypatch.setattr(fcntl, "flock", replaced)
    done = command("prune", "--yes")
    assert done.stderr == "kept: log/run0: is another folder meanwhile\n"
    assert left() == ["run0", "run1", "run5"]


def test_folders_that_are_too_deep_to_remove_keep_no_others(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(Path("log/run00"), epochs=0)
    remove = shutil.rmtree

    def deep(path: Path) -> None:  # a real one would be too deep for what clears up after the tests
        if "run0-" in path.name:
            raise RecursionError
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", deep)
    done = command("prune", "--yes")
    assert done.exit_code == 1
    assert done.stderr.startswith("cannot be removed: log/.run0-removed-")
    assert done.stderr.endswith(": its folders are too deep\n")
    assert done.stdout.endswith("removed 1 run\n")


def test_the_installed_program_prunes(command: Command) -> None:
    line = [str(PROGRAM), "prune", "log", "--yes", "-e", "5"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.endswith("removed 2 runs\n")
    assert left() == ["run5"]
    refused = subprocess.run(
        [str(PROGRAM), "prune", "nowhere"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (refused.returncode, refused.stderr) == (2, "nowhere: no such folder\n")
