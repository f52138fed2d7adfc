from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from emloop_mtl.utils.files import sha256_of
from emloop_mtl.utils.hashing_writer import CHUNK, HashingWriter

FULL = Path("/dev/full")


def test_sum_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with HashingWriter(path) as file:
        assert file.write(b"abc") == 3
        assert file.write(memoryview(bytearray(b"defg"))) == 4
        file.flush()
    assert path.read_bytes() == b"abcdefg"
    assert file.size == 7
    assert file.sha256 == hashlib.sha256(b"abcdefg").hexdigest() == sha256_of(path)


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileExistsError):
        HashingWriter(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.skipif(not FULL.exists(), reason="the device that is always full exists on Linux only")
@pytest.mark.parametrize("size", [10, 10**6])  # less and more than what a buffer holds back
def test_a_full_disk_is_reported_when_the_writer_is_closed(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    file = FULL.open("wb")
    monkeypatch.setattr(Path, "open", lambda *_: file)
    writer = HashingWriter(FULL)
    assert writer.write(bytes(size)) == size
    assert writer.write(bytes(size)) == size  # what comes after an error is dropped
    with pytest.raises(OSError, match="No space"), writer:
        pass
    assert file.closed


def test_an_error_in_between_closes_the_file_and_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of the caller"), HashingWriter(tmp_path / "a") as writer:
        raise ValueError("an error of the caller")
    with pytest.raises(ValueError, match="closed"), writer:
        writer.write(b"too late")


def test_writing_is_broken_off_between_chunks(tmp_path: Path) -> None:
    stop = threading.Event()
    writer = HashingWriter(tmp_path / "a", stop)
    writer.write(b"abc")
    with pytest.raises(InterruptedError, match="broken off"), writer:
        stop.set()
        writer.write(bytes(2 * CHUNK))
        writer.write(b"more")
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_what_is_longer_than_a_chunk_is_whole(tmp_path: Path) -> None:
    data = bytes(CHUNK) + b"end"
    with HashingWriter(tmp_path / "a", threading.Event()) as file:
        file.write(data)
    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert sha256_of(tmp_path / "a") == file.sha256
