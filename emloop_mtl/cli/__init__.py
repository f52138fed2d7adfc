"""The command ``emloop-mtl``; its subcommands stand in one file each.

Nothing heavy is imported before a command runs, so that every help text comes at once.
"""

from __future__ import annotations

import os

import click

from .check import check
from .compare import compare
from .dataset import dataset
from .eval import evaluate
from .gridsearch import gridsearch
from .hooks import hooks
from .ls import ls
from .new import new
from .plot import plot
from .predict import predict
from .program import Program
from .prune import prune
from .resume import resume
from .schema import schema
from .search import search
from .train import train
from .verify import verify
from .verify_resume import verify_resume

__all__ = ["main"]

SPIN_COUNT = "1000"
"""How long torch's threads on the CPU wait for work before they let others run, unless the environment says so.

It is read when torch is imported. By default they wait so long that two trainings of small models on one machine slow
each other down by a factor of 80; at 1000 it is 4, and a training that is alone loses nothing measurable.
"""


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="emloop_mtl", prog_name="emloop-mtl")
def main() -> None:
    """Train one PyTorch model on many tasks, as a single YAML file says."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT


for command in (
    train,
    resume,
    evaluate,
    predict,
    check,
    verify,
    verify_resume,
    ls,
    compare,
    plot,
    prune,
    gridsearch,
    search,
    dataset,
    hooks,
    schema,
    new,
):
    main.add_command(command)
