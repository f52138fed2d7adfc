"""Streams by name, of our datasets and of anybody's."""

from typing import Any

import pytest

from emloop_mtl.data import AbstractDataset, get_stream
from emloop_mtl.errors import ConfigError


class Written(AbstractDataset):
    def train_stream(self) -> Any:
        return [{"x": [1]}]

    def valid_stream(self) -> Any:
        return []

    def _hidden_stream(self) -> Any:
        return []


class Anything:
    def train_stream(self) -> Any:
        return [{"x": [2]}]


def test_streams_are_methods() -> None:
    assert Written().stream_names() == ["train", "valid"]
    assert get_stream(Written(), "train")() == [{"x": [1]}]
    assert get_stream(Anything(), "train")() == [{"x": [2]}]
    assert dict(Written().num_batches) == {}


@pytest.mark.parametrize("dataset", [Written(), Anything()])
def test_a_missing_stream_names_those_that_exist(dataset: Any) -> None:
    with pytest.raises(ConfigError, match="has no stream 'trains' .*; did you mean 'train'"):
        get_stream(dataset, "trains")
