"""The guide for authors of hooks: what its page alone cannot show by running."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl import MainLoop
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.hooks import ComputeStats, StopAfter
from emloop_mtl.testing import FakeDataset, FakeModel, SaveAndFail

PAGE = (Path(__file__).parents[2] / "docs/custom_hooks.md").read_text(encoding="utf-8")
FILES = {match[1]: match[0] for match in re.finditer(r"(?<=```python\n)# (\w+\.py)\n.*?(?=```)", PAGE, re.DOTALL)}
MOMENTS = 9
"""Two batches and the end of an epoch, three times."""


def defined_in(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Any]:
    """Return what a file of the page defines; those that it imports lie beside it and are forgotten afterwards."""
    for file, text in FILES.items():
        (folder / file).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    defined: dict[str, Any] = {"__name__": name}
    exec(compile(FILES[name], name, "exec"), defined)  # noqa: S102 - the manual is ours
    for file in FILES:
        sys.modules.pop(file.removesuffix(".py"), None)
    return defined


def test_the_test_of_the_page_passes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    defined = defined_in("test_alarms.py", monkeypatch, tmp_path)
    defined["test_a_number_that_gets_worse_is_told_of"](caplog)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def lines_of(kind: Any, folder: Path, fail_at: int | None = None, resume: bool = False) -> str:
    dataset = FakeDataset(train=[{"x": [1.0]}, {"x": [3.0]}])
    hooks = [ComputeStats(variables=["x"]), kind("mean"), SaveAndFail(fail_at=fail_at), StopAfter(epochs=2)]
    loop = MainLoop(FakeModel(), dataset, hooks, output_dir=folder)
    if resume:
        loop.restore(newest_checkpoint(folder / "checkpoints"))
    loop.run_training()
    return (folder / "lines.txt").read_text(encoding="utf-8")


def test_the_writer_of_the_page_has_every_line_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind = defined_in("lines.py", monkeypatch, tmp_path)["WriteLines"]
    whole = lines_of(kind, tmp_path / "whole")
    assert whole.splitlines() == [f"epoch {epoch}: train/x/mean 2.000" for epoch in range(3)]
    for moment in range(2, MOMENTS + 1):
        folder = tmp_path / str(moment)
        with pytest.raises(RuntimeError, match="failed at moment"):
            lines_of(kind, folder, fail_at=moment)
        assert lines_of(kind, folder, resume=True) == whole, moment
