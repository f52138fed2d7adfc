"""Measures what the engine costs beside a loop written by hand: ``make bench``, or ``make bench-quick``.

Both train the same networks from the same weights on the same batches with the same optimizer; ``workloads.py`` says
which. By hand that is the plainest loop in PyTorch. The engine gets tasks with a flow and the hooks that a training
usually has: Evaluate, ScoreTasks, ComputeStats, LogVariables, ShowProgress, WriteJSON, WriteTensorBoard, SaveLatest and
StopAfter. What it does beyond the loop is part of its time: it checks labels, times every batch, and can be interrupted
and saved after it.

Every measurement is a process of its own with one thread, and its fastest epoch counts: disturbances only ever add
time. The kinds take turns and their order alternates, so that whatever else the machine does meets all alike. A round
gives one ratio; the median of the rounds is the result. The time of a step is that of all steps of an epoch, from
before the first batch is fetched to after the last hook has seen the last batch, divided by their number; evaluation,
writing and saving come after that and are part of the whole epoch.

Before that, short trainings show that the work is the same: weights agree to the bit with the loop by hand or with its
fused optimizer, or to rounding where the engine computes several heads as one; losses and scores agree too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from . import jobs
from .agreement import DifferentWorkError
from .clock import CLOCK
from .rows import table, with_table
from .sizes import QUICK, Sizes
from .suite import Part, parts

RESULTS = Path(__file__).parent / "results.json"
PAGE = Path(__file__).parents[1] / "docs/performance.md"


def environment() -> dict[str, Any]:
    """Return what the numbers depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    packages = {name: version(name) for name in ("torch", "numpy", "emloop_mtl")}
    return {"processor": processor, "threads": 1, "python": platform.python_version(), **packages}


def report(measures: Mapping[str, Part], names: Iterable[str], run: jobs.Run, sizes: Sizes) -> dict[str, Any]:
    """Measure, print each line when it is there, and the table at the end."""
    began, rows = monotonic(), []
    for name in names:
        for row in measures[name](run, sizes):
            rows.append(row.as_data())
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(rows)}\n\n{monotonic() - began:.0f} seconds")
    settings = sizes._asdict() | {"clock": os.environ.get(CLOCK, "wall")}
    return {"environment": environment(), "settings": settings, "rows": rows}


def quickly(job: jobs.Job) -> jobs.Result:
    """Do a job in this process, but some in their own, so that this is tried too."""
    return jobs.in_process(job) if job["job"] in ("score", "peer") else jobs.here(job)


def main(given: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    :param given: the arguments, if they are not those of the process
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="check that the work is the same; times mean nothing")
    parser.add_argument("--markdown", action="store_true", help="print the table of results.json")
    parser.add_argument("--rounds", type=int, default=Sizes().rounds, help="processes of each kind (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=[*parts()], metavar="PART", help=f"of {', '.join(parts())}")
    parser.add_argument(
        "--peers-python", default=sys.executable, metavar="PATH", help="the interpreter that has others"
    )
    parser.add_argument("--cpu", action="store_true", help="count the time on the processor, on a busy machine")
    arguments = parser.parse_args(given)
    if arguments.cpu:
        os.environ[CLOCK] = "cpu"  # for the processes that measure
    if arguments.markdown:
        print(table(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]))
        return
    run, sizes = (quickly, QUICK) if arguments.quick else (jobs.in_process, Sizes(rounds=arguments.rounds))
    try:
        measures = parts(arguments.peers_python)
        found = report(measures, arguments.only or measures, run, sizes)
    except DifferentWorkError as error:
        sys.exit(f"not the same work: {error}")
    if not arguments.quick and not arguments.only:
        RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(found["rows"])), encoding="utf-8")


if __name__ == "__main__":
    main()
