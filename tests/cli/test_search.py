"""``emloop-mtl search``: trials of a study, what becomes of them, and how a search goes on."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl import ConfigError
from emloop_mtl.cli.run_folder import RunFolder
from emloop_mtl.cli.study import Study, prepare_optuna
from emloop_mtl.cli.trial_claims import TrialClaims
from emloop_mtl.cli.trial_process import _check
from emloop_mtl.config.load import load_config
from emloop_mtl.config.search_settings import SearchSettings
from emloop_mtl.config.searched_config import load_searched, trial_config

from .conftest import ENVIRONMENT, PROGRAM, Command, Process, command_here
from .same_runs import what_differs

TOY = '''
import os
import time

from emloop_mtl import AbstractDataset, AbstractHook
from emloop_mtl.types import EpochNumber

import torch


class Toy(AbstractDataset):
    def train_stream(self):
        for _ in range(2):
            yield {"x": torch.ones(2, 3), "y": torch.tensor([0, 1])}

    valid_stream = train_stream


class Score(AbstractHook):
    """Writes a number that is known beforehand: less the nearer ``x`` is to 3, and the longer it is trained."""

    def __init__(self, x: int, **kwargs):
        super().__init__(**kwargs)
        self.x = x

    def requires(self):
        return ()

    def provides(self):
        return (EpochNumber("badness", "valid"),)

    def after_epoch(self, epoch_id, epoch_data):
        time.sleep(float(os.environ.get("TOY_SECONDS", 0)))
        if self.x == 7 and epoch_id == 1:
            raise RuntimeError("seven")
        epoch_data["valid"]["badness"] = (self.x - 3) ** 2 + 1 / (epoch_id + 1)
'''

CONFIG = """\
seed: 3
dataset: {class: toy.Toy}
model:
  class: MultiTaskModel
  name: toy
  device: cpu
  optimizer: {class: adamw, lr: 0.01}
  modules:
    head: {class: torch.nn.Linear, in_features: 3, out_features: 2}
  tasks:
    one:
      flow: [{name: logits, module: head, inputs: x}]
      label: y
      loss: cross_entropy
hooks:
  - Evaluate: {streams: [valid]}
  - toy.Score: {x: 1}
  - SaveLatest
  - WriteJSON
  - StopAfter: {epochs: 3}
eval:
  valid: {hooks: []}
search:
  trials: 20
  watch: {stream: valid, variable: badness}
  sampler: {class: GridSampler, search_space: {x: [9, 7, 5, 4]}}
  pruner: {class: optuna.pruners.ThresholdPruner, upper: 30}
  ranges:
    x: {choices: [9, 7, 5, 4], keys: [hooks.Score.x]}
