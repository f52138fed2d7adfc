"""``emloop-mtl resume --auto``: called again and again it ends a training, and then does nothing more."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emloop_mtl.checkpoint import list_checkpoints
from emloop_mtl.cli.run_comparison import differences_of_runs
from emloop_mtl.cli.run_folder import RunFolder
from emloop_mtl.config.load import load_config

from .conftest import ENVIRONMENT, PROGRAM, SHORT, Command

AUTO = ("resume", "run", "--auto", "--config", "config.yaml")

KEPT = "eval={valid: {hooks: [ScoreTasks, WritePredictions]}}"
"""An evaluation at the end that leaves a file."""

PATIENCE = 120
"""Seconds that a process may take to get somewhere; most of them go into imports on a busy machine."""

DISTURB = """
import os
import signal
from pathlib import Path

from emloop_mtl import AbstractHook, TrainingTerminated


class Disturb(AbstractHook):
    '''Does what a file in the working folder says, at the end of an epoch.'''

    def requires(self):
        return ()

    def provides(self):
        return ()

    def after_epoch(self, epoch_id, epoch_data):
        wish = Path("wish")
        word, _, epoch = (wish.read_text() if wish.exists() else "nothing 0").partition(" ")
        if epoch_id == int(epoch):
            if word == "fail":
                raise RuntimeError("as wished")
            if word == "signal":
                wish.unlink()
                os.kill(os.getpid(), signal.SIGTERM)
            if word == "end":
                raise TrainingTerminated("as wished")
