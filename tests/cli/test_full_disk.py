"""Disks that are really full or really read-only while a training saves, and before it begins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import ENVIRONMENT

CONFIG = """
seed: 1
dataset: {class: small.Small}
model:
  class: MultiTaskModel
  device: cpu
  optimizer: {class: adam}
  modules: {head: {class: torch.nn.Linear, in_features: 100, out_features: 100}}
  tasks:
    t: {flow: [{name: out, module: head, inputs: x}], label: y, loss: mse_loss}
main_loop: {asynchronous_saving: false}
hooks:
  - small.Remember
  - ComputeStats: {variables: [loss]}
  - WriteJSON
  - SaveLatest: {steps: 2}
  - small.Spoil
  - StopAfter: {epochs: 3}
"""

MODULE = '''
import logging
import os
import resource
import subprocess

import torch
from emloop_mtl import AbstractHook, ColumnDataset, MultiTaskDataset, TaskLoader


class Small(MultiTaskDataset):
    """5 steps in an epoch."""

    def __init__(self, width=100, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def loaders(self):
        torch.manual_seed(0)
        rows = ColumnDataset("rows", {"x": torch.randn(20, self.width)}, {"y": torch.randn(20, self.width)})
        return [TaskLoader(rows, {"t": "y"}, "train", name="rows", batch_size=4)]


class Remember(AbstractHook):
    """Keep 150 kB that are no tensor, so that nobody knows of them before they are written."""

    def requires(self):
        return ()

    def state_dict(self):
        return {"text": "x" * 150_000}

    def load_state_dict(self, state):
        pass


class Spoil(AbstractHook):
    """Run what SPOIL says, once, in step 7."""

    def requires(self):
        return ()

    def after_batch(self, stream_name, batch_data):
        if self.main_loop.is_training and self.main_loop.position.step == 7:
            how = os.environ.pop("SPOIL", None)
            if how is not None:  # not before the checkpoint of step 6 is written, be it in a thread
                self.main_loop.when_saved(lambda: exec(how, globals()))
'''

SCRIPT = """
import contextlib, json, os, resource, shutil, subprocess, sys
from pathlib import Path
from click.testing import CliRunner
from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint
from emloop_mtl.cli import main

os.chdir(sys.argv[1])
sys.path.insert(0, os.getcwd())


def command(*words, spoil=None):
    if spoil is not None:
        os.environ["SPOIL"] = spoil
    done = CliRunner().invoke(main, words, prog_name="emloop-mtl")
    told = [line for line in done.stderr.splitlines() if "rror" in line or "Traceback" in line]
    return {"code": done.exit_code, "errors": told, "last": done.stderr.splitlines()[-1], "all": done.stderr}


def state_of(run):
    folder = Path(run, "checkpoints")
    found = [load_checkpoint(path) for path in list_checkpoints(folder)]
    weights = {name: tensor.tolist() for name, tensor in found[0].weights.items()} if found else None
    records = Path(run, "metrics.jsonl").read_text()
    return {"names": os.listdir(folder), "steps": [each.position.step for each in found]}, (weights, records)


def report(**what):
    print(json.dumps(what))
"""

DISTURBED = """
done = command("train", "config.yaml", "--output-dir", "whole")
assert done["code"] == 0, done["all"]
_, whole = state_of("whole")
shutil.rmtree("whole")
for asynchronous in ("false", "true"):
    for name, (spoil, mend) in SCENARIOS.items():
        words = ("config.yaml", "--output-dir", "run", f"main_loop.asynchronous_saving={asynchronous}")
        failed = command("train", *words, spoil=spoil)
        exec(mend)
        then, _ = state_of("run")
        resumed = command("resume", "run")
        after, again = state_of("run")
        report(name=name, asynchronous=asynchronous, failed=failed, then=then, resumed=resumed, equal=again == whole)
        shutil.rmtree("run")
"""

FILL = """
def free():
    found = os.statvfs(".")
    return found.f_bavail * found.f_frsize
try:
    with open("filler", "wb") as file:
        while free() > {left}:
            file.write(bytes(4096))
            file.flush()
except OSError:
    pass
"""

WIDE = """
wide = [f"{key}=300" for key in ("dataset.width", "model.modules.head.in_features", "model.modules.head.out_features")]
before = sorted(os.listdir())
report(done=command("train", "config.yaml", *wide, "--output-dir", "new/run"), left=sorted(os.listdir()) == before)
"""

LONG_MESSAGES = """
for _ in range(3):
    logging.getLogger("emloop_mtl").warning("long " * 2000)
