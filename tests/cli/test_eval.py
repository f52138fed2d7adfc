"""``emloop-mtl eval``: whose weights it scores, with which hooks, and that it writes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .conftest import Command, copy_example, train_here


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of three epochs, whose best digit accuracy is made to be that of an earlier one."""
    folder = tmp_path_factory.mktemp("trained")
    copy_example(folder)
    words = ("hooks.StopAfter.epochs=3", "hooks.SaveBest.variable=ink/digits/loss", "hooks.SaveBest.mode=max")
    train_here(folder, *words, "--output-dir", "run")
    return folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the run, made the working folder; nothing writes there."""
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture
def run(folder: Path) -> Path:
    return folder / "run"


def score(out: str, task: str, metric: str) -> str:
    (row,) = (line.split() for line in out.splitlines() if line.split()[:2] == [task, metric])
    return row[2]


def logged(run: Path, epoch: int, name: str) -> str:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return f"{next(line for line in lines if line['epoch'] == epoch)[name]:.4f}"


def test_it_scores_the_best_weights(run: Path, command: Command) -> None:
    done = command("eval", "valid", "run")
    assert done.exit_code == 0, done.stderr
    found = re.search(r"weights 'best' \(epoch (\d), step (\d)\)", done.stdout)
    assert found is not None
    epoch = int(found[1])
    assert epoch < 3, "the best must not be the latest for this test to tell them apart"
    for task, metric in (("digit", "accuracy"), ("digit", "loss"), ("ink", "mean_squared_error")):
        assert score(done.stdout, task, metric) == logged(run, epoch, f"{task}/digits/valid/{metric}")


def test_another_checkpoint_can_be_named(run: Path, command: Command) -> None:
    done = command("eval", "valid", "run", "--checkpoint", "latest")
    assert "weights 'latest' (epoch 3, step 9)" in done.stdout
    assert score(done.stdout, "digit", "loss") == logged(run, 3, "digit/digits/valid/loss")


def test_an_unknown_checkpoint_is_a_mistake(run: Path, command: Command) -> None:
    done = command("eval", "valid", "run", "--checkpoint", "latst")
    assert done.exit_code == 2
    assert done.stderr == "run: has no checkpoint 'latst'; did you mean 'latest'?\n"


def test_an_unknown_stream_is_a_mistake(run: Path, command: Command) -> None:
    done = command("eval", "tset", "run")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no stream 'tset'" in done.stderr


def test_the_train_stream_can_be_scored_too(run: Path, command: Command) -> None:
    done = command("eval", "train", "run")
    assert done.exit_code == 0, done.stderr
    assert 0 <= float(score(done.stdout, "digit", "accuracy")) <= 1


def test_nothing_is_written(run: Path, command: Command) -> None:
    def content() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")}

    before = content()
    assert command("eval", "test", "run").exit_code == 0
    assert command("eval", "train", "run").exit_code == 0  # has no section in eval, so all hooks but training's act
    assert content() == before


def test_overrides_apply(run: Path, command: Command) -> None:
    whole = score(command("eval", "test", "run", "dataset.max_rows=null").stdout, "digit", "loss")
    assert whole != score(command("eval", "test", "run").stdout, "digit", "loss")
    bigger_batches = score(command("eval", "test", "run", "dataset.batch_size=96").stdout, "digit", "accuracy")
    assert bigger_batches == score(command("eval", "test", "run").stdout, "digit", "accuracy")


def test_the_section_of_the_stream_overrides_the_others(run: Path, command: Command) -> None:
    done = command("eval", "test", "run", "eval.test={hooks: [{ComputeStats: {variables: [digit/loss]}}]}")
    assert done.exit_code == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert rows[-1][:3] == ["digit/loss", "(mean)", rows[-1][-1]]


def test_without_a_hook_that_scores_there_is_nothing_to_show(run: Path, command: Command) -> None:
    done = command("eval", "test", "run", "eval.test={hooks: []}")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "warning: there are no scores to show" in done.stderr


def test_weights_that_do_not_fit_are_an_error(run: Path, command: Command) -> None:
    done = command("eval", "test", "run", "model.modules.digit_head.out_features=11")
    assert done.exit_code == 1
    assert "does not fit the model" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1
