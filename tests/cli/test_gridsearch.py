"""``emloop-mtl gridsearch``: every combination is checked, trained by a process of its own, and compared."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from emloop_mtl.cli.best_score import BestScore
from emloop_mtl.cli.grid import MOST, Grid
from emloop_mtl.cli.grid_folder import GridFolder
from emloop_mtl.cli.grid_results import over_seeds, print_results
from emloop_mtl.cli.grid_run import GridRun
from emloop_mtl.cli.grid_search import environment
from emloop_mtl.cli.run_folder import RunFolder

from .conftest import EXAMPLE, ROOT, SHORT, Command, command_here

LR = "model.optimizer.lr=[0.01, 0.002]"
TWO = ("gridsearch", "config.yaml", *SHORT, LR)
RUNS = Path("log/digits_grid")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the time of the last change and the bytes of all files in a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def commands(command: Command, *words: str) -> list[list[str]]:
    """Return the words of the commands that are left to run, without the program."""
    done = command("gridsearch", "config.yaml", *words, "--dry-run")
    assert done.exit_code == 0, done.stderr
    return [shlex.split(line)[1:] for line in done.stdout.splitlines()]


def test_all_combinations_are_made_in_the_order_of_the_lists(folder: Path) -> None:
    grid = Grid(Path("config.yaml"), ["seed=[1, 2]", "dataset.max_rows=96", "model.optimizer.lr=[0.01, 1e-3]"])
    assert [each.name for each in grid.combinations] == [
        "seed=1,lr=0.01",
        "seed=1,lr=0.001",
        "seed=2,lr=0.01",
        "seed=2,lr=0.001",
    ]
    last = grid.combinations[-1]
    assert last.overrides == ("seed=2", "dataset.max_rows=96", "model.optimizer.lr=0.001")
    assert last.values == {"seed": 2, "model.optimizer.lr": 0.001}
    assert (last.config.data["seed"], last.config.data["model"]["optimizer"]["lr"]) == (2, 0.001)
    assert grid.base.data["seed"] == 7


def test_settings_are_applied_in_the_order_in_which_they_are_given(folder: Path) -> None:
    grid = Grid(Path("config.yaml"), ["model.optimizer={class: sgd, lr: 1}", "model.optimizer.lr=[0.1, 0.2]"])
    optimizers = [each.config.data["model"]["optimizer"] for each in grid.combinations]
    assert optimizers == [{"class": "sgd", "lr": 0.1}, {"class": "sgd", "lr": 0.2}]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (["hooks.SaveBest.mode=[max, min]"], ["mode=max", "mode=min"]),
        (["model.tasks.ink.weight=[1]", "model.tasks.digit.weight=[2]"], ["ink.weight=1,digit.weight=2"]),
        (["model.modules.trunk.args.0.out_channels=[32]"], ["out_channels=32"]),
        (["hooks.Evaluate.streams=[[valid], [valid, test]]"], ["streams=valid", "streams=valid_test"]),
        (["model.device=[cpu, 'cuda:0']"], ["device=cpu", "device=cuda_0"]),
        (["model.optimizer=[adamw, {class: sgd, lr: 0.1}]"], ["optimizer=adamw", "optimizer=class_sgd_lr_0.1"]),
        (["model.name=[../a, '.. a', .A, '']"], ["name=.._a", "name=.._a_2", "name=.A", "name="]),
        (["model.name=[a, A, a.log]"], ["name=a", "name=A_2", "name=a.log_2"]),
        (["model.update.clip_norm=[null, -1.0e-5]"], ["clip_norm=null", "clip_norm=-1e-05"]),
    ],
)
def test_folders_are_named_after_the_values(folder: Path, settings: list[str], names: list[str]) -> None:
    assert [each.name for each in Grid(Path("config.yaml"), settings).combinations] == names


def test_a_long_value_has_a_short_name(folder: Path) -> None:
    names = [each.name for each in Grid(Path("config.yaml"), [f"model.name=[{'ü' * 500}, {'ü' * 501}]"]).combinations]
    assert len(set(names)) == 2
    assert max(len(name.encode()) for name in names) < 200


MISTAKES = {
    "no list": (["seed=1"], "there is nothing to combine; write key=[a, b] for the values to try"),
    "no value": (
        ["seed"],
        "command line: seed: write key=[a, b] for the values to try, or key=value for one that is fixed",
    ),
    "blanks": (
        ["seed=[1,", "2]"],
        "command line: seed=[1,: the list has no end; put it in quotes, 'key=[a, b]', or write it without blanks",
    ),
    "empty": (["seed=[]"], "command line: seed=[]: there is no value to try; an empty list is written [[]]"),
    "twice": (["seed=[1]", "seed=[2]"], "command line: seed has a list of values twice; put them into one"),
    "same": (["seed=[1, 1]"], "the combinations 'seed=1' and 'seed=1' are the same training"),
    "overridden": (
        ["seed=[1, 2]", "seed=3"],
        "the combinations 'seed=1' and 'seed=2' are the same training",
    ),
    "many": (
        [f"seed={list(range(40))}", f"dataset.batch_size={list(range(1, 41))}"],
        f"these are 1600 combinations, and {MOST} at most are trained; list fewer values",
    ),
    "long folder": (
        ["seed=[1]", "--output-dir", "x" * 300],
        f"{'x' * 300}: cannot be used: File name too long",
    ),
    "no YAML": (["seed=[1, {]"], "command line: seed=[1, {]: not valid YAML:"),
    "no key": (
        ["seed=[1, 2]", "model.optimizr.lr=[1]"],
        "with seed=1 model.optimizr.lr=1: command line: model.optimizr.lr=1: model has no 'optimizr'; did you mean "
        "'optimizer'?",
    ),
    "wrong type": (
        ["seed=[1, 2]", "model.optimizer.lr=[0.1, big]"],
        "with seed=1 model.optimizer.lr=big: command line: model.optimizer.lr=big:",
    ),
    "wrong hook": (
        ["hooks.SaveLatest=[{every: 1}, {evry: 2}]"],
        "with hooks.SaveLatest={evry: 2}: command line: hooks.SaveLatest={evry: 2}: hooks[10] SaveLatest: unknown "
        "argument 'evry'; did you mean 'every'?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_done(folder: Path, command: Command, name: str) -> None:
    settings, says = MISTAKES[name]
    done = command("gridsearch", "config.yaml", *settings)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["config.yaml", "digits.py"]


def test_a_dry_run_prints_commands_that_a_shell_takes_as_they_are(folder: Path, command: Command) -> None:
    done = command("gridsearch", "config.yaml", 'model.name=[a b, "it\'s", $HOME]', "seed=[1, 2]", "--dry-run")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert not Path("log").exists()
    for line, name in zip(lines[::2], ["a b", "it's", "$HOME"], strict=True):
        assert line.startswith("emloop-mtl train config.yaml ")
        script = f"set -- {line}; printf '%s\\n' \"$@\""
        words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
        assert words == shlex.split(line)
        (override,) = [word for word in words if word.startswith("model.name=")]
        assert Grid(Path("config.yaml"), [override, "seed=[1]"]).combinations[0].config.data["model"]["name"] == name


def test_programs_get_the_commands_as_words(folder: Path, command: Command) -> None:
    done = command(*TWO, "--dry-run", "--json", "--output-dir", "my runs")
    first, second = json.loads(done.stdout)
    assert first["run"] == "my runs/lr=0.01"
    assert second["command"] == [
        *("emloop-mtl", "train", "config.yaml", *SHORT, "model.optimizer.lr=0.002"),
        *("--output-dir", "my runs/lr=0.002"),
    ]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that the commands of a dry run have trained."""
    place = tmp_path_factory.mktemp("by_hand")
    for name in ("config.yaml", "digits.py"):
        shutil.copy(EXAMPLE / name, place)
    with pytest.MonkeyPatch.context() as patch, command_here() as run:
        patch.chdir(place)
        for words in commands(run, *SHORT, LR):
            assert run(*words).exit_code == 0
    return place / RUNS


