"""Every example trains, by the installed program and as its folder stands, and example 1 keeps its promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[0-9][0-9]_*"))
PROGRAM = Path(sys.executable).with_name("emloop-mtl")

SECONDS = 60
"""How long an example may take; the slowest takes a tenth of it where nothing else is running."""


def run(*words: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(PROGRAM), *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """The name of an example, the folder of its run, and what the training printed."""
    folder: Path = tmp_path_factory.mktemp(request.param) / "run"
    done = run("train", f"examples/{request.param}/config.yaml", "--output-dir", folder)
    return request.param, folder, done.stdout


def scores(out: str) -> dict[tuple[str, str], list[float]]:
    """Return the numbers of a printed table by task and metric."""
    rows = [line.split() for line in out.splitlines()]
    start = next(index for index, row in enumerate(rows) if row[:1] == ["task"])
    return {(row[0], row[1]): [float(number) for number in row[2:]] for row in rows[start + 2 :] if len(row) > 2}


def test_there_are_examples() -> None:
    assert "01_digits" in EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_explains_itself(name: str) -> None:
    readme = (ROOT / "examples" / name / "README.md").read_text(encoding="utf-8")
    assert f"emloop-mtl train examples/{name}/config.yaml" in readme


def test_an_example_trains_and_prints_its_scores(example: tuple[str, Path, str]) -> None:
    _, folder, out = example
    assert scores(out)
    assert (folder / "checkpoints").is_dir()


def test_the_scores_of_an_example_are_those_of_the_command_eval(example: tuple[str, Path, str]) -> None:
    _, folder, out = example
    (header,) = (line.split() for line in out.splitlines() if line.split()[:1] == ["task"])
    streams = header[header.index("metric") + 1 :]
    assert streams
    for column, stream in enumerate(streams):
        again = scores(run("eval", stream, folder).stdout)
        assert {key: numbers[column] for key, numbers in scores(out).items()} == {
            key: numbers[0] for key, numbers in again.items()
        }


@pytest.mark.parametrize("example", ["01_digits"], indirect=True)
def test_example_1_reads_digits(example: tuple[str, Path, str]) -> None:
    found = scores(example[2])
    assert {"digit", "parity", "ink"} <= {task for task, _ in found}
    valid, test = found["digit", "accuracy"]
    # Nearest neighbours on these images, the simplest good method, get 0.98; chance is 0.1.
    assert valid >= 0.97
    assert test >= 0.97
