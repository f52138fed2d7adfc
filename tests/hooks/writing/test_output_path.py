"""Where hooks may write: nowhere that a run keeps its own files, however the path is written."""

from __future__ import annotations

import pytest

from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks.writing.output_path import check_output_path


@pytest.mark.parametrize("path", ["./run.yaml", "a/../config.yaml", "checkpoints//x", "a\0b", " ", ""])
def test_paths_of_the_run_itself_and_what_is_no_path_are_refused(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_output_path("WriteCSV", "path", path)
    assert caught.value.path == ("path",)


@pytest.mark.parametrize("path", ["rows.csv", "deep/run.yaml", "../elsewhere.csv", "/elsewhere/config.yaml"])
def test_other_paths_are_left_as_they_are(path: str) -> None:
    assert check_output_path("WriteCSV", "path", path) == path
