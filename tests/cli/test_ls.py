"""``emloop-mtl ls``: runs as a table, read as data only, whoever has made them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.cli import listing
from emloop_mtl.cli.folder_in_use import is_in_use
from emloop_mtl.cli.run_folder import RunFolder
from emloop_mtl.cli.run_reading import find_runs
from emloop_mtl.utils.checkpoint_names import FORMAT
from emloop_mtl.utils.manifest import read_manifest, write_manifest

from .conftest import PROGRAM, Command, command_here
from .made_runs import make_run


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    with command_here() as run:
        yield run


def listed(command: Command, *words: object) -> dict[str, dict[str, Any]]:
    done = command("ls", *words, "--json")
    assert done.exit_code == 0, done.stderr
    return {each["run"]: each for each in json.loads(done.stdout)}


def test_a_table_has_a_row_for_each_run_the_last_one_at_the_end(command: Command) -> None:
    make_run(Path("log/b"), began="2026-01-01 12:00:00+00:00", scores={1: 0.5, 2: 0.75})
    make_run(Path("log/a"), began="2026-01-02 12:00:00+00:00", epochs=7, end="failed")
    done = command("ls")
    assert done.exit_code == 0
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] in (["a"], ["b"])]
    assert [row[:6] for row in rows] == [
        ["b", "flowers", "Flowers", "finished", "2", "0.75"],
        ["a", "flowers", "Flowers", "failed", "7", rows[1][5]],
    ]
    assert rows[0][6] == "kind/iris/valid/accuracy"
    assert "kind/iris/valid/accuracy" not in rows[1]


def test_programs_get_all_of_it(command: Command) -> None:
    make_run(Path("log/one"), began="2026-01-01 12:00:00+00:00", took=90, scores={1: 0.5, 2: 0.75, 3: 0.625}, epochs=3)
    one = listed(command)["log/one"]
    assert one.pop("age") > 0
    assert one == {
        "run": "log/one",
        "state": "finished",
        "model": "flowers",
        "model_class": "MultiTaskModel",
        "dataset": "flowers.Flowers",
        "epochs": 3,
        "steps": 30,
        "best": {"name": "kind/iris/valid/accuracy", "mode": "max", "value": 0.75, "epoch": 2, "step": 20},
        "began": "2026-01-01T12:00:00+00:00",
        "ended": "2026-01-01T12:01:30+00:00",
        "bytes": sum(path.stat().st_size for path in Path("log/one").rglob("*") if path.is_file()),
        "checkpoints": 1,
        "fault": None,
    }


def test_more_columns_are_shown_on_request(command: Command) -> None:
    make_run(Path("log/one"), took=7200)
    short, long = command("ls"), command("ls", "-l")
    assert "MultiTaskModel" not in short.stdout
    for text in ("class", "steps", "began", "took", "2 h"):
        assert text in long.stdout


def test_runs_without_an_epoch_are_shown_on_request(command: Command) -> None:
    make_run(Path("log/none"), epochs=0)
    make_run(Path("log/some"), epochs=1)
    done = command("ls")
    assert "some" in done.stdout
    assert "none" not in done.stdout
    assert done.stderr == "1 run has not finished an epoch; -a shows it, too\n"
    assert list(listed(command)) == ["log/some"]
    assert sorted(listed(command, "-a")) == ["log/none", "log/some"]


def test_a_broken_run_is_shown_without_an_epoch_too(command: Command) -> None:
    make_run(Path("log/one"), epochs=0)
    Path("log/one/metrics.jsonl").write_text("{kind/iris/valid/accuracy\n")
    assert list(listed(command)) == ["log/one"]


def test_the_best_score_is_that_of_the_checkpoint_that_was_kept(command: Command) -> None:
    save_best = "{variable: kind/iris/accuracy, mode: max, tag: latest}"  # the tag of the checkpoint that it has
    make_run(Path("log/one"), epochs=1, scores={1: 0.5, 2: 0.75}, save_best=save_best)
    assert listed(command)["log/one"]["best"]["value"] == 0.5


def test_the_newest_checkpoint_tells_whether_a_run_has_finished(command: Command) -> None:
    checkpoints = make_run(Path("log/one")) / "checkpoints"
    Path("log/one/trace.yaml").unlink()
    newer = checkpoints / "latest-00000002"
    shutil.copytree(checkpoints / "latest-00000001", newer)
    manifest = read_manifest(newer / "manifest.json", FORMAT, ("model.safetensors", "state.pt"))
    write_manifest(newer / "manifest.json", {**manifest, "sequence": 2, "finished": False})
    assert listed(command)["log/one"]["state"] == "not finished"


def test_links_and_hidden_folders_do_not_count_and_what_has_two_names_counts_once(command: Command) -> None:
    run = make_run(Path("log/one"))
    size = listed(command)["log/one"]["bytes"]
    (run / "again.yaml").hardlink_to(run / "config.yaml")
    (run / "checkpoints/latest-00000002").symlink_to("latest-00000001")
    make_run(Path("log/.one-removed-7"))
    (one,) = listed(command).values()
    assert one["checkpoints"] == 1
    assert one["bytes"] - size == len("latest-00000001"), "the link itself"


def test_a_run_from_the_future_has_no_age(command: Command) -> None:
    make_run(Path("log/one"), began="2400-01-01 12:00:00+00:00")
    assert listed(command)["log/one"]["age"] == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (59, "59 s"), (60, "1 min"), (7199, "2 h"), (86400, "24 h"), (172800, "2 days"), (6e6, "2 months")],
)
def test_times_are_told_in_a_unit_that_suits_them(seconds: float | None, text: str) -> None:
    assert listing.duration(seconds) == text


def test_sizes_are_told_in_a_unit_that_suits_them() -> None:
    assert [listing.size(number) for number in (0, 999, 1000, 1_550_000, 10**15)] == [
        *("0 B", "999 B", "1.0 kB", "1.6 MB", "1000.0 TB")
    ]


def test_folders_below_are_looked_into_on_request_but_runs_are_not(command: Command) -> None:
    make_run(Path("log/deep/er/one"))
    make_run(Path("log/top"))
    make_run(Path("log/top/inside"))
    Path("log/link").symlink_to("deep/er")
    assert list(listed(command)) == ["log/top"]
    assert sorted(listed(command, "-r")) == ["log/deep/er/one", "log/top"]
    assert list(listed(command, "log/top")) == ["log/top"]


def test_a_folder_without_runs_is_no_error(command: Command) -> None:
    Path("log").mkdir()
    done = command("ls")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "log: has no runs; -r looks into the folders below\n"
    assert json.loads(command("ls", "--json").stdout) == []


@pytest.mark.parametrize(("path", "says"), [("nowhere", "no such folder"), ("file", "is a file, not a folder")])
def test_what_is_no_folder_is_refused(command: Command, path: str, says: str) -> None:
    Path("file").touch()
    done = command("ls", path)
    assert done.exit_code == 2
    assert done.stderr == f"{path}: {says}\n"


@pytest.mark.parametrize("end", ["finished", "interrupted", "failed"])
def test_how_a_run_ended_is_told(command: Command, end: str) -> None:
    make_run(Path("log/one"), end=end)
    assert listed(command)["log/one"]["state"] == end


def test_a_run_that_is_trained_is_told_from_one_that_was_killed(command: Command) -> None:
    make_run(Path("log/killed"), end=None)
    make_run(Path("log/running"), end=None)
    with RunFolder(Path("log/running")).locked():
        found = listed(command)
        assert [found[f"log/{name}"]["state"] for name in ("killed", "running")] == ["killed", "running"]
    with RunFolder(Path("log/running")).locked():  # looking has left no lock
        pass


def test_a_run_without_writers_and_trace_is_listed_by_its_checkpoints(command: Command) -> None:
    make_run(Path("log/one"), epochs=4)
    for name in ("trace.yaml", "metrics.jsonl"):
        Path("log/one", name).unlink()
    one = listed(command)["log/one"]
    assert (one["state"], one["epochs"], one["best"]) == ("finished", 4, None)


def test_scores_are_read_from_a_table_as_well(command: Command) -> None:
    make_run(Path("log/one"))
    Path("log/one/metrics.jsonl").unlink()
    name = "kind/iris/valid/accuracy"
    Path("log/one/training.csv").write_text(f"epoch,step,samples,{name}\n1,10,1,0.25\n2,20,2,0.5\n3,30,3,\n")
    assert listed(command)["log/one"]["best"]["value"] == 0.5


@pytest.mark.parametrize(
    ("watched", "record", "value"),
    [
        ("{}", {"valid/loss": 2.0}, 2.0),
        ("{}", {"valid/loss/mean": 2.0, "valid/loss/max": 5.0}, 2.0),
        ("{aggregation: max}", {"valid/loss/mean": 2.0, "valid/loss/max": 5.0}, 5.0),
        ("{aggregation: min}", {"valid/loss/mean": 2.0}, None),
        ("{variable: acc, mode: max}", {"valid/acc/median": 0.5}, 0.5),
        ("{variable: acc, mode: max}", {"valid/acc/median": 0.5, "valid/acc/median/3": 0.75}, 0.5),
        ("{variable: model/all/macro_average, stream: all}", {"model/all/all/macro_average": 0.5}, 0.5),
        ("{mode: most}", {"valid/loss": 2.0}, None),
        ("{variable: [1]}", {"valid/loss": 2.0}, None),
    ],
)
def test_the_number_that_save_best_watches_is_found(
    command: Command, watched: str, record: dict[str, float], value: float | None
) -> None:
    make_run(Path("log/one"), save_best=watched)
    lines = [{"epoch": 1, "step": 10, "samples": 1, **record}, {"epoch": 2, "step": 20, "samples": 2, "other": 1.0}]
    Path("log/one/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    best = listed(command)["log/one"]["best"]
    assert (best and best["value"]) == value


def steps_as_json(run: Path) -> None:
    lines: list[dict[str, float]] = [
        {"epoch": 1, "step": 5, "samples": 1, "train/loss": 0.25, "train/kind/loss": 0.125, "learning_rate": 0.5},
        {"epoch": 1, "step": 10, "samples": 1, "train/loss": 0.5, "train/kind/loss": 0.125},
        {"epoch": 1, "step": 10, "samples": 1, "train/loss/mean": 0.75, "train/kind/loss": 1.0, "valid/loss": 3.0},
        {"epoch": 2, "step": 15, "samples": 1, "train/loss": 0.25, "train/kind/loss": 0.125},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def steps_as_table(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    rows = ["1,5,1,0.25,0,0.5", "1,10,1,0.5,0,0.5", "1,10,1,0,0.75,0.5", "2,15,1,0.25,0,0.5"]
    header = "epoch,step,samples,train/loss,train/loss/mean,learning_rate"
    (run / "training.csv").write_text("\n".join([header, *rows, ""]))


@pytest.mark.parametrize(
    ("write", "hook"),
    [(steps_as_json, "WriteJSON: {steps: 5}"), (steps_as_table, "WriteCSV: {steps: 5, default_value: 0}")],
    ids=["json", "csv"],
)
def test_losses_of_steps_are_no_numbers_of_an_epoch(command: Command, write: Callable[[Path], None], hook: str) -> None:
    for name in ("one", "two"):
        run = make_run(Path("log", name), epochs=1, save_best="{stream: train}")
        write(run)
        (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("WriteJSON", hook))
    best = listed(command)["log/one"]["best"]
    assert (best["name"], best["value"], best["step"]) == ("train/loss/mean", 0.75, 10)
    (one, _) = json.loads(command("compare", "log/one", "log/two", "--last", "--json").stdout)["runs"]
    assert (one["epoch"], one["step"]) == (1, 10)
    assert "train/loss" not in one["scores"]


def test_a_config_that_was_written_by_hand_is_read_as_well(command: Command) -> None:
    make_run(Path("log/one"), scores={1: 0.5})
    hooks = "[SaveBest: {variable: kind/iris/accuracy, mode: max}]"
    text = f"{{model: {{class: a.Model}}, dataset: {{class: b.Data}}, hooks: {hooks}}}"
    Path("log/one/config.yaml").write_text(text)
    one = listed(command)["log/one"]
    assert (one["model"], one["dataset"], one["best"]["value"]) == ("Model", "b.Data", 0.5)


def no_config(run: Path) -> None:
    (run / "config.yaml").unlink()


def empty_config(run: Path) -> None:
    (run / "config.yaml").write_text("")


def tagged_config(run: Path) -> None:
    (run / "config.yaml").write_text("model: !!python/object/apply:os.abort []\n")


def linked_config(run: Path) -> None:
    no_config(run)
    (run / "config.yaml").symlink_to("/etc/hostname")


def piped_config(run: Path) -> None:
    no_config(run)
    os.mkfifo(run / "config.yaml")


def bytes_config(run: Path) -> None:
    (run / "config.yaml").write_bytes(b"\xff\x00\x1b[31m")


def cut_weights(run: Path) -> None:
    (run / "checkpoints/latest-00000001/model.safetensors").write_bytes(b"")


def no_manifest(run: Path) -> None:
    (run / "checkpoints/latest-00000001/manifest.json").unlink()


def changed_manifest(run: Path) -> None:
    path = run / "checkpoints/latest-00000001/manifest.json"
    path.write_text(path.read_text().replace("epoch", "epoche"))


def strange_trace(run: Path) -> None:
    (run / "trace.yaml").write_text("train_begin: \x7f\n")


def other_trace(run: Path) -> None:
    (run / "trace.yaml").write_text("[1, 2]\n")


def negative_trace(run: Path) -> None:
    path = run / "trace.yaml"
    path.write_text(path.read_text().replace("epochs_done: 2", "epochs_done: -2"))


def late_trace(run: Path) -> None:
    path = run / "trace.yaml"
    path.write_text(
        path.read_text().replace("train_begin: 2026-01-01 12:00:00+00:00", "train_begin: 9999-12-31 23:00-05")
    )
    assert "9999" in path.read_text()


def strange_lines(run: Path) -> None:
    (run / "metrics.jsonl").write_text("kind/iris/valid/accuracy\n")


def endless_lines(run: Path) -> None:
    with (run / "metrics.jsonl").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk, but would in memory


def ancient_trace(run: Path) -> None:
    path = run / "trace.yaml"
    path.write_text(path.read_text().replace("2026", "0001"))


def circle(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to("metrics.jsonl")


def no_table(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    (run / "training.csv").write_bytes(b"epoch,step,kind/iris/valid/accuracy\n\xff\n")


BREAKS = (
    ancient_trace,
    circle,
    no_table,
    no_config,
    empty_config,
    tagged_config,
    linked_config,
    piped_config,
    bytes_config,
    cut_weights,
    no_manifest,
    changed_manifest,
    strange_trace,
    other_trace,
    negative_trace,
    late_trace,
    strange_lines,
    endless_lines,
)


@pytest.mark.timeout(120)  # a pipe that is opened would be waited for
@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_a_broken_run_is_shown_as_such_beside_the_others(command: Command, damage: Callable[[Path], None]) -> None:
    make_run(Path("log/good"))
    make_run(Path("log/bad"))
    damage(Path("log/bad"))
    done = command("ls")
    assert done.exit_code == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("broken: log/bad: ")
    assert line.isprintable()
    found = listed(command)
    assert [found[f"log/{name}"]["state"] for name in ("good", "bad")] == ["finished", "broken"]


def test_a_line_that_is_being_written_does_not_count(command: Command) -> None:
    make_run(Path("log/one"), scores={1: 0.5})
    with Path("log/one/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 20, "kind/iris/valid/accuracy": 0.7')
    assert listed(command)["log/one"]["best"]["value"] == 0.5


def test_a_training_begins_though_somebody_looks_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "one")
    handle = os.open(run, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(handle))  # they look for less than it waits
    with RunFolder(run).locked():
        assert is_in_use(run)


def test_strange_values_are_no_numbers(command: Command) -> None:
    make_run(Path("log/one"), scores={1: 0.5})
    with Path("log/one/metrics.jsonl").open("a") as file:
        for value in ("1" * 400, "true", "NaN", "null", '"1"', "[1]", "{}"):
            file.write(f'{{"epoch": 2, "step": 20, "kind/iris/valid/accuracy": {value}}}\n')
        file.write('{"epoch": null, "step": 1, "kind/iris/valid/accuracy": 2}\n["kind/iris/valid/accuracy"]\n')
    with Path("log/one/config.yaml").open("a") as file:
        file.write("- [1, [2]]\n- null\n")
    assert listed(command)["log/one"]["best"]["value"] == 0.5
    make_run(Path("log/two"), scores={1: 0.5})
    assert command("compare", "log/one", "log/two", "--json").exit_code == 0


def test_names_that_steer_a_terminal_are_spelt_out(command: Command) -> None:
    make_run(Path("log/\x1b[31mred"), model="\x1b[2Jname")
    done = command("ls", "-l")
    assert "\x1b" not in done.stdout
    assert "\\x1b[31mred" in done.stdout


def test_half_a_character_in_a_name_is_spelt_out_too(command: Command) -> None:
    make_run(Path("log/one"), save_best="{variable: acc, mode: max}")
    line = '{"epoch": 1, "step": 10, "valid/acc/\\ud800": 0.5}\n'
    Path("log/one/metrics.jsonl").write_text(line)
    make_run(Path("log/two"))
    done = command("ls")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "valid/acc/\\ud800" in done.stdout
    assert command("compare", "log/one", "log/two", "--last").exit_code == 0


def test_what_is_broken_is_named(command: Command) -> None:
    for name in ("config.yaml", "trace.yaml", "metrics.jsonl"):
        make_run(Path("log/one"))
        Path("log/one", name).unlink()
        os.mkfifo(f"log/one/{name}")
        fault = listed(command)["log/one"]["fault"]
        assert (fault.startswith(name), fault.endswith("is no regular file")) == (True, True)
        shutil.rmtree("log/one")


def test_a_run_that_is_removed_meanwhile_is_none(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(Path("log/one"))
    make_run(Path("log/two"))

    def found(folder: Path, recursive: bool) -> Iterator[Path]:
        yield from find_runs(folder, recursive)
        shutil.rmtree("log/one")

    monkeypatch.setattr(listing, "find_runs", found)
    done = command("ls", "--json")
    assert [run["run"] for run in json.loads(done.stdout)] == ["log/two"]
    assert done.stderr == ""


@pytest.mark.long
def test_folders_may_be_deep(command: Command) -> None:
    place = Path("log")
    place.mkdir()
    for _ in range(1100):  # more than Python nests calls
        place /= "d"
        place.mkdir()
    make_run(place / "run")
    assert list(listed(command, "-r")) == [str(place / "run")]
    while place != Path("log"):  # nor can what clears up
        shutil.rmtree(place)
        place = place.parent


def shell(line: str) -> tuple[int, str]:
    """Return exit code and stderr of a line in a shell, in which the program is called P."""
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}", "bash"],
        env={**os.environ, "P": str(PROGRAM)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", ["ls", "ls --json"])
def test_where_nobody_reads_it_is_silent(command: Command, words: str) -> None:
    make_run(Path("log/one"))
    assert shell(f"$P {words} >&-") == (0, "")
    assert shell(f"$P {words} | true") == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_programs_do_not_take_a_part_for_all_of_it(command: Command) -> None:
    make_run(Path("log/one"))
    code, said = shell("$P ls --json > /dev/full")
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith("error: OSError: [Errno 28] No space left on device: 'stdout'")


def test_nothing_is_imported_from_a_run_and_neither_is_torch() -> None:
    script = "import sys\nfrom emloop_mtl.cli import main\nmain(['ls', 'nowhere'], standalone_mode=False)\n"
    script = script.replace("main([", "try: main([") + "except SystemExit: pass\nprint('torch' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "False\n"
