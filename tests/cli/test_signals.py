"""Signals and kills that reach real processes: what these save and say, and that the run can be gone on with."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.checkpoint import newest_checkpoint

from .conftest import ENVIRONMENT, PROGRAM, SHORT, Command
from .same_runs import what_differs
from .test_kills import CONFIGS, config

HERE = Path(__file__).parent

SLOW = """
import time
from pathlib import Path

import little
import torch
from emloop_mtl import AbstractHook, TaskLoader

class Slow(AbstractHook):
    def __init__(self, seconds, **kwargs):
        super().__init__(**kwargs)
        self.seconds = seconds

    def requires(self):
        return ()

    def provides(self):
        return ()

    def after_batch(self, stream_name, batch_data):
        open("reached", "w").close()
        time.sleep(self.seconds)

class Hold(AbstractHook):
    '''Writes down the weights under which the first batches after a training epoch are evaluated, then holds these up
    as long as there is a file "hold".'''

    def requires(self):
        return ()

    def provides(self):
        return ()

    def after_batch(self, stream_name, batch_data):
        if not self.main_loop.is_training and self.main_loop.position.step and Path("hold").exists():
            torch.save(self.main_loop.model.state_dict(), "held.part")
            Path("held.part").rename("held")
            while Path("hold").exists():
                time.sleep(0.01)

class Hanging(little.Augmented):
    '''Rows that do not come any more once there is a file "hang".'''

    def __getitem__(self, row):
        while Path("hang").exists():
            Path("hangs").touch()
            time.sleep(0.01)
        return super().__getitem__(row)

class HangingRows(little.Rows):
    def loaders(self):
        for loader in super().loaders():
            workers = 2 if loader.split == "train" else 0
            data = Hanging(loader.name, loader.split)
            yield TaskLoader(data, loader.tasks, split=loader.split, batch_size=4, num_workers=workers)
"""

PATIENCE = 120
"""Seconds that a process may take to get somewhere on a busy machine."""


class Processes:
    """Starts processes by a program that has imported everything, see ``forking.py``."""

    def __init__(self, folder: Path) -> None:
        pipe = subprocess.PIPE
        environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)}
        line = [sys.executable, str(HERE / "forking.py")]
        self._server = subprocess.Popen(line, env=environment, stdin=pipe, stdout=pipe, text=True)
        self._living: set[int] = set()
        self._tell(str(folder))

    def begun(self) -> None:
        """Wait until processes can be started."""
        self._ask({})

    def start(self, *words: str, said: Path = Path("said")) -> int:
        """Start the command in the working folder; return its number.

        :param said: the file for what it says
        """
        order = {"words": words, "folder": str(Path.cwd()), "said": str(said.resolve())}
        process = self._ask(order)
        self._living.add(process)
        return process

    def code(self, process: int) -> int:
        """Wait for a process and return its exit code; less than 0 is the signal that has ended it."""
        status = self._ask({"wait": process})
        self._living.discard(process)
        return os.waitstatus_to_exitcode(status)

    def is_alive(self, process: int) -> bool:
        return state_of(process) not in (None, "Z")

    def end_all(self) -> None:
        for process in list(self._living):
            with suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            self.code(process)

    def close(self) -> None:
        self._server.communicate()

    def _tell(self, text: str) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(f"{text}\n")
        self._server.stdin.flush()

    def _ask(self, order: dict[str, object]) -> int:
        self._tell(json.dumps(order))
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


def state_of(process: int) -> str | None:
    """Return the letter by which Linux tells the state of a process, None if there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def children_of(process: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "little.py").write_bytes((HERE / "little.py").read_bytes())
    (folder / "config.yaml").write_text(json.dumps(config({"class": "little.Columns"})))
    processes = Processes(folder)
    yield processes
    processes.close()


@pytest.fixture
def processes(server: Processes) -> Iterator[Processes]:
    yield server
    server.end_all()


@pytest.fixture
def slow_folder(folder: Path) -> Path:
    """Example 1 with a hook ``Slow`` that waits after every batch."""
    (folder / "slow.py").write_text(SLOW)
    (folder / "little.py").write_bytes((HERE / "little.py").read_bytes())
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("- ShowProgress", "- slow.Slow: {seconds: 0.05}"))
    return folder


