"""Rows in batches of any size, for tests that compare a metric with scikit-learn's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st
from torch import Tensor

from emloop_mtl.tasks.metrics import Metric

TOLERANCE = 1e-12  # sums of less than 100 float64 numbers round to about 1e-14

SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(any)
"""Sizes of the batches, some of them empty."""


def batches(sizes: Sequence[int], *columns: Tensor | None) -> Iterator[list[Tensor | None]]:
    """Yield columns in batches."""
    begin = 0
    for size in sizes:
        yield [None if column is None else column[begin : begin + size] for column in columns]
        begin += size


def streamed(metric: Metric, sizes: Sequence[int], label: Tensor, prob: Tensor | None, pred: Tensor | None) -> Any:
    """Return the scores of batches; after the first of them the metric is saved and another one goes on."""
    for index, (gold, probs, preds) in enumerate(batches(sizes, label, prob, pred)):
        assert gold is not None
        metric.update(gold, probs, preds)
        if index == 0:
            resumed = metric.fresh()
            resumed.load_state_dict(metric.state_dict())
            metric = resumed
    return metric.compute()


def at_once(metric: Metric, label: Tensor, prob: Tensor | None, pred: Tensor | None) -> dict[str, float]:
    """Return the scores of all rows as one batch."""
    fresh = metric.fresh()
    fresh.update(label, prob, pred)
    return fresh.compute()


def quietly(score: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return what a function of scikit-learn returns, whatever it warns of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return score(*arguments, **options)
