"""Other libraries on the same workloads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from .agreement import DifferentWorkError
from .jobs import Run, in_turns, peer_job, train_job
from .peers import PEERS, WORKLOADS
from .rows import Row, ratio_row
from .sizes import Sizes
from .workloads import BATCHES
from .workloads import WORKLOADS as ALL_WORKLOADS

MOST_ROUNDS = 1
"""They are many, and nothing is promised about them."""

VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


def measure_peers(python: str, run: Run, sizes: Sizes) -> Iterator[Row]:
    """Yield a line per workload and library that is installed, and one per library that is not.

    :param python: the interpreter that has the libraries
    :raise DifferentWorkError: if one has ended with other weights than the loop by hand
    """
    versions = installed(python)
    for name in (name for name, each in versions.items() if each is None):
        yield Row(f"{name}: not installed", None)
    for workload in ALL_WORKLOADS.values():
        peers = [peer for peer, pip_name in PEERS.items() if versions[pip_name] and workload.name in WORKLOADS[peer]]
        if not peers:
            continue
        steps = sizes.steps(workload.steps, multiple=BATCHES)
        jobs = {"by hand": train_job("by hand", workload.name, "sgd", steps, sizes.epochs)}
        jobs |= {peer: peer_job(python, peer, workload.name, steps, sizes.epochs) for peer in peers}
        found = in_turns(run, jobs, min(sizes.rounds, MOST_ROUNDS))
        base = found["by hand"]
        for peer in peers:
            # Shuffled rows come in an order of each library's own.
            if workload.feeding == "ready" and {each["weights"] for each in [*base, *found[peer]]} != {
                base[0]["weights"]
            }:
                raise DifferentWorkError(f"{peer} on workload {workload.name}: the final weights differ")
            times = [each["microseconds"] for each in base], [each["microseconds"] for each in found[peer]]
            title = f"{PEERS[peer]} {versions[PEERS[peer]]}, {workload.name}, sgd"
            yield ratio_row(title, *times, ("by hand", peer), None)


def installed(python: str) -> dict[str, str | None]:
    """Return the versions of the libraries that an interpreter has, None for one that it lacks."""
    done = subprocess.run([python, "-c", VERSIONS, *PEERS.values()], check=True, capture_output=True, text=True)
    versions: dict[str, str | None] = json.loads(done.stdout)
    return versions