@pytest.fixture
def begun(folder: Path, by_hand: Path) -> Path:
    """The folder of a grid of which one run was trained."""
    shutil.copytree(by_hand / "lr=0.01", RUNS / "lr=0.01")
    return RUNS / "lr=0.01"


def test_a_dry_run_leaves_out_what_has_finished(begun: Path, command: Command) -> None:
    shown = command(*TWO, "--dry-run")
    assert len(shown.stdout.splitlines()) == 1
    assert shown.stdout.endswith(" --output-dir log/digits_grid/lr=0.002\n")
    assert shown.stderr.endswith("1 of 2 trainings in log/digits_grid have finished\n")


def test_runs_that_were_trained_by_hand_are_not_trained_again(by_hand: Path, folder: Path, command: Command) -> None:
    shutil.copytree(by_hand, RUNS)
    before = contents(RUNS)
    done = command(*TWO, "--json")
    assert done.exit_code == 0, done.stderr
    assert "2 trainings in log/digits_grid, 2 finished, 0 running, 0 failed, 0 left" in done.stderr
    found = json.loads(done.stdout)
    listed = {run["run"]: run for run in json.loads(command("ls", RUNS, "--json").stdout)}
    for run in found["runs"]:
        assert (run["state"], run["epochs"], run["steps"]) == ("finished", 2, 6)
        assert run["best"] == listed[run["run"]]["best"]
    assert [run["best"]["value"] for run in found["runs"]] == sorted(
        (run["best"]["value"] for run in listed.values()), reverse=True
    )
    after = contents(RUNS)
    assert after.pop("grid.yaml")
    assert after == before
    assert f"the best is in {found['runs'][0]['run']}" in command(*TWO).stdout


