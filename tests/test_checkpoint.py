"""What is saved comes back; tags, sequence numbers and removal."""

from __future__ import annotations

import copy
import errno
import json
import os
import shutil
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

from .checkpoints import START, names_in, save, value_of


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
