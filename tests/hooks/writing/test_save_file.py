"""SaveFile: copies of files in the folder of a run, made once."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.config.trust_policy import TrustPolicy
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import SaveFile
from emloop_mtl.testing import run_hook


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files to copy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("vocabulary.txt", "deep/vocabulary.txt", "deep/config.yaml", "deep/notes"):
        (tmp_path / name).write_text(f"this is {name}\n")
    return tmp_path


def run(files: Any, folder: str | None = "run", **arguments: Any) -> None:
    run_hook(SaveFile(files, **arguments), output_dir=folder)


def test_files_are_copied_under_their_names(folder: Path) -> None:
    run([str(folder / "vocabulary.txt"), "deep/notes"])
    found = {path.name: path.read_text() for path in (folder / "run").iterdir() if path.is_file()}
    assert found == {"vocabulary.txt": "this is vocabulary.txt\n", "notes": "this is deep/notes\n"}
    run(["deep/notes"], None, output_dir="elsewhere")
    assert (folder / "elsewhere" / "notes").is_file()


def test_a_resumed_run_keeps_its_copy_and_tells_what_has_changed(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(["vocabulary.txt", "deep/notes"])
    (folder / "deep" / "notes").write_text("other notes\n")
    caplog.clear()
    run(["vocabulary.txt", "deep/notes"])
    assert (folder / "run" / "notes").read_text() == "this is deep/notes\n"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "SaveFile: deep/notes is not what it was when the run began; the copy of then stays"
    ]


def test_a_change_is_told_that_left_size_and_time_as_they_were(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(["deep/notes"])
    (folder / "deep" / "notes").write_text("THIS IS DEEP/NOTES\n")
    for path in (folder / "deep" / "notes", folder / "run" / "notes"):
        os.utime(path, (1e9, 1e9))
    run(["deep/notes"])
    assert "SaveFile: deep/notes is not what it was when the run began; the copy of then stays" in caplog.messages


def test_a_copy_has_its_name_once_it_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    copy = shutil.copy

    def look(source: Path, target: Path) -> None:
        copy(source, target)
        seen.append([path.name for path in target.parent.iterdir()])

    monkeypatch.setattr(shutil, "copy", look)
    run(["deep/notes"])
    assert seen == [[".tmp-notes"]]
    assert [path.name for path in (folder / "run").iterdir()] == ["notes"]


def test_what_cannot_be_copied_is_told_at_the_start_and_leaves_nothing(folder: Path) -> None:
    (folder / "large").write_bytes(bytes(2**20))
    hook = SaveFile(["vocabulary.txt", "large"])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, limits[1]))
    try:
        with pytest.raises(ConfigError, match="SaveFile: cannot copy large to run/large: File too large") as caught:
            run_hook(hook, output_dir="run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.path == ("files", 1)
    assert [path.name for path in (folder / "run").iterdir()] == ["vocabulary.txt"]


def test_a_file_that_is_gone_since_is_told_and_its_copy_stays(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(["deep/notes"])
    hook = SaveFile(["deep/notes"])
    (folder / "deep" / "notes").unlink()
    run_hook(hook, output_dir="run")
    assert "SaveFile: deep/notes is not what it was when the run began; the copy of then stays" in caplog.messages
    assert (folder / "run" / "notes").read_text() == "this is deep/notes\n"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ("vocabulary.txt", "files must be a list of names, such as [vocabulary.txt], not 'vocabulary.txt'"),
        ([], "files must be a list of names, not []"),
        (["vocabulary.txt", "vocab.txt"], "vocab.txt: there is no such file"),
        (["deep"], "deep: is no file"),
        (["pipe"], "pipe: is no file"),
        (["vocabulary.txt", "deep/vocabulary.txt"], "two files are called 'vocabulary.txt', and each keeps its name"),
        (["deep/config.yaml"], "files 'config.yaml' is what the run itself writes"),
    ],
    ids=["text", "empty", "missing", "folder", "pipe", "twins", "reserved"],
)
def test_mistakes_are_told_at_once(files: Any, says: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ConfigError) as caught:
        run(files)
    assert says in str(caught.value)
    assert caught.value.path[:1] == ("files",)


def test_a_run_without_a_folder_is_a_mistake(folder: Path) -> None:
    with pytest.raises(ConfigError, match="SaveFile needs a folder to copy files to"):
        run(["deep/notes"], None)


@pytest.mark.parametrize("file", ["/etc/hostname", "../secrets.txt"])
def test_a_run_from_elsewhere_copies_nothing_from_outside_of_the_working_folder(file: str) -> None:
    with pytest.raises(ConfigError, match="leads out of the run folder; --trust lets it") as caught:
        TrustPolicy().check_call(SaveFile, {"files": ["config.yaml", file]})
    assert caught.value.path == ("files",)
