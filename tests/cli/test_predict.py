"""``emloop-mtl predict``: what it writes, where, with whose weights, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.config.create import create_training
from emloop_mtl.models.task_prediction import TaskPrediction

from .conftest import ENVIRONMENT, EXAMPLE, PROGRAM, SHORT, Command, command_here

TASKS = ("digit", "parity", "ink")
OTHER_DATA = """
import os
import signal
import time
from pathlib import Path
import torch
from digits import Digits
from emloop_mtl import ColumnDataset, TaskLoader

class New(Digits):
    '''Test data whose labels nobody knows.'''

    def loaders(self):
        image = torch.rand(5, 1, 8, 8)
        new = TaskLoader(ColumnDataset("new", {"image": image}), split="test", batch_size=2)
        return [loader for loader in super().loaders() if loader.split != "test"] + [new]

class Unlabelled(Digits):
    '''Streams written by hand: without labels, or without uids, or slow.'''

    def test_stream(self):
        print("reading the test stream")
        yield {"image": torch.zeros(2, 1, 8, 8)}
        yield {"image": torch.ones(3, 1, 8, 8)}

    def named_stream(self):
        yield {"image": torch.zeros(3, 1, 8, 8), "_uids_": ["a", "Zürich", 3], "digit": torch.tensor([1, 2, 3])}

    def slow_stream(self):
        for number in range(1000):
            yield {"image": torch.zeros(2, 1, 8, 8)}
            time.sleep(0.05)

    def SIGINT_stream(self, name="SIGINT"):
        for number in range(1000):
            if number == 3:
                (partial,) = [*Path().glob(".out.csv.*.partial"), Path("none")][:1]
                Path("found.partial").write_bytes(partial.read_bytes() if partial.exists() else b"")
                os.kill(os.getpid(), getattr(signal, name))
            yield {"image": torch.zeros(2, 1, 8, 8)}

    def SIGTERM_stream(self):
        return self.SIGINT_stream("SIGTERM")

    def broken_stream(self):
        yield {"image": torch.zeros(2, 1, 8, 8)}
        raise RuntimeError("the disk is gone")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of example 1, whose best epoch is not its last one."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("config.yaml", "digits.py"):
        shutil.copy(EXAMPLE / name, folder)
    (folder / "other.py").write_text(OTHER_DATA)
    best = ("hooks.SaveBest.variable=ink/digits/loss", "hooks.SaveBest.mode=max")
    with pytest.MonkeyPatch.context() as patch, command_here() as command:
        patch.chdir(folder)
        done = command("train", "config.yaml", *SHORT, "hooks.StopAfter.epochs=3", *best, "--output-dir", "run")
    assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, made the working folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    record = tmp_path / "run" / "run.yaml"
    record.write_text(record.read_text().replace(str(trained), str(tmp_path)))  # as if it had been trained here
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def json_rows(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def expected(folder: Path, stream: str, tag: str) -> dict[str, TaskPrediction]:
    """Return what the run's model predicts, asked in Python."""
    training = create_training(folder / "run" / "config.yaml", source_folder=folder, for_training=False)
    training.model.load_state_dict(newest_checkpoint(folder / "run" / "checkpoints", tag).weights)
    found: dict[str, TaskPrediction] = training.model.predict(getattr(training.dataset, f"{stream}_stream")())
    return found


@pytest.mark.parametrize(("words", "tag"), [([], "best"), (["--checkpoint", "latest"], "latest")])
def test_json_lines_are_what_the_model_predicts(folder: Path, command: Command, words: list[str], tag: str) -> None:
    done = command("predict", "test", "run", *words)
    assert done.exit_code == 0, done.stderr
    rows, known = json_rows(done.stdout), expected(folder, "test", tag)
    assert [row["task"] for row in rows] == [*TASKS] * 96
    for task in TASKS:
        mine, found = [row for row in rows if row["task"] == task], known[task]
        assert found.preds is not None
        assert found.probs is not None
        assert found.labels is not None
        assert [row["uid"] for row in mine] == found.uids
        for key, values in (("pred", found.preds), ("label", found.labels)):
            np.testing.assert_array_equal(np.array([row[key] for row in mine], values.dtype), values.squeeze())
        if task == "ink":
            assert {row["prob"] for row in mine} == {None}
        else:
            np.testing.assert_array_equal(np.array([row["prob"] for row in mine], np.float32), found.probs)
    assert f"288 rows for 96 samples of stream 'test', predicted by the weights '{tag}'" in done.stderr


def test_best_and_latest_differ(folder: Path) -> None:
    tags = [newest_checkpoint(folder / "run" / "checkpoints", tag) for tag in ("best", "latest")]
    assert any(not a.equal(b) for a, b in zip(*(tag.weights.values() for tag in tags), strict=True))


def test_csv_holds_the_same(command: Command) -> None:
    rows = csv_rows(command("predict", "train", "run", "--format", "csv").stdout)
    others = json_rows(command("predict", "train", "run").stdout)
    assert len(rows) == len(others) == 288
    for row, other in zip(rows, others, strict=True):
        assert (row["uid"], row["data"], row["task"]) == (str(other["uid"]), other["data"], other["task"])
        for key in ("label", "pred", "prob"):
            assert (json.loads(row[key]) if row[key] else None) == other[key]
    missing = [row for row in rows if row["label"] == ""]
    assert {row["task"] for row in missing} == {"parity"}
    assert len(missing) == 20  # every fifth of the 96 images


def test_the_accuracy_of_the_file_is_that_of_eval(folder: Path, command: Command) -> None:
    done = command("predict", "test", "run", "--task", "digit", "--output", "test.csv")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    rows = csv_rows((folder / "test.csv").read_text())
    right = [row["label"] == row["pred"] for row in rows]
    assert len(right) == 96
    scores = command("eval", "test", "run").stdout
    (line,) = (line.split() for line in scores.splitlines() if line.split()[:2] == ["digit", "accuracy"])
    assert f"{sum(right) / len(right):.4f}" == line[2]


def test_nothing_is_written_into_the_run_and_its_hooks_do_not_act(folder: Path, command: Command) -> None:
    before = content(folder)
    words = ("eval.test={hooks: [{WritePredictions: {path: '%s/{stream}.csv'}}]}" % folder,)  # noqa: UP031
    assert command("predict", "test", "run", *words).exit_code == 0
    assert command("predict", "train", "run").exit_code == 0
    after = content(folder)
    assert {name for name in after if not name.endswith(".pyc")} == {n for n in before if not n.endswith(".pyc")}
    assert all(after[name] == text for name, text in before.items())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tset", "run"], "no stream 'tset'"),
        (["test", "nowhere"], "nowhere: no such folder"),
        (["test", "run", "--checkpoint", "lates"], "run: has no checkpoint 'lates'; did you mean 'latest'?"),
        (["test", "run", "--task", "digt"], "--task: the model has no task 'digt'; did you mean 'digit'?"),
        (["test", "run", "--format", "cvs"], "unknown format 'cvs'; did you mean 'csv'?"),
        (["test", "run", "--output", "a.txt"], "a.txt: the suffix '.txt' stands for no format"),
        (["test", "run", "--output", "none/a.csv"], "none/a.csv: cannot be written: No such file or directory"),
        (["test", "run", "--output", "run"], "run: cannot be written: is a folder"),
        (["test", "run", "dataset.batch_sie=3"], "unknown argument 'batch_sie'; did you mean 'batch_size'"),
    ],
)
def test_mistakes_are_one_line(folder: Path, command: Command, words: list[str], says: str) -> None:
    before = set(content(folder))
    done = command("predict", *words)
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert {name for name in set(content(folder)) - before if not name.endswith(".pyc")} == set()


