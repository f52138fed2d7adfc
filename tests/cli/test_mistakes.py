"""Every mistake in a config is answered by one line with its position, exit code 2, and no folder left behind."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from .conftest import ENVIRONMENT, EXAMPLE, PROGRAM, Command


class Mistake(NamedTuple):
    """What is written instead of ``right``, the text that the answer must point at, and what it must say."""

    right: str
    wrong: str
    at: str
    says: str


MISTAKES = [
    Mistake("seed: 7", "seed: seven", "seed: s", "seed: expected an integer"),
    Mistake("seed: 7", "seed: 7\nseed: 8", "seed: 8", "key 'seed' stands here twice"),
    Mistake("model:\n", "modle:\n", "modle", "unknown section 'modle'; did you mean 'model'?"),
    Mistake("  name: digits ", "\tname: digits ", "\tname", "not valid YAML"),
    Mistake("digits.Digits", "digits.Digit", "class: d", "'digits' has no 'Digit'; did you mean 'Digits'?"),
    Mistake("digits.Digits", "digit.Digits", "class: d", "no module 'digit' for 'digit.Digits'; did you mean 'digits'"),
    Mistake("batch_size:", "batchsize:", "batchsize", "unknown argument 'batchsize'; did you mean 'batch_size'?"),
    Mistake("batch_size: 32", "batch_size: many", "batch_size", "expected int, got 'many'"),
    Mistake("batch_size: 32", "batch_size: 0", "dataset:", "batch_size 0 is less than 1"),
    Mistake("device: auto", "device: gpu", "device", "device 'gpu' cannot be used"),
    Mistake("class: adamw", "class: adamwx", "class: adamwx", "'adamwx'; did you mean 'adamw'?"),
    Mistake("lr: 0.005", "lr: fast", "lr: fast", "lr must be a number, not 'fast'"),
    Mistake("clip_norm:", "clipnorm:", "clipnorm", "unknown argument 'clipnorm'; did you mean 'clip_norm'?"),
    Mistake("in_features: 1024", "in_feature: 1024", "in_feature: 1", "'in_feature'; did you mean 'in_features'?"),
    Mistake("module: digit_head", "module: digit_hed", "module: digit_hed", "no module 'digit_hed'"),
    Mistake(
        "inputs: image",
        "inputs: imgae",
        "inputs: imgae",
        "input 'imgae': there is no such source or earlier action; did you mean 'image'?",
    ),
    Mistake(
        "inputs: features}",
        "inputs: feature}",
        "inputs: feature}",
        "input 'feature': there is no such source or earlier action; did you mean 'features'?",
    ),
    Mistake(
        "label: parity",
        "label: paritty",
        "label: paritty",
        "no loader holds its label 'paritty'; did you mean 'parity'?",
    ),
    Mistake("loss: mse_loss", "loss: mse_los", "loss: mse_los", "'mse_los'; did you mean 'mse_loss'?"),
    Mistake("[accuracy, f1", "[acuracy, f1", "metrics: [acu", "'acuracy'; did you mean 'accuracy'?"),
    Mistake("weight: 0.5", "weight: -1", "weight: -1", "must be a finite number >= 0, not -1"),
    Mistake("- ScoreTasks ", "- ScoreTask ", "ScoreTask ", "unknown hook 'ScoreTask'; did you mean 'ScoreTasks'?"),
    Mistake("streams: [valid]", "streams: [vaild]", "vaild", "no stream 'vaild'"),
    Mistake("schedule: cosine_annealing", "schedule: cosin", "schedule: cosin", "did you mean 'cosine"),
    Mistake("variable: digit", "varible: digit", "varible", "unknown argument 'varible'; did you mean 'variable'?"),
    Mistake("digits/accuracy", "digits/acuracy", "variable: digit", "did you mean 'digit/digits/accuracy'?"),
    Mistake("mode: max", "mode: maximum", "mode: max", "'min' or 'max', not 'maximum'"),
    Mistake("{epochs: 20}", "{epochs: 0}", "epochs: 0", "must be a positive whole number, not 0"),
    Mistake("  - StopAfter: {epochs: 20}\n", "", "Warmup", "needs the length of the run: add hook StopAfter"),
    Mistake(
        "  - ShowProgress\n",
        "  - SaveBest: {stream: valid, variable: digit/digits/loss, name: Early}\n",
        "SaveBest",
        "which ScoreTasks provides only later: list ScoreTasks before Early",
    ),
    Mistake("hooks:\n", "main_loop: {bufer: 2}\nhooks:\n", "bufer", "'bufer'; did you mean 'buffer'?"),
    Mistake("  test: {hooks", "  tset: {hooks", "tset", "no stream 'tset'"),
    Mistake("  test: {hooks", "  test: {hook", "hook: [", "unknown section 'hook'; did you mean 'hooks'?"),
]


def config_with(mistake: Mistake) -> str:
    text = (EXAMPLE / "config.yaml").read_text(encoding="utf-8")
    assert mistake.right in text, "the example has changed: choose another mistake"
    return text.replace(mistake.right, mistake.wrong, 1)


def check_answer(mistake: Mistake, folder: Path, code: int, out: str, said: str) -> None:
    before, _, _ = config_with(mistake).partition(mistake.at)
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert said.startswith(f"config.yaml:{line}:{column}: ")
    assert mistake.says in said
    assert said.endswith("\n")
    assert said.count("\n") == 1
    assert out == ""
    assert code == 2
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"config.yaml", "digits.py"}


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.wrong.strip() or "nothing" for mistake in MISTAKES])
def test_a_mistake_is_answered_by_one_line(mistake: Mistake, folder: Path, command: Command) -> None:
    (folder / "config.yaml").write_text(config_with(mistake), encoding="utf-8")
    done = command("train", "config.yaml")
    check_answer(mistake, folder, done.exit_code, done.stdout, done.stderr)


def test_the_installed_program_answers_in_the_same_way(tmp_path: Path) -> None:
    mistakes = MISTAKES[::2]
    assert len(mistakes) >= 15

    def answer(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(EXAMPLE / "digits.py", folder)
        (folder / "config.yaml").write_text(config_with(mistakes[number]), encoding="utf-8")
        words = [PROGRAM, "train", "config.yaml"]
        done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        check_answer(mistakes[number], folder, done.returncode, done.stdout, done.stderr)

    with ThreadPoolExecutor(2) as pool:  # two at a time, since each spends nearly all of its time on imports
        assert list(pool.map(answer, range(len(mistakes)))) == [None] * len(mistakes)
