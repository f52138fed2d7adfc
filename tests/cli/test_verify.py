"""``emloop-mtl verify``: every fault is named, and no folder can make it hang, crash or run anything."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from emloop_mtl.checkpoint import save_checkpoint
from emloop_mtl.cli.run_folder import RunFolder
from emloop_mtl.types import Position
from emloop_mtl.utils.files import sha256_of
from emloop_mtl.utils.manifest import write_manifest

from .conftest import Command, command_here


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder that holds nothing but a run."""
    monkeypatch.chdir(tmp_path)
    with command_here() as run:
        yield run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the checkpoints ``best-00000001`` and ``latest-00000002``, of the end."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("model: {class: os.abort}\n")
    for tag, epoch in (("best", 1), ("latest", 2)):
        position = Position(epoch, 3 * epoch, epoch, 96 * epoch)
        weights, state = {"weight": torch.zeros(3)}, {"hooks": {"StopAfter": {"seconds": 1.0}}}
        save_checkpoint(run / "checkpoints", [tag], weights, state, position, finished=epoch == 2)
    return run


def test_whole_checkpoints_are_listed_with_the_one_that_resume_takes(run: Path, command: Command) -> None:
    done = command("verify", "run")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines() if "-0000000" in line]
    assert [line[:3] for line in lines] == [
        ["latest-00000002", "2", "6"],
        ["best-00000001", "1", "3"],
        ["resume", "takes", "latest-00000002"],
    ]
    assert lines[0][-3:] == ["whole,", "the", "end"]
    assert lines[1][-1] == "whole"


def test_programs_get_an_object(run: Path, command: Command) -> None:
    (run / "checkpoints" / "best-00000001" / "state.pt").write_bytes(b"")
    done = command("verify", "run", "--json")
    assert done.exit_code == 1
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["resume"] == "latest-00000002"
    latest, best = found["checkpoints"]
    assert (latest["name"], latest["tag"], latest["epoch"], latest["step"]) == ("latest-00000002", "latest", 2, 6)
    assert latest["finished"] is True
    assert latest["fault"] is None
    assert latest["bytes"] == sum(path.stat().st_size for path in (run / "checkpoints" / latest["name"]).iterdir())
    assert best["name"] == "best-00000001"
    assert "best-00000001/state.pt': has 0 bytes instead of " in best["fault"]


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(sys.executable)


def replace_by_much(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk, but would in memory


FILES = ("manifest.json", "model.safetensors", "state.pt")
DAMAGES = (Path.unlink, cut, change, replace_by_pipe, replace_by_folder, replace_by_link, replace_by_much)


@pytest.mark.timeout(120)  # a pipe that is opened would be waited for
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_named(run: Path, command: Command, name: str, damage: Callable[[Path], None]) -> None:
    damage(run / "checkpoints" / "latest-00000002" / name)
    done = command("verify", "run")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"bad: 'run/checkpoints/latest-00000002/{name}': ")
    assert "resume takes best-00000001" in done.stdout


def test_without_a_whole_checkpoint_it_says_so(run: Path, command: Command) -> None:
    for path in (run / "checkpoints").iterdir():
        (path / "state.pt").unlink()
    done = command("verify", "run")
    assert done.exit_code == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["bad", "bad", "run"]
    assert done.stderr.splitlines()[-1] == "run: has no checkpoint that resume could take"


def plant_pickle(folder: Path, target: Path) -> None:
    """Put an object into a checkpoint that writes a file where it is unpickled, with sums that fit."""

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, (f"open({str(target)!r}, 'w').close()",))

    state = folder / "state.pt"
    with zipfile.ZipFile(state, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(), protocol=2))
        archive.writestr("archive/version", "3")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["files"]["state.pt"] = {"size": state.stat().st_size, "sha256": sha256_of(state)}
    write_manifest(folder / "manifest.json", manifest)