def test_a_failure_leaves_the_old_file(folder: Path, command: Command) -> None:
    (folder / "out.csv").write_text("old")
    done = command("predict", "broken", "run", "dataset.class=other.Unlabelled", "--output", "out.csv")
    assert done.exit_code == 1
    assert "the disk is gone" in done.stderr.splitlines()[-1]
    assert (folder / "out.csv").read_text() == "old"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert command("predict", "test", "run", "--output", "out.csv").exit_code == 0
    assert len(csv_rows((folder / "out.csv").read_text())) == 288
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_link_is_followed_and_format_goes_before_the_suffix(folder: Path, command: Command) -> None:
    (folder / "deep").mkdir()
    (folder / "link.csv").symlink_to("deep/file")
    assert command("predict", "test", "run", "-o", "link.csv", "--format", "jsonl").exit_code == 0
    assert (folder / "link.csv").is_symlink()
    assert len(json_rows((folder / "deep" / "file").read_text())) == 288


def test_streams_written_by_hand_need_neither_labels_nor_uids(command: Command) -> None:
    done = command("predict", "test", "run", "dataset.class=other.Unlabelled", "-o", "-", "--task", "digit")
    assert done.exit_code == 0, done.stderr
    rows = json_rows(done.stdout)
    assert [row["uid"] for row in rows] == [0, 1, 2, 3, 4]
    assert {row["label"] for row in rows} == {None}
    assert rows[0]["prob"] == rows[1]["prob"] != rows[2]["prob"]
    assert "reading the test stream" in done.stderr, "what code prints must not stand between the rows"
    named = command("predict", "named", "run", "dataset.class=other.Unlabelled")
    assert [(row["uid"], row["label"]) for row in json_rows(named.stdout)] == [("a", 1), ("Zürich", 2), (3, 3)]


def test_data_without_labels_need_a_loader_that_names_no_tasks(command: Command) -> None:
    done = command("predict", "test", "run", "dataset.class=other.New")
    assert done.exit_code == 0, done.stderr
    rows = json_rows(done.stdout)
    assert [(row["uid"], row["data"], row["task"]) for row in rows] == [
        (uid, "new", task) for uid in range(5) for task in TASKS
    ]
    assert {row["label"] for row in rows} == {None}
    assert all((row["prob"] is None) == (row["task"] == "ink") for row in rows)