@pytest.fixture
def worker_folder(slow_folder: Path) -> Path:
    """A training whose rows are read by two processes for each loader, until there is a file ``hang``."""
    data = json.loads(json.dumps(CONFIGS["augmented"]))
    data["dataset"] = {"class": "slow.HangingRows"}
    (slow_folder / "config.yaml").write_text(json.dumps(data))
    return slow_folder


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, said() if Path("said").exists() else "nothing was said"
        time.sleep(0.005)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def said() -> str:
    return Path("said").read_text()


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_the_run_can_be_gone_on_with(
    slow_folder: Path, command: Command, processes: Processes, number: signal.Signals, code: int
) -> None:
    assert command("train", "config.yaml", *SHORT, "hooks.Slow.seconds=0", "--output-dir", "whole").exit_code == 0
    process = processes.start("train", "config.yaml", *SHORT, "--output-dir", "run")
    wait_until(lambda: lines(slow_folder / "run" / "metrics.jsonl") >= 2)  # epoch 2 is being trained
    os.kill(process, number)
    assert processes.code(process) == code
    (latest,) = (slow_folder / "run" / "checkpoints").glob("latest-*")
    assert f"saved in run/checkpoints/{latest.name}; go on with:  emloop-mtl resume run" in said()
    assert "Traceback" not in said()
    assert lines(slow_folder / "run" / "metrics.jsonl") == 2
    done = command("resume", "run")
    assert done.exit_code == 0, done.stderr
    assert what_differs(slow_folder / "run", slow_folder / "whole") == []


def train_averaged(command: Command, run: str, average: dict[str, Any] | None, epochs: int, **main_loop: Any) -> None:
    """Train a config that is left as ``config.yaml``, with averaged weights or without."""
    hooks = [{"Evaluate": {"streams": ["valid", "test"]}}, "ScoreTasks", {"ComputeStats": {"variables": ["loss"]}}]
    hooks += [] if average is None else [{"AverageWeights": {"decay": 0.8, **average}}]
    hooks += ["WriteJSON", "slow.Hold", "SaveLatest", {"StopAfter": {"epochs": epochs}}]
    data = config({"class": "little.Columns"}, hooks=hooks, **main_loop)
    Path("config.yaml").write_text(json.dumps(data))
    done = command("train", "config.yaml", "--output-dir", run)
    assert done.exit_code == 0, done.stderr


