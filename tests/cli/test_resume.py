"""``emloop-mtl resume``: where it begins, what it changes, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from emloop_mtl.checkpoint import list_checkpoints
from emloop_mtl.cli.run_folder import RunFolder
from emloop_mtl.config.load import load_config

from .conftest import SHORT, Command, Program


@pytest.fixture
def run(folder: Path, command: Command) -> Path:
    """A finished run of two epochs."""
    done = command("train", "config.yaml", *SHORT, "--output-dir", "run")
    assert done.exit_code == 0, done.stderr
    return folder / "run"


def content(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_finished_run_is_left_as_it_is(run: Path, command: Command) -> None:
    before = content(run)
    done = command("resume", "run")
    assert done.exit_code == 0
    assert "run has finished, after 2 epochs and 6 steps; nothing is left to do" in done.stderr
    after = content(run)
    assert after.pop("train.log").startswith(before.pop("train.log"))
    assert after == before


def test_what_a_kill_has_kept_from_being_removed_goes(run: Path, command: Command) -> None:
    before = content(run)
    (latest,) = (run / "checkpoints").glob("latest-*")
    shutil.copytree(latest, latest.with_name("latest-00000001"))
    assert command("resume", "run").exit_code == 0
    assert content(run).keys() == before.keys()


@pytest.mark.long
def test_a_finished_run_can_be_made_longer(run: Path, program: Program, command: Command) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    done = program("resume", "run", "hooks.StopAfter.epochs=3")
    assert done.returncode == 0, done.stderr
    assert (run / "metrics.jsonl").read_bytes().startswith(before)
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2, 3]
    assert load_config(run / "config.yaml").data == load_config(run / "config.yaml", ["hooks.StopAfter.epochs=3"]).data
    assert "digit" in done.stdout
    assert "3 epochs are done" in (run / "train.log").read_text()
    again = command("resume", "run")
    assert "after 3 epochs and 9 steps; nothing is left to do" in again.stderr


def test_an_override_that_asks_for_nothing_more_changes_nothing(run: Path, command: Command) -> None:
    before = (run / "config.yaml").read_bytes()
    done = command("resume", "run", "hooks.StopAfter.epochs=1")
    assert done.exit_code == 0
    assert "nothing is left to do" in done.stderr
    assert (run / "config.yaml").read_bytes() == before


def test_a_mistake_in_an_override_changes_nothing(run: Path, command: Command) -> None:
    before = (run / "config.yaml").read_bytes()
    done = command("resume", "run", "hooks.StopAfter.epoch=3")
    assert done.exit_code == 2
    assert "unknown argument 'epoch'; did you mean 'epochs'?" in done.stderr
    assert (run / "config.yaml").read_bytes() == before


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(run: Path, command: Command) -> None:
    whole = (run / "metrics.jsonl").read_bytes()
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").write_bytes(whole.splitlines(keepends=True)[0])
    done = command("resume", "run")
    assert done.exit_code == 0, done.stderr
    assert "has no checkpoint yet: beginning again" in done.stderr
    assert (run / "metrics.jsonl").read_bytes() == whole


def test_a_damaged_checkpoint_is_named_and_an_older_one_taken(run: Path, command: Command) -> None:
    assert command("train", "config.yaml", *SHORT, "hooks.StopAfter.epochs=3", "--output-dir", "whole").exit_code == 0
    newest = list_checkpoints(run / "checkpoints")[0]
    (newest / "state.pt").write_bytes(b"damaged")
    done = command("resume", "run", "hooks.StopAfter.epochs=3")
    assert done.exit_code == 0, done.stderr
    assert f"{newest.name}/state.pt" in done.stderr
    assert "warning: " in done.stderr
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2, 3]


def test_without_any_valid_checkpoint_it_fails_and_removes_nothing(run: Path, command: Command) -> None:
    for path in list_checkpoints(run / "checkpoints"):
        (path / "state.pt").write_bytes(b"damaged")
    before = content(run)
    done = command("resume", "run")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert content(run).keys() == before.keys()


def test_code_from_outside_the_working_folder_needs_trust(
    run: Path, folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    refused = command("resume", "../run", "hooks.StopAfter.epochs=3")
    assert refused.exit_code == 2
    assert "'digits' is not trusted: without --trust" in refused.stderr
    done = command("resume", "../run", "hooks.StopAfter.epochs=3", "--trust")
    assert done.exit_code == 0, done.stderr


def test_a_working_folder_that_was_moved_as_a_whole_is_still_trusted(
    run: Path, folder: Path, command: Command, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path_factory.mktemp("other") / "moved"
    shutil.move(folder, moved)
    monkeypatch.chdir(moved)
    done = command("resume", "run", "hooks.StopAfter.epochs=3")
    assert done.exit_code == 0, done.stderr


def test_two_processes_never_train_in_one_folder(run: Path, command: Command) -> None:
    with RunFolder(run).locked():
        done = command("resume", "run", "hooks.StopAfter.epochs=3")
    assert done.exit_code == 75
    assert done.stderr == "run: another process is training in this folder\n"


def test_a_folder_of_runs_is_answered_with_the_newest_of_them(folder: Path, command: Command) -> None:
    for place, name in enumerate(("first", "third", "second")):
        (folder / "log" / name).mkdir(parents=True)
        (folder / "log" / name / "run.yaml").write_text("")
        os.utime(folder / "log" / name / "run.yaml", (place, place))
    (folder / "log" / "note").write_text("")
    done = command("resume", "log")
    assert done.exit_code == 2
    assert done.stderr == "log: is not the folder of a run: it has no config.yaml; log/second is one\n"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("digits.py", "digits.py: is a file, not the folder of a run"),
        ("log", "log: is not the folder of a run: it has no config.yaml"),
    ],
)
def test_what_is_no_run_is_refused(folder: Path, command: Command, path: str, says: str) -> None:
    (folder / "log").mkdir()
    done = command("resume", path)
    assert done.exit_code == 2
    assert done.stderr == f"{says}\n"