def other_values(run: Path) -> str:
    shutil.rmtree(run)
    with GridFolder(RUNS, Grid(Path("config.yaml"), [*SHORT, "seed=[1, 2]"])).begun():
        pass
    return (
        f"log/digits_grid: holds the grid of {' '.join(SHORT)} seed=[1, 2], not of {' '.join(SHORT)} {LR}; "
        "choose another --output-dir"
    )


def other_config(run: Path) -> str:
    with GridFolder(RUNS, Grid(Path("config.yaml"), [*SHORT, LR])).begun():
        pass
    text = Path("config.yaml").read_text()
    Path("config.yaml").write_text(text.replace("percentage: 0.1", "percentage: 0.2"))
    return (
        "log/digits_grid: its grid was begun with another config.yaml: hooks.Warmup.percentage has changed; undo that, "
        "or choose another --output-dir"
    )


def other_run(run: Path) -> str:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("epochs: 2", "epochs: 3"))
    return (
        "log/digits_grid/lr=0.01/config.yaml: hooks.StopAfter.epochs is not what the grid says; undo that, or choose "
        "another --output-dir"
    )


def linked_files(run: Path) -> str:
    (run / "checkpoints").rename("elsewhere")
    (run / "checkpoints").symlink_to(Path("elsewhere").resolve())
    return (
        "log/digits_grid/lr=0.01/checkpoints: is a link that leads out of the run folder; choose another --output-dir"
    )


def other_files(run: Path) -> str:
    Path("log/digits_grid/notes.txt").touch()
    return "log/digits_grid: holds 'notes.txt' but no grid.yaml; choose another --output-dir"


def broken_record(run: Path) -> str:
    Path("log/digits_grid/grid.yaml").write_text("config: [\n")
    return "log/digits_grid/grid.yaml:2:1: not valid YAML:"


def strange_record(run: Path) -> str:
    Path("log/digits_grid/grid.yaml").write_text("config: 3\n")
    return "log/digits_grid/grid.yaml: must name config and settings; choose another --output-dir"


