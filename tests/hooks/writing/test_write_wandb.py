from __future__ import annotations

import json
import logging
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from wandb.proto import wandb_internal_pb2

from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.config.create import create_training
from emloop_mtl.config.trust_policy import TrustPolicy
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, ScoreTasks, StopAfter, WriteTensorBoard, WriteWandb
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeModel, SaveAndFail, run_hook

HEADER = 7
"""Bytes at the beginning of the file of a run: its magic number and version."""

BLOCK = 32768
"""Records do not cross blocks of this size; the last part of one, or the only one, is of kind 4 or 1."""


def records_of(run: Path) -> list[Any]:
    """Read what the client has recorded; its service may write the end of it when the client has gone on already."""
    (file,) = run.glob("run-*.wandb")
    deadline = time.monotonic() + 120  # as long as a loaded machine may take
    while True:
        records = list(parsed(file.read_bytes()))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        assert time.monotonic() < deadline, "the record of the run has no end"
        time.sleep(0.01)


def parsed(data: bytes) -> Iterator[Any]:
    """Read records: a log in the format of LevelDB."""
    at, parts = HEADER, b""
    while at < len(data):
        if BLOCK - at % BLOCK < 7:  # no room for another header in this block
            at += BLOCK - at % BLOCK
        if len(data) - at < 7:
            return
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if len(data) - at < 7 + length:
            return
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]  # made when it is imported
            record.ParseFromString(parts)
            yield record
            parts = b""


def runs_in(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)


