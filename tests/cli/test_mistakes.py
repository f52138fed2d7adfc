"""Every mistake in a config, or in what it leads to in Python, is answered by one line with its position in the config,
exit code 2, and no folder left behind.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from .conftest import ENVIRONMENT, EXAMPLE, PROGRAM, ROOT, Command


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
    Mistake(
        "batch_size: 32",
        "batch_size: 32\n  streams: {train: {scheduler: {class: Weighted, weights: {digit: 1}}}}",
        "digit: 1",
        "dataset.streams.train.scheduler.weights.digit: Weighted: there is no loader 'digit'; did you mean 'digits'?",
    ),
    Mistake("batch_size: 32", "batch_size: 0", "batch_size: 0", "batch_size 0 is less than 1"),
    Mistake("device: auto", "device: gpu", "device", "device 'gpu' cannot be used"),
    Mistake("device: auto", "device: meta", "device", "device 'meta' cannot be used: tensors have shapes there, but"),
    Mistake("class: adamw", "class: adamwx", "class: adamwx", "'adamwx'; did you mean 'adamw'?"),
    Mistake("lr: 0.005", "lr: fast", "lr: fast", "lr must be a number, not 'fast'"),
    Mistake("clip_norm:", "clipnorm:", "clipnorm", "unknown argument 'clipnorm'; did you mean 'clip_norm'?"),
    Mistake("{clip_norm: 1.0", "{on_nan: stop, clip_norm: 1.0", "on_nan", "on_nan must be one of error, skip, warn"),
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
    Mistake("[accuracy, f1", "[acuracy, f1", "acuracy, f1", "'acuracy'; did you mean 'accuracy'?"),
    Mistake("weight: 0.5", "weight: -1", "weight: -1", "must be a finite number >= 0, not -1"),
    Mistake("- ScoreTasks ", "- ScoreTask ", "ScoreTask ", "unknown hook 'ScoreTask'; did you mean 'ScoreTasks'?"),
    Mistake("streams: [valid]", "streams: [vaild]", "vaild", "no stream 'vaild'"),
    Mistake("- ScoreTasks ", "- ScoreTasks: {streams: [train, vaild]} ", "vaild", "ScoreTasks.streams[1]: "),
    Mistake("schedule: cosine_annealing", "schedule: cosin", "schedule: cosin", "did you mean 'cosine"),
    Mistake("variable: digit", "varible: digit", "varible", "unknown argument 'varible'; did you mean 'variable'?"),
    Mistake("digits/accuracy", "digits/acuracy", "variable: digit", "did you mean 'digit/digits/accuracy'?"),
    Mistake("mode: max", "mode: maximum", "mode: max", "expected one of 'min', 'max', got 'maximum'"),
    Mistake("{epochs: 20}", "{epochs: 0}", "epochs: 0", "must be a positive whole number, not 0"),
    Mistake(
        "  - WriteTensorBoard\n",
        "  - WriteCSV: {path: a.csv, variables: [los]}\n",
        "variables: [los]",
        "hooks[8] WriteCSV.variables: requires the number 'los', which no hook before it provides",
    ),
    Mistake("  - WriteJSON ", "  - WriteJSON: {path: config.yaml} ", "path: c", "'config.yaml' is what the run itself"),
    Mistake("  - StopAfter: {epochs: 20}\n", "", "Warmup", "needs the length of the run: add hook StopAfter"),
    Mistake(
        "  - ShowProgress\n",
        "  - SaveBest: {stream: valid, variable: digit/digits/loss, name: Early, tag: early}\n",
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


def check_answer(mistake: Mistake, folder: Path, code: int, out: str, said: str, module: str = "digits.py") -> None:
    before, found, _ = (folder / "config.yaml").read_text(encoding="utf-8").partition(mistake.at)
    assert found
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert said.startswith(f"config.yaml:{line}:{column}: ")
    assert mistake.says in said
    assert said.endswith("\n")
    assert said.count("\n") == 1
    assert out == ""
    assert code == 2
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"config.yaml", module}


def check_example(mistake: Mistake, example: Path, module: str, folder: Path, command: Command) -> None:
    """Make a mistake in the config of an example that stands in the working folder, and check how it is answered."""
    text = (example / "config.yaml").read_text(encoding="utf-8")
    assert mistake.right in text, "the example has changed: choose another mistake"
    (folder / "config.yaml").write_text(text.replace(mistake.right, mistake.wrong, 1), encoding="utf-8")
    shutil.copy(example / module, folder)
    try:
        done = command("train", "config.yaml", "dataset.max_rows=64")
    finally:
        sys.modules.pop(module.removesuffix(".py"), None)
    check_answer(mistake, folder, done.exit_code, done.stdout, done.stderr, module=module)


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.wrong.strip() or "nothing" for mistake in MISTAKES])
def test_a_mistake_is_answered_by_one_line(mistake: Mistake, folder: Path, command: Command) -> None:
    (folder / "config.yaml").write_text(config_with(mistake), encoding="utf-8")
    done = command("train", "config.yaml")
    check_answer(mistake, folder, done.exit_code, done.stdout, done.stderr)


@pytest.mark.long
def test_the_installed_program_answers_in_the_same_way(tmp_path: Path) -> None:
    mistakes = MISTAKES[::6]  # every process takes some seconds, and says what the command says here
    assert len(mistakes) >= 5

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


TABULAR = ROOT / "examples" / "02_tabular"
TASKS = "tasks:  "
"""Where the config of example 2 names the function that makes its tasks, and no single task."""

IN_PYTHON = [
    Mistake("tabular.make_tasks", "tabular.make_task", "class: tabular.make_task", "did you mean 'make_tasks'?"),
    Mistake("tabular.make_tasks", "tables.make_tasks", "class: tables", "no module 'tables' for 'tables.make_tasks'"),
    Mistake("class: tabular.make_tasks", "clas: tabular.make_tasks", "clas: t", "did you mean 'class'?"),
    Mistake("width: 64", "widht: 64", "widht", "unknown argument 'widht'; did you mean 'width'?"),
    Mistake("width: 64", "width: wide", "width: w", "model.tasks.width: expected int, got 'wide'"),
    Mistake("dropout: 0.5", "dropout: 1.5", TASKS, "tabular.make_tasks: dropout probability has to be between 0 and 1"),
    Mistake("train:   ", "trian:   ", "trian", "no loader has the split 'trian'; did you mean 'train'?"),
    Mistake("{class: Mixed, fillup: true}", "Mixed", "scheduler: Mixed", "such as {class: RoundRobin}, not a str"),
    # From here on the mistake is in tabular.py.
    Mistake("return [\n        Task(", "[\n        Task(", TASKS, "a list of tasks, or a mapping of names"),
    Mistake(
        "return [\n        Task(", "return [trunk]\n    [\n        Task(", TASKS, "not an object of class Sequential"
    ),
    Mistake('_encoder", name)', '_encoder", "tumour")', TASKS, "action 'cancer_encoded', input 'tumour': there is no"),
    Mistake('_encoder", name)', '_encodr", name)', TASKS, "no module 'cancer_encodr'; did you mean 'cancer_encoder'?"),
    Mistake("label=table.task", 'label="cultivra"', TASKS, "'cultivra'; did you mean 'cultivar'?"),
    Mistake('"f1_macro"', '"f1_marco"', TASKS, "task 'cultivar': unknown metric 'f1_marco'; did you mean 'f1_macro'?"),
    Mistake('"f1_macro"', '{"class": "fbeta", "bta": 2}', TASKS, "unknown argument 'bta'; did you mean 'beta'?"),
    Mistake('Action(f"{name}_features"', 'Action("features"', TASKS, "'features' has another module or other inputs"),
    Mistake("tasks = {table.task:", "tasks = {name:", TASKS, "the model has no task 'cancer'"),
    Mistake("return loaders", "pass", "dataset:", "Tabular.loaders() returned None, not a list of TaskLoaders"),
    Mistake("{table.task: table.task}", '{table.task: "y"}', "dataset:", "the data has no label 'y' for task 'benign'"),
    Mistake("__init__(**settings)", "__init__()", "streams:\n", "does not hand 'streams' on"),
    Mistake("sklearn.datasets", "sklearn.dataset", "class: tabular.T", "No module named 'sklearn.dataset'"),
]


@pytest.mark.parametrize("mistake", IN_PYTHON, ids=[mistake.wrong for mistake in IN_PYTHON])
def test_a_mistake_in_python_is_answered_by_one_line(
    mistake: Mistake, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tabular"
    folder.mkdir()
    monkeypatch.chdir(folder)
    changed = 0
    for name in ("config.yaml", "tabular.py"):
        text = (TABULAR / name).read_text(encoding="utf-8")
        changed += mistake.right in text
        (folder / name).write_text(text.replace(mistake.right, mistake.wrong, 1), encoding="utf-8")
    assert changed == 1, "the example has changed: choose another mistake"
    try:
        done = command("train", "config.yaml")
    finally:
        sys.modules.pop("tabular", None)
    check_answer(mistake, folder, done.exit_code, done.stdout, done.stderr, module="tabular.py")
