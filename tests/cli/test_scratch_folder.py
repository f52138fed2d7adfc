"""Temporary folders: what is left of them, after a kill as well."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from emloop_mtl.cli.scratch_folder import scratch_folder


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_is_gone_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_folder("check") as folder:
        (folder / "run").mkdir()
        (folder / "run/file").touch()
        assert list(tmp_path.iterdir()) == [folder]
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_what_a_killed_command_has_left_is_removed_by_the_next_one_of_its_kind(tmp_path: Path) -> None:
    names = ("emloop-mtl_check_killed", "emloop-mtl_check_used", "emloop-mtl_search_killed", "emloop-mtl_check_link")
    killed, used, other, link = (tmp_path / name for name in names)
    for folder in (killed, used, other):
        folder.mkdir()
        (folder / "file").touch()
    link.symlink_to(other)
    handle = os.open(used, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with scratch_folder("check") as folder:
        assert set(tmp_path.iterdir()) == {folder, used, other, link}
        with scratch_folder("check"):
            assert folder.exists()
    os.close(handle)
    assert (other / "file").exists()