def history(run: Path) -> list[dict[str, Any]]:
    """Return what was logged, without what W&B adds but the step."""
    rows = []
    for record in records_of(run):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            rows.append({key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")})
    return rows


def described(run: Path) -> Any:
    return next(record.run for record in records_of(run) if record.WhichOneof("record_type") == "run")


def exit_code(run: Path) -> int:
    return next(int(r.exit.exit_code) for r in records_of(run) if r.WhichOneof("record_type") == "exit")


CONFIG: dict[str, Any] = {
    "seed": 7,
    "dataset": {"class": "emloop_mtl.testing.FakeDataset", "train": [{"x": [1.0]}, {"x": [3.0]}]},
    "model": {"class": "emloop_mtl.testing.FakeModel", "outputs": {"loss": 0.5}},
    "hooks": [
        {"ComputeStats": {"variables": ["x"]}},
        {"WriteWandb": {"project": "digits", "run_name": "first", "group": "g", "tags": ["a", "b"], "mode": "offline"}},
        {"StopAfter": {"epochs": 2}},
    ],
}


def test_the_client_records_numbers_steps_config_and_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        training = create_training(CONFIG, tmp_path)
        training.main_loop.run_training()
    (run,) = runs_in(tmp_path)
    assert history(run) == [
        {"_step": 0, "epoch": 0, "samples": 0, "train/x/mean": 2.0},
        {"_step": 2, "epoch": 1, "samples": 2, "train/x/mean": 2.0},
        {"_step": 4, "epoch": 2, "samples": 4, "train/x/mean": 2.0},
    ]
    record = described(run)
    config = {item.key: json.loads(item.value_json) for item in record.config.update}
    assert {key: config[key] for key in CONFIG} == training.config.data
    assert (record.project, record.display_name, record.run_group) == ("digits", "first", "g")
    assert list(record.tags) == ["a", "b"]
    assert exit_code(run) == 0
    assert f"WriteWandb: offline; upload the run later:  wandb sync {run}" in caplog.text


def test_scores_rates_and_losses_of_steps_are_those_of_the_other_writers(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hooks = [ScoreTasks(), WriteWandb(steps=2), WriteTensorBoard(steps=2), StopAfter(epochs=2)]
    MainLoop(make_model(), make_dataset(), hooks, extra_streams=["valid"], output_dir=tmp_path).run_training()
    rows = history(runs_in(tmp_path)[0])
    steps = [row["_step"] for row in rows]
    assert steps == [0, 2, 3, 4, 6]  # one axis: the losses of step 6 and the end of the epoch are one row
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"digit/shapes/valid/accuracy", "train/digit/loss", "learning_rate", "model/all/all/loss"} <= set(tags)
    assert {key for row in rows for key in row} - {"_step", "epoch", "samples"} == set(tags)
    for tag in tags:
        written = {row["_step"]: row[tag] for row in rows if tag in row}
        read = {event.step: event.value for event in events.Scalars(tag)}
        assert read == pytest.approx(written, rel=2**-23, nan_ok=True)  # TensorBoard has single precision


def make_loop(folder: Path, fail_at: int | None = None) -> MainLoop:
    from emloop_mtl.testing import FakeDataset

    dataset = FakeDataset(train=[{"x": [float(n)]} for n in range(4)])
    outputs = {"loss": lambda batch: torch.tensor(batch["x"][0])}
    hooks = [ComputeStats(["x"]), WriteWandb(steps=1), SaveAndFail(every=2, fail_at=fail_at), StopAfter(epochs=2)]
    return MainLoop(FakeModel(outputs), dataset, hooks, output_dir=folder, skip_zeroth_epoch=True)


def test_a_resumed_training_goes_on_with_the_same_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="failed at moment 4"):
        make_loop(tmp_path, fail_at=4).run_training()
    (first,) = runs_in(tmp_path)
    assert exit_code(first) == 1
    loop = make_loop(tmp_path)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    loop.run_training()
    second = runs_in(tmp_path)[1]
    assert described(first).run_id == described(second).run_id
    rows = history(second)
    assert [row["_step"] for row in rows] == [3, 4, 5, 6, 7, 8]
    assert rows[1] == {"_step": 4, "epoch": 1, "samples": 4, "train/loss": 3.0, "train/x/mean": 1.5}
    again = {row["_step"]: row for row in history(first)}
    assert {step: again[step] for step in again if step > 2} == {3: rows[0], 4: again[4]}
    assert again[4]["train/loss"] == rows[1]["train/loss"]


@pytest.mark.parametrize("id", ["../../elsewhere", "", "a" * 65, "a b"])
def test_an_id_from_a_checkpoint_is_a_name_and_no_path(id: str) -> None:
    with pytest.raises(ValueError, match="calls no run of W&B"):
        WriteWandb().load_state_dict({"id": id})


def test_histograms_of_what_is_watched(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> None:
    model = make_model()
    watching = WriteWandb(watch=True, watch_freq=2)
    MainLoop(model, make_dataset(), [watching, StopAfter(epochs=2)], output_dir=tmp_path).run_training()
    rows = history(runs_in(tmp_path)[0])
    watched = {key for row in rows for key in row if key.startswith(("gradients/", "parameters/"))}
    names = [name for name, _ in model.network.named_parameters()]
    assert watched == {f"gradients/{name}" for name in names}
    # nothing is left at the network
    assert not any(parameter._backward_hooks for parameter in model.network.parameters())


@pytest.fixture
def other_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What changes the environment that W&B reads when it is first used in a process."""
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def test_online_without_login_is_told_before_the_first_batch(
    tmp_path: Path, other_settings: pytest.MonkeyPatch
) -> None:
    monkeypatch = other_settings
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody answers
    message = r"WriteWandb: W&B cannot begin the run: .*wandb login.*; 'mode: offline' needs neither network nor login$"
    with pytest.raises(ConfigError, match=message) as info:
        run_hook(WriteWandb(mode="online"), output_dir=tmp_path / "run")
    assert "\n" not in str(info.value)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with pytest.raises(ConfigError, match=r"W&B cannot begin the run: .*mode: offline") as info:
        run_hook(WriteWandb(mode="online", timeout=0.5), output_dir=tmp_path / "other")
    assert "\n" not in str(info.value)


def test_two_of_them_are_refused(tmp_path: Path) -> None:
    second = WriteWandb(folder="other")
    second.name = "again"
    with pytest.raises(ConfigError, match="again: a run of W&B is under way in this process already"):
        run_hook(WriteWandb(), second, output_dir=tmp_path)
    same = WriteWandb()
    same.name = "again"
    with pytest.raises(ConfigError, match="both write .*wandb: give one another folder"):
        run_hook(WriteWandb(), same, output_dir=tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "wandb").touch()
    with pytest.raises(ConfigError, match=r"WriteWandb: cannot write .*wandb: File exists"):
        run_hook(WriteWandb(), output_dir=tmp_path)


def test_a_client_that_fails_in_the_middle_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class EndsTheRun(ComputeStats):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.position.step == 1 and wandb.run is not None:
                wandb.run.finish()

    with pytest.raises(OSError, match=r"WriteWandb: cannot write .*wandb: UsageError: .*finished") as info:
        run_hook(EndsTheRun(["loss"]), WriteWandb(), output_dir=tmp_path / "error")
    assert info.value.__notes__ == ["; with 'on_failure: warn' the training would go on without these records"]
    record = run_hook(EndsTheRun(["loss"]), WriteWandb(on_failure="warn"), epochs=2, output_dir=tmp_path / "warn")
    assert record.main_loop.end == "finished"
    (warning,) = [
        each.message for each in caplog.records if "WriteWandb" in each.message and each.levelname == "WARNING"
    ]
    assert warning.endswith("; the training goes on, and records are missing from epoch 1, step 2 on")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"project": 3}, "project must be text, not 3"),
        ({"run_name": ""}, "run_name must be text"),
        ({"tags": "a"}, r"tags must be a list of names, such as \[a\]"),
        ({"mode": "of"}, "mode 'of' is unknown"),
        ({"watch": "gradients"}, "watch must be true or false, not 'gradients'"),
        ({"watch_freq": 5}, ".*watch asks for none: set 'watch: true'"),
        ({"watch": True, "watch_freq": 0}, "watch_freq must be a positive whole number"),
        ({"folder": ""}, "folder must be a path"),
        ({"timeout": 0}, "timeout must be a positive number"),
        ({"steps": 0}, "steps must be a positive whole number"),
        ({"on_failure": "ignore"}, "on_failure 'ignore' is unknown; known are: error, warn"),
        ({"name_of_run": "a"}, "unknown argument 'name_of_run'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"WriteWandb: {words}"):
        WriteWandb(**arguments)


def test_a_model_without_a_network_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="watch needs a model with a 'network' of torch; FakeModel has none"):
        run_hook(WriteWandb(watch=True), output_dir=tmp_path)


def test_a_project_that_is_no_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"WriteWandb: W&B cannot begin the run: .*someone/else"):
        run_hook(WriteWandb(project="someone/else"), output_dir=tmp_path)


def test_a_run_folder_from_elsewhere_does_not_choose_who_gets_the_numbers() -> None:
    with pytest.raises(ConfigError, match="'stranger' would get the numbers; --trust lets it") as info:
        TrustPolicy().check_call(WriteWandb, {"entity": "stranger"})
    assert info.value.path == ("entity",)
    TrustPolicy().check_call(WriteWandb, {"entity": None, "project": "digits"})
