"""Datasets configured as emloop's are."""

from typing import Any

import pytest

from emloop_mtl.data import BaseDataset
from emloop_mtl.errors import ConfigError


class Old(BaseDataset):
    def _configure_dataset(self, output_dir: str | None, size: int, factor: float = 1.0) -> None:  # type: ignore[override]
        self.settings = (output_dir, size, factor)


class Modest(BaseDataset):
    def _configure_dataset(self, **config: Any) -> None:  # type: ignore[override]
        self.settings = config


class Small(BaseDataset):
    def _configure_dataset(self, size: int) -> None:  # type: ignore[override]
        self.settings = size


def test_settings_arrive_by_name() -> None:
    assert Old("{output_dir: there, size: 3, factor: 0.5}").settings == ("there", 3, 0.5)
    assert Old("size: 3").settings == (None, 3, 1.0)
    assert Modest("a: [1, {b: c}]\noutput_dir: x").settings == {"a": [1, {"b": "c"}], "output_dir": "x"}
    assert Modest("").settings == {}
    assert Small("{output_dir: x, size: 2}").settings == 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sizes: 3", "Old: unknown argument 'sizes'; did you mean 'size'"),
        ("factor: 3", "Old: the setting 'size' is missing"),
        ("[1]", "are a list; a mapping"),
        ("{1: 2}", "a mapping of names"),
        ("a: [", r"are no YAML: [^\n]*$"),
        ("a: !!python/object:os.system x", "are no YAML"),
    ],
)
def test_wrong_settings(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Old(text)
