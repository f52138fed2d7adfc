"""``emloop-mtl verify-resume``: it passes trainings that resume exactly, and names the part of those that do not."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from emloop_mtl.checkpoint import list_checkpoints, save_checkpoint
from emloop_mtl.cli.run_comparison import differences, differences_of_runs
from emloop_mtl.cli.training_server import TrainingServer
from emloop_mtl.cli.verifying_resume import trial_folder, verify_resuming
from emloop_mtl.types import Position

from .conftest import ENVIRONMENT, PROGRAM, ROOT, SHORT, Command, Program

EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/config.yaml"))

NO_SCORES = "eval={}"
"""Without the evaluation at the end, which nothing here depends on, a training takes two thirds of the time."""


@pytest.fixture(scope="module")
def servers() -> Iterator[list[TrainingServer]]:
    with TrainingServer() as one, TrainingServer() as other:
        yield [one, other]


Check = tuple[bool, list[str]]


def verify(
    servers: list[TrainingServer],
    capsys: pytest.CaptureFixture[str],
    *words: str,
    config: Path = Path("config.yaml"),
    at: tuple[int, ...] = (2,),
    times: int = 2,
    natural: bool = False,
    keep: Path | None = None,
) -> Check:
    """Return whether all ends are equal, and the lines on stdout."""
    with trial_folder(keep) as folder:
        is_equal = verify_resuming(config, words, at, times, natural, folder, servers, keep is not None)
    return is_equal, capsys.readouterr().out.splitlines()


@pytest.mark.long
def test_a_training_that_resumes_exactly_passes(
    folder: Path, servers: list[TrainingServer], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in folder.iterdir()}
    # Dropout makes every step depend on the random state; a window of 4 steps is open wherever it is killed.
    words = ["model.modules.trunk.args.7={class: torch.nn.Dropout, p: 0.5}", "model.update.accumulate=4"]
    kept = folder / "kept"
    end = verify(servers, capsys, *SHORT, NO_SCORES, *words, at=(6, 2), keep=kept)
    # After the last step there is still an evaluation to be killed in.
    assert end == (True, ["2 trainings, killed 4 times in all, end exactly as the undisturbed one"])
    assert {path.name for path in folder.iterdir()} - before == {"kept"}
    assert {path.name for path in kept.iterdir() if path.is_dir()} == {"undisturbed", "again", "step-2", "step-6"}
    saved = [path.name for path in list_checkpoints(kept / "step-2" / "checkpoints")]
    assert sum(name.startswith("verify-resume-killed") for name in saved) == 1
    log = (kept / "step-2" / "train.log").read_text()
    assert len(re.findall(r"going on in .* from verify-resume-killed-\d+ \(epoch 0, step 2\)", log)) == 2


@pytest.mark.long
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_resumes_exactly_from_what_its_own_hooks_save(
    folder: Path, servers: list[TrainingServer], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copytree(ROOT / "examples" / name, folder / name)
    config = folder / name / "config.yaml"
    rows = ["dataset.max_rows=96"] if name == "01_digits" else []
    step = 5 if rows else 13  # in the second epoch
    end = verify(
        servers, capsys, *rows, "hooks.StopAfter.epochs=2", NO_SCORES, config=config, at=(step,), times=1, natural=True
    )
    assert end == (True, ["1 trainings, killed 1 times in all, end exactly as the undisturbed one"])


FORGETFUL = """
from emloop_mtl import AbstractHook


class Forgetful(AbstractHook):
    '''Counts batches, without telling anybody but the numbers of the epoch.'''

    count = 0

    def requires(self):
        return ()

    def provides(self):
        return ["count"]

    def after_batch(self, stream_name, batch_data):
        self.count += 1

    def after_epoch(self, epoch_id, epoch_data):
        epoch_data["train"]["count"] = self.count


class Partial(AbstractHook):
    '''Counts batches and keeps the count, but goes on from half of it.'''

    count = 0

    def requires(self):
        return ()

    def provides(self):
        return ()

    def after_batch(self, stream_name, batch_data):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"] // 2