def file_in_the_way(run: Path) -> str:
    shutil.rmtree(RUNS)
    RUNS.touch()
    return "log/digits_grid: is a file, not a folder"


OTHERS = (other_values, other_config, other_run, linked_files, other_files, broken_record, strange_record)


@pytest.mark.parametrize("make", [*OTHERS, file_in_the_way], ids=lambda make: make.__name__)
def test_a_folder_that_holds_something_else_is_refused(
    begun: Path, command: Command, make: Callable[[Path], str]
) -> None:
    says = make(begun)
    before = contents(Path("log"))
    done = command(*TWO)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == 1
    assert contents(Path("log")) == before


def test_a_grid_that_is_trained_is_left_alone(begun: Path, command: Command) -> None:
    with RunFolder(RUNS).locked():
        done = command(*TWO)
    assert (done.exit_code, done.stdout) == (75, "")
    assert done.stderr == "log/digits_grid: another process is training in this folder\n"


def test_cores_are_shared_out_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert "OMP_NUM_THREADS" not in environment(1)
    assert environment(2)["OMP_NUM_THREADS"] == str(max(1, cores // 2))
    assert environment(1000)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(2)["OMP_NUM_THREADS"] == "3"


def best(value: float, mode: str = "max") -> BestScore:
    return BestScore("kind/flowers/valid/accuracy", mode, value, epoch=10, step=70)


def made_runs() -> list[GridRun]:
    scores = {0.01: (0.94, 0.98), 0.003: (0.52, 0.6)}
    return [
        GridRun(
            f"log/flowers_grid/lr={lr},seed={seed}",
            {"model.optimizer.lr": lr, "seed": seed},
            "finished",
            epochs=10,
            steps=70,
            best=best(score),
        )
        for lr, both in scores.items()
        for seed, score in zip((1, 2), both, strict=True)
    ]


def test_the_manual_shows_what_comes_out(capsys: pytest.CaptureFixture[str]) -> None:
    names = {"model.optimizer.lr": "lr", "seed": "seed"}
    print_results(Path("log/flowers_grid"), made_runs(), names, as_json=False)
    shown = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip())
    manual = "\n".join(line for line in (ROOT / "docs" / "commands.md").read_text().splitlines() if line.strip())
    assert shown in manual


def test_scores_are_averaged_over_the_seeds_of_finished_runs() -> None:
    runs = made_runs()
    runs[0].state = "failed"
    larger, smaller = over_seeds(runs)
    assert (larger.runs, larger.mean, larger.std) == (1, 0.98, None)
    assert smaller.values == {"model.optimizer.lr": 0.003}
    assert smaller.runs == 2
    assert smaller.mean == pytest.approx(0.56)  # approx: the sum of 0.52 and 0.6 is rounded
    assert smaller.std == pytest.approx(0.08 / 2**0.5)  # with n - 1; approx likewise
    without = [GridRun("run", {"model.optimizer.lr": 1}, "finished", best=best(1.0))]
    assert over_seeds(without) == []


@pytest.mark.parametrize(("mode", "first"), [("max", "b"), ("min", "a")])
def test_the_best_run_stands_first_and_runs_without_a_score_last(
    capsys: pytest.CaptureFixture[str], mode: str, first: str
) -> None:
    runs = [GridRun("none", {"x": 0}, "failed", "out of memory")]
    runs += [GridRun(name, {"x": name}, "finished", best=best(value, mode)) for name, value in (("a", 1), ("b", 2))]
    print_results(Path("grid"), runs, {"x": "x"}, as_json=True)
    ranked = [run["run"] for run in json.loads(capsys.readouterr().out)["runs"]]
    assert (ranked[0], ranked[-1]) == (first, "none")
    print_results(Path("grid"), runs[:1], {"x": "x"}, as_json=False)
    assert "no run has a best score; SaveBest says which number" in capsys.readouterr().err