def assert_equal(found: Mapping[str, Any], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []


@pytest.mark.parametrize(
    ("save", "asynchronous_saving"),
    [(True, False), *(pytest.param(*each, marks=pytest.mark.long) for each in [(False, False), (True, True)])],
)
def test_a_signal_in_an_evaluation_with_averaged_weights_saves_the_training(
    save: bool, asynchronous_saving: bool, slow_folder: Path, command: Command, processes: Processes
) -> None:
    train_averaged(command, "weights", None, 1)
    train_averaged(command, "averages", {}, 1)
    train_averaged(command, "whole", {"save": save}, 2, asynchronous_saving=asynchronous_saving)
    trained, averaged = (
        newest_checkpoint(slow_folder / each / "checkpoints").weights for each in ("weights", "averages")
    )
    assert not torch.equal(trained["trunk.0.weight"], averaged["trunk.0.weight"])

    Path("hold").touch()
    process = processes.start("train", "config.yaml", "--output-dir", "run")
    wait_until(Path("held").exists)
    os.kill(process, signal.SIGTERM)
    Path("hold").unlink()
    assert processes.code(process) == 143, said()
    assert "go on with:  emloop-mtl resume run" in said()
    assert_equal(torch.load("held"), averaged)

    saved = newest_checkpoint(slow_folder / "run" / "checkpoints")
    assert (saved.position.epoch, saved.state["loop"]["epoch"]["streams_done"]) == (0, 1)
    assert_equal(saved.weights, averaged if save else trained)
    kept = saved.state["hooks"]["AverageWeights"]["weights"]
    expected = trained if save else averaged
    assert_equal(kept, {name: expected[name] for name in kept})
    assert all("running" in name or "batches" in name for name in expected.keys() - kept.keys())

    done = command("resume", "run")
    assert done.exit_code == 0, done.stderr
    assert what_differs(slow_folder / "run", slow_folder / "whole") == []


def test_a_second_sigint_ends_at_once(slow_folder: Path, processes: Processes) -> None:
    words = ("train", "config.yaml", *SHORT, f"hooks.Slow.seconds={2 * PATIENCE}", "--output-dir", "run")
    process = processes.start(*words)
    wait_until((slow_folder / "reached").exists)
    os.kill(process, signal.SIGINT)
    wait_until(lambda: "SIGINT" in (slow_folder / "run" / "train.log").read_text())
    os.kill(process, signal.SIGINT)
    assert processes.code(process) == 130
    assert said().splitlines()[-1] == "interrupted"
    assert "Traceback" not in said()


@pytest.mark.parametrize(
    ("number", "code", "text"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_before_the_first_batch_leaves_nothing(
    folder: Path, processes: Processes, number: signal.Signals, code: int, text: str
) -> None:
    module = (folder / "digits.py").read_text()
    # One long sleep would hold up a signal that comes just before it begins.
    wait = f"open('reached', 'w').close(); import time; [time.sleep(0.1) for _ in range({20 * PATIENCE})] #"
    (folder / "digits.py").write_text(module.replace("from sklearn", wait))
    process = processes.start("train", "config.yaml")
    wait_until((folder / "reached").exists)
    assert list((folder / "log").iterdir())
    os.kill(process, number)
    assert processes.code(process) == code
    assert said() == f"{text}\n"
    assert not (folder / "log").exists()


@pytest.mark.long
def test_ctrl_c_reaches_processes_that_read_as_well(
    worker_folder: Path, command: Command, processes: Processes
) -> None:
    process = processes.start("train", "config.yaml", "--output-dir", "run")
    wait_until(lambda: lines(worker_folder / "run" / "metrics.jsonl") >= 1)
    os.killpg(process, signal.SIGINT)
    assert processes.code(process) == 130
    assert "go on with:  emloop-mtl resume run" in said()
    assert "Traceback" not in said()
    assert command("resume", "run").exit_code == 0
    assert command("train", "config.yaml", "--output-dir", "whole").exit_code == 0
    assert what_differs(worker_folder / "run", worker_folder / "whole") == []


def hanging(processes: Processes) -> tuple[int, list[int]]:
    """Return a training that waits for data, and the processes that read."""
    process = processes.start("train", "config.yaml", "--output-dir", "run")
    wait_until(lambda: lines(Path("run/metrics.jsonl")) >= 1)
    Path("hang").touch()
    wait_until(Path("hangs").exists)
    return process, children_of(process)


@pytest.mark.long
def test_a_process_that_reads_and_is_killed_ends_the_run_with_a_line(
    worker_folder: Path, command: Command, processes: Processes
) -> None:
    process, workers = hanging(processes)
    os.kill(workers[0], signal.SIGKILL)
    assert processes.code(process) == 1
    (text,) = [line for line in said().splitlines() if "error:" in line]
    assert "loader 'one'" in text or "loader 'two'" in text
    assert "a process that reads has ended: killed, as the system does when memory runs out" in text
    assert not [worker for worker in workers if processes.is_alive(worker)]
    Path("hang").unlink()
    assert command("resume", "run").exit_code == 0
    assert command("train", "config.yaml", "--output-dir", "whole").exit_code == 0
    assert what_differs(worker_folder / "run", worker_folder / "whole") == []


@pytest.mark.long
def test_processes_that_read_end_with_a_run_that_is_killed_and_do_not_hold_it(
    worker_folder: Path, command: Command, processes: Processes
) -> None:
    process, workers = hanging(processes)
    assert workers
    os.kill(process, signal.SIGKILL)
    assert processes.code(process) == -signal.SIGKILL
    assert [worker for worker in workers if processes.is_alive(worker)]
    Path("hang").unlink()
    assert command("resume", "run").exit_code == 0, "the folder is held by processes that read"
    wait_until(lambda: not [worker for worker in workers if processes.is_alive(worker)])


@pytest.mark.long
def test_a_terminal_that_is_closed_is_no_reason_to_lose_anything(slow_folder: Path, command: Command) -> None:
    (slow_folder / "config.yaml").write_text((slow_folder / "config.yaml").read_text() + "\n")
    words = [str(PROGRAM), "train", "config.yaml", *SHORT, "hooks.0=ShowProgress", "dataset.batch_size=1"]
    process, terminal = pty.fork()
    if process == 0:
        os.execve(words[0], [*words, "--output-dir", "run"], {**ENVIRONMENT, "TERM": "xterm"})
    try:
        deadline = time.monotonic() + PATIENCE
        while lines(slow_folder / "run" / "metrics.jsonl") < 1 and time.monotonic() < deadline:
            os.read(terminal, 4096)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    log = (slow_folder / "run" / "train.log").read_text()
    assert "go on with:  emloop-mtl resume run" in log
    assert "Traceback" not in log


@pytest.mark.long
def test_a_run_whose_words_nobody_reads_goes_on(slow_folder: Path) -> None:
    words: Sequence[str] = (str(PROGRAM), "train", "config.yaml", *SHORT, "hooks.0=ShowProgress", "--output-dir", "run")
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=pipe, stderr=subprocess.STDOUT) as running:
        assert running.stdout is not None
        running.stdout.close()
        code = running.wait(PATIENCE)
    log = (slow_folder / "run" / "train.log").read_text()
    assert (code, "Traceback" in log) == (0, False), log[-2000:]
    assert lines(slow_folder / "run" / "metrics.jsonl") == 3
    assert json.loads((slow_folder / "run" / "scores.json").read_text())["scores"].keys() == {"valid", "test"}
