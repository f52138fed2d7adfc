"""Examples that were broken at random: each is refused in one line that names a place, or it can be trained."""

from __future__ import annotations

import functools
import random
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets

from emloop_mtl.config.yaml_text import read_yaml
from emloop_mtl.main_loop import MainLoop

from .conftest import ENVIRONMENT, PROGRAM, ROOT, Command, command_here
from .mutants import Mutant, mutants, override, with_more

COUNT, PER_TEST = 504, 84
SEED = 5
FEW = "  max_rows: 96\n"

PLACE = re.compile(r"config\.yaml:\d+:\d+: \S|config\.yaml: the config is empty; ")
WARNING = re.compile(r"\d\d:\d\d:\d\d warning: ")


class Began(BaseException):
    """The training has begun: nothing was wrong with its config."""


class Trial:
    """Trains and checks configs in the working folder and looks at what comes of it."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.has_begun = False
        self.valid = self.refused = 0

    def check(self, mutant: Mutant) -> None:
        """Refuse a config as one refuses it, or find that it can be trained."""
        Path("config.yaml").write_bytes(mutant.content)
        self._train(f"mutant {mutant.name!r}:\n{mutant.content.decode(errors='replace')[:3000]}", PLACE)

    def check_override(self, words: str) -> None:
        """The same for an override of the config in the working folder, which must be named as the culprit."""
        self._train(f"override {words!r}", re.compile(r"command line: |config\.yaml:\d+:\d+: "), words)

    def _train(self, what: str, place: re.Pattern[str], *words: str) -> None:
        self.has_begun = False
        before = set(Path().iterdir())
        try:
            done = self.command("train", "config.yaml", "--", *words)
            assert not self.has_begun, what
            self._check_answer(done, what, place)
        except Began:
            # Whatever can be wrong with modules and heads was found before.
            done = self.command("check", "config.yaml", "--", *words)
            assert done.exit_code == 0, f"{what}\n{done.stderr}"
            self.valid += 1
        assert set(Path().iterdir()) - {Path("__pycache__")} <= before, what

    def _check_answer(self, done: Any, what: str, place: re.Pattern[str]) -> None:
        said = [line for line in done.stderr.splitlines() if not WARNING.match(line)]
        assert done.exit_code == 2, f"{what}\n{done.stderr}{done.exc_info}"
        assert len(said) == 1, f"{what}\n{done.stderr}"
        assert place.match(said[0]), f"{what}\n{done.stderr}"
        assert said[0].isprintable(), f"{what}\n{said[0]!r}"
        assert "Traceback" not in said[0], what
        assert done.stdout == "", what
        self.refused += 1


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    monkeypatch.chdir(tmp_path)
    for name in ("01_digits/digits.py", "02_tabular/tabular.py"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    for name in ("load_digits", "load_breast_cancer", "load_wine", "load_diabetes"):  # most of the time is their text
        monkeypatch.setattr(sklearn.datasets, name, functools.cache(getattr(sklearn.datasets, name)))
    with command_here() as command:
        trial = Trial(command)

        def begin(main_loop: MainLoop) -> None:
            trial.has_begun = True
            raise Began

        monkeypatch.setattr(MainLoop, "run_training", begin)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of some sizes that are in order
            yield trial


@pytest.fixture(scope="module")
def examples() -> list[str]:
    digits, tabular = ((ROOT / "examples" / name / "config.yaml").read_text() for name in ("01_digits", "02_tabular"))
    digits = digits.replace("batch_size: 32\n", f"batch_size: 32\n{FEW}")
    return [digits, with_more(digits), tabular]


def check_all(trial: Trial, broken: Iterable[Mutant]) -> None:
    for mutant in broken:
        trial.check(mutant)


def test_the_examples_themselves_are_valid(trial: Trial, examples: list[str]) -> None:
    check_all(trial, [Mutant("nothing", index, text.encode()) for index, text in enumerate(examples)])
    assert (trial.valid, trial.refused) == (len(examples), 0)


@pytest.mark.parametrize(
    "begin", [pytest.param(begin, marks=pytest.mark.long if begin else ()) for begin in range(0, COUNT, PER_TEST)]
)
def test_a_broken_config_is_refused_in_one_line(begin: int, trial: Trial, examples: list[str]) -> None:
    check_all(trial, mutants(examples, SEED, range(begin, begin + PER_TEST)))
    assert trial.refused > PER_TEST // 2  # else the changes break too little to test anything


@pytest.mark.long
def test_a_broken_override_is_refused_in_one_line(trial: Trial, examples: list[str]) -> None:
    chance = random.Random(SEED)
    Path("config.yaml").write_text(examples[1])
    tree = read_yaml(examples[1], lambda line, column: "")[0]
    for _ in range(PER_TEST):
        trial.check_override(override(tree, chance))
    assert trial.refused > PER_TEST // 2


@pytest.mark.long
def test_the_installed_program_answers_in_the_same_way(tmp_path: Path, examples: list[str]) -> None:
    chosen = [mutant for mutant in mutants(examples, SEED, range(30)) if mutant.example == 0][:4]

    def answer(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.yaml").write_bytes(chosen[number].content)
        shutil.copy(ROOT / "examples" / "01_digits" / "digits.py", folder)
        words = [PROGRAM, "check", "config.yaml"]
        done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, 2)
        assert done.returncode == 0 or (PLACE.match(done.stderr) and done.stderr.count("\n") == 1), done.stderr
        assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"config.yaml", "digits.py"}

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(answer, range(len(chosen)))) == [None] * len(chosen)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_broken_configs_are_refused_in_one_line(seed: int, trial: Trial, examples: list[str]) -> None:
    # Without FEW: a max_rows of 0 is no mistake of the config's, but leaves no data.
    check_all(trial, mutants([text.replace(FEW, "") for text in examples], seed, range(500)))


@pytest.mark.soak
def test_many_broken_overrides_are_refused_in_one_line(trial: Trial, examples: list[str]) -> None:
    chance = random.Random(SEED + 1)
    Path("config.yaml").write_text(examples[1])
    tree = read_yaml(examples[1], lambda line, column: "")[0]
    for _ in range(3000):
        trial.check_override(override(tree, chance))
