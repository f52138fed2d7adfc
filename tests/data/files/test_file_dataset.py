"""Trainings on files that a config describes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner

from emloop_mtl import (
    ColumnDataset,
    FileDataset,
    MainLoop,
    MultiTaskDataset,
    TaskLoader,
    create_training,
    load_config,
)
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.cli import main
from emloop_mtl.cli.running import train_anew, train_on
from emloop_mtl.config.create import create_hooks, create_model
from emloop_mtl.errors import CheckpointError, ConfigError, DataError
from emloop_mtl.testing import SaveAndFail

ROWS = {"train": 50, "valid": 20}

CONFIG = """\
seed: 3
dataset:
  class: FileDataset
  batch_size: 8
  tables:
    points: {files: {train: FILE.train.KIND, valid: FILE.valid.KIND}, features: FEATURES, labels: [kind, sum]}
model:
  class: MultiTaskModel
  device: cpu
  optimizer: {class: adam, lr: 0.05}
  modules:
    kind_head: {class: torch.nn.Linear, in_features: 2, out_features: 3}
    sum_head: {class: torch.nn.Linear, in_features: 2, out_features: 1}
  tasks:
    kind: {flow: [{name: kinds, module: kind_head, inputs: x}], label: kind, loss: cross_entropy, missing_label: -100}
    sum: {flow: [{name: sums, module: sum_head, inputs: x}], label: sum, loss: mse_loss}
main_loop: {fixed_epoch_size: 4}
hooks:
  - Evaluate: {streams: [valid]}
  - ScoreTasks
  - SaveLatest
  - StopAfter: {epochs: 4}
"""


def columns(split: str) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(len(split))
    x = generator.normal(size=(ROWS[split], 2)).astype(np.float32)
    kind = generator.integers(0, 3, ROWS[split])
    return {"x": x, "kind": np.where(kind == 2, -100, kind), "sum": x.sum(axis=1)}


def write_csv(path: Path, table: Mapping[str, np.ndarray]) -> None:
    cells = [
        [*map(repr, x.tolist()), str(kind), repr(float(y)), "a b" if y < 0 else "c"]
        for x, kind, y in zip(*table.values(), strict=True)
    ]
    path.write_text("\n".join(map(",".join, [["a", "b", "kind", "sum", "note"], *cells])), encoding="utf-8")


def write_parquet(path: Path, table: Mapping[str, np.ndarray]) -> None:
    a, b = table["x"].T.astype(np.float64)
    pq.write_table(pa.table({"a": a, "b": b, "kind": table["kind"], "sum": table["sum"]}), path, row_group_size=16)


WRITERS: dict[str, Callable[..., None]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "npz": lambda path, table: np.savez(path, **table),
}


@pytest.fixture(params=WRITERS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A config beside files of one kind."""
    folder = tmp_path / "project"
    folder.mkdir()
    for split in ROWS:
        WRITERS[request.param](folder / f"data.{split}.{request.param}", columns(split))
    features = "[x]" if request.param == "npz" else "{x: [a, b]}"
    text = CONFIG.replace("FILE", "data").replace("KIND", request.param).replace("FEATURES", features)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder / "config.yaml"


