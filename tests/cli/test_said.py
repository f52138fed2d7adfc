"""What the table and the log tell of processes that have failed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from emloop_mtl.cli.said import LONGEST, why_failed


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (1, "12:00:00 begun\nerror: RuntimeError: seven (-v shows the traceback)\n\n", "RuntimeError: seven"),
        (2, "config.yaml:3:1: missing 'class'\n", "config.yaml:3:1: missing 'class'"),
        (1, "\n \n", "it said nothing"),
        (1, None, "it said nothing"),
        (-signal.SIGKILL, "all is well\n", "killed by SIGKILL, as the system does when memory runs out"),
        (-signal.SIGSEGV, "all is well\n", "killed by SIGSEGV"),
        (-(signal.SIGRTMIN + 1), None, f"killed by signal {signal.SIGRTMIN + 1}"),
        (128 + signal.SIGTERM, "saved in run; go on with:  emloop-mtl resume run\n", "interrupted by SIGTERM"),
    ],
)
def test_a_reason_is_one_line(code: int, said: str | None, told: str, tmp_path: Path) -> None:
    log = tmp_path / "said"
    if said is not None:
        log.write_text(said)
    assert why_failed(code, log) == told


def test_an_endless_reason_is_shortened(tmp_path: Path) -> None:
    log = tmp_path / "said"
    log.write_bytes(b"\xff" * 10_000)
    assert len(why_failed(1, log)) == LONGEST
