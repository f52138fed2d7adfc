"""``emloop-mtl plot``: the numbers of runs as figures, which are read back from their files."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from emloop_mtl.cli.curve import MOST_POINTS, Curve
from emloop_mtl.cli.number_name import NumberName
from emloop_mtl.cli.tick_texts import step_text, tick_texts
from emloop_mtl.utils.figure import COLORS

from .conftest import Command, command_here
from .made_runs import make_run

SVG = "{http://www.w3.org/2000/svg}"
BLUE, RED, GREEN = (color.lower() for color in COLORS[:3])
STROKE = re.compile(r"stroke: (#[0-9a-f]{6})")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    with command_here() as run:
        yield run


def make(path: str, records: Iterable[Mapping[str, Any]], name: str = "metrics.jsonl", **settings: Any) -> Path:
    """Make a run with these lines."""
    run = Path(path) if Path(path).exists() else make_run(Path(path), **settings)
    lines = (json.dumps({"samples": 0, **record}) + "\n" for record in records)
    (run / name).write_text("".join(lines))
    return run


def epochs(number: int, tasks: Iterable[str] = ("digit", "ink"), **more: float) -> list[dict[str, float]]:
    """Return the records of some epochs of two steps: a loss and a score of each task."""
    return [
        {"epoch": epoch, "step": 2 * epoch, **more}
        | {f"{task}/data/{stream}/loss": 1 / (1 + epoch) for task in tasks for stream in ("train", "valid")}
        | {f"{task}/data/valid/accuracy": epoch / (1 + epoch) for task in tasks}
        for epoch in range(number)
    ]


def times(number: int) -> list[dict[str, float]]:
    parts = {"reading/train": 1.0, "model/train": 2.0, "model/valid": 3.0, "hooks": 1.0, "saving": 1.0}
    return [{"epoch": epoch, "step": epoch, **parts} for epoch in range(number)]


def drawn(command: Command, *words: object) -> ElementTree.Element:
    """Return the figure that the command draws, as SVG."""
    done = command("plot", *words, "-o", "figure.svg")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "figure.svg\n", "")
    return ElementTree.parse("figure.svg").getroot()


def texts(figure: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in figure.iter(f"{SVG}text")]


def panels(figure: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Return the panels by their titles, which are the largest of their texts."""
    found = {}
    for group in figure.iter(f"{SVG}g"):
        if group.get("id", "").startswith("axes_"):
            titles = [element for element in group.iter(f"{SVG}text") if "9px" in element.get("style", "")]
            found["".join(titles[-1].itertext())] = group
    return found


def lines(panel: ElementTree.Element) -> list[tuple[str, bool, int]]:
    """Return the lines in a panel: colour, whether they are dashed, and their number of points."""
    found = []
    for path in panel.iter(f"{SVG}path"):
        style = path.get("style", "")
        if path.get("clip-path") and "fill: none" in style and (match := STROKE.search(style)):
            points = path.get("d", "").count("M") + path.get("d", "").count("L")
            if match[1] != "#dddddd":
                found.append((match[1], "stroke-dasharray" in style, points))
    return found


def test_a_task_has_a_panel_for_its_loss_and_each_score(command: Command) -> None:
    make("log/run", epochs(5, learning_rate=0.01))
    make("log/run", times(5), "profile.jsonl")
    figure = drawn(command, "log/run")
    found = panels(figure)
    assert list(found) == ["time", "learning rate", "digit · loss", "digit · accuracy", "ink · loss", "ink · accuracy"]
    assert lines(found["digit · loss"]) == [(BLUE, True, 5), (RED, False, 5)]  # train is dashed, valid is not
    assert lines(found["digit · accuracy"]) == [(RED, False, 5)]
    assert lines(found["learning rate"]) == [(BLUE, False, 5)]
    assert {"log/run", "train", "valid", "step", "epoch", "reading", "model", "hooks", "saving"} <= set(texts(figure))


def test_data_sets_of_a_task_have_panels_of_their_own_where_a_stream_has_several(command: Command) -> None:
    records = [{"epoch": 0, "step": 0, "digit/all_of_it/train/loss": 1.0, "digit/one/valid/loss": 1.0}]
    make("run", records)
    assert len(lines(panels(drawn(command, "run"))["digit · loss"])) == 2
    make("run", [{**records[0], "digit/other/valid/loss": 1.0}])
    assert set(panels(drawn(command, "run"))) == {f"digit/{name} · loss" for name in ("all_of_it", "one", "other")}


