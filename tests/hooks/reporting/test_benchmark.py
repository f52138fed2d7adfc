"""Benchmark: the time of an example."""

from __future__ import annotations

import logging
import re
from array import array
from typing import Any

import pytest

from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import Benchmark
from emloop_mtl.testing import run_hook


def test_mean_and_median_are_those_of_all_batches_but_the_last(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    profile: Any = {"eval_batch_train": array("d", [0.1, 0.2, 0.6, 99.0]), "eval_batch_valid": array("d", [7.0])}
    Benchmark(batch_size=4).after_epoch_profile(1, profile, ["train", "valid", "test"])
    assert caplog.messages == [
        "train - time per example: mean=0.07500s, median=0.05000s",
        "valid - time per example: there is none without a second batch",
        "test - time per example: there is none without a second batch",
    ]


def test_every_stream_of_every_epoch_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run_hook(Benchmark(2), epochs=2)
    told = [match[1] for text in caplog.messages if (match := re.match(r"(\w+) - time per example: mean=\d", text))]
    assert told == ["train", "valid"] * 3


@pytest.mark.parametrize("size", [0, 2.0, True, "4", None])
def test_a_batch_has_a_whole_number_of_examples(size: Any) -> None:
    with pytest.raises(ConfigError, match="Benchmark: batch_size must be a positive whole number") as caught:
        Benchmark(size)
    assert caught.value.path == ("batch_size",)