class InMemory(MultiTaskDataset):
    def __init__(self, batch_size: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._batch_size = batch_size

    def loaders(self) -> list[TaskLoader]:
        loaders = []
        for split in ROWS:
            labels = {name: torch.as_tensor(values) for name, values in columns(split).items()}
            data = ColumnDataset("points", {"x": labels.pop("x")}, labels)
            loaders.append(TaskLoader(data, split=split, batch_size=self._batch_size))
        return loaders


def newest_weights(run: Path) -> Mapping[str, torch.Tensor]:
    return newest_checkpoint(run / "checkpoints").weights


def assert_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_training_from_files_ends_with_the_weights_of_training_from_memory(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths are relative to the config, not to the working folder
    from_files = create_training(config, "files")
    from_files.main_loop.run_training()
    loaded = load_config(config)
    dataset = InMemory(batch_size=8, seed=3)
    model = create_model(loaded, dataset, "memory")
    main_loop = MainLoop(
        model, dataset, create_hooks(loaded, model, dataset), output_dir="memory", fixed_epoch_size=4, seed=3
    )
    main_loop.run_training()
    assert from_files.main_loop.position == main_loop.position
    assert main_loop.position.step == 16
    assert_equal(from_files.model.network.state_dict(), model.network.state_dict())


def test_a_training_from_files_goes_on_in_the_middle_of_a_pass_and_from_another_folder(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    train_anew(Path("config.yaml"), [], tmp_path, tmp_path / "whole", remove=False)
    with pytest.raises(RuntimeError, match="failed at moment 19"):
        train_anew(
            Path("config.yaml"), [], tmp_path, tmp_path / "run", remove=False, more_hooks=[SaveAndFail(6, fail_at=19)]
        )
    position = newest_checkpoint(tmp_path / "run" / "checkpoints").position
    assert position.step % 7 != 0  # batches of a pass
    monkeypatch.chdir(tmp_path)
    train_on(tmp_path / "run", [], trust=False)
    assert_equal(newest_weights(tmp_path / "run"), newest_weights(tmp_path / "whole"))
    for word in ("eval", "predict"):
        done = CliRunner().invoke(main, [word, "valid", "run"])
        assert done.exit_code == 0, done.stderr


def test_a_file_that_has_changed_in_the_middle_of_a_pass_is_refused(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    train_anew(Path("config.yaml"), ["hooks.StopAfter={steps: 5}"], tmp_path, tmp_path / "run", remove=False)
    (path,) = Path().glob("data.train.*")
    changed = columns("train")
    changed["sum"] = changed["sum"] + 1
    WRITERS[path.suffix[1:]](path, changed)
    text = "sum of the file of loader 'points' was .* and is .*; in the middle of a pass all must be as it was"
    with pytest.raises(CheckpointError, match=text):
        train_on(tmp_path / "run", ["hooks.StopAfter.steps=9"], trust=False)
    WRITERS[path.suffix[1:]](path, columns("train"))
    train_on(tmp_path / "run", ["hooks.StopAfter.steps=9"], trust=False)
    assert newest_checkpoint(tmp_path / "run" / "checkpoints").position.step == 9


def test_labels_of_a_file_are_checked_batch_by_batch(config: Path, tmp_path: Path) -> None:
    (path,) = config.parent.glob("data.train.*")
    changed = columns("train")
    changed["kind"][17] = 3
    WRITERS[path.suffix[1:]](path, changed)
    training = create_training(config, tmp_path / "run")
    with pytest.raises(DataError, match="source 'kind': label 3 in row 7 is out of range 0..2"):
        training.main_loop.run_training()


def test_a_table_may_have_tasks_sizes_and_counts_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **columns("train"))
    np.save(tmp_path / "b.npy", np.zeros((6, 2), np.float32))
    tables = {
        "a": {"files": {"train": "a.npz"}, "labels": ["kind", "sum"], "tasks": {"kind": "kind"}, "n_batches": 2},
        "b": {"files": {"train": {"x": "b.npy"}, "test": {"x": "b.npy"}}, "batch_size": 2, "name": "plain"},
    }
    dataset = FileDataset(tables, batch_size=10, config_folder=str(tmp_path), seed=1)
    assert dataset.stream_names() == ["test", "train"]
    batches = list(dataset.train_stream())
    assert {(batch.data_name, batch.size, tuple(batch.tasks)) for batch in batches} == {
        ("a", 10, ("kind",)),
        ("plain", 2, ()),
    }
    assert len(batches) == 2 + 3


FILES = [
    ("dta.csv", "dta.csv: no such file"),
    ("../project", "../project: the end of the name does not say how to read it"),
    ("folder.csv", "folder.csv: is a folder, not a file"),
    ("data.train.npy", "data.train.npy has no name for its column; write {name: data.train.npy}"),
    ("3", "expected str or mapping, got 3"),
    ("short.csv", "short.csv:3: a row of 1 cells, where the first line names 4 columns"),
    ("{x: two.npy, kind: one.npy}", "dataset 'points': 'x' has 2 rows, 'kind' has 1; all columns must have the same"),
    ("uneven.npz", "dataset 'points': 'x' has 2 rows, 'kind' has 1; all columns must have the same length"),
]
"""What stands for the file of the split train, which is where the error is."""

SETTINGS = [
    ("delimiter: ab", "delimiter is one character"),
    ("dtypes: {sum: float}", "'float' is no dtype of a column; did you mean 'float64'?"),
    ("uid: id", "no feature 'id' to serve as uid"),
    ("batch_size: 0", "points.batch_size: loader 'points': batch_size 0 is less than 1"),
    ("n_batches: -2", "n_batches -2 is less than 0 (0 or None takes all batches)"),
    ("min_data_len: -1", "min_data_len must be a whole number, 0 or more"),
    ("min_data_len: 3, max_data_len: 2", "min_data_len 3 is more than max_data_len"),
    ("tasks: {kind: kin}", "the data has no label 'kin' for task 'kind'"),
]
"""What is added to a table."""

MISTAKES = [
    ("data.train.csv", "{x: data.train.csv}", "x: data", "data.train.csv is no .npy file, as one per column must be"),
    ("{train: data.train.csv, valid: data.valid.csv}", "{}", "files", "files: a file is needed, such as {train: tr"),
    ("[kind, sum]", "[kind, note]", "labels", "as in classes: {note: [a b, c]}"),
    ("[a, b]", "[a, bb]", "bb]", "features.x[1]: the file has no column 'bb'"),
    ("[kind, sum]", "[kind, smu]", "smu]", "tables.points.labels[1]: the file has no column 'smu'; did you mean 'sum'"),
    ("[kind, sum]", "{kind: kind, sum: [sum, kin]}", "kin]", "the file has no column 'kin'; did you mean 'kind'?"),
    ("labels:", "lables:", "lables", "tables.points: FileTable: unknown argument 'lables'; did you mean 'labels'?"),
    ("  batch_size: 8\n", "  batch_size: 8\n  batchsize: 8\n", "batchsize", "unknown argument 'batchsize'"),
    (
        "  batch_size: 8",
        "  batch_size: 0",
        "batch_size: 0",
        "dataset.batch_size: loader 'points': batch_size 0 is less",
    ),
    ("  batch_size: 8", "  num_workers: -1", "num_workers: -1", "dataset.num_workers: loader 'points': num_wo"),
    *[("data.train.csv", file, f"train: {file}", f"tables.points.files.train: {says}") for file, says in FILES],
    *[("labels:", f"{each}, labels:", each.split("{")[-1], says) for each, says in SETTINGS],
]


@pytest.mark.parametrize(("right", "wrong", "at", "says"), MISTAKES, ids=[f"{each[1]}" for each in MISTAKES])
@pytest.mark.parametrize("config", ["csv"], indirect=True)
def test_a_mistake_about_files_is_answered_by_one_line(
    config: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, at: str, says: str
) -> None:
    monkeypatch.chdir(config.parent)
    Path("folder.csv").mkdir()
    Path("short.csv").write_text("a,b,kind,sum\n1,2,0,1\n3\n", encoding="utf-8")
    np.save("two.npy", np.zeros((2, 2)))
    np.save("one.npy", np.zeros(1))
    np.savez("uneven.npz", x=np.zeros((2, 2)), kind=np.zeros(1), sum=np.zeros(2))
    text = config.read_text(encoding="utf-8")
    assert right in text
    if ".np" in wrong:
        text = text.replace("{x: [a, b]}", "[x]").replace("labels: [kind, sum]", "labels: [kind]")
    text = text.replace(right, wrong, 1)
    config.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(main, ["train", "config.yaml"])
    before = text.partition(at)[0]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert done.stderr.startswith(f"config.yaml:{line}:{column}: "), done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.exit_code == 2
    assert not Path("log").exists()


def test_a_dataset_needs_a_table() -> None:
    with pytest.raises(ConfigError, match="a table is needed, such as"):
        FileDataset({})
    with pytest.raises(ConfigError, match="a mapping is needed, such as {files: {train: train.csv}}"):
        FileDataset({"flowers": "train.csv"})  # type: ignore[dict-item]
    for files in ({"labels": ["kind"]}, {"files": "train.csv"}):
        with pytest.raises(ConfigError, match="a file is needed, such as {train: train.csv}"):
            FileDataset({"flowers": files})
    with pytest.raises(ConfigError, match="table 'flowers': unknown argument 'lables'; did you mean 'labels'?"):
        FileDataset({"flowers": {"files": {"train": "train.csv"}, "lables": ["kind"]}})