def test_nothing_that_is_read_runs_code(run: Path, command: Command, tmp_path: Path) -> None:
    plant_pickle(run / "checkpoints" / "latest-00000002", tmp_path / "ran")
    for name in ("torch.py", "digits.py", "sitecustomize.py"):
        (run / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    done = command("verify", "run")
    assert done.exit_code == 1
    assert "latest-00000002/state.pt': holds more than plain data and tensors" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_what_is_no_checkpoint_is_told_without_being_an_error(run: Path, command: Command) -> None:
    checkpoints = run / "checkpoints"
    shutil.copytree(checkpoints / "latest-00000002", checkpoints / ".tmp-latest-00000003")
    (checkpoints / "latest-00000009").write_text("a file")
    (checkpoints / "best-00000009").symlink_to("nowhere")
    (checkpoints / "notes").mkdir()
    os.mkfifo(checkpoints / "pipe")
    os.mkdir(os.fsencode(checkpoints) + b"/\xff\x1b[31m-00000009")  # noqa: PTH102 - a Path of text cannot say this
    done = command("verify", "run")
    assert done.exit_code == 0
    assert sorted(done.stderr.splitlines()) == [
        ".tmp-latest-00000003: of a save that was killed, or of one that is under way; the next save removes it",
        "\\xff\\x1b[31m-00000009: a folder, no checkpoint",
        "best-00000009: a link, no checkpoint",
        "latest-00000009: a file, no checkpoint",
        "notes: a folder, no checkpoint",
        "pipe: a file, no checkpoint",
    ]
    assert json.loads(command("verify", "run", "--json").stdout)["resume"] == "latest-00000002"


def test_links_that_go_in_circles_end(run: Path, command: Command) -> None:
    (run / "checkpoints" / "latest-00000009").symlink_to(run / "checkpoints")
    (run / "checkpoints" / "best-00000009").symlink_to("best-00000009")
    done = command("verify", "run")
    assert done.exit_code == 1
    assert "latest-00000009/manifest.json': No such file or directory" in done.stderr


def test_a_text_without_end_is_cut(run: Path, command: Command) -> None:
    folder = run / "checkpoints" / "latest-00000002"
    write_manifest(folder / "manifest.json", {"format": "\x1b[31m" + "x" * 100_000, "files": {}})
    done = command("verify", "run")
    assert done.exit_code == 1
    assert len(done.stderr) < 500
    assert "\x1b" not in done.stderr


WRONG = (None, -1, 1.5, True, "\x1b[31m", [1], {"a": 1})
"""Values that nothing in a manifest can have; but for ``finished``, which can be true."""


@pytest.mark.parametrize("key", ["position", "finished", "tag", "tags", "sequence", "ties", "files"])
def test_a_manifest_of_other_types_is_a_fault_and_no_crash(run: Path, command: Command, key: str) -> None:
    path = run / "checkpoints" / "latest-00000002" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    for value in WRONG:
        if (key, value) != ("finished", True):
            write_manifest(path, {**manifest, key: value})
            check_refused(command)


def test_a_position_of_other_types_is_a_fault_and_no_crash(run: Path, command: Command) -> None:
    path = run / "checkpoints" / "latest-00000002" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    for key in ("epoch", "step", "samples", "passes"):
        for value in WRONG:
            write_manifest(path, {**manifest, "position": {**manifest["position"], key: value}})
            check_refused(command)


def check_refused(command: Command) -> None:
    done = command("verify", "run")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("bad: 'run/checkpoints/latest-00000002/")
    assert "\x1b" not in done.stderr + done.stdout
    assert "resume takes best-00000001" in done.stdout


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere", "nowhere: no such folder"),
        ("file", "file: is a file, not the folder of a run"),
        ("empty", "empty: is not the folder of a run: it has no config.yaml"),
        ("run\udcff", "run\\udcff: no such folder"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, command: Command, path: str, says: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    done = command("verify", path)
    assert done.exit_code == 2
    assert done.stderr == f"{says}\n"


@pytest.mark.parametrize("what", ["nothing", "folder", "file", "link"])
def test_a_run_without_checkpoints_is_told_in_one_line(run: Path, command: Command, what: str) -> None:
    shutil.rmtree(run / "checkpoints")
    if what == "folder":
        (run / "checkpoints").mkdir()
    elif what == "file":
        (run / "checkpoints").write_text("")
    elif what == "link":
        (run / "checkpoints").symlink_to("checkpoints")
    done = command("verify", "run")
    assert done.exit_code != 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("run")


def test_a_run_that_was_started_in_python_has_no_config(run: Path, command: Command) -> None:
    (run / "config.yaml").unlink()
    assert command("verify", "run").exit_code == 0


def test_a_run_that_is_being_trained_can_be_checked(run: Path, command: Command) -> None:
    with RunFolder(run).locked():
        assert command("verify", "run").exit_code == 0
