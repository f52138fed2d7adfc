"""Saves that fail or are broken off leave what was there before."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl.checkpoint import save_checkpoint
from emloop_mtl.errors import CheckpointError

from .checkpoints import START, names_in, save, value_of


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot save a checkpoint in '.*file': File exists"):
        save(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"cannot save a checkpoint in '.*checkpoints': (Not a|File)"):
        save(tmp_path / "file" / "checkpoints")


OPERATIONS: dict[str, Any] = {"fsync": os, "link": os, "mkdir": Path, "rename": Path, "replace": Path}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failure_at_any_moment_leaves_what_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Let each call in turn be the one that fails: the old checkpoint stays, and no temporary folder does."""
    original = getattr(OPERATIONS[operation], operation)
    countdown = 0

    def fail_once(*arguments: Any, **options: Any) -> Any:
        nonlocal countdown
        countdown -= 1
        if countdown == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments, **options)

    monkeypatch.setattr(OPERATIONS[operation], operation, fail_once)
    tags = ("latest", "best")
    failures = 0
    for attempt in itertools.count(1):
        folder = tmp_path / str(attempt)
        save(folder, 1.0, tags)
        countdown = attempt
        try:
            save(folder, 2.0, tags)
        except CheckpointError as error:
            failures += 1
            message, expected = str(error), 1
        else:
            message, expected = "", 2
        was_reached, countdown = countdown <= 0, 0
        assert message in ("", f"cannot save a checkpoint in '{folder}': No space left on device")
        assert {f"{tag}-{expected:08d}" for tag in tags} <= set(names_in(folder))
        assert not list(folder.glob(".tmp*"))
        assert {value_of(folder, tag) for tag in tags} <= {1.0, 2.0}
        save(folder, 3.0, tags)
        assert {value_of(folder, tag) for tag in tags} == {3.0}
        assert len(names_in(folder)) == 2
        if not was_reached:
            break
    # links have a substitute; of the renamings the last two are those of old ones, whose failure is logged only
    assert failures == {"fsync": 7, "link": 0, "mkdir": 2, "rename": 2, "replace": 2}[operation]


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1.0)
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    big = {"a": torch.empty(5_000_000), "b": torch.empty(5_000_000)}
    save_checkpoint(tmp_path, ["other"], {"a": big["a"]}, {"a": big["b"]}, START)  # 40 MB
    with pytest.raises(CheckpointError, match=r"it takes 60\.1 MB, but the disk has 50\.0 MB free; .*output_dir"):
        save_checkpoint(tmp_path, ["latest"], big, {"a": big["a"].clone()}, START)
    assert value_of(tmp_path, "latest") == 1.0


def test_an_interrupt_while_saving_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    save(tmp_path, 1.0)
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2.0)
    assert names_in(tmp_path) == ["latest-00000001"]


def run(script: str, folder: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), str(folder)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_limited_file_size_fails_in_either_file(tmp_path: Path) -> None:
    """A disk that is really full in the middle of a file, as far as a limit can imitate it."""
    run(
        """
        import os, resource, sys, torch
        from emloop_mtl.checkpoint import newest_checkpoint, save_checkpoint
        from emloop_mtl.errors import CheckpointError
        from emloop_mtl.types import Position

        folder = sys.argv[1]
        save_checkpoint(folder, ["latest"], {"a": torch.ones(2)}, {"a": torch.ones(2)}, Position())
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for weights, state in [(500_000, 2), (2, 500_000), (2, 24_900)]:
            try:
                save_checkpoint(folder, ["latest"], {"a": torch.ones(weights)}, {"a": torch.ones(state)}, Position())
            except CheckpointError as error:
                assert str(error) == f"cannot save a checkpoint in '{folder}': File too large", error
            else:
                raise AssertionError("was saved")
            assert os.listdir(folder) == ["latest-00000001"]
            assert newest_checkpoint(folder).weights["a"].tolist() == [1.0, 1.0]
        """,
        tmp_path,
    )


@pytest.mark.long
def test_a_process_killed_while_saving_leaves_a_valid_checkpoint(tmp_path: Path) -> None:
    """One process imports torch and forks those that are killed, so that five kills cost one start."""
    run(
        """
        import os, pathlib, random, signal, sys, time, torch
        from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint, save_checkpoint
        from emloop_mtl.types import Position

        folder = pathlib.Path(sys.argv[1])
        torch.set_num_threads(1)

        def save(step):
            weights = {"a": torch.full((20_000,), float(step)), "b": torch.full((10,), step)}
            save_checkpoint(folder, ["latest", "best"], weights, {"step": step}, Position(step=step))

        def step_of(tag):
            found = newest_checkpoint(folder, tag)
            step = found.state["step"]
            assert found.position.step == step
            assert torch.equal(found.weights["a"], torch.full((20_000,), float(step)))
            assert torch.equal(found.weights["b"], torch.full((10,), step))
            # being killed is no reason to fall back
            assert found.path == list_checkpoints(folder, tag)[0]
            return step

        save(1)
        moment, hits, kills = random.Random(7), 0, 0
        while kills < 5 or not hits:  # until one was hit in the middle, so that the test means something
            before = step_of("latest")
            reading, writing = os.pipe()
            parent, child = os.getpid(), os.fork()
            if not child:
                step = before
                while os.getppid() == parent:  # none is left over where an assertion fails
                    step += 1
                    save(step)
                    os.write(writing, b".")
                os._exit(1)
            os.close(writing)
            assert os.read(reading, 1) == b"."
            time.sleep(moment.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
            os.close(reading)
            kills += 1
            hits += bool(list(folder.glob(".tmp*")))
            assert step_of("latest") > before
            assert step_of("latest") - step_of("best") in (0, 1)
            assert kills < 50
        final = step_of("latest") + 1
        save(final)
        assert len(os.listdir(folder)) == 2, os.listdir(folder)
        """,
        tmp_path,
    )