def test_runs_differ_in_colour_and_the_legend_tells_their_settings(command: Command) -> None:
    for index, name in enumerate("abc"):
        make(f"log/{name}", epochs(4), lr=0.01 * (1 + index))
        make(f"log/{name}", times(4), "profile.jsonl")
    figure = drawn(command, "log/a", "log/b", "log/c")
    assert {(color, dashed) for color, dashed, _ in lines(panels(figure)["ink · loss"])} == {
        (color, dashed) for color in (BLUE, RED, GREEN) for dashed in (True, False)
    }
    assert {"a  lr=0.01", "b  lr=0.02", "c  lr=0.03", "train", "valid"} <= set(texts(figure))
    assert [text for text in texts(panels(figure)["time"]) if text in "abc"] == ["a", "b", "c"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_equal_numbers_give_equal_files(suffix: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make("run", epochs(3))
    contents = []
    for index in range(2):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(10**9 * index))  # what matplotlib would take for the time
        assert command("plot", "run", "-o", f"{index}.{suffix}").exit_code == 0
        contents.append(Path(f"{index}.{suffix}").read_bytes())
    assert contents[0] == contents[1]
    if suffix == "png":
        pixels = imread("0.png")
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


def test_the_figure_lies_in_the_run_or_here_if_there_are_several(command: Command) -> None:
    for name in "ab":
        make(f"log/{name}", epochs(1))
    assert command("plot", "log/a").stdout == "log/a/plot.png\n"
    assert command("plot", "log/a", "log/b").stdout == "plot.png\n"
    assert Path("log/a/plot.png").is_file()
    assert Path("plot.png").is_file()


def test_numbers_are_chosen_by_patterns(command: Command) -> None:
    make("run", epochs(3, learning_rate=0.1))
    make("run", times(3), "profile.jsonl")
    found = panels(drawn(command, "run", "--only", "ink/*", "--only", "profile"))
    assert list(found) == ["time", "ink · loss", "ink · accuracy"]
    assert list(panels(drawn(command, "run", "--only", "learning_rate"))) == ["learning rate"]
    done = command("plot", "run", "--only", "nothing")
    assert (done.exit_code, done.stderr) == (2, "run: --only fits none of its numbers\n")


def test_what_json_lacks_is_read_from_the_table_and_from_tensorboard(command: Command) -> None:
    run = make("run", [{"epoch": 1, "step": 3, "train/loss": 0.5}, {"epoch": 2, "step": 6, "train/loss": 0.25}])
    table = "epoch,step,samples,train/loss,valid/loss\n1,3,0,9,1.5\n2,6,0,9,\n3,9,0,9,inf\n4,12,0,9,2.5\n"
    (run / "training.csv").write_text(table)
    folder = run / "tensorboard"
    folder.mkdir()
    writer = RecordWriter(str(folder / "events.out.tfevents.1"))
    for step in (3, 6, 9):
        values = [Summary.Value(tag=tag, simple_value=1.0) for tag in ("train/loss", "valid/loss", "learning_rate")]
        writer.write(Event(step=step, summary=Summary(value=values)).SerializeToString())
    writer.close()
    found = panels(drawn(command, "run"))
    assert sorted(found) == ["learning rate", "loss"]
    # two points of the one, of the other one in front of the gap and one behind it, and the cross where it begins
    assert [each[:2] for each in lines(found["loss"])][:2] == [(RED, False), (BLUE, True)]
    assert "not finite from here" in texts(ElementTree.parse("figure.svg").getroot())


def test_the_axis_can_be_epochs(command: Command) -> None:
    steps = [{"epoch": 1 + step // 50, "step": step + 1, "train/loss": 1 / (1 + step)} for step in range(120)]
    run = make("run", steps)
    assert "100" in texts(panels(drawn(command, "run"))["loss"])
    found = panels(drawn(command, "run", "--x", "epoch"))["loss"]
    assert {"0", "1", "2", "epoch"} <= set(texts(found))
    assert "100" not in texts(found)
    (run / "metrics.jsonl").unlink()
    (run / "training.csv").write_text("")
    folder = run / "tensorboard"
    folder.mkdir()
    writer = RecordWriter(str(folder / "events.out.tfevents.1"))
    writer.write(Event(step=1, summary=Summary(value=[Summary.Value(tag="a", simple_value=1.0)])).SerializeToString())
    writer.close()
    done = command("plot", "run", "--x", "epoch")
    says = "run: nothing tells to which epochs steps belong; draw them with --x step\n"
    assert (done.exit_code, done.stderr) == (2, says)


def test_losses_of_steps_lie_behind_those_of_epochs(command: Command) -> None:
    steps = [{"epoch": 1, "step": step, "train/loss": step % 3} for step in range(1, 40)]
    make("run", [*steps, *({"epoch": epoch, "step": 20 * epoch, "train/loss/mean": epoch} for epoch in (0, 1, 2))])
    panel = panels(drawn(command, "run"))["loss"]
    assert [points for _, _, points in lines(panel)] == [39, 3]
    faint = [path for path in panel.iter(f"{SVG}path") if "stroke-opacity: 0.35" in path.get("style", "")]
    assert len(faint) == 1


def test_many_tasks_are_drawn_together(command: Command) -> None:
    make("run", epochs(4, [f"task_{number}" for number in range(64)]))
    figure = drawn(command, "run")
    assert list(panels(figure)) == ["loss of 64 tasks", "accuracy of 64 tasks"]
    assert "least to greatest of the tasks; the line is their median" in texts(figure)
    assert list(panels(drawn(command, "run", "--only", "task_7/*"))) == ["task_7 · loss", "task_7 · accuracy"]


@pytest.mark.long
def test_more_panels_than_can_be_read_are_left_out_and_told(command: Command) -> None:
    make("run", [{"epoch": 0, "step": 0, **{f"number_{index}": index for index in range(40)}}])
    done = command("plot", "run", "-o", "a.svg")
    assert (done.exit_code, done.stderr) == (0, "8 of 40 panels are left out; choose numbers with --only\n")
    assert len(panels(ElementTree.parse("a.svg").getroot())) == 32


def test_ten_thousand_epochs_are_few_points_that_look_the_same(command: Command) -> None:
    make("run", [{"epoch": epoch, "step": epoch, "train/loss": math.sin(epoch)} for epoch in range(10_000)])
    make("run", times(10_000), "profile.jsonl")
    found = panels(drawn(command, "run"))
    assert 1000 < lines(found["loss"])[0][2] <= MOST_POINTS + 4
    assert "10k" in texts(found["loss"])
    assert Path("figure.svg").stat().st_size < 500_000


def test_strange_names_stand_there_as_they_are(command: Command) -> None:
    names = ["$x_1$ 100% \\alpha", "größe_äöü", "数字", "a" * 300, "_hidden", '<b> & "c" \'']
    make("run $1_%d ü", [{"epoch": 0, "step": 0, **{f"{name}/data/valid/loss": 1.0 for name in names}}])
    found = drawn(command, "run $1_%d ü")
    assert {f"{name} · loss" for name in names if len(name) < 50} <= set(texts(found))
    assert [len(title) for title in panels(found) if "aaa" in title] == [40]
    assert "run $1_%d ü" in texts(found)
    done = command("plot", "run $1_%d ü", "-o", "a.png")
    says = "names have letters that the font lacks; an SVG file is shown in fonts that have them\n"
    assert (done.exit_code, done.stderr) == (0, says)


STRANGE: Mapping[str, list[float | None]] = {
    "nothing": [None] * 3,
    "huge": [1e300, 1.0, -1e300],
    "zero": [0.0, 0.0],
    "tiny": [5e-324, 0.0],
    "wide": [-1e199, 1e199],
    "gaps": [1e-9, None, 2e-9, None],
    "one": [7],
}


@pytest.mark.parametrize(
    "options", [[], ["--log"], ["--smooth", "0.9", "--x", "epoch"]], ids=["plain", "log", "smooth"]
)
def test_strange_numbers_are_drawn(options: list[str], command: Command) -> None:
    records = [
        {"epoch": epoch, "step": epoch, f"{name}/data/valid/loss": value}
        for name, values in STRANGE.items()
        for epoch, value in enumerate(values)
    ]
    make("run", records)
    figure = drawn(command, "run", *options)
    assert set(panels(figure)) == {f"{name} · loss" for name in STRANGE}
    assert "not finite from here" in texts(figure)


def test_a_single_point_is_marked(command: Command) -> None:
    make("run", [{"epoch": 0, "step": 0, "valid/loss": 1.0}])
    (panel,) = panels(drawn(command, "run")).values()
    assert [use for use in panel.iter(f"{SVG}use") if "#d55e00" in use.get("style", "") or BLUE in use.get("style", "")]


def test_lines_never_go_back(command: Command) -> None:
    steps = [0, 1, 2, 3, 2, 3, 4]  # as where a writer could not cut what came after a checkpoint
    make("run", [{"epoch": step, "step": step, "valid/loss": float(index)} for index, step in enumerate(steps)])
    (panel,) = panels(drawn(command, "run")).values()
    ((_, _, points),) = lines(panel)
    assert points == 5
    (path,) = (path for path in panel.iter(f"{SVG}path") if BLUE in path.get("style", "") and path.get("clip-path"))
    across = [float(x) for x in re.findall(r"[ML] ([\d.]+)", path.get("d", ""))]
    assert across == sorted(across)


def test_smoothing_draws_running_means_before_the_values(command: Command) -> None:
    make("run", [{"epoch": step, "step": step, "valid/loss": float(step % 2)} for step in range(30)])
    (panel,) = panels(drawn(command, "run", "--smooth", "0.5")).values()
    assert len(lines(panel)) == 2
    smooth = Curve.of({0: 1.0, 1: 0.0, 2: math.nan, 3: 1.0}).smoothed(0.5)
    assert smooth.y[[0, 1, 3]].tolist() == [1.0, 0.5 / 1.5, 1.25 / 1.75]
    assert math.isnan(smooth.y[2])


def test_thinning_keeps_peaks_ends_and_gaps() -> None:
    values = np.zeros(100_000)
    values[70_001], values[12_345], values[50_000] = 1.0, math.nan, -1.0
    thin = Curve.of(dict(enumerate(values.tolist()))).thinned()
    assert len(thin) < 2 * MOST_POINTS
    assert (thin.x[0], thin.x[-1]) == (0, 99_999)
    assert (np.diff(thin.x) > 0).all()
    assert (np.nanmax(thin.y), np.nanmin(thin.y), np.isnan(thin.y).sum()) == (1.0, -1.0, 1)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("digit/digits/valid/accuracy", ("digit", "digits", "valid", "accuracy")),
        ("digit/digits/other/f1/3", ("digit", "digits", "other", "f1/3")),
        ("model/all/all/micro_average", ("model", "all", "all", "micro_average")),
        ("train/loss", ("", "", "train", "loss")),
        ("train/loss/mean", ("", "", "train", "loss")),
        ("train/loss/max", ("", "", "train", "loss/max")),
        ("train/digit/loss", ("digit", "", "train", "loss")),
        ("train/digit/loss/mean", ("digit", "", "train", "loss")),
        ("balance", ("", "", "", "balance")),
        ("", ("", "", "", "")),
    ],
)
def test_names_of_numbers_are_taken_apart(name: str, parts: tuple[str, ...]) -> None:
    assert NumberName.of(name, {"train", "valid"}) == parts


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5], ["0", "0.25", "0.50"]),
        ([0.98431, 0.98432], ["0.98431", "0.98432"]),
        ([-0.0, 1e-5, 2e-5], ["0", "1e-5", "2e-5"]),
        ([0.0, 1.5e6], ["0", "1.5e6"]),
        ([], []),
    ],
)
def test_ticks_tell_values_apart_without_an_offset(values: list[float], expected: list[str]) -> None:
    assert tick_texts(values) == expected


