"""ClassificationMetrics: scikit-learn's numbers of batch variables."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ClassificationMetrics, Evaluate, SaveBest
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import FakeDataset, RecordEvents, run_hook

GOLD = [[0, 1, 2, 1], [1, 0, 0, 2]]
GUESS = [[0, 1, 1, 1], [0, 0, 0, 2]]


def measure(gold: Any, guess: Any, make: Callable[[Any], Any] = list, **arguments: Any) -> dict[str, Any]:
    batches = [{"x": make(a), "gold": make(a), "guess": make(b)} for a, b in zip(gold, guess, strict=True)]
    hook = ClassificationMetrics("guess", "gold", **arguments)
    record = run_hook(hook, dataset=FakeDataset(train=batches), on_unused_sources="ignore")
    return record.epochs[1]["train"]


@pytest.mark.parametrize("make", [list, torch.tensor, np.array], ids=["list", "tensor", "array"])
@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_the_numbers_are_scikit_learns(average: str, make: Callable[[Any], Any]) -> None:
    found = measure(GOLD, GUESS, make, f1_average=average)
    gold, guess = [*GOLD[0], *GOLD[1]], [*GUESS[0], *GUESS[1]]
    scores = metrics.precision_recall_fscore_support(gold, guess, average=average)
    expected = dict(zip(("precision", "recall", "f1"), scores[:3], strict=True))
    assert found == {**expected, "accuracy": 6 / 8}


def test_without_an_average_each_class_has_its_own() -> None:
    found = measure(GOLD, GUESS, var_prefix="my_")
    # by hand: class 0 is guessed four times, three of them rightly; class 1 three times, two rightly; class 2 once
    assert found["my_precision"] == {"0": 3 / 4, "1": 2 / 3, "2": 1.0}
    assert found["my_recall"] == {"0": 1.0, "1": 2 / 3, "2": 1 / 2}
    assert set(found) == {"my_precision", "my_recall", "my_f1", "my_accuracy"}


def test_binary_has_specificity_too_and_nothing_to_divide_is_no_error() -> None:
    found = measure([[0, 0, 1], [0, 1, 1]], [[0, 1, 1], [0, 0, 1]], f1_average="binary")
    assert found == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "accuracy": 4 / 6, "specificity": 2 / 3}
    found = measure([[1, 1]], [[0, 0]], f1_average="binary")
    assert isnan(found.pop("specificity"))
    assert found == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 0.0}


def test_several_labels_per_row() -> None:
    gold, guess = [[[1, 0, 1], [0, 1, 0]]], [[[1, 0, 0], [0, 1, 1]]]
    found = measure(gold, guess, torch.tensor, f1_average="samples")
    scores = metrics.precision_recall_fscore_support(gold[0], guess[0], average="samples")
    assert (found["precision"], found["recall"], found["f1"]) == scores[:3]
    assert found["accuracy"] == 0.0


def test_of_a_task_the_labelled_rows_count_and_only_the_listed_streams_are_predicted(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset]
) -> None:
    hook = ClassificationMetrics("digit/pred", "digit", f1_average="macro", streams=["valid"])
    look = RecordEvents(requires=())
    run_hook(Evaluate(["valid"]), hook, look, model=make_model(), dataset=make_dataset())
    (numbers,) = [look.epochs[1][stream] for stream in look.epochs[1] if look.epochs[1][stream]]
    batches = [
        event["batch_data"] for name, event in look.events if name == "after_batch" and event["stream_name"] == "valid"
    ][3:]
    gold, guess = (torch.cat([batch[name] for batch in batches]) for name in ("digit", "digit/pred"))
    assert numbers["accuracy"] == metrics.accuracy_score(gold, guess)
    assert numbers["f1"] == metrics.f1_score(gold, guess, average="macro", zero_division=0.0)
    trained = [event["batch_data"] for name, event in look.events if event.get("stream_name") == "train"][3:]
    assert len(trained) == 3
    assert not any("digit/pred" in batch for batch in trained)


def test_its_numbers_can_be_watched(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Any
) -> None:
    hook = ClassificationMetrics("digit/pred", "digit", f1_average="macro", var_prefix="digit_")
    for variable in ("digit_f1", "digit_recal"):
        best = SaveBest(stream="valid", variable=variable, mode="max")
        loop: dict[str, Any] = {"model": make_model(), "dataset": make_dataset(), "output_dir": tmp_path / variable}
        if variable == "digit_f1":
            run_hook(Evaluate(["valid"]), hook, best, **loop)
            assert list((tmp_path / variable / "checkpoints").glob("best*"))
        else:
            with pytest.raises(ConfigError, match="did you mean 'digit_recall'"):
                run_hook(Evaluate(["valid"]), hook, best, **loop)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"f1_average": "marco"}, "unknown f1_average 'marco'; did you mean 'macro'?"),
        ({"f1_average": ["macro"]}, "unknown f1_average"),
        ({"var_prefix": 3}, "var_prefix must be text, not 3"),
        ({"streams": "valid"}, "streams must be a list of names, such as [valid]"),
        ({"streams": ["vlaid"]}, "no stream 'vlaid'"),
    ],
    ids=["average", "list", "prefix", "text", "stream"],
)
def test_mistakes_are_told_before_the_first_batch(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_hook(ClassificationMetrics("x", "x2", **arguments))
    assert says in str(caught.value)
    assert caught.value.path[0] == next(iter(arguments))


def test_values_that_are_no_classes_are_told_of() -> None:
    with pytest.raises(
        ConfigError, match="ClassificationMetrics: 'guess' and 'gold' of stream 'train': Target is multi"
    ):
        measure(GOLD, GUESS, f1_average="binary")
    with pytest.raises(ConfigError, match="'guess' and 'gold' of stream 'train': Classification metrics can't"):
        measure([[1, 2]], [[[1, 0], [0, 1]]])
    with pytest.raises(ConfigError, match="'guess' and 'gold' of stream 'train'"):
        measure([[1, 2]], [[0.5, 0.25]])


def test_two_of_them_need_names_of_their_own() -> None:
    batches = [{"x": [1], "gold": [1], "guess": [1]}]
    hooks = [ClassificationMetrics("guess", "gold", f1_average="micro", **more) for more in ({}, {})]
    hooks[1].name = "Other"
    with pytest.raises(ConfigError, match="set var_prefix") as caught:
        run_hook(*hooks, dataset=FakeDataset(train=batches), on_unused_sources="ignore")
    assert caught.value.path[-1:] == ("var_prefix",)
