"""Runs whose checkpoints were removed when they had finished: every command says so, and none is begun again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emloop_mtl.checkpoint import list_checkpoints
from emloop_mtl.cli.run_folder import RunFolder
from emloop_mtl.constants import RUN_FILE

from .conftest import SHORT, Command, Program


def train(command: Command, folder: Path, what: str, *words: str) -> Path:
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    clear = f"  - SaveEvery: {{keep: 2}}\n  - ClearCheckpoints: {{what: {what}}}\n"
    path.write_text(text.replace("  - SaveLatest", f"{clear}  - SaveLatest"), encoding="utf-8")
    done = command("train", "config.yaml", *SHORT, *words, "--output-dir", "run")
    assert done.exit_code == 0, done.stderr
    return folder / "run"


def names(run: Path) -> set[str]:
    return {path.name.rpartition("-")[0] for path in list_checkpoints(run / "checkpoints")}


def test_a_run_without_checkpoints_is_left_as_it_is(folder: Path, command: Command) -> None:
    run = train(command, folder, "all", "eval={}")
    assert names(run) == set()
    before = (run / "metrics.jsonl").read_bytes()
    told = (
        "run has finished, after 2 epochs and 6 steps, and ClearCheckpoints has removed its checkpoints; "
        "nothing is left to do"
    )
    for words in (("resume", "run"), ("resume", "run", "--auto")):
        done = command(*words)
        assert (done.exit_code, [told in line for line in done.stderr.splitlines()].count(True)) == (0, 1), done.stderr
        assert "train on:" not in done.stderr
    longer = command("resume", "run", "hooks.StopAfter.epochs=3")
    assert longer.exit_code == 2
    (line,) = longer.stderr.splitlines()
    assert line.endswith(
        "run: has finished, and ClearCheckpoints has removed what it could go on from; "
        "begin a new one with emloop-mtl train"
    )
    for words in (("eval", "valid", "run"), ("predict", "valid", "run")):
        done = command(*words)
        assert done.exit_code == 1
        assert "has no checkpoint; ClearCheckpoints has removed" in done.stderr.splitlines()[-1]
    tagged = command("eval", "valid", "run", "--checkpoint", "latest")
    assert "has no checkpoint 'latest'; ClearCheckpoints has removed" in tagged.stderr
    verified = command("verify", "run")
    assert verified.exit_code == 1
    assert "cleared.json: tells which checkpoints ClearCheckpoints has removed" in verified.stderr
    (listed,) = json.loads(command("ls", ".", "--json").stdout)
    assert (listed["state"], listed["epochs"], listed["steps"], listed["checkpoints"]) == ("finished", 2, 6, 0)
    assert json.loads(command("prune", ".", "--dry-run", "--json").stdout)["removed"] == []
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_run_that_was_killed_after_its_checkpoints_were_removed_has_finished(folder: Path, command: Command) -> None:
    """Killed before the folder says so: without what is known of the checkpoints it would begin again."""
    run = train(command, folder, "all", "eval={}")
    record = run / RUN_FILE
    record.write_text(record.read_text().replace("ended: 0\n", ""))
    assert not RunFolder(run).is_noted("ended", 0)
    before = (run / "metrics.jsonl").read_bytes()
    done = command("resume", "run")
    assert done.exit_code == 0, done.stderr
    assert "has removed its checkpoints; nothing is left to do" in done.stderr
    assert (run / "metrics.jsonl").read_bytes() == before
    assert RunFolder(run).is_noted("ended", 0)


def test_the_best_that_is_left_is_scored_and_can_be_gone_on_from(folder: Path, command: Command) -> None:
    run = train(command, folder, "all_but_best")
    assert names(run) == {"best"}
    scores = (run / "scores.json").read_bytes()
    done = command("resume", "run")
    (best,) = list_checkpoints(run / "checkpoints")
    told = f"after 2 epochs and 6 steps, and ClearCheckpoints has removed its checkpoints but {best.name}; nothing"
    assert told in done.stderr
    (run / "scores.json").unlink()  # as if killed before the end was scored
    record = run / RUN_FILE
    record.write_text("".join(line for line in record.read_text().splitlines(True) if not line.startswith("ended")))
    assert command("resume", "run").exit_code == 0
    assert (run / "scores.json").read_bytes() == scores
    assert names(run) == {"best"}
    longer = command("resume", "run", "hooks.StopAfter.epochs=3")
    assert longer.exit_code == 0, longer.stderr
    assert "ClearCheckpoints has removed the end, so it is trained again from there on" in longer.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]


@pytest.mark.long
def test_intermediate_ones_do_not_come_back(folder: Path, command: Command) -> None:
    run = train(command, folder, "intermediate")
    assert names(run) == {"best", "latest"}
    assert "after 2 epochs and 6 steps; nothing is left to do" in command("resume", "run").stderr
    assert names(run) == {"best", "latest"}
    assert command("resume", "run", "hooks.StopAfter.epochs=3").exit_code == 0
    assert names(run) == {"best", "latest"}


def test_a_section_that_is_scored_at_the_end_needs_a_checkpoint(folder: Path, command: Command) -> None:
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  - SaveLatest", "  - ClearCheckpoints: {what: all}\n  - SaveLatest"))
    done = command("train", "config.yaml", *SHORT, "--output-dir", "run")
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if "ClearCheckpoints" in line]
    assert "config.yaml:" in line
    assert "the section 'eval' is scored with a checkpoint, and none would be left" in line
    assert not (folder / "run").exists()


@pytest.mark.long
def test_a_training_that_clears_its_checkpoints_resumes_exactly(folder: Path, program: Program) -> None:
    path = folder / "config.yaml"
    text = path.read_text(encoding="utf-8")
    clear = "  - SaveEvery: {keep: 2}\n  - ClearCheckpoints: {what: all_but_best}\n"
    path.write_text(text.replace("  - SaveLatest", f"{clear}  - SaveLatest"), encoding="utf-8")
    done = program("verify-resume", "config.yaml", "--at", "2,5", "-j", "2", *SHORT, "eval={}")
    assert done.returncode == 0, done.stderr + done.stdout