"""


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time of the last change and the bytes of everything in a folder, and of the folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture
def disturbed(folder: Path) -> list[str]:
    """Overrides that put the hook ``Disturb`` into a short training."""
    (folder / "disturb.py").write_text(DISTURB)
    return [*SHORT, "hooks.0=disturb.Disturb"]


def test_it_begins_a_training_and_then_does_nothing_more(folder: Path, command: Command) -> None:
    done = command(*AUTO, *SHORT, KEPT)
    assert done.exit_code == 0, done.stderr
    assert load_config(folder / "run" / "config.yaml").data == load_config("config.yaml", [*SHORT, KEPT]).data
    assert (folder / "run" / "predictions").is_dir()
    before = content(folder / "run")
    for words in ((*AUTO, *SHORT, KEPT), ("resume", "run", "--auto"), ("resume", "run")):
        again = command(*words)
        assert again.exit_code == 0
        assert "run has finished, after 2 epochs and 6 steps; nothing is left to do" in again.stderr
        assert content(folder / "run") == before


def test_a_signal_is_gone_on_from_and_ends_alike(folder: Path, command: Command, disturbed: list[str]) -> None:
    assert command("train", "config.yaml", *disturbed, "--output-dir", "whole").exit_code == 0
    (folder / "wish").write_text("signal 1")
    assert command(*AUTO, *disturbed).exit_code == 128 + signal.SIGTERM
    assert command(*AUTO, *disturbed).exit_code == 0
    assert differences_of_runs(folder / "run", folder / "whole") == []


def test_a_training_that_a_hook_has_ended_stays_ended(folder: Path, command: Command, disturbed: list[str]) -> None:
    (folder / "wish").write_text("end 1")
    assert command(*AUTO, *disturbed).exit_code == 0
    before = content(folder / "run")
    assert command(*AUTO, *disturbed).exit_code == 0
    assert content(folder / "run") == before


def forget_the_end(run: Path) -> None:
    """Make a run what one is that was killed after its last checkpoint, before its evaluation."""
    record = (run / "run.yaml").read_text().splitlines(keepends=True)
    (run / "run.yaml").write_text("".join(line for line in record if not line.startswith("ended")))
    for path in [run / "scores.json", *(run / "predictions").iterdir()]:
        path.unlink()


@pytest.mark.parametrize("wish", ["nothing 0", "end 1"])
def test_what_a_kill_has_kept_from_being_done_at_the_end_is_done(
    folder: Path, command: Command, disturbed: list[str], wish: str
) -> None:
    (folder / "wish").write_text(wish)
    assert command(*AUTO, *disturbed, KEPT).exit_code == 0
    (folder / "run").rename(folder / "whole")
    assert command(*AUTO, *disturbed, KEPT).exit_code == 0
    forget_the_end(folder / "run")
    assert command(*AUTO, *disturbed, KEPT).exit_code == 0
    assert differences_of_runs(folder / "run", folder / "whole") == []
    before = content(folder / "run")
    assert command(*AUTO, *disturbed, KEPT).exit_code == 0
    assert content(folder / "run") == before


def test_a_run_without_checkpoints_is_not_trained_again(folder: Path, command: Command) -> None:
    hooks = "hooks=[WriteJSON, {StopAfter: {epochs: 1}}]"
    assert command(*AUTO, SHORT[0], hooks).exit_code == 0
    before = content(folder / "run")
    assert command(*AUTO, SHORT[0], hooks).exit_code == 0
    assert content(folder / "run") == before
    assert command("resume", "run", "--auto", "hooks.StopAfter.epochs=2").exit_code == 0
    assert len((folder / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_run_that_is_made_longer_becomes_longer_also_after_a_failure(
    folder: Path, command: Command, disturbed: list[str]
) -> None:
    assert command(*AUTO, *disturbed).exit_code == 0
    (folder / "wish").write_text("fail 3")
    longer = ["hooks.StopAfter.epochs=4"]
    failed = command("resume", "run", "--auto", *longer)
    assert failed.exit_code == 1
    assert "as wished" in failed.stderr
    (folder / "wish").unlink()
    done = command("resume", "run", "--auto")  # its config says already how long it is to be
    assert done.exit_code == 0
    assert len((folder / "run" / "metrics.jsonl").read_text().splitlines()) == 5
    before = content(folder / "run")
    assert command("resume", "run", "--auto", *longer).exit_code == 0
    assert content(folder / "run") == before


def test_a_failure_is_no_end(folder: Path, command: Command, disturbed: list[str]) -> None:
    (folder / "wish").write_text("fail 1")
    assert [command(*AUTO, *disturbed).exit_code for _ in range(2)] == [1, 1]
    (folder / "wish").unlink()
    assert command(*AUTO, *disturbed).exit_code == 0


def leave_nothing(run: Path) -> None:
    run.mkdir()


def leave_an_empty_log(run: Path) -> None:
    run.mkdir()
    (run / "train.log").touch()


def leave_a_part_of_the_config(run: Path) -> None:
    leave_an_empty_log(run)
    (run / "run.yaml").write_text("")
    (run / ".tmp-config.yaml-123-abc").write_text("model: ")


def leave_an_empty_config(run: Path) -> None:
    leave_an_empty_log(run)
    (run / "config.yaml").touch()


def leave_a_folder_of_checkpoints(run: Path) -> None:
    leave_an_empty_log(run)
    folder = RunFolder(run)
    folder.write_record(Path("config.yaml"))
    folder.write_config(load_config("config.yaml", SHORT))
    (run / "checkpoints" / ".tmp-latest-00000001").mkdir(parents=True)
    (run / "metrics.jsonl").write_text("{")


LEFT = [leave_nothing, leave_an_empty_log, leave_a_part_of_the_config, leave_an_empty_config]
LEFT += [leave_a_folder_of_checkpoints]


@pytest.mark.parametrize("leave", LEFT, ids=lambda leave: leave.__name__)
def test_what_was_killed_while_it_began_begins_again(
    folder: Path, command: Command, leave: Callable[[Path], None]
) -> None:
    leave(folder / "run")
    done = command(*AUTO, *SHORT)
    assert done.exit_code == 0, done.stderr
    assert len((folder / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert not list((folder / "run").glob(".tmp-*"))


def test_a_training_that_cannot_begin_leaves_nothing(folder: Path, command: Command) -> None:
    for mistake in ("dataset.batch_sise=3", "dataset.batch_size=0"):  # found before, and while it is built
        done = command(*AUTO, *SHORT, mistake)
        assert done.exit_code == 2
        assert not (folder / "run").exists()


@pytest.mark.parametrize("words", [("resume", ".", "--auto", "--config", "config.yaml"), ("resume", ".", "--trust")])
def test_a_folder_of_somebody_is_never_emptied(folder: Path, command: Command, words: tuple[str, ...]) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = command(*words)
    assert done.exit_code == 2
    assert done.stderr == ".: is not the folder of a run: it has neither checkpoints nor run.yaml\n"
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "train.log"}
    assert after == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (AUTO[:3], "run: no such folder; --config names the config of a training to begin there"),
        (("resume", "notes", *AUTO[2:]), "notes: is not the folder of a run: it has no config.yaml, but other files"),
        (("resume", "digits.py", *AUTO[2:]), "digits.py: is a file, not a folder"),
        ((*AUTO[:4], "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_where_no_run_can_be_it_says_so_in_one_line(
    folder: Path, command: Command, words: tuple[str, ...], says: str
) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "diary.txt").write_text("dear diary")
    done = command(*words)
    assert done.exit_code == 2
    assert done.stderr == f"{says}\n"
    assert [path.name for path in (folder / "notes").iterdir()] == ["diary.txt"]


def test_code_that_could_not_be_resumed_is_not_begun(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    words = ("resume", "run", "--auto", "--config", "../config.yaml", *SHORT)
    refused = command(*words)
    assert refused.exit_code == 2
    assert "'digits' is not trusted: without --trust" in refused.stderr
    assert not Path("run").exists()
    for _ in range(2):
        assert command(*words, "--trust").exit_code == 0


def test_another_process_that_trains_has_a_code_of_its_own(folder: Path, command: Command) -> None:
    (folder / "run").mkdir()
    with RunFolder(folder / "run").locked():
        done = command(*AUTO, *SHORT)
    assert done.exit_code == 75
    assert done.stderr == "run: another process is training in this folder\n"
    assert list((folder / "run").iterdir()) == []


def test_a_config_is_taken_with_auto_only(folder: Path, command: Command) -> None:
    done = command("resume", "run", "--config", "config.yaml")
    assert done.exit_code == 2
    assert "--config says what --auto begins" in done.stderr


def end_of_loop(words: list[str], run: Path, kills: int) -> list[int]:
    """Call a command until its exit code is 0, killing it at random at first, and return all exit codes."""
    chance = random.Random()
    codes: list[int] = []
    while not codes or codes[-1] == -signal.SIGKILL:
        with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
            if len(codes) < kills:
                before = saved(run)
                wait = chance.randrange(-1, 7)  # -1: as soon as there is a folder, in the midst of building
                deadline = time.monotonic() + PATIENCE
                while running.poll() is None and time.monotonic() < deadline:
                    if (run / "train.log").exists() if wait < 0 else saved(run) > before + wait:
                        break
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, 0.05))
                running.kill()
            said = running.communicate()[1].decode()
        codes.append(running.returncode)
        assert codes[-1] in (0, -signal.SIGKILL), said
    return codes


def saved(run: Path) -> int:
    return max((int(path.name.rpartition("-")[2]) for path in list_checkpoints(run / "checkpoints")), default=0)


def check_loop(folder: Path, command: Command, kills: int) -> None:
    words = [*AUTO, "dataset.max_rows=160", "hooks.StopAfter.epochs=3", "hooks.SaveLatest.steps=2", KEPT]
    assert command("train", "config.yaml", *words[5:], "--output-dir", "whole").exit_code == 0
    codes = end_of_loop([str(PROGRAM), *words], folder / "run", kills)
    assert codes.count(-signal.SIGKILL) > 0, "the processes were faster than their killer"
    assert differences_of_runs(folder / "run", folder / "whole") == [], codes
    before = content(folder / "run")
    done = command(*words)
    assert done.exit_code == 0
    assert "nothing is left to do" in done.stderr
    assert content(folder / "run") == before


@pytest.mark.long
def test_a_loop_ends_a_training_whose_processes_are_killed(folder: Path, command: Command) -> None:
    check_loop(folder, command, kills=2)


@pytest.mark.soak
def test_a_loop_ends_a_training_that_is_killed_many_times(folder: Path, command: Command) -> None:
    check_loop(folder, command, kills=40)


def test_nobody_else_takes_a_folder_that_is_removed_again(folder: Path) -> None:
    run = RunFolder.at(folder / "run", remove=False, keep=folder / "config.yaml")
    handle = os.open(folder / "run", os.O_RDONLY)
    try:
        with run.locked():
            run.discard()
            assert not (folder / "run").exists()
    finally:
        os.close(handle)


def test_streams_are_scored_again_where_the_config_has_changed(folder: Path, command: Command) -> None:
    assert command("train", "config.yaml", *SHORT, "--output-dir", "run").exit_code == 0
    record = folder / "run" / "run.yaml"  # of a run that was killed when its scores were there, but not all was done
    record.write_text("".join(line for line in record.read_text().splitlines(True) if not line.startswith("ended")))
    before = (folder / "run" / "scores.json").read_bytes()
    changed = "eval={valid: {dataset: {max_rows: 32}, hooks: [ScoreTasks]}, test: {hooks: [ScoreTasks]}}"
    assert command("resume", "run", changed).exit_code == 0
    assert (folder / "run" / "scores.json").read_bytes() != before
