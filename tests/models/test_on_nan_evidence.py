"""What is kept of a batch whose loss or gradients are not finite."""

from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import pytest
import torch

from emloop_mtl.errors import NotFiniteError
from emloop_mtl.optim import finite_watch, host_flags

from .not_finite import make_batches, make_model


def test_what_is_kept_is_plain_and_whole(tmp_path: Path) -> None:
    model = make_model("error", output_dir=tmp_path)
    (tmp_path / "checkpoints" / "latest-3").mkdir(parents=True)
    batch = make_batches(1, bad=[0], data_name="rows")[0]
    batch.update(_uids_=list("abcdefgh"), strange=[object()] * 8, one=1.5)
    with pytest.raises(NotFiniteError) as caught:
        model.run(batch, train=True)
    folder = tmp_path / "not_finite" / "step-1"
    kept = torch.load(folder / "batch.pt", weights_only=True)
    assert torch.equal(kept["sources"]["x"], batch["x"].nan_to_num(0)) is False
    assert torch.equal(kept["sources"]["x"].isnan(), batch["x"].isnan())
    assert kept["sources"].keys() == {"x", "a", "b", "_uids_", "one"}
    assert kept["tasks"] == {"a": "a", "b": "b"}
    assert kept["losses"].keys() == {"a/loss", "b/loss", "loss"}
    assert kept["gradients"].keys() == dict(model.network.named_parameters()).keys()
    assert {key: kept[key] for key in ("step", "stream", "loader", "batch")} == {
        "step": 1,
        "stream": "",
        "loader": "rows",
        "batch": 0,
    }
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert str(caught.value).startswith(summary["message"])
    assert summary["checkpoints"] == ["latest-3"]
    assert summary["losses"]["a/loss"] == "nan"
    assert summary["sources"]["x"] == "float32 8x3, 1 nan, 0 infinite"
    assert summary["sources"]["one"] == "float"
    assert summary["sources"]["strange"] == "left out: its values are no plain data"
    assert summary["not_finite"]["buffers"] == ["trunk.1.running_mean", "trunk.1.running_var"]
    assert sorted(path.name for path in (tmp_path / "not_finite").iterdir()) == ["step-1"]


def test_no_more_is_kept_than_a_few_batches(tmp_path: Path) -> None:
    model = make_model("skip", output_dir=tmp_path)
    for batch in make_batches(9, bad=range(1, 9)):
        model.run(batch, train=True)
    kept = tmp_path / "not_finite"
    assert sorted(path.name for path in kept.iterdir()) == [f"step-{number}" for number in range(2, 7)]
    error = make_model("error", output_dir=tmp_path)
    error.update.step = 20
    with pytest.raises(NotFiniteError):  # the end of a training is worth more than the oldest of those
        error.run(make_batches(1, bad=[0])[0], train=True)
    assert len(list(kept.iterdir())) == 5
    assert (kept / "step-21").is_dir()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_source_of_an_odd_kind_costs_no_other_one(tmp_path: Path) -> None:
    model = make_model("error", output_dir=tmp_path)
    batch = make_batches(1, bad=[0])[0]
    batch["small"] = torch.tensor([1.0, math.nan]).to(torch.float8_e4m3fn)
    batch["ragged"] = torch.nested.nested_tensor([torch.ones(2), torch.tensor([1.0, math.inf, 1.0])])
    with pytest.raises(NotFiniteError):
        model.run(batch, train=True)
    folder = tmp_path / "not_finite" / "step-1"
    described = json.loads((folder / "summary.json").read_text())["sources"]
    assert described["small"] == "float8_e4m3fn 2, 1 nan, 0 infinite"
    assert described["ragged"] == "float32 nested 2, 0 nan, 1 infinite"
    assert torch.load(folder / "batch.pt", weights_only=True)["sources"].keys() == batch.keys()


def test_large_sources_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emloop_mtl.optim.evidence.MOST_BYTES", 200)
    model = make_model("error", output_dir=tmp_path)
    with pytest.raises(NotFiniteError):
        model.run(make_batches(1, bad=[0])[0], train=True)
    kept = torch.load(tmp_path / "not_finite" / "step-1" / "batch.pt", weights_only=True)
    assert kept["sources"].keys() == {"x", "a"}  # 96 and 64 bytes


def test_a_folder_that_cannot_be_written_hides_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "not_finite").write_text("a file in its place")
    model = make_model("error", output_dir=tmp_path)
    with pytest.raises(NotFiniteError, match="the loss of task 'a', 'b' is nan"):
        model.run(make_batches(1, bad=[0])[0], train=True)
    assert "cannot be written, so nothing is kept of that batch" in caplog.text


def test_more_batches_on_their_way_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finite_watch, "answers_at_once", lambda device: False)
    model = make_model("warn")
    number = host_flags.MOST + 5
    for batch in make_batches(number):
        model.run(batch, train=True)
    assert model.update.watch is not None
    held = [finding for finding in model.update.watch._waiting if finding is not None]
    assert len(held) == host_flags.MOST
    model.settle()
    assert not model.update.watch._waiting


def test_a_disk_that_takes_no_more_hides_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = make_model("error", output_dir=tmp_path)
    batch = make_batches(1, bad=[0])[0]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))  # bytes of a file: less than the batch takes
    try:
        with pytest.raises(NotFiniteError, match="the loss of task 'a', 'b' is nan"):
            model.run(batch, train=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written, so nothing is kept of that batch" in caplog.text
    assert not list((tmp_path / "not_finite").iterdir())
