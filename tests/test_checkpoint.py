from __future__ import annotations

import copy
import errno
import hashlib
import itertools
import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from emloop_mtl.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    remove_checkpoint,
    save_checkpoint,
)
from emloop_mtl.errors import CheckpointError
from emloop_mtl.types import Position
from emloop_mtl.utils.files import sync_folder

FILES = ("manifest.json", "model.safetensors", "state.pt")
START = Position()


def same(left: Any, right: Any) -> bool:
    """Whether two states are equal to the bit, types included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        bits = [tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8) for tensor in (left, right)]
        return torch.equal(*bits)
    if isinstance(left, dict):
        # keys are compared by their representation, which tells 1 from True and 1.0
        return [repr(key) for key in left] == [repr(key) for key in right] and all(
            same(left[key], right[key]) for key in left
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return repr(left) == repr(right)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def save(folder: Path, value: float = 0.0, tags: tuple[str, ...] = ("latest",), step: int = 0, **options: Any) -> Path:
    weights = {"weight": torch.full((50,), value), "bias": torch.full((3,), value)}
    paths = save_checkpoint(
        folder, tags, weights, {"value": value, "tensor": torch.full((9,), value)}, Position(step=step), **options
    )
    return paths[0]


def value_of(folder: Path, tag: str | None = None) -> float:
    found = newest_checkpoint(folder, tag)
    assert torch.equal(found.weights["weight"], torch.full((50,), found.state["value"]))
    return float(found.state["value"])


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


# --- what is saved comes back ------------------------------------------------------------------------------------


def test_tensors_of_all_kinds_come_back(tmp_path: Path) -> None:
    dtypes = [value for value in vars(torch).values() if isinstance(value, torch.dtype)]
    kept = {}
    for dtype in sorted(set(dtypes), key=str):
        for shape in [(), (5,), (2, 3), (0,), (0, 4)]:
            try:
                kept[f"{dtype}{shape}"] = torch.ones(shape).to(dtype)
            except (RuntimeError, NotImplementedError, UserWarning):
                break  # quantized, narrower than a byte, or experimental
    assert {torch.bfloat16, torch.bool, torch.complex128, torch.uint16, torch.float8_e4m3fn} <= {
        tensor.dtype for tensor in kept.values()
    }
    table = torch.arange(24.0).reshape(4, 6)
    kept |= {"row": table[1], "column": table[:, 2], "turned": table.T, "spread": table[:, :1].expand(4, 3)}
    kept |= {"conjugate": torch.tensor([1 + 2j, 3 - 4j]).conj(), "nan": torch.tensor([float("nan"), -0.0])}
    kept["__metadata__"] = torch.tensor(1)
    path = save_checkpoint(tmp_path, ["latest"], kept, {"kept": kept}, START)[0]
    found = load_checkpoint(path)
    assert same(found.weights, kept)
    assert same(found.state, {"kept": kept})


def test_nested_weights_keep_structure_and_names(tmp_path: Path) -> None:
    weights = {
        "network": {"encoder.weight": torch.ones(2), 1: torch.tensor(1), "1": torch.tensor(2)},
        "list": [torch.tensor(3), (torch.tensor(4), "text", None)],
        "network/1": torch.tensor(5),
        "scale": 0.5,
        "empty": {},
    }
    path = save_checkpoint(tmp_path, ["latest"], weights, {}, START)[0]
    assert same(load_checkpoint(path).weights, weights)
    assert set(load_file(path / "model.safetensors")) == {
        "network/encoder.weight", "network/1", "network/1~2", "network/1~3", "list[0]", "list[1][0]",
    }  # fmt: skip


def test_flat_weights_are_readable_by_others(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    path = save_checkpoint(tmp_path, ["latest"], network.state_dict(), {}, START)[0]
    assert same(dict(sorted(load_file(path / "model.safetensors").items())), dict(sorted(network.state_dict().items())))


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    embedding, head = nn.Embedding(100, 10), nn.Linear(10, 100, bias=False)
    head.weight = embedding.weight
    weights = nn.ModuleDict({"embedding": embedding, "head": head}).state_dict()
    part = embedding.weight.detach()[:50]  # the same storage, another view
    path = save_checkpoint(tmp_path, ["latest"], {**weights, "part": part}, {}, START)[0]
    assert json.loads((path / "manifest.json").read_text())["ties"] == {"head.weight": "embedding.weight"}
    assert set(load_file(path / "model.safetensors")) == {"embedding.weight", "part"}
    found = load_checkpoint(path).weights
    assert same(found, {**weights, "part": part})
    assert found["head.weight"] is found["embedding.weight"]


def test_a_view_in_the_state_does_not_drag_its_storage_along(tmp_path: Path) -> None:
    table = torch.arange(1_000_000.0)
    row = table[10:20]
    path = save_checkpoint(tmp_path, ["latest"], {}, {"a": row, "b": row, "c": [table[:5]]}, START)[0]
    assert (path / "state.pt").stat().st_size < 10_000  # the table alone takes 4 MB
    found = load_checkpoint(path).state
    assert same(found, {"a": row, "b": row, "c": [table[:5]]})
    assert found["a"].data_ptr() == found["b"].data_ptr()


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_real_training_goes_on_exactly(tmp_path: Path, amsgrad: bool) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        return network, torch.optim.AdamW(network.parameters(), lr=0.01, amsgrad=amsgrad)

    network, optimizer = build()
    train(network, optimizer, 3)
    state = {"optimizer": optimizer.state_dict(), "random": torch.get_rng_state(), "best": float("-inf")}
    save_checkpoint(tmp_path, ["latest"], network.state_dict(), state, Position(1, 3, 0, 24))
    train(network, optimizer, 4)
    resumed, resumed_optimizer = build()
    found = newest_checkpoint(tmp_path)
    resumed.load_state_dict(found.weights)
    resumed_optimizer.load_state_dict(found.state["optimizer"])
    assert same(found.state["random"], state["random"])
    train(resumed, resumed_optimizer, 4)
    assert same(dict(resumed.state_dict()), dict(network.state_dict()))
    assert same(resumed_optimizer.state_dict(), optimizer.state_dict())
    assert (found.position, found.finished, found.tag, found.sequence) == (Position(1, 3, 0, 24), False, "latest", 1)
    assert type(found.position) is Position


NUMBERS = st.booleans() | st.integers() | st.floats(allow_nan=False)
SCALARS: st.SearchStrategy[Any] = st.none() | NUMBERS | st.text(max_size=5) | st.binary(max_size=5)
KEYS: st.SearchStrategy[Any] = SCALARS | st.tuples(SCALARS)
VALUES = st.recursive(
    KEYS | st.floats() | st.integers(-(2**2032) + 1, 2**2032 - 1),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


@given(VALUES)
def test_plain_data_come_back(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "plain"
    state = {"value": value, "bytes": b"", "deep": [({1: (b"\x00\xff", value)},)]}
    before = copy.deepcopy(state)
    found = load_checkpoint(save_checkpoint(path, ["latest"], {"value": value}, state, START)[0])
    assert same(found.state, state)
    assert same(found.weights, {"value": value})
    assert same(state, before)


def test_what_is_not_plain_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'.*run'.*: hooks/Watch/history\[1\]: builtins?.*set|set is no plain"):
        save_checkpoint(tmp_path / "run", ["latest"], {}, {"hooks": {"Watch": {"history": [1, {2}]}}}, START)
    with pytest.raises(CheckpointError, match="model/scale: set is no plain data"):
        save_checkpoint(tmp_path / "run", ["latest"], {"scale": {2}}, {}, START)
    assert not (tmp_path / "run").exists()


# --- tags, sequence numbers and removal --------------------------------------------------------------------------


def test_an_older_one_is_replaced_and_numbers_go_on(tmp_path: Path) -> None:
    assert save(tmp_path, 1.0).name == "latest-00000001"
    assert save(tmp_path, 2.0, ("best",)).name == "best-00000002"
    assert save(tmp_path, 3.0, finished=True).name == "latest-00000003"
    assert [path.name for path in list_checkpoints(tmp_path)] == ["latest-00000003", "best-00000002"]
    assert newest_checkpoint(tmp_path).finished
    assert value_of(tmp_path, "best") == 2.0


def test_keep(tmp_path: Path) -> None:
    for _ in range(4):
        save(tmp_path, keep=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"latest-{number:08d}" for number in (4, 3, 2)]
    save(tmp_path, keep=None)
    assert len(list_checkpoints(tmp_path)) == 4
    save(tmp_path, tags=("best",))
    assert len(list_checkpoints(tmp_path, "latest")) == 4


@pytest.mark.parametrize("links", [True, False])
def test_several_tags_share_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    save(tmp_path, 1.0, ("latest", "best"))
    save(tmp_path, 2.0, ("latest", "best", "epoch-5", "latest"), step=7)
    latest, epoch, best = list_checkpoints(tmp_path)
    assert [path.name for path in (latest, epoch, best)] == ["latest-00000002", "epoch-5-00000002", "best-00000002"]
    assert (latest / "state.pt").samefile(best / "state.pt") is links
    assert (latest / "model.safetensors").samefile(epoch / "model.safetensors") is links
    assert [load_checkpoint(path).tag for path in (latest, epoch, best)] == ["latest", "epoch-5", "best"]
    remove_checkpoint(latest)
    assert value_of(tmp_path, "best") == value_of(tmp_path, "epoch-5") == 2.0
    assert newest_checkpoint(tmp_path, "best").position == Position(step=7)


def test_leftovers_are_removed_and_strangers_are_not(tmp_path: Path) -> None:
    (tmp_path / ".tmp-latest-00000001").mkdir()
    (tmp_path / ".tmp-latest-00000001" / "state.pt").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "latest-00000009").touch()  # a file, but its number is taken
    assert save(tmp_path).name == "latest-00000010"
    assert names_in(tmp_path) == ["latest-00000009", "latest-00000010", "notes"]


def test_older_ones_go_only_when_the_new_one_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1.0)
    events: list[str] = []
    rename = Path.rename

    def watch_sync(path: Path) -> None:
        sync_folder(path)
        events.append(f"sync {path.name}")

    def watch_rename(path: Path, target: Path) -> Path:
        events.append(f"{path.name} -> {target.name}")
        return rename(path, target)

    monkeypatch.setattr("emloop_mtl.checkpoint.sync_folder", watch_sync)
    monkeypatch.setattr(Path, "rename", watch_rename)
    save(tmp_path, 2.0)
    assert events == [
        ".tmp-latest-00000002 -> latest-00000002",
        f"sync {tmp_path.name}",
        "latest-00000001 -> .tmp-latest-00000001",
    ]


def test_removal_that_fails_is_logged_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError(errno.EBUSY, "Device or resource busy")

    save(tmp_path, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", fail)
        save(tmp_path, 2.0)
    assert "latest-00000001': [Errno 16] Device or resource busy" in caplog.text
    assert value_of(tmp_path) == 2.0
    save(tmp_path, 3.0)
    assert names_in(tmp_path) == ["latest-00000003"]


@pytest.mark.parametrize(
    ("tags", "keep", "complaint"),
    [
        ([], 1, r"needs a list of tags, not \[\]"),
        ("latest", 1, "needs a list of tags, not 'latest'"),
        (["../best"], 1, "'../best' cannot be a tag; allowed are letters"),
        ([".tmp-x"], 1, "cannot be a tag"),
        (["a\n"], 1, "cannot be a tag"),
        (["latest"], 0, "keep is 0; allowed are 1"),
    ],
)
def test_bad_requests(tmp_path: Path, tags: Any, keep: int, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        save_checkpoint(tmp_path / "run", tags, {}, {}, START, keep=keep)
    assert not (tmp_path / "run").exists()


# --- damage is found ---------------------------------------------------------------------------------------------


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


# --- failures of saving ------------------------------------------------------------------------------------------


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot save a checkpoint in '.*file': File exists"):
        save(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"cannot save a checkpoint in '.*checkpoints': (Not a|File)"):
        save(tmp_path / "file" / "checkpoints")


OPERATIONS: dict[str, Any] = {"fsync": os, "link": os, "mkdir": Path, "rename": Path, "replace": Path}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failure_at_any_moment_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Let each call in turn be the one that fails: the old checkpoint stays, and no temporary folder does."""
    original = getattr(OPERATIONS[operation], operation)
    countdown = 0

    def fail_once(*arguments: Any, **options: Any) -> Any:
        nonlocal countdown
        countdown -= 1
        if countdown == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments, **options)

    monkeypatch.setattr(OPERATIONS[operation], operation, fail_once)
    tags = ("latest", "best")
    failures = 0
    for attempt in itertools.count(1):
        folder = tmp_path / str(attempt)
        save(folder, 1.0, tags)
        countdown = attempt
        try:
            save(folder, 2.0, tags)
        except CheckpointError as error:
            failures += 1
            message, expected = str(error), 1
        else:
            message, expected = "", 2
        was_reached, countdown = countdown <= 0, 0
        assert message in ("", f"cannot save a checkpoint in '{folder}': No space left on device")
        assert {f"{tag}-{expected:08d}" for tag in tags} <= set(names_in(folder))
        assert not list(folder.glob(".tmp*"))
        assert {value_of(folder, tag) for tag in tags} <= {1.0, 2.0}
        save(folder, 3.0, tags)
        assert {value_of(folder, tag) for tag in tags} == {3.0}
        assert len(names_in(folder)) == 2
        if not was_reached:
            break
    # links have a substitute; of the renamings the last two are those of old ones, whose failure is logged only
    assert failures == {"fsync": 7, "link": 0, "mkdir": 2, "rename": 2, "replace": 2}[operation]


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1.0)
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    big = {"a": torch.empty(5_000_000), "b": torch.empty(5_000_000)}
    save_checkpoint(tmp_path, ["other"], {"a": big["a"]}, {"a": big["b"]}, START)  # 40 MB
    with pytest.raises(CheckpointError, match=r"it takes 60\.1 MB, but the disk has 50\.0 MB free; .*output_dir"):
        save_checkpoint(tmp_path, ["latest"], big, {"a": big["a"].clone()}, START)
    assert value_of(tmp_path, "latest") == 1.0