"""


@pytest.mark.long
def test_hooks_that_forget_are_named_or_found_by_what_they_write(
    folder: Path, servers: list[TrainingServer], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "forgetful.py").write_text(FORGETFUL)
    # Before the writers, so that its number is written; the other one in the place of TrainingTrace.
    hooks = ("hooks.0=forgetful.Forgetful", "hooks.9={forgetful.Partial: {name: my counter}}")
    is_equal, lines = verify(servers, capsys, *SHORT, NO_SCORES, *hooks, times=1)
    assert not is_equal
    assert lines == [
        "step 2, killed once: the end, checkpoint latest: hooks/WriteJSON/end differs",
        "step 2, killed once: the end, checkpoint latest: hooks/my counter/count differs",
        "step 2, killed once: metrics.jsonl: differs from line 2 on",
        "step 2, killed once: tensorboard: the scalar train/count differs",
        "1 of 1 trainings that were killed do not end as the undisturbed one",
    ]


def test_a_dataset_that_draws_without_a_seed_is_found_before_anything_is_killed(
    folder: Path, servers: list[TrainingServer], capsys: pytest.CaptureFixture[str]
) -> None:
    module = (folder / "digits.py").read_text()
    noisy = module.replace("torch.from_numpy(pixels).float()", "torch.from_numpy(pixels).float().add(NOISE)")
    assert noisy != module
    (folder / "digits.py").write_text(f"{noisy}\n\nNOISE = torch.Generator().seed() / 2**64\n")
    is_equal, lines = verify(servers, capsys, *SHORT, NO_SCORES, at=(1,))
    assert not is_equal
    assert all(line.startswith("undisturbed, twice: ") for line in lines)
    assert any(
        re.fullmatch(r"undisturbed, twice: the end, .*: weights/\S+ differs \(and \d+ more\)", line) for line in lines
    )


ORDERED = """
from emloop_mtl import AbstractHook

NAMES = {f"name {number}" for number in range(100)}


class FirstName(AbstractHook):
    '''Writes a number that the order of a set decides, which is another one in every process.'''

    def requires(self):
        return ()

    def provides(self):
        return ["first"]

    def after_epoch(self, epoch_id, epoch_data):
        epoch_data["train"]["first"] = int(next(iter(NAMES)).split()[1])