def test_steps_are_counted_in_thousands() -> None:
    assert [step_text(step) for step in (0, 500, 1000, 1500, 2500, 12_500, 1e6, 25e5)] == [
        *("0", "500", "1k", "1.5k", "2.5k", "12.5k", "1M", "2.5M")
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere: no such folder\n"),
        (["log"], "log: is not the folder of a run\n"),
        (["log/a", "log/a"], "log/a: is named twice; draw different runs\n"),
        (["log/a", "-o", "no/such/a.png"], "no/such/a.png: there is no folder no/such\n"),
        (
            ["log/empty"],
            "log/empty: has no numbers; WriteJSON, WriteCSV or WriteTensorBoard in its config would have written "
            "them\n",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_line(words: list[str], says: str, command: Command) -> None:
    make("log/a", epochs(1))
    make("log/empty", [])
    done = command("plot", *words)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Missing argument"),
        (["a", "-o", "a.jpg"], "the name must end in .png, .svg or .pdf, not 'a.jpg'"),
        (["a", "-o", "config"], "the name must end in .png, .svg or .pdf, not 'config'"),
        (["a", "--smooth", "1"], "is not in the range 0<=x<1"),
        (["a", "--smooth", "nan"], "is not in the range 0<=x<1"),
        (["a", "--x", "time"], "'time' is not one of 'step', 'epoch'"),
    ],
)
def test_mistakes_of_the_command_line_are_told(words: list[str], says: str, command: Command) -> None:
    done = command("plot", *words)
    assert done.exit_code == 2
    assert says in done.stderr


