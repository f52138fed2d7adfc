"""What holds for every test: one thread, no network, no window, repeatable examples."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Read when torch, wandb and matplotlib are first imported, so it must be set before any test file is.
# One thread: sums come out alike on every number of cores, and the tests are faster so.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["MPLBACKEND"] = "Agg"

# A shell that runs the tests in the background lets them ignore SIGINT, and so would every process they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)

# No deadline, since the first use of torch takes longer than any single example; derandomized, so that a failure
# belongs to the change that caused it.
settings.register_profile("emloop_mtl", deadline=None, derandomize=True)
settings.load_profile("emloop_mtl")
