"""Rows of the kind of others, on which a function of scikit-learn is tried."""

from __future__ import annotations

import numpy as np
import pytest

from emloop_mtl.tasks.metrics.rows_like import Rows, rows_like
from emloop_mtl.tasks.metrics.score_function import ScoreFunction


def like(labels: object, second: object, is_probable: bool = False) -> list[tuple[Rows, Rows]]:
    return list(rows_like(np.asarray(labels), np.asarray(second), is_probable))


def test_classes_are_those_that_were_seen_each_of_them_twice() -> None:
    assert [labels.tolist() for labels, _ in like([3, 3], [1, 1])] == [[1, 1, 3, 3], [0, 0, 1, 1, 2, 2, 3, 3]]
    assert [labels.tolist() for labels, _ in like([0, 0], [0, 0])] == [[0, 0, 1, 1]]
    assert [labels.tolist() for labels, _ in like([-1, -1], [-1, -1])] == [[-1, -1, 1, 1]]
    assert [labels.tolist() for labels, _ in like([-1, 1], [-1, -1])] == [[-1, -1, 1, 1]]
    assert all(np.array_equal(labels, second) for labels, second in like([3, 3], [1, 1]))


def test_probabilities_of_classes_are_of_all_classes() -> None:
    ((labels, second),) = like([1, 1], [[0.2, 0.3, 0.5]] * 2, is_probable=True)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(second.argmax(1), labels)
    ((labels, second),) = like([1, 1], [0.2, 0.3], is_probable=True)
    assert labels.tolist() == [0, 0, 1, 1]
    assert second.tolist() == [0.25, 0.25, 0.75, 0.75]


@pytest.mark.parametrize("is_probable", [False, True])
def test_sets_have_each_label_and_lack_it(is_probable: bool) -> None:
    ((labels, second),) = like([[1, 0, 0]] * 2, [[1, 0, 0]] * 2, is_probable)
    assert labels.shape == (6, 3)
    assert (labels.min(0).tolist(), labels.max(0).tolist()) == ([0] * 3, [1] * 3)
    assert np.array_equal(second > 0.5, labels == 1)
    assert sorted(np.unique(second)) == ([0.25, 0.75] if is_probable else [0, 1])


def test_values_are_of_all_signs_or_positive_or_within_1() -> None:
    any_sign, positive, unit = like([[0.5, 1.5]], [[0.5, 1.5]])
    assert all(rows.shape == (16, 2) for pair in (any_sign, positive, unit) for rows in pair)
    assert min(rows.min() for rows in any_sign) < 0
    assert min(rows.min() for rows in (*positive, *unit)) > 0
    assert max(rows.max() for rows in positive) > 1
    assert max(rows.max() for rows in unit) < 1


def test_whole_numbers_may_be_classes_or_values_unless_what_is_predicted_is_none() -> None:
    assert len(like([0.0, 2.0], [0.0, 2.0])) == 2 + 3
    assert len(like([0.0, 2.0], [0.1, 2.0])) == 3
    assert len(like([0, 2], [0.1, 2.0])) == 3
    assert len(like([0, 2], [0, 2])) == 2


def test_nothing_is_known_of_shapes_that_differ() -> None:
    labels, second = np.ones((4, 2)), np.ones((4, 3))
    assert like(labels, second) == []
    from sklearn.metrics import mean_squared_error

    assert ScoreFunction("mse", mean_squared_error, {}).try_rows(labels, second) is None
