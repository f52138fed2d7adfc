from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.errors import ConfigError
from emloop_mtl.tasks.metrics.custom_metric import CustomMetric
from emloop_mtl.tasks.metrics.picked_uids import PickedUids
from emloop_mtl.tasks.scorer import Scorer

GOLDS, PREDS = [0, 1, 1, 0], [0, 1, 0, 0]
PROBS = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]


def hits(golds: Any, probs: Any, preds: Any) -> Any:
    return (golds == preds).sum()


def f1(golds: Any, probs: Any, preds: Any) -> float:
    return 0.0


def test_score_takes_lists_arrays_and_tensors() -> None:
    scorer = Scorer(["accuracy", "f1", "f1_macro"])
    expected = {"accuracy": 0.75, "f1": 2 / 3, "f1_macro": (2 / 3 + 0.8) / 2}
    assert scorer.score(GOLDS, PROBS, PREDS) == expected
    assert scorer.score(np.array(GOLDS), None, np.array(PREDS)) == expected
    assert scorer.score(torch.tensor(GOLDS), torch.tensor(PROBS)) == expected
    assert all(map(math.isnan, scorer.score([], [], []).values()))
    assert all(map(math.isnan, scorer.compute().values()))


@pytest.mark.parametrize("rows_of", [list, lambda array: list(torch.from_numpy(array)), tuple])
def test_score_takes_lists_of_rows(rows_of: Any) -> None:
    golds, probs = np.array(GOLDS), np.array(PROBS)
    expected = {"accuracy": 0.75, "accuracy@2": 1.0, "roc_auc": 1.0}
    assert Scorer(list(expected)).score(rows_of(golds), rows_of(probs)) == expected


def test_numbers_in_lists_keep_all_their_digits() -> None:
    golds, probs = [1e6 + 0.1, 1e6 + 0.2, 1e6 + 0.4], [0.1, 0.3, 0.2]
    found = Scorer(["pearson_correlation"]).score(golds, probs)["pearson_correlation"]
    assert found == pytest.approx(np.corrcoef(golds, probs)[0, 1], rel=1e-9)  # float32 would leave two digits


def test_a_metric_may_report_several_scores() -> None:
    options = {"return_pvalue": True}
    scorer = Scorer([{"class": "spearman_correlation", **options}, {"class": "fbeta", "beta": 2, "name": "mine"}])
    assert scorer.names == ("spearman_correlation", "spearman_pvalue", "mine")
    assert tuple(scorer.score([], [])) == scorer.names


def test_twins_are_told_apart_by_name() -> None:
    scorer = Scorer(["f1", {"class": "f1", "positive": 0, "name": "f1_of_0"}])
    assert scorer.score(GOLDS, None, PREDS) == {"f1": 2 / 3, "f1_of_0": 0.8}


def test_a_function_must_not_report_the_name_of_another_metric() -> None:
    scorer = Scorer(["accuracy"], {"m": lambda golds, probs, preds: {"accuracy": 0}})
    with pytest.raises(ConfigError, match="metric 'm' reports 'accuracy', as another metric does"):
        scorer.score(GOLDS, None, PREDS)


def test_custom_functions_get_arrays_of_all_rows() -> None:
    def detail(golds: Any, probs: Any, preds: Any, uids: Any) -> dict[str, float]:
        return {"n": len(golds), "mean": probs[:, 1].mean(), "last": float(uids[-1][1:])}

    scorer = Scorer(["accuracy", hits], custom={"detail": detail})
    assert scorer.names == ("accuracy", "hits", "detail")
    assert scorer.needs == {"prob", "pred"}
    assert scorer.takes_uids
    scorer.update(torch.tensor(GOLDS[:3]), torch.tensor(PROBS[:3]), torch.tensor(PREDS[:3]), ["u0", "u1", "u2"])
    scorer.update(torch.tensor(GOLDS[3:]), torch.tensor(PROBS[3:]), torch.tensor(PREDS[3:]), ["u3"])
    # float32 probabilities: their mean is exact to about 1e-7
    assert scorer.compute() == pytest.approx({"accuracy": 0.75, "hits": 3, "n": 4, "mean": 0.4, "last": 3}, abs=1e-6)


def test_a_custom_function_takes_the_place_of_a_metric_of_its_name() -> None:
    assert Scorer(["f1"], {"f1": lambda golds, probs, preds: 7}).score(GOLDS, None, PREDS) == {"f1": 7.0}


