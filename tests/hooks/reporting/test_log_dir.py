"""LogDir: the folder of the run in the log."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import LogDir
from emloop_mtl.testing import run_hook


def test_the_folder_is_logged_before_after_every_epoch_and_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run_hook(LogDir(), output_dir=tmp_path, epochs=2)
    lines = [record.message for record in caplog.records if record.name.endswith("log_dir")]
    assert lines == [f"Output dir: {tmp_path}"] * (1 + 3 + 1)  # the zeroth epoch is one, too
    caplog.clear()
    run_hook(LogDir(output_dir="elsewhere"))
    assert "Output dir: elsewhere" in caplog.messages


def test_a_run_without_a_folder_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="LogDir needs a folder to tell of: give the main loop an output_dir"):
        run_hook(LogDir())
