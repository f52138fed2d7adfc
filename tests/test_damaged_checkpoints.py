"""Checkpoints that were damaged, edited or planted are refused, and the one before is used."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint, save_checkpoint
from emloop_mtl.errors import CheckpointError
from emloop_mtl.types import Position

from .checkpoints import START, save, value_of

FILES = ("manifest.json", "model.safetensors", "state.pt")


def reseal(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest and give it the sum that belongs to it, as an attacker can."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    change(manifest)
    body = json.dumps(manifest, indent=2, sort_keys=True)
    manifest["sha256"] = hashlib.sha256(body.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def replace_file(path: Path, name: str, content: bytes) -> None:
    """Replace a file of a checkpoint and list it in the manifest as it is now."""
    (path / name).write_bytes(content)
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    reseal(path, lambda manifest: manifest["files"].update({name: entry}))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def delete(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.parent.parent / "moved")
    path.symlink_to(path.parent.parent / "moved")


def fold(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [truncate, empty, extend, delete, fold])
def test_damage_is_found_and_the_older_one_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], None]
) -> None:
    save(tmp_path, 1.0)
    newest = save(tmp_path, 2.0, keep=2)
    damage(newest / name)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(newest)
    assert f"'{newest / name}'" in str(caught.value)
    with caplog.at_level(logging.WARNING):
        assert value_of(tmp_path) == 1.0
    assert [f"'{newest / name}'" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "run")
    link(path / name)
    with pytest.raises(CheckpointError, match=f"{name}': is no regular file"):
        load_checkpoint(path)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, ["a"], {"weight": torch.ones(3)}, {"value": 1}, START)[0]
    for name in FILES:
        content = (path / name).read_bytes()
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1 << position % 8
            (path / name).write_bytes(flipped)
            with pytest.raises(CheckpointError, match=name):
                load_checkpoint(path)
        (path / name).write_bytes(content)
    assert load_checkpoint(path).state == {"value": 1}


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"step": 0', '"step": 5'),
        lambda text: text.replace('"finished": false', '"finished": true'),
        lambda text: text.replace("latest", "best"),
        lambda text: text.replace('"sequence": 1', '"sequence":  1'),
        lambda text: text.replace('"sequence": 1', '"sequence": 1, "more": NaN'),
        lambda text: text.replace('"sequence": 1', '"sequence": 0, "sequence": 1'),
        lambda text: text + "\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda _: "[1, 2]",
        lambda _: "{",
        lambda _: "[" * 100_000,
        lambda _: '{"format": 1}',
    ],
)
def test_an_edited_manifest_is_found(tmp_path: Path, edit: Callable[[str], str]) -> None:
    path = save(tmp_path)
    manifest = path / "manifest.json"
    text = manifest.read_text()
    assert edit(text) != text
    manifest.write_bytes(edit(text).encode())
    with pytest.raises(CheckpointError, match=r"manifest\.json': "):
        load_checkpoint(path)


def test_the_manifest_is_strict_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    weights = {"a": torch.tensor(float("nan"))}
    path = save_checkpoint(tmp_path, ["latest"], weights, {"best": float("inf")}, Position(1, 2, 3, 4), True)[0]
    manifest = json.loads((path / "manifest.json").read_text(encoding="ascii"), parse_constant=refuse)
    assert manifest.pop("versions")["torch"] == metadata.version("torch")
    assert len(manifest.pop("sha256")) == 64
    files = manifest.pop("files")
    assert manifest == {
        "format": 1,
        "tag": "latest",
        "tags": ["latest"],
        "sequence": 1,
        "position": {"epoch": 1, "step": 2, "passes": 3, "samples": 4},
        "finished": True,
        "ties": {},
    }
    for name in ("model.safetensors", "state.pt"):
        content = (path / name).read_bytes()
        assert files.pop(name) == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert not files


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    path = save(tmp_path)
    (path / "manifest.json").write_text('{"format": 2, "shards": []}')  # by hand, without a sum
    with pytest.raises(CheckpointError, match="has format 2, but this version of emloop_mtl reads format 1 only"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "manifest.json", ".."])
def test_a_listed_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "run")
    (tmp_path / "run" / "outside").write_bytes(b"")
    entry = {"size": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    reseal(path, lambda manifest: manifest["files"].update({name: entry}))
    with pytest.raises(CheckpointError, match=f"lists '{name}', which is no file of a checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize("part", ["files", "position", "ties", "tag"])
def test_a_sealed_manifest_without_a_part_is_refused(tmp_path: Path, part: str) -> None:
    path = save(tmp_path)
    reseal(path, lambda manifest: manifest.pop(part))
    with pytest.raises(CheckpointError, match=r"manifest\.json': "):
        load_checkpoint(path)


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("kind", ["torch", "pickle", "legacy"])
def test_nothing_that_is_loaded_runs_code(tmp_path: Path, kind: str) -> None:
    path, target = save(tmp_path / "run"), tmp_path / "planted"
    stored = {"weights": {}, "others": {}, "state": {"value": Planted(target)}}
    if kind == "pickle":
        (tmp_path / "file").write_bytes(pickle.dumps(stored, protocol=2))
    else:
        torch.save(stored, tmp_path / "file", _use_new_zipfile_serialization=kind == "torch")
    replace_file(path, "state.pt", (tmp_path / "file").read_bytes())
    with pytest.raises(CheckpointError, match=r"state\.pt': holds more than plain data and tensors"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        ({"weights": {}, "others": {}}, "is not the state of a training"),
        ([1], "is not the state of a training"),
        ({"weights": {}, "others": {}, "state": {"a": torch.float32}}, "state/a: torch.dtype is no plain data"),
        ({"weights": {"a": torch.ones(1)}, "others": {}, "state": {}}, "KeyError: 'a'"),
    ],
)
def test_a_state_of_another_shape_is_refused(tmp_path: Path, stored: Any, complaint: str) -> None:
    path = save(tmp_path / "run")
    torch.save(stored, tmp_path / "file")
    replace_file(path, "state.pt", (tmp_path / "file").read_bytes())
    with pytest.raises(CheckpointError, match=rf"state\.pt': {complaint}"):
        load_checkpoint(path)


def test_broken_weights_with_a_right_sum_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path)
    replace_file(path, "model.safetensors", b"\xff" * 100)
    with pytest.raises(CheckpointError, match=r"model\.safetensors': SafetensorError"):
        load_checkpoint(path)


def test_nothing_to_be_found(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "none") == []
    with pytest.raises(CheckpointError, match="none' has no checkpoint"):
        newest_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"latest-00000001.manifest\.json': No such file"):
        load_checkpoint(tmp_path / "latest-00000001")
    save(tmp_path)
    delete(save(tmp_path, keep=2) / "state.pt")
    with pytest.raises(CheckpointError, match="no checkpoint with the tag 'lates'; did you mean 'latest'"):
        newest_checkpoint(tmp_path, "lates")
    delete(tmp_path / "latest-00000001" / "manifest.json")
    with pytest.raises(CheckpointError, match="no valid checkpoint; tried: latest-00000002, latest-00000001; the last"):
        newest_checkpoint(tmp_path)


def test_a_copied_checkpoint_can_be_loaded_from_anywhere(tmp_path: Path) -> None:
    shutil.copytree(save(tmp_path / "run", 4.0), tmp_path / "elsewhere")
    assert load_checkpoint(str(tmp_path / "elsewhere")).state["value"] == 4.0