"""

PATIENCE = 280
"""Seconds that a search may take to get somewhere on a busy machine."""


def write_project(folder: Path) -> None:
    (folder / "toy.py").write_text(TOY)
    (folder / "config.yaml").write_text(CONFIG)


def run(*words: object) -> Process:
    line = [str(PROGRAM), *map(str, words)]
    return subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Process]]:
    """A folder in which a search was made, and what it said."""
    folder, before = tmp_path_factory.mktemp("searched"), Path.cwd()
    write_project(folder)
    os.chdir(folder)
    try:
        yield folder, run("search", "config.yaml")
    finally:
        os.chdir(before)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in this process, in a folder of its own with the config."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    with command_here() as here:
        yield here
    sys.modules.pop("toy", None)


def made_study(folder: Path, *overrides: str) -> Study:
    """Return a new study of the config in the working folder."""
    config = load_searched(Path("config.yaml"), overrides, None)
    settings = SearchSettings.of(config.data["search"])
    prepare_optuna()
    folder.mkdir(parents=True)
    study = Study(folder, settings, "min", 3)
    section = {"watch": {**config.data["search"]["watch"], "mode": "min"}, "ranges": config.data["search"]["ranges"]}
    study.config = {**config.data, "search": section}
    return study


@contextmanager
def interrupting(text: str) -> Iterator[None]:
    """Send SIGINT to this process once a message is logged that begins with a text."""

    def look(record: logging.LogRecord) -> bool:
        if record.getMessage().startswith(text):
            os.kill(os.getpid(), signal.SIGINT)
        return True

    log = logging.getLogger("emloop_mtl.cli.searching")
    log.addFilter(look)
    try:
        yield
    finally:
        log.removeFilter(look)


def found_by(command: Command, folder: Path) -> dict[str, Any]:
    done = command("search", folder / "config.yaml", "-o", folder / "log/toy_search", "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.long
def test_all_that_there_is_is_tried_and_the_best_is_told(searched: tuple[Path, Process]) -> None:
    _, done = searched
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The best of 4 trials (")
    for some in ("2 finished", "1 pruned", "1 failed"):
        assert some in done.stdout.splitlines()[0]
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r" +\d", line)]
    assert [row[1:] for row in rows] == [["1.25", "3", "4"], ["4.25", "3", "5"]]
    assert "has failed: RuntimeError: seven\n" in done.stderr
    assert f"the best run lies in log/toy_search/trial-000{rows[0][0]}\n" in done.stderr
    assert "train it anew:  emloop-mtl train log/toy_search/best.yaml\n" in done.stderr
    assert "warning" not in done.stderr
    assert "Trial " not in done.stderr  # what Optuna itself would log


@pytest.mark.long
def test_programs_get_all_trials_and_nothing_is_trained_twice(searched: tuple[Path, Process], command: Command) -> None:
    found = found_by(command, searched[0])
    by_x = {trial["settings"]["x"]: trial for trial in found["trials"]}
    told = {x: (trial["state"], trial["value"], trial["epoch"], trial["epochs"]) for x, trial in by_x.items()}
    assert told == {
        4: ("finished", 1.25, 3, 3),
        5: ("finished", 4.25, 3, 3),
        7: ("failed", None, None, 0),
        9: ("pruned", 36.5, 1, 1),
    }
    assert by_x[7]["failure"] == "RuntimeError: seven"
    assert found["best"] == by_x[4]
    assert found["watch"] == {"stream": "valid", "variable": "badness", "mode": "min"}


@pytest.mark.long
def test_each_trial_is_a_run_with_its_settings(searched: tuple[Path, Process], command: Command) -> None:
    folder = searched[0]
    trials = {trial["settings"]["x"]: Path(trial["run"]) for trial in found_by(command, folder)["trials"]}
    for x, trial in trials.items():
        config = load_config(trial / "config.yaml").data
        assert config["hooks"][1] == {"toy.Score": {"x": x}}
        assert not {"search", "eval"} & config.keys()
        assert "given up after epoch 1, at 36.5" in (trial / "train.log").read_text() or x != 9
    listed = json.loads(command("ls", folder / "log/toy_search", "--json").stdout)
    states = {Path(each["run"]).name: (each["state"], each["epochs"]) for each in listed}
    assert states == {trials[4].name: ("finished", 3), trials[5].name: ("finished", 3), trials[9].name: ("finished", 1)}
    shown = command("ls", folder / "log/toy_search", "-a", "--json")
    assert len(json.loads(shown.stdout)) == 4


@pytest.mark.long
def test_the_best_config_can_be_trained_from_anywhere(searched: tuple[Path, Process], command: Command) -> None:
    best = searched[0] / "log/toy_search/best.yaml"
    data = load_config(best).data
    assert data["hooks"][1] == {"toy.Score": {"x": 4}}
    assert "search" not in data
    assert "eval" in data
    done = command("train", best, "--output-dir", "again")
    assert done.exit_code == 0, done.stderr
    last = json.loads(Path("again/metrics.jsonl").read_text().splitlines()[-1])
    assert last["valid/badness"] == 1.25
    assert load_config(Path("again/run.yaml")).data["source_folder"] == str(searched[0])
    assert command("resume", "again", "--trust", "hooks.StopAfter.epochs=4").exit_code == 0


@pytest.mark.long
def test_a_study_of_another_config_is_refused(command: Command) -> None:
    made_study(Path("study"))
    done = command("search", "config.yaml", "-o", "study", "seed=4", "hooks.StopAfter.epochs=2")
    assert done.exit_code == 2
    text = "study: holds a study of another config: seed, hooks.StopAfter.epochs differs; choose another --output-dir\n"
    assert done.stderr == text


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("search.sampler=Nobody", "search.sampler.class: module 'optuna.samplers' has no 'Nobody'; known are: "),
        ("search.sampler={class: TPESampler, sed: 1}", "search.sampler: optuna.samplers.TPESampler: unknown argument"),
        ("search.sampler=optuna.pruners.NopPruner", "search.sampler.class: 'optuna.pruners.NopPruner' is no sampler"),
        ("search.pruner=TPESampler", "search.pruner.class: module 'optuna.pruners' has no 'TPESampler'; known are: "),
        ("search.pruner={class: MedianPruner, n_startup_trials: -1}", "search.pruner: optuna.pruners.MedianPruner: "),
        ("search.ranges.x.keys=[hooks.Scor.x]", "x: no hook is called 'Scor'; did you mean 'Score'?"),
        ("search.watch=null", "search: missing 'watch', the number to judge by"),
        (
            "search.sampler={class: GridSampler, search_space: {y: [1]}}",
            "search.sampler: cannot be used here: The parameter name, x, is not found in the given grid.",
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_there(command: Command, override: str, text: str) -> None:
    done = command("search", "config.yaml", override)
    assert done.exit_code == 2
    where = f"command line: {override}: "
    assert done.stderr.startswith((where + text, f"config.yaml:23:1: {text}")), done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("log").exists()


def test_the_number_to_judge_by_is_that_of_save_best_unless_named(command: Command) -> None:
    config = load_searched(Path("config.yaml"), ["search.watch={variable: goodness}"], None)
    settings = SearchSettings.of(config.data["search"])
    trial = trial_config(config, settings, {"x": 4}, 0)
    _check(trial, {"stream": "valid", "variable": "badness"})
    with pytest.raises(ConfigError, match=r"search\.watch\.variable: ReportTrial requires the number 'goodness'"):
        _check(trial, {"stream": "valid", "variable": "goodness"})
    with pytest.raises(ConfigError, match=r"search\.watch\.stream: .*no stream 'vali'"):
        _check(trial, {"stream": "vali", "variable": "badness"})


def test_a_folder_that_holds_something_else_is_left_alone(command: Command) -> None:
    Path("mine").mkdir()
    Path("mine/file").touch()
    done = command("search", "config.yaml", "-o", "mine")
    text = "mine: is not empty, and holds no study: it has no study.db; choose another --output-dir\n"
    assert (done.exit_code, done.stderr) == (2, text)
    Path("mine/study.db").write_text("no database")
    done = command("search", "config.yaml", "-o", "mine")
    assert (done.exit_code, done.stderr) == (2, "mine/study.db: cannot be used: file is not a database\n")


DAMAGES = {
    "a byte that is no character": "update study_user_attributes set value_json = cast(x'22ff22' as text)",
    "an attribute that is no JSON": "update study_user_attributes set value_json = '{'",
    "a time that is none": "update trials set datetime_start = 'yesterday'",
    "another version": "update alembic_version set version_num = 'v999.a'",
    "no study": "delete from studies",
    "a trial in no state": "update trials set state = 'ASLEEP'",
}


@pytest.mark.parametrize("statement", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_study_is_one_line(command: Command, statement: str) -> None:
    made_study(Path("study")).next(TrialClaims(Path("study/study.lock")))
    with sqlite3.connect("study/study.db") as database:
        database.execute(statement)
    database.close()
    done = command("search", "config.yaml", "-o", "study")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("study/study.db: cannot be used: "), done.stderr
    assert done.stderr.count("\n") == 1


LOSSES = {
    "all": (None, "the trial whose run is trial-0000"),
    "the trials": ("delete from trials", "the trial whose run is trial-0000"),
    "the config": ("delete from study_user_attributes", "the config that it was begun with"),
    "settings": ("drop table trial_params", "what trial 0 has tried, or what has come out"),
    "numbers": ("drop table trial_intermediate_values", "what trial 0 has tried, or what has come out"),
}


@pytest.mark.parametrize(("statement", "what"), LOSSES.values(), ids=LOSSES)
def test_a_study_that_has_lost_something_is_left_as_it_is(command: Command, statement: str | None, what: str) -> None:
    study = made_study(Path("study"))
    with TrialClaims(Path("study/study.lock")) as claims:
        assert study.next(claims) is not None
        study.report(0, 1, 5)
        study.end(0)
    for name in ("trial-0000", "trial-0000-copy"):
        Path("study", name).mkdir()
    Path("study/best.yaml").write_text("x-best: yes")
    if statement is None:
        os.truncate("study/study.db", 0)
    else:
        with sqlite3.connect("study/study.db") as database:
            database.execute(statement)
        database.close()
    done = command("search", "config.yaml", "-o", "study")
    text = f"study/study.db: has lost {what}; put back a copy of it, or choose another --output-dir\n"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", text)
    assert Path("study/best.yaml").read_text() == "x-best: yes"


def test_a_search_of_which_nothing_has_finished_fails(command: Command) -> None:
    study = made_study(Path("study"))
    with TrialClaims(Path("study/study.lock")) as claims:
        while (trial := study.next(claims)) is not None:
            assert study.report(trial.number, 1, 31)
            study.end(trial.number)
    done = command("search", "config.yaml", "-o", "study")
    assert done.stdout.startswith("The best of 4 trials (4 pruned)")
    assert done.exit_code == 1
    assert done.stderr == "error: no trial has finished; the last one was given up by search.pruner\n"
    assert not Path("study/best.yaml").exists()


def test_an_interrupted_search_waits_no_longer_for_what_another_has_left(command: Command) -> None:
    study = made_study(Path("study"))
    with TrialClaims(Path("study/study.lock")) as claims:
        assert study.next(claims) is not None
    run_dir = Path("study/trial-0000")
    run_dir.mkdir()
    with RunFolder(run_dir).locked(), interrupting("waiting for a training in study/trial-0000 that ends"):
        done = command("search", "config.yaml", "-o", "study")
    assert done.exit_code == 130
    assert done.stderr.endswith("interrupted; the same command goes on with the study in study\n")


def test_a_folder_is_called_after_the_model_whatever_that_is_called(command: Command) -> None:
    name = "../" + "ü" * 300
    study = Path("log") / f"-{'ü' * 49}_search"
    made_study(study, f"model.name={name}")
    with sqlite3.connect(study / "study.db") as database:
        database.execute(DAMAGES["another version"])
    database.close()
    assert str(study) in command("search", "config.yaml", f"model.name={name}").stderr


def test_a_config_with_nan_is_the_same_when_it_is_given_again(command: Command) -> None:
    words = ("hooks.StopAfter.epochs=1", "x-note=[.nan]")
    assert command("train", "config.yaml", *words, "--output-dir", "run").exit_code == 0
    before = Path("run/config.yaml").stat().st_mtime_ns
    done = command("resume", "run", "--auto", "--trust", *words)
    assert done.exit_code == 0
    assert "run has finished" in done.stderr
    assert Path("run/config.yaml").stat().st_mtime_ns == before


def test_without_optuna_the_extra_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = command("search", "config.yaml")
    assert (done.exit_code, done.stderr) == (2, "a search needs optuna: pip install 'emloop_mtl[optuna]'\n")


def test_a_section_of_a_search_does_not_keep_a_config_from_being_trained(command: Command) -> None:
    assert command("train", "config.yaml", "hooks.StopAfter.epochs=1", "--output-dir", "run").exit_code == 0
    assert load_config(Path("run/config.yaml")).data["search"] == load_config(Path("config.yaml")).data["search"]
    done = command("train", "config.yaml", "search.ranges.x.low=1")
    assert done.exit_code == 2
    assert "search.ranges.x.low: 'low' makes no sense beside 'choices'" in done.stderr


def in_memory(**settings: Any) -> tuple[SearchSettings, Study]:
    ranges = {"lr": {"low": 1e-5, "high": 1e-1, "log": True}, "layers": {"low": 1, "high": 4}, "kind": ["a", [1, 2]]}
    parsed = SearchSettings.of({"trials": 6, "ranges": ranges, **settings})
    prepare_optuna()
    return parsed, Study(None, parsed, "max", 5)


def drawn(folder: Path, interrupted: bool) -> list[dict[str, Any]]:
    """Return what six trials try, each study opened anew if it is interrupted, twice in the middle of a trial."""
    settings, _ = in_memory(sampler={"class": "TPESampler", "n_startup_trials": 3, "seed": 1})
    folder.mkdir()
    with TrialClaims(folder / "claims") as claims:
        study = Study(folder, settings, "max", 5)
        for number in range(6):
            if interrupted:
                study = Study(folder, settings, "max", 5)
            trial = study.next(claims)
            assert trial is not None
            if interrupted and number in (1, 4):
                study = Study(folder, settings, "max", 5)
                trial = study.next(claims)  # of a process that has died it is taken over
                assert trial is not None
            assert trial.number == number
            study.report(number, 1, -abs(trial.stored["lr"] - 1e-3))
            study.end(number)
        assert study.next(claims) is None
        return [dict(result.stored) for result in study.results()]


@pytest.mark.long
def test_a_search_that_is_interrupted_tries_what_it_would_have_tried(tmp_path: Path) -> None:
    whole = drawn(tmp_path / "{whole} #?%41", interrupted=False)
    assert drawn(tmp_path / "interrupted", interrupted=True) == whole
    assert len({trial["lr"] for trial in whole}) == 6, "each trial has draws of its own"
    assert {type(trial["layers"]) for trial in whole} == {int}


def test_the_value_of_a_trial_is_the_best_of_its_epochs_and_reports_count_once(tmp_path: Path) -> None:
    settings, _ = in_memory(pruner="NopPruner")
    with TrialClaims(tmp_path / "claims") as claims:
        study = Study(tmp_path, settings, "max", 5)
        for values in ([1, 3, 2], [4, float("inf"), 1]):
            trial = study.next(claims)
            assert trial is not None
            for epoch, value in enumerate([*values, *values], 1):
                study.report(trial.number, (epoch - 1) % 3 + 1, value)
            study.end(trial.number)
        third = study.next(claims)
        assert third is not None
        failed = study.end(third.number)
    assert (failed.state, failed.failure) == ("failed", "the watched number was never there, or nan")
    first, second = study.results()[:2]
    assert (first.value, first.epoch, first.epochs) == (3, 2, 3)
    assert (second.value, second.epoch) == (float("inf"), 2)
    assert [result.number for result in study.best(study.results())] == [1, 0]


def test_a_trial_that_another_process_works_on_is_not_taken(tmp_path: Path) -> None:
    claims = TrialClaims(tmp_path / "claims")
    script = (
        "import sys; from pathlib import Path; from emloop_mtl.cli.trial_claims import TrialClaims;"
        "claims = TrialClaims(Path(sys.argv[1])); print(claims.take(0), flush=True); sys.stdin.read()"
    )
    line = [sys.executable, "-c", script, str(tmp_path / "claims")]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with claims.choosing():
            assert (claims.take(0), claims.take(1)) == (False, True)
        other.kill()
    assert claims.take(0)
    claims.close()


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(searched: tuple[Path, Process]) -> Iterator[Start]:
    """Starts the installed program where a search was made; what a test that fails leaves of it ends with the test."""
    pipe = subprocess.PIPE
    environment = {**ENVIRONMENT, "TOY_SECONDS": "0.3"}
    with ExitStack() as stack:

        def begin(*words: str) -> subprocess.Popen[str]:
            line = [str(PROGRAM), "search", "config.yaml", *words]
            process = subprocess.Popen(line, cwd=searched[0], env=environment, stdout=pipe, stderr=pipe, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield begin


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def epochs(run: Path) -> int:
    """Return how many lines of numbers there are of a run; the first is of the untrained model."""
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.long
def test_a_search_that_is_interrupted_and_killed_ends_as_one_that_was_not(
    searched: tuple[Path, Process], command: Command, start: Start
) -> None:
    folder, study = searched[0], searched[0] / "log/other"
    whole = found_by(command, folder)["trials"]
    first, second = (Path(trial["run"]).name for trial in whole if trial["state"] == "finished")
    process = start("-o", "log/other")
    wait_until(lambda: epochs(study / first) >= 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, said
    assert said.endswith("interrupted; the same command goes on with the study in log/other\n")
    assert "Traceback" not in said
    assert epochs(study / first) < 4
    process = start("-o", "log/other")
    wait_until(lambda: epochs(study / second) >= 2)
    process.kill()
    process.communicate(timeout=PATIENCE)
    process = start("-o", "log/other", "--json")
    found, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert f"trial {int(second[-4:])} goes on" in said
    trials = json.loads(found)["trials"]
    assert [{**trial, "run": ""} for trial in trials] == [{**trial, "run": ""} for trial in whole]
    for name in (first, second):
        assert what_differs(study / name, folder / "log/toy_search" / name) == []
        assert "going on in" in (study / name / "train.log").read_text()


@pytest.mark.long
def test_several_commands_share_the_trials_of_a_study(searched: tuple[Path, Process], start: Start) -> None:
    folder = searched[0]
    ranges = "search.ranges={x: {choices: [4, 5], keys: [hooks.Score.x]}}"
    words = ("-o", "log/shared", ranges, "search.sampler=RandomSampler", "search.pruner=NopPruner", "search.trials=8")
    processes = [start(*words) for _ in range(2)]
    told = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    ours = [set(re.findall(r"trial (\d) finished", said)) for said in told]
    assert ours[0] | ours[1] == set("01234567"), told
    assert not ours[0] & ours[1], "a trial was trained twice"
    assert len(list((folder / "log/shared").glob("trial-*"))) == 8


@pytest.mark.long
def test_too_many_failures_end_a_search(start: Start) -> None:
    ranges = "search.ranges={x: {choices: [7], keys: [hooks.Score.x]}}"
    process = start("-o", "log/bad", ranges, "search.sampler=null", "search.max_failures=2")
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    text = "error: 2 trials in a row have failed, as many as search.max_failures lets; the last was trial 1: "
    assert said.endswith(f"{text}RuntimeError: seven\n")


@pytest.mark.long
def test_a_first_trial_that_cannot_be_trained_leaves_nothing(searched: tuple[Path, Process], start: Start) -> None:
    process = start("-o", "log/none", "search.watch.variable=goodness")
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    text = "search.watch.variable: ReportTrial requires the number 'goodness' of stream 'valid'"
    assert said.startswith(f"command line: search.watch.variable=goodness: {text}")
    assert said.count("\n") == 1
    assert not (searched[0] / "log/none").exists()