def test_an_interrupt_while_saving_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    save(tmp_path, 1.0)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2.0)
    assert names_in(tmp_path) == ["latest-00000001"]


def run(script: str, folder: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_limited_file_size_fails_in_either_file(tmp_path: Path) -> None:
    """A disk that is really full in the middle of a file, as far as a limit can imitate it."""
    run(
        """
        import os, resource, sys, torch
        from emloop_mtl.checkpoint import newest_checkpoint, save_checkpoint
        from emloop_mtl.errors import CheckpointError
        from emloop_mtl.types import Position

        folder = sys.argv[1]
        save_checkpoint(folder, ["latest"], {"a": torch.ones(2)}, {"a": torch.ones(2)}, Position())
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for weights, state in [(500_000, 2), (2, 500_000), (2, 24_900)]:
            try:
                save_checkpoint(folder, ["latest"], {"a": torch.ones(weights)}, {"a": torch.ones(state)}, Position())
            except CheckpointError as error:
                assert str(error) == f"cannot save a checkpoint in '{folder}': File too large", error
            else:
                raise AssertionError("was saved")
            assert os.listdir(folder) == ["latest-00000001"]
            assert newest_checkpoint(folder).weights["a"].tolist() == [1.0, 1.0]
        """,
        tmp_path,
    )


def test_a_process_killed_while_saving_leaves_a_valid_checkpoint(tmp_path: Path) -> None:
    """One process imports torch and forks those that are killed, so that five kills cost one start."""
    run(
        """
        import os, pathlib, random, signal, sys, time, torch
        from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint, save_checkpoint
        from emloop_mtl.types import Position

        folder = pathlib.Path(sys.argv[1])
        torch.set_num_threads(1)

        def save(step):
            weights = {"a": torch.full((20_000,), float(step)), "b": torch.full((10,), step)}
            save_checkpoint(folder, ["latest", "best"], weights, {"step": step}, Position(step=step))

        def step_of(tag):
            found = newest_checkpoint(folder, tag)
            step = found.state["step"]
            assert found.position.step == step
            assert torch.equal(found.weights["a"], torch.full((20_000,), float(step)))
            assert torch.equal(found.weights["b"], torch.full((10,), step))
            # being killed is no reason to fall back
            assert found.path == list_checkpoints(folder, tag)[0]
            return step

        save(1)
        moment, hits, kills = random.Random(7), 0, 0
        while kills < 5 or not hits:  # until one was hit in the middle, so that the test means something
            before = step_of("latest")
            reading, writing = os.pipe()
            parent, child = os.getpid(), os.fork()
            if not child:
                step = before
                while os.getppid() == parent:  # none is left over where an assertion fails
                    step += 1
                    save(step)
                    os.write(writing, b".")
                os._exit(1)
            os.close(writing)
            assert os.read(reading, 1) == b"."
            time.sleep(moment.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            os.close(reading)
            kills += 1
            hits += bool(list(folder.glob(".tmp*")))
            assert step_of("latest") > before
            assert step_of("latest") - step_of("best") in (0, 1)
            assert kills < 50
        final = step_of("latest") + 1
        save(final)
        assert len(os.listdir(folder)) == 2, os.listdir(folder)
        """,
        tmp_path,
    )
