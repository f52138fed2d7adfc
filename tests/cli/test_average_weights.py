"""What commands make of runs whose weights are averaged, and of mistakes in the hook's arguments."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import torch

from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.config.create import create_training

from .conftest import SHORT, Command
from .test_eval import logged, score
from .test_mistakes import Mistake, check_answer

SMALL = (SHORT[0], "eval={valid: {hooks: [ScoreTasks]}}")


def train(command: Command, save: str = "true", output_dir: str = "run") -> None:
    average = f"{{AverageWeights: {{decay: 0.8, save: {save}}}}}"
    more = f"ScoreTasks, {average}, WriteJSON, SaveLatest, {{StopAfter: {{epochs: 2}}}}"
    hooks = f"[{{Evaluate: {{streams: [valid]}}}}, {more}]"
    done = command("train", "config.yaml", *SMALL, f"hooks={hooks}", "--output-dir", output_dir)
    assert done.exit_code == 0, done.stderr


def test_eval_and_predict_take_the_average(folder: Path, command: Command) -> None:
    train(command)
    done = command("eval", "valid", "run")
    assert done.exit_code == 0, done.stderr
    for task, metric in (("digit", "accuracy"), ("digit", "loss"), ("ink", "mean_squared_error")):
        assert score(done.stdout, task, metric) == logged(folder / "run", 2, f"{task}/digits/valid/{metric}")
    train(command, save="false", output_dir="weights")
    assert logged(folder / "weights", 2, "digit/digits/valid/loss") == score(done.stdout, "digit", "loss")
    other = command("eval", "valid", "weights")
    assert score(other.stdout, "digit", "loss") != score(done.stdout, "digit", "loss")
    saved = newest_checkpoint(folder / "run" / "checkpoints")
    kept = newest_checkpoint(folder / "weights" / "checkpoints").state["hooks"]["AverageWeights"]["weights"]
    assert kept.keys() == saved.weights.keys()
    assert all(torch.equal(kept[name], saved.weights[name]) for name in kept)
    written = command("predict", "valid", "run", "--format", "csv", "--task", "ink")
    training = create_training("run/config.yaml", "other")
    training.model.load_state_dict(saved.weights)
    expected = training.model.predict(training.dataset.valid_stream())["ink"]
    rows = list(csv.DictReader(io.StringIO(written.stdout)))
    # In batches of other sizes, in float32.
    assert [float(row["pred"]) for row in rows] == pytest.approx(expected.preds.flatten().tolist(), rel=1e-6)


MISTAKES = [
    ("decay: 1.5", "decay: 1.5", "must be a number from 0 to less than 1, not 1.5"),
    ("decay: high", "decay: high", "expected float, got 'high'"),
    ("decay: .nan", "decay: .nan", "must be a number from 0 to less than 1, not nan"),
    ("updates: 0", "updates: 0", "must be a positive whole number, not 0"),
    ("runway: -5", "runway: -5", "must be a positive whole number, not -5"),
    ("decya: 0.9", "decya: 0.9", "unknown argument 'decya'; did you mean 'decay'?"),
    ("save: never", "save: never", "expected bool, got 'never'"),
    ("evaluate: false, save: false", "evaluate: false", "nothing uses the average"),
]


@pytest.mark.parametrize(("arguments", "at", "says"), MISTAKES, ids=[arguments for arguments, _, _ in MISTAKES])
def test_a_mistake_is_answered_by_one_line(arguments: str, at: str, says: str, folder: Path, command: Command) -> None:
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    listed = f"  - AverageWeights: {{{arguments}}}\n  - StopAfter:"
    config.write_text(text.replace("  - StopAfter:", listed), encoding="utf-8")
    done = command("train", "config.yaml")
    check_answer(Mistake("", "", at, says), folder, done.exit_code, done.stdout, done.stderr)


def test_it_stands_before_restore_best(folder: Path, command: Command) -> None:
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    listed = "  - RestoreBest\n  - AverageWeights\n  - StopAfter:"
    config.write_text(text.replace("  - StopAfter:", listed), encoding="utf-8")
    done = command("train", "config.yaml")
    mistake = Mistake("", "", "AverageWeights", "list it before RestoreBest")
    check_answer(mistake, folder, done.exit_code, done.stdout, done.stderr)
