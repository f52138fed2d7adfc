"""``emloop-mtl train``: where a run lies, what it leaves there, and what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from emloop_mtl.checkpoint import list_checkpoints, sequence_of
from emloop_mtl.config.load import load_config

from .conftest import ENVIRONMENT, PROGRAM, SHORT, Command, Process, copy_example


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"config.yaml", "digits.py", "__pycache__"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Process]:
    """A folder in which the installed program has trained, and what it said."""
    folder = tmp_path_factory.mktemp("trained")
    copy_example(folder)
    line = [str(PROGRAM), "train", "config.yaml", *SHORT]
    done = subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_a_run_gets_a_folder_named_after_model_and_time(trained: tuple[Path, Process]) -> None:
    folder, done = trained
    (run,) = (folder / "log").iterdir()
    assert re.fullmatch(r"digits_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.name)
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "run.yaml", "train.log", "trace.yaml", "metrics.jsonl", "scores.json", "tensorboard",
        "checkpoints",
    }  # fmt: skip
    assert {path.name.rpartition("-")[0] for path in (run / "checkpoints").iterdir()} == {"best", "latest"}
    assert f"the run lies in log/{run.name}" in done.stderr
    assert f"emloop-mtl resume log/{run.name}" in done.stderr
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]


def test_it_ends_with_a_table_of_scores_for_every_evaluated_stream(trained: tuple[Path, Process]) -> None:
    _, done = trained
    title, header, *rows = [line.split() for line in done.stdout.splitlines() if re.search(r"\w", line)]
    assert "'best'" in title
    assert header == ["task", "metric", "valid", "test"]
    scores = {tuple(row[:2]): [float(number) for number in row[2:]] for row in rows}
    assert all(len(numbers) == 2 for numbers in scores.values())
    assert {("digit", "accuracy"), ("parity", "roc_auc"), ("ink", "mean_squared_error")} <= scores.keys()


def test_without_a_section_eval_the_scores_of_the_last_epoch_are_shown(folder: Path, command: Command) -> None:
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config[: config.index("\neval:")])
    done = command("train", "config.yaml", *SHORT)
    assert done.exit_code == 0, done.stderr
    assert "Scores in the last epoch" in done.stdout
    last = json.loads(next((folder / "log").rglob("metrics.jsonl")).read_text().splitlines()[-1])
    (row,) = (line.split() for line in done.stdout.splitlines() if line.split()[:2] == ["digit", "accuracy"])
    assert row[-1] == f"{last['digit/digits/valid/accuracy']:.4f}"


def test_the_resolved_config_and_its_origin_are_recorded(folder: Path, command: Command) -> None:
    command("train", "config.yaml", *SHORT, "seed=3", "--output-dir", "run")
    assert (
        load_config(folder / "run" / "config.yaml").data == load_config(folder / "config.yaml", [*SHORT, "seed=3"]).data
    )
    record = load_config(folder / "run" / "run.yaml").data
    folders = {"source_folder": str(folder), "working_folder": str(folder)}
    (newest, *_) = list_checkpoints(folder / "run" / "checkpoints")
    assert record == {"config": "config.yaml", **folders, "ended": sequence_of(newest)}


def test_two_runs_of_one_second_get_different_folders(folder: Path, command: Command) -> None:
    from emloop_mtl.cli.run_folder import RunFolder

    folders = {RunFolder.new(folder / "log", "a").path.name for _ in range(5)}
    assert len(folders) == 5


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(folder: Path, command: Command) -> None:
    (folder / "b").mkdir()  # an empty one is taken
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert command("train", "config.yaml", *SHORT, f"seed={seed}", "--output-dir", run).exit_code == 0
    a, b, c = ((folder / run / "metrics.jsonl").read_bytes() for run in "abc")
    assert a == b
    assert a != c
    assert "checkpoints" in entries(folder / "b")


def test_the_log_has_times_and_what_the_terminal_has(trained: tuple[Path, Process]) -> None:
    folder, done = trained
    (log_file,) = folder.glob("log/*/train.log")
    log = log_file.read_text().splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO emloop_mtl\.", log[0])
    assert any("Training finished: StopAfter: 2 epochs are done" in line for line in log)
    assert "Training finished: StopAfter: 2 epochs are done" in done.stderr


def test_an_output_dir_that_is_not_empty_is_refused(folder: Path, command: Command) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "precious").write_text("keep me")
    done = command("train", "config.yaml", *SHORT, "--output-dir", "run")
    assert done.exit_code == 2
    assert done.stderr == "run: is not empty; choose another --output-dir, or replace the run by --rm\n"
    assert entries(folder / "run") == {"precious"}


@pytest.mark.parametrize("content", [["precious"], ["config.yaml", "precious"], ["checkpoints"]])
def test_rm_removes_nothing_but_a_run(folder: Path, command: Command, content: list[str]) -> None:
    (folder / "run").mkdir()
    for name in content:
        (folder / "run" / name).write_text("keep me")
    done = command("train", "config.yaml", *SHORT, "--output-dir", "run", "--rm")
    assert done.exit_code == 2
    assert "--rm removes runs only, and this is none" in done.stderr
    assert {path.name for path in (folder / "run").iterdir()} == set(content)


def test_rm_never_removes_the_config_to_train_or_the_working_folder(folder: Path, command: Command) -> None:
    (folder / "checkpoints").mkdir()  # now the folder of the example looks like a run
    for output_dir, what in ((".", "the config to train"), (folder, "the config to train")):
        done = command("train", "config.yaml", *SHORT, "--output-dir", output_dir, "--rm")
        assert done.exit_code == 2
        assert f"--rm would remove {what} with it" in done.stderr
    assert (folder / "config.yaml").exists()


def test_rm_replaces_a_run(folder: Path, command: Command) -> None:
    command("train", "config.yaml", *SHORT, "--output-dir", "run")
    (folder / "run" / "old").touch()
    done = command("train", "config.yaml", *SHORT, "seed=3", "--output-dir", "run", "--rm")
    assert done.exit_code == 0, done.stderr
    assert not (folder / "run" / "old").exists()
    assert load_config(folder / "run" / "config.yaml").data["seed"] == 3
    assert entries(folder) == {"run"}


def test_rm_keeps_the_run_if_the_new_one_cannot_begin(folder: Path, command: Command) -> None:
    command("train", "config.yaml", *SHORT, "--output-dir", "run")
    (folder / "run" / "old").touch()
    done = command("train", "config.yaml", "dataset.batch_size=0", "--output-dir", "run", "--rm")
    assert done.exit_code == 2
    assert (folder / "run" / "old").exists()
    assert entries(folder) == {"run"}


def test_a_working_folder_that_is_gone_is_told_in_one_line(folder: Path, command: Command) -> None:
    gone = folder / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    done = command("train", folder / "config.yaml")
    os.chdir(folder)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("the working folder cannot be used: ")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("hooks.Warmup.percentage=1" + 400 * "0", "hooks[4] Warmup: the warm-up's length is no number "),
        ("hooks.LRSchedule.schedule={class: os.path.join}", "the schedule cannot return its first rate: TypeError: "),
    ],
    ids=["huge", "other function"],
)
def test_a_learning_rate_that_cannot_be_computed_is_a_mistake_of_the_config(
    folder: Path, command: Command, wrong: str, says: str
) -> None:
    done = command("check", "config.yaml", *SHORT, wrong)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert says in done.stderr


def test_a_task_may_have_a_weight_of_more_than_64_bits(command: Command) -> None:
    assert command("train", "config.yaml", *SHORT, f"model.tasks.ink.weight={2**64}").exit_code == 0


def test_rm_without_an_output_dir_is_a_usage_error(command: Command) -> None:
    done = command("train", "config.yaml", "--rm")
    assert done.exit_code == 2
    assert "--output-dir" in done.stderr


def test_a_model_that_cannot_run_its_first_batch_leaves_nothing(folder: Path, command: Command) -> None:
    done = command("train", "config.yaml", *SHORT, "model.modules.digit_head.in_features=63", "-o", "new/root")
    assert done.exit_code == 2
    last = done.stderr.splitlines()[-1]
    assert re.match(r"config\.yaml:\d+:\d+: model\.modules\.digit_head: RuntimeError: ", last)
    assert "in task 'digit', action 'digit_logits', module 'digit_head'" in last
    assert "Traceback" not in done.stderr
    assert "the log is" not in done.stderr
    assert entries(folder) == set()
    done = command("train", "config.yaml", *SHORT, "model.tasks.digit.flow.1.inputs=features[1]", "-o", "new/root")
    assert done.exit_code == 2
    text = "task 'digit', action 'digit_logits', inputs 'features[1]': a tensor of shape (32, 64) is one value"
    assert f": model.tasks.digit.flow[1].inputs: {text}" in done.stderr.splitlines()[-1]
    assert entries(folder) == set()


def test_a_dataset_without_data_is_a_mistake_of_the_config(folder: Path, command: Command) -> None:
    done = command("train", "config.yaml", *SHORT, "dataset.max_rows=0")
    assert done.exit_code == 2
    assert re.match(r"config\.yaml:\d+:\d+: dataset: stream 'train' is empty; ", done.stderr.splitlines()[-1])
    assert entries(folder) <= {"log"}


def test_bad_data_in_the_middle_keeps_the_run_and_says_how_to_go_on(folder: Path, command: Command) -> None:
    spoil = "        digit[rows['train'][50]] = 77\n"
    module = (folder / "digits.py").read_text()
    where = module.index("        columns = ")
    spoilt = module[:where] + spoil + module[where:]
    # With a function that makes the batches, what they hold shows only when they are read.
    by_row = "split=split, collate=torch.utils.data.default_collate,"
    (folder / "digits.py").write_text(spoilt.replace("split=split,", by_row))
    done = command("train", "config.yaml", *SHORT, "main_loop.skip_zeroth_epoch=true", "--output-dir", "run")
    assert done.exit_code == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: stream 'train', batch ")
    assert "task 'digit', source 'digit': label 77" in last
    assert "Traceback" not in done.stderr
    assert "the log is run/train.log" in done.stderr
    assert "Traceback" in (folder / "run" / "train.log").read_text()


def test_v_shows_the_traceback(folder: Path, command: Command) -> None:
    (folder / "digits.py").write_text(
        "def Digits(**kwargs):\n    raise KeyError('no such digit') from OSError('why')\n"
    )
    short = command("train", "config.yaml")
    assert short.exit_code == 2
    assert len(short.stderr.splitlines()) == 1
    long = command("train", "config.yaml", "-v")
    assert long.exit_code == 2
    assert "Traceback (most recent call last)" in long.stderr
    assert "OSError: why" in long.stderr
    assert long.stderr.splitlines()[-1] == short.stderr.splitlines()[0]


def test_an_unexpected_error_is_one_line_with_a_hint(folder: Path, command: Command) -> None:
    module = (folder / "digits.py").read_text()
    (folder / "digits.py").write_text(module.replace("from sklearn", "raise ZeroDivisionError('oh') #"))
    done = command("train", "config.yaml", *SHORT)
    assert done.exit_code == 1
    assert done.stderr == "error: ZeroDivisionError: oh (-v shows the traceback)\n"
    assert entries(folder) == set()
    done = command("train", "config.yaml", *SHORT, "-v")
    assert "raise ZeroDivisionError('oh')" in done.stderr


def test_a_missing_data_file_is_a_mistake(folder: Path, command: Command) -> None:
    module = (folder / "digits.py").read_text()
    (folder / "digits.py").write_text(module.replace("from sklearn", "open('gone.csv') #"))
    done = command("train", "config.yaml", *SHORT)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "gone.csv" in done.stderr
    assert entries(folder) == set()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["config.yaml", "seed"], "command line: seed: an override is written key=value"),
        (["config.yaml", "hooks.StopAfte.epochs=1"], "no hook is called 'StopAfte'; did you mean 'StopAfter'?"),
        (["config.yaml", "model.optimizer.lr=[1"], "command line: model.optimizer.lr=[1"),
        (["config.yaml", "--output-dir", "digits.py"], "digits.py: is a file, not a folder"),
        (["config.yaml", "--output-dir", "digits.py/run"], "digits.py/run: cannot be made: "),
        (["config.yaml", "--output-root", "digits.py"], "cannot be made: "),
    ],
)
def test_what_is_typed_wrongly_is_answered_by_one_line(
    folder: Path, command: Command, words: list[str], says: str
) -> None:
    done = command("train", *words)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert entries(folder) == set()


def test_a_run_without_a_length_or_checkpoints_is_possible(folder: Path, command: Command) -> None:
    config = (folder / "config.yaml").read_text()
    kept = [line for line in config.splitlines() if not re.search("Warmup|LRSchedule|Save(Latest|Best)", line)]
    (folder / "config.yaml").write_text("\n".join(kept))
    done = command("train", "config.yaml", *SHORT, "--output-dir", "run")
    assert done.exit_code == 0, done.stderr
    assert "Scores in the last epoch" in done.stdout