"""

DISK_SCENARIOS = {
    "brim": (FILL.format(left=0) + LONG_MESSAGES, "os.unlink('filler')"),
    # the tensors and what a checkpoint takes beside them have room, the text that a hook remembers has none
    "little": (FILL.format(left=235_000), "os.unlink('filler')"),
    "read-only": (
        "for words in ('--bind run/checkpoints run/checkpoints', '-o remount,bind,ro run/checkpoints'):\n"
        "    subprocess.run(['mount', *words.split()], check=True)",
        "subprocess.run(['umount', 'run/checkpoints'], check=True)",
    ),
}

LIMIT_SCENARIOS = {
    "limit": (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))",
    ),
    "file": (
        "os.rename('run/checkpoints', 'run/moved'); open('run/checkpoints', 'w').close()",
        "os.unlink('run/checkpoints'); os.rename('run/moved', 'run/checkpoints')",
    ),
}
"""What needs nobody's permission: no file may be larger than that, and a file stands where the folder should be."""

ERRORS = {
    "brim": "it takes 0.2 MB, but the disk has 0.0 MB free; make room or set another output_dir",
    "little": "No space left on device",
    "read-only": "Read-only file system",
    "limit": "File too large",
    "file": "File exists",
}

NAMESPACES = (["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--mount"])
"""In which a file system can be mounted that only the process sees: as an ordinary user, and as root."""

TINY_DISK = 'mount -t tmpfs -o size=1m tmpfs "$0"'


def mounting() -> list[str] | None:
    """Return what a command must begin with to be allowed to mount, None where nobody is."""
    for namespace in NAMESPACES:
        line = [*namespace, "sh", "-c", TINY_DISK, str(Path(__file__).parent)]
        if subprocess.run(line, capture_output=True, check=False).returncode == 0:
            return namespace
    return None


def run_script(script: str, folder: Path, mount: str | None = None) -> list[dict[str, Any]]:
    """Run a script in a process of its own in a folder that holds a config, and return what it reports.

    :param mount: what makes the folder ``$0`` a limited place beforehand
    """
    source = folder.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "config.yaml").write_text(CONFIG)
    (source / "small.py").write_text(MODULE)
    line = [sys.executable, "-W", "error", "-c", SCRIPT + script, str(folder)]
    fill = f'cp "{source}"/* "$0" && exec "$@"'
    if mount is None:
        line = ["sh", "-c", fill, str(folder), *line]
    else:
        line = [*(mounting() or ()), "sh", "-c", f"{mount} && {fill}", str(folder), *line]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(report) for report in done.stdout.splitlines()]


@pytest.mark.parametrize("place", ["disk", pytest.param("elsewhere", marks=pytest.mark.long)])
def test_a_save_that_fails_leaves_the_one_before_to_go_on_from(place: str, tmp_path: Path) -> None:
    """In the step and in a thread: one line, code 1, the older checkpoint whole, the same end once there is room."""
    scenarios = DISK_SCENARIOS if place == "disk" else LIMIT_SCENARIOS
    if place == "disk" and mounting() is None:
        pytest.skip("nobody may mount a disk here: a limit on the size of files stands in for a full one")
    folder = tmp_path / "disk"
    folder.mkdir()
    script = f"SCENARIOS = {scenarios!r}\n{DISTURBED}"
    if place == "disk":
        *reports, wide = run_script(script + WIDE, folder, TINY_DISK)
        # 361 kB of weights have room, but not the moments of Adam as well
        assert wide["done"]["code"] == 2
        line = r"no room in 'new/run': a checkpoint will take about 1\.1 MB, but the disk has 1\.0 MB free; .*"
        assert re.fullmatch(line, wide["done"]["all"].strip()), wide
        assert wide["left"]
    else:
        reports = run_script(script, folder)
    assert len(reports) == 2 * len(scenarios)
    for report in reports:
        failed = report["failed"]
        line = f"error: cannot save a checkpoint in 'run/checkpoints': {ERRORS[report['name']]}"
        assert failed["errors"] == [line], report
        assert (failed["code"], failed["last"]) == (1, line)
        log_lines = failed["all"].count(f"cannot write '{folder}/run/train.log': No space left on device")
        assert log_lines == (report["name"] == "brim"), report
        assert report["then"]["steps"] == [6], report
        assert len(report["then"]["names"]) == 1, report  # nothing half-written beside it
        assert report["resumed"]["code"] == 0, report
        assert report["equal"], report