def test_custom_functions_get_none_for_what_is_not_there_and_uids_of_any_kind() -> None:
    seen: list[Any] = []
    metric = CustomMetric("m", lambda golds, probs, preds, uids: seen.append((probs, preds.tolist(), uids)) or 0)
    for uids, expected in (
        (torch.tensor([4, 5]), [4, 5]),
        (np.array([4, 5]), [4, 5]),
        (np.array(["a", "b"]), ["a", "b"]),
        (PickedUids(["a", "b", "c"], torch.tensor([2, 0])), ["c", "a"]),
        (PickedUids(np.array([7, 8, 9]), torch.tensor([2, 0])), [9, 7]),
        (None, None),
    ):
        metric.reset()
        metric.update(torch.tensor([0, 1]), None, torch.tensor([1, 1]), uids)
        restored = metric.fresh()
        restored.load_state_dict(metric.state_dict())
        for each in (metric, restored):
            each.compute()
            probs, preds, found = seen.pop()
            assert probs is None
            assert preds == [1, 1]
            assert (None if found is None else list(found)) == expected


def test_a_custom_function_that_cannot_be_called_or_returns_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"metric 'm' must take \(golds, probs, preds\)"):
        CustomMetric("m", lambda golds, guesses: 0)
    with pytest.raises(ConfigError, match="metric 'm' must return a number or a mapping of names to numbers, not None"):
        Scorer(custom={"m": lambda golds, probs, preds: None}).score([1], None, [1])
    assert math.isnan(Scorer(custom={"m": lambda golds, probs, preds: None}).score([], None, [])["m"])


def test_state_is_restored_exactly_and_only_into_the_same_metrics() -> None:
    scorer = Scorer(["accuracy", "roc_auc", hits])
    scorer.update(torch.tensor(GOLDS), torch.tensor(PROBS), torch.tensor(PREDS))
    restored = scorer.fresh()
    restored.load_state_dict(scorer.state_dict())
    assert restored.compute() == scorer.compute()
    with pytest.raises(ConfigError, match="there is no metric 'hits' to restore"):
        Scorer(["accuracy", "roc_auc"]).load_state_dict(scorer.state_dict())
    with pytest.raises(ConfigError, match="metric 'f1' is not in what is to be restored"):
        Scorer(["accuracy", "roc_auc", hits, "f1"]).load_state_dict(scorer.state_dict())


def test_metrics_with_uids_do_not_wait_for_the_device(no_waiting: Any) -> None:
    scorer = Scorer(custom={"m": lambda golds, probs, preds, uids: len(uids)})
    with no_waiting():
        scorer.update(torch.tensor(GOLDS), None, torch.tensor(PREDS), PickedUids(list("abcdef"), torch.arange(4)))
    assert scorer.compute() == {"m": 4.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["f1", "f1"],), "metric 'f1' is given twice$"),
        ((["f1", "fbeta"],), "metric 'f1' is given twice: f1 and fbeta with beta 1 are one metric"),
        (([{"class": "fbeta", "beta": 1.0}, "f1"],), "f1 and fbeta with beta 1 are one metric"),
        (
            (["f1", {"class": "f1", "positive": 2}],),
            "metric 'f1' is given twice; set 'name' to call one of them otherwi",
        ),
        ((["fbeta", {"class": "f1", "positive": 2}],), "metric 'f1' is given twice; set 'name'"),
        (([hits, hits],), "metric 'hits' is given twice$"),
        ((["f1", f1],), "metric 'f1' is given twice; call a function otherwise by giving it under 'custom'"),
        (
            ([{"class": "pearson_correlation", "return_pvalue": True}], {"pearson_pvalue": hits}),
            "metric 'pearson_pvalue' is given twice; call a function otherwise",
        ),
        (([{"class": "recall", "name": "average"}],), "a metric cannot be called 'average'"),
        (("f1",), "metrics must be a list"),
        ((["f2"],), "unknown metric 'f2'"),
        (([], {"loss": hits}), "a metric cannot be called 'loss'"),
    ],
)
def test_wrong_metrics_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scorer(*arguments)


def test_a_reported_name_must_not_be_the_engines_own() -> None:
    with pytest.raises(ConfigError, match="a metric cannot be called 'average'"):
        Scorer(custom={"m": lambda golds, probs, preds: {"average": 1}}).score([1], None, [1])