def test_a_task_that_no_batch_carries_is_told_of(command: Command) -> None:
    done = command("predict", "named", "run", "dataset.class=other.Unlabelled", "--task", "ink", "--task", "digit")
    assert done.exit_code == 0
    assert {row["task"] for row in json_rows(done.stdout)} == {"digit"}
    assert "warning: no batch carries the task 'ink'" in done.stderr


def test_code_from_elsewhere_needs_trust(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    refused = command("predict", "test", "../run")
    assert refused.exit_code == 2
    assert "'digits' is not trusted: without --trust" in refused.stderr
    assert command("predict", "test", "../run", "--trust").exit_code == 0


def test_weights_that_do_not_fit_are_an_error(folder: Path, command: Command) -> None:
    done = command("predict", "test", "run", "model.modules.digit_head.out_features=11", "-o", "out.csv")
    assert done.exit_code == 1
    assert "does not fit the model" in done.stderr.splitlines()[-1]
    assert not (folder / "out.csv").exists()


def test_batches_that_are_left_out_are_told_of(command: Command) -> None:
    done = command("predict", "test", "run", "main_loop={fixed_batch_size: 32}", "dataset.max_rows=40")
    assert done.exit_code == 0, done.stderr
    assert len(json_rows(done.stdout)) == 3 * 32
    assert "warning: batches of other than 32 samples are left out" in done.stderr


# ----------------------------------------------------------------------------------------------- pipes and signals


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    line = [str(PROGRAM), "predict", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(line, env=ENVIRONMENT, text=True, **pipes)


@pytest.mark.long
def test_rows_come_while_the_stream_is_read_and_a_pipe_that_nobody_reads_ends_the_command_quietly(folder: Path) -> None:
    with start("slow", "run", "dataset.class=other.Unlabelled", "--task", "digit") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        rows = [json.loads(running.stdout.readline()) for _ in range(6)]  # of three batches among a thousand
        running.stdout.close()
        said = running.stderr.read()
    assert [row["uid"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert running.returncode == 128 + signal.SIGPIPE
    assert said == ""


@pytest.mark.long
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_of_one_line(folder: Path) -> None:
    with Path("/dev/full").open("w") as full, start("test", "run", stdout=full) as running:
        assert running.stderr is not None
        said = running.stderr.read()
    assert running.returncode == 1
    assert said == "error: stdout: cannot be written: No space left on device\n"


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("to_file", [True, False])
def test_a_signal_leaves_no_file_or_whole_rows(
    folder: Path, command: Command, name: str, code: int, to_file: bool
) -> None:
    (folder / "out.csv").write_text("old")
    words = ("--output", "out.csv") if to_file else ("--task", "digit")
    done = command("predict", name, "run", "dataset.class=other.Unlabelled", *words)
    assert done.exit_code == code
    assert "Traceback" not in done.stderr
    assert f"{name}: ending at the next border" in done.stderr
    assert (folder / "found.partial").read_text().startswith("uid,") == to_file, "there was none to remove"
    assert list(folder.glob(".out.csv*")) == []
    assert (folder / "out.csv").read_text() == "old"
    if not to_file:
        assert [row["uid"] for row in json_rows(done.stdout)] == [0, 1, 2, 3, 4, 5]


def test_a_pipe_can_be_the_output(folder: Path, command: Command) -> None:
    os.mkfifo(folder / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((folder / "pipe").read_text)
        done = command("predict", "test", "run", "--output", "pipe", "--format", "csv")
    assert done.exit_code == 0, done.stderr
    assert len(csv_rows(read.result())) == 288


# ----------------------------------------------------------------------------------------- the hook in section eval


def test_the_end_of_a_training_and_eval_write_predictions_too(folder: Path, command: Command) -> None:
    section = "eval={test: {hooks: [{WritePredictions: {tasks: [digit]}}, ScoreTasks]}}"
    best = ("hooks.SaveBest.variable=ink/digits/loss", "hooks.SaveBest.mode=min")
    done = command("train", "config.yaml", *SHORT, *best, section, "--output-dir", "other")
    assert done.exit_code == 0, done.stderr
    epoch = newest_checkpoint(folder / "other" / "checkpoints", "best").position.epoch
    assert epoch > 0
    (written,) = (folder / "other" / "predictions").iterdir()
    assert written.name == f"test_{epoch}.jsonl"
    done = command("predict", "test", "other", "--task", "digit")
    assert written.read_text() == done.stdout
    assert command("eval", "test", "other", "--output-dir", "out").exit_code == 0
    assert (folder / "out" / "predictions" / written.name).read_bytes() == written.read_bytes()
    done = command("eval", "test", "other")
    assert done.exit_code == 2
    assert "is relative to the output folder, but there is none; set --output-dir" in done.stderr