def test_of_several_runs_those_without_numbers_are_told_and_left_out(command: Command) -> None:
    make("log/a", epochs(2))
    make("log/empty", [])
    done = command("plot", "log/a", "log/empty")
    assert (done.exit_code, done.stdout) == (0, "plot.png\n")
    assert done.stderr.startswith("log/empty: has no numbers")
    done = command("plot", "log/empty", make("log/none", []))
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "none of the runs has numbers to draw"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metrics.jsonl", b"\x1b[31m\n", "a line of metrics.jsonl is no JSON"),
        ("training.csv", b"\xff\n", "training.csv is not UTF-8"),
        ("profile.jsonl", b"[1]\n", "a line of profile.jsonl holds no times"),
        ("profile.jsonl", b'{"epoch": 1e999}\n', "a line of profile.jsonl holds no times"),
        ("tensorboard/events.out.tfevents.1", b"\x03" + bytes(11) + b"abc", "is no file of TensorBoard's"),
        ("config.yaml", b"a: !!python/name:os.abort", "tag !!python/name:os.abort is refused"),
    ],
)
def test_a_broken_file_is_one_line(name: str, content: bytes, says: str, command: Command) -> None:
    path = make("run", epochs(1)) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    done = command("plot", "run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("run: ")
    assert says in done.stderr
    assert done.stderr.strip().isprintable()
    assert not Path("run/plot.png").exists()


def test_a_path_that_is_none_is_named(command: Command) -> None:
    config = make("run", epochs(1)) / "config.yaml"
    config.write_text(config.read_text() + '- WriteCSV: {path: "a\\0b"}\n')
    done = command("plot", "run")
    assert (done.exit_code, done.stderr) == (2, "run: a\\x00b cannot be read\n")


def test_what_is_being_written_is_left_out(command: Command) -> None:
    run = make("run", epochs(2))
    for name in ("metrics.jsonl", "profile.jsonl"):
        with (run / name).open("a") as file:
            file.write('{"epo')
    assert "time" not in panels(drawn(command, "run"))


def test_nothing_outside_of_the_run_is_read_or_written(command: Command) -> None:
    secret = make("secret", epochs(2))
    run = make("run", [])
    (run / "metrics.jsonl").unlink()
    for name in ("metrics.jsonl", "training.csv", "profile.jsonl", "tensorboard"):
        (run / name).symlink_to((secret / "metrics.jsonl").resolve())
    assert "has no numbers" in command("plot", "run").stderr
    shutil.rmtree(run)
    run = make("run", epochs(1))
    (run / "plot.png").symlink_to((secret / "config.yaml").resolve())
    before = (secret / "config.yaml").read_bytes()
    assert command("plot", "run").exit_code == 0
    assert (secret / "config.yaml").read_bytes() == before


def test_a_file_that_cannot_be_written_is_one_line(command: Command) -> None:
    make("run", epochs(1))
    Path("run/plot.png").mkdir()
    done = command("plot", "run")
    assert done.exit_code == 1
    assert re.fullmatch(r"error: IsADirectoryError: .*plot: Is a directory.*plot\.png.*\n", done.stderr)


def test_the_settings_of_matplotlib_are_neither_used_nor_changed(command: Command) -> None:
    make("run", epochs(3))
    drawn(command, "run")
    before = Path("figure.svg").read_bytes()
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9, "axes.grid": True}):
        settings = dict(matplotlib.rcParams)
        drawn(command, "run")
        assert dict(matplotlib.rcParams) == settings
    assert Path("figure.svg").read_bytes() == before


def test_without_matplotlib_the_extra_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    make("run", epochs(1))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = command("plot", "run")
    assert (done.exit_code, done.stderr) == (2, "plot needs matplotlib: pip install 'emloop_mtl[plot]'\n")