"""


@pytest.mark.long
def test_the_processes_are_as_unlike_as_those_that_are_started_one_by_one(
    folder: Path, servers: list[TrainingServer], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "ordered.py").write_text(ORDERED)
    is_equal, lines = verify(servers, capsys, *SHORT, NO_SCORES, "hooks.0=ordered.FirstName", at=(1,))
    # One of a hundred pairs of orders begins alike; then the kills end alike as well.
    assert is_equal or "undisturbed, twice: metrics.jsonl: differs from line 1 on" in lines


@pytest.mark.long
def test_a_training_that_fails_is_a_mistake_in_one_line(
    folder: Path, servers: list[TrainingServer], capsys: pytest.CaptureFixture[str]
) -> None:
    from emloop_mtl.errors import ConfigError

    with pytest.raises(
        ConfigError, match="^the training fails without a kill: command line: dataset.batch_size=0: .* less than 1"
    ):
        verify(servers, capsys, *SHORT, "dataset.batch_size=0")
    with pytest.raises(ConfigError, match="^--at 7: the training has 6 steps only$"):
        verify(servers, capsys, *SHORT, NO_SCORES, at=(3, 7))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--at", "0"], "'0' is no step; allowed are numbers from 1 on, and 'all'"),
        (["--at", "1" * 5000], f"'{'1' * 50}' is no step"),
        (["--at", "1,x"], "'x' is no step"),
        (["--at", "²"], "'²' is no step"),
        (["--at", "all", "--times", "0"], "0 is not in the range x>=1"),
        ([], "Missing option '--at'"),
        (["--at", "1", "dataset.batch_sise=3"], "unknown argument 'batch_sise'"),
        (["--at", "1", "--keep", "."], "--keep .: is not empty"),
        (["--at", "1", "--keep", "config.yaml"], "--keep config.yaml: "),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(
    folder: Path, command: Command, words: list[str], says: str
) -> None:
    done = command("verify-resume", "config.yaml", *words)
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("first", "second", "places"),
    [
        ({"a": [torch.tensor([1.0, 2.0]), 3]}, {"a": [torch.tensor([1.0, 2.0]), 3]}, []),
        ({"a": [torch.tensor([1.0, 2.0]), 3]}, {"a": [torch.tensor([1.0, 2.0 + 2**-22]), 3]}, ["a/0"]),
        (torch.tensor([float("nan"), 0.0]), torch.tensor([float("nan"), 0.0]), []),
        ({"a": torch.tensor(0.0)}, {"a": torch.tensor(-0.0)}, ["a"]),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(2, dtype=torch.int32)}, ["a"]),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(1, 2)}, ["a"]),
        ({"a": torch.zeros(0)}, {"a": torch.zeros(0)}, []),
        ({"a": torch.zeros(4)[::2], "b": torch.tensor(True)}, {"a": torch.zeros(2), "b": torch.tensor(False)}, ["b"]),
        ({"a": 1, "b": float("nan")}, {"a": True, "b": float("nan")}, ["a"]),
        ({"a": 0.0, "b": None}, {"a": -0.0}, ["a", "b"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a"]),
        ({"a": (1, {"b": "x"})}, {"a": (1, {"b": "y"})}, ["a/1/b"]),
    ],
)
def test_differences_are_found_bit_for_bit(first: object, second: object, places: list[str]) -> None:
    assert ["/".join(place) for place in differences(first, second)] == places


def test_every_file_and_checkpoint_is_compared(tmp_path: Path) -> None:
    for name in ("one", "other"):
        run = tmp_path / name
        (run / "deep").mkdir(parents=True)
        (run / "config.yaml").write_text("hooks: [TrainingTrace, {StopAfter: {name: end}}, Count]\n")
        (run / "train.log").write_text(name)
        (run / "run.yaml").write_text(name)
        (run / "trace.yaml").write_text(f"train_begin: {name}\nend: finished\nsteps_done: {len(name)}\n")
        (run / "deep" / "rows.csv").write_text(f"a,b\n1,2\n{len(name)},3\n")
        hooks = {"TrainingTrace": {"train_begin": name, "resumed": []}, "end": {"seconds": float(len(name))}}
        state = {"hooks": {**hooks, "Count": {"seconds": float(len(name))}}, "random": {"torch": torch.zeros(2)}}
        weights = {"a": torch.zeros(1), "b": torch.full((2,), float(len(name))), "c": torch.full((1,), len(name))}
        save_checkpoint(run / "checkpoints", ["latest", f"only-{name}"], weights, state, Position())
    (tmp_path / "one" / "only").write_text("")
    assert differences_of_runs(tmp_path / "one", tmp_path / "other") == [
        "checkpoint latest: weights/b differs (and 1 more)",
        "checkpoint latest: hooks/Count/seconds differs",
        "checkpoint only-one: is there, but not in the undisturbed run",
        "checkpoint only-other: is missing",
        "deep/rows.csv: differs from line 3 on",
        "only: is there, but not in the undisturbed run",
        "trace.yaml: steps_done differs",
    ]


@pytest.mark.soak
def test_an_interrupted_command_ends_what_it_has_started(folder: Path) -> None:
    temporary = folder / "temporary"
    temporary.mkdir()
    line = [str(PROGRAM), "verify-resume", "config.yaml", "--at", "all", "hooks.StopAfter.epochs=10000"]
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
    pipe = subprocess.PIPE
    with subprocess.Popen(line, env=environment, stdout=pipe, stderr=pipe, text=True) as running:
        deadline = time.monotonic() + 120
        while not list(temporary.glob("*/*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=120)  # a process that lived on would keep stderr open
    assert running.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert list(temporary.glob("emloop*")) == []  # torch leaves an empty folder of its own


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("natural", [(), ("--natural",)], ids=["saved", "natural"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_resumes_exactly_at_every_step(program: Program, name: str, natural: tuple[str, ...]) -> None:
    config = ROOT / "examples" / name / "config.yaml"
    line = [str(PROGRAM), "verify-resume", str(config), "--at", "all", "-j", "2", *natural, "hooks.StopAfter.epochs=3"]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
