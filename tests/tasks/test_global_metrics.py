from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.errors import ConfigError, TrainingTerminated
from emloop_mtl.tasks.global_metrics import GlobalMetrics

SCORES = {"digit/digits/valid/accuracy": 0.75, "model/all/valid/loss": 0.5}


def test_every_function_gets_all_scores_and_the_numbers_before_it() -> None:
    seen: list[dict[str, float]] = []
    metrics = GlobalMetrics(
        {"a": lambda scores: seen.append(scores) or 2, "b": lambda scores: seen.append(scores) or 3}
    )
    assert metrics
    assert list(metrics) == ["a", "b"]
    assert metrics.compute(SCORES) == {"a": 2.0, "b": 3.0}
    assert seen == [SCORES, {**SCORES, "a": 2.0}]
    assert not GlobalMetrics(None)
    assert GlobalMetrics(None).compute(SCORES) == {}


def test_a_function_cannot_change_what_others_see() -> None:
    metrics = GlobalMetrics({"a": lambda scores: scores.clear() or 1, "b": len})
    assert metrics.compute(SCORES) == {"a": 1.0, "b": 3.0}
    assert len(SCORES) == 2


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.array(2), torch.tensor(2.0), np.int64(2)])
def test_numbers_of_all_kinds(number: Any) -> None:
    (found,) = GlobalMetrics({"a": lambda scores: number}).compute({}).values()
    assert type(found) is float
    assert found == 2


@pytest.mark.parametrize("result", [None, "2", [2.0], 2j, np.ones(1), torch.ones(1), np.array("2"), torch.tensor(2j)])
def test_what_is_no_number_is_refused(result: Any) -> None:
    with pytest.raises(ConfigError, match="global metric 'a' must return a number, not ") as caught:
        GlobalMetrics({"a": lambda scores: result}).compute({})
    assert caught.value.path == ("global_metrics", "a")


def test_a_function_that_fails_is_named_with_its_reason() -> None:
    with pytest.raises(ConfigError, match="global metric 'a': it fails with ZeroDivisionError: ") as caught:
        GlobalMetrics({"a": lambda scores: 1 / 0}).compute({})
    assert caught.value.path == ("global_metrics", "a")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    text = "there is no score 'digit/digits/valid/acuracy'; did you mean 'digit/digits/valid/accuracy'?"
    with pytest.raises(ConfigError, match=f"global metric 'a': {text}"):
        GlobalMetrics({"a": lambda scores: scores["digit/digits/valid/acuracy"]}).compute(SCORES)


def test_a_function_that_asks_for_a_stream_of_other_epochs_has_no_number() -> None:
    functions: dict[str, Any] = {
        "gap": lambda scores: scores["digit/digits/test/accuracy"] - scores["digit/digits/valid/accuracy"],
        "twice": lambda scores: 2 * scores["gap"],
        "count": len,
    }
    metrics = GlobalMetrics(functions)
    assert metrics.compute(SCORES, absent=["test"]) == {"count": 2.0}
    other = {**SCORES, "digit/digits/test/accuracy": 1.0}
    assert metrics.compute(other) == {"gap": 0.25, "twice": 0.5, "count": 5.0}
    for absent in ([], ["train"], ["valid", "digits"]):
        with pytest.raises(ConfigError, match="there is no score 'digit/digits/test/accuracy'"):
            metrics.compute(SCORES, absent)
    with pytest.raises(ConfigError, match="there is no score 'test'"):
        GlobalMetrics({"a": lambda scores: scores["test"]}).compute(SCORES, absent=["test"])


def test_a_metric_of_batches_that_are_trained_on_needs_a_setting() -> None:
    metrics = GlobalMetrics({"a": lambda scores: scores["digit/digits/train/accuracy"]})
    text = (
        "no score 'digit/digits/train/accuracy'; of a stream that is trained on only losses are scored, set train: true"
    )
    with pytest.raises(ConfigError, match=text):
        metrics.compute(SCORES, only_losses=["train"])


def test_the_nearest_name_may_be_that_of_a_function_before() -> None:
    with pytest.raises(ConfigError, match="there is no score 'gapp'; did you mean 'gap'"):
        GlobalMetrics({"gap": len, "b": lambda scores: scores["gapp"]}).compute(SCORES)


def test_a_function_may_end_the_training() -> None:
    def end(scores: dict[str, float]) -> float:
        raise TrainingTerminated("good enough")

    with pytest.raises(TrainingTerminated):
        GlobalMetrics({"a": end}).compute({})


@pytest.mark.parametrize(
    ("functions", "message", "path"),
    [
        ([len], "global_metrics must map names to functions", ("global_metrics",)),
        ({"a": "len"}, "global metric 'a' must be a function of all scores, not 'len'", ("global_metrics", "a")),
        ({"": len}, "'' cannot name a global metric", ("global_metrics", "")),
        ({7: len}, "7 cannot name a global metric", ("global_metrics", 7)),
        ({"step": len}, "'step' cannot name a global metric; epoch, step, samples and", ("global_metrics", "step")),
        ({"model/all/x": len}, "what begins with 'model/all/' are taken", ("global_metrics", "model/all/x")),
    ],
)
def test_wrong_names_and_functions_are_refused(functions: Any, message: str, path: Any) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        GlobalMetrics(functions)
    assert caught.value.path == path


def test_a_name_that_a_score_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="global metric 'digit/digits/valid/accuracy': a score is called so already"):
        GlobalMetrics({"digit/digits/valid/accuracy": len}).compute(SCORES)
