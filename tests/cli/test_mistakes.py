"""Every mistake in a config is answered by one line with its position, exit code 2, and no folder left behind."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from .conftest import ENVIRONMENT, EXAMPLE, PROGRAM


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
    Mistake("lr: 0.005", "lr: fast", "optimizer", "AdamW"),
    Mistake("clip_norm:", "clipnorm:", "clipnorm", "unknown argument 'clipnorm'; did you mean 'clip_norm'?"),
    Mistake("in_features: 1024", "in_feature: 1024", "in_feature: 1", "'in_feature'; did you mean 'in_features'?"),
    Mistake("module: digit_head", "module: digit_hed", "module: digit_hed", "no module 'digit_hed'"),
    Mistake("inputs: image", "inputs: imgae", "inputs: imgae", "'imgae'; did you mean 'image'?"),
    Mistake("inputs: features}", "inputs: feature}", "inputs: feature}", "'feature'; did you mean 'features'?"),
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


class Answer(NamedTuple):
    """What the program did about a mistake."""

    config: str
    code: int
    out: str
    lines: list[str]
    left: set[str]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    """All answers; two processes at a time, since each spends most of its time on imports."""
    text = (EXAMPLE / "config.yaml").read_text(encoding="utf-8")

    def answer(mistake: Mistake) -> Answer:
        folder: Path = tmp_path_factory.mktemp("mistake")
        shutil.copy(EXAMPLE / "digits.py", folder)
        config = text.replace(mistake.right, mistake.wrong, 1)
        (folder / "config.yaml").write_text(config, encoding="utf-8")
        words = [PROGRAM, "train", "config.yaml"]
        done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        left = {path.name for path in folder.iterdir()} - {"config.yaml", "digits.py", "__pycache__"}
        return Answer(config, done.returncode, done.stdout, done.stderr.splitlines(), left)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(answer, MISTAKES))


@pytest.mark.parametrize(
    "number", range(len(MISTAKES)), ids=[mistake.wrong.strip() or "nothing" for mistake in MISTAKES]
)
def test_a_mistake_is_answered_by_one_line(number: int, answers: list[Answer]) -> None:
    mistake, answer = MISTAKES[number], answers[number]
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.lines) == 1
    before = answer.config[: answer.config.index(mistake.at)]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert answer.lines[0].startswith(f"config.yaml:{line}:{column}: ")
    assert mistake.says in answer.lines[0]
    assert answer.left == set()
