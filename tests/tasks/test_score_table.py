from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.score_table import ScoreTable
from emloop_mtl.tasks.scorer import Scorer
from emloop_mtl.tasks.task import Task
from emloop_mtl.utils.model_note import ModelNote

TOLERANCE = 1e-12  # means of a handful of float64 numbers


def make(name: str, **options: Any) -> Task:
    return Task(name, flow=[Action("logits", "head", "x")], label=f"{name}_y", loss="cross_entropy", **options)


def batch_of(data: str, tasks: dict[str, tuple[Any, list[int], list[int]]], **options: Any) -> Batch:
    """Return a batch that has been run, from task -> (loss, labels, predictions)."""
    batch = Batch(data_name=data, tasks={task: f"{task}_y" for task in tasks}, **options)
    for task, (loss, labels, predictions) in tasks.items():
        batch[f"{task}_y"] = torch.tensor(labels)
        batch[f"{task}/loss"] = torch.tensor(loss)
        batch[f"{task}/pred"] = torch.tensor(predictions)
    return batch


def test_every_task_and_dataset_is_scored_by_itself_and_averaged() -> None:
    tasks = {"a": make("a", metrics=["accuracy", "f1"]), "b": make("b", metrics=["accuracy"])}
    table = ScoreTable()
    table.add(batch_of("d", {"a": (1.0, [0, 1], [0, 1]), "b": (4.0, [0, 1], [1, 1])}), tasks)
    table.add(batch_of("d", {"a": (4.0, [1], [0]), "b": (1.0, [0], [1])}), tasks)
    table.add(batch_of("e", {"a": (0.5, [1, 0], [1, 1])}), tasks)
    a_d, a_e, b_d = (2 / 3 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, 1 / 3
    expected = {
        "a/d/loss": 2.0,
        "a/d/accuracy": 2 / 3,
        "a/d/f1": 2 / 3,
        "a/d/average": a_d,
        "b/d/loss": 3.0,
        "b/d/accuracy": 1 / 3,
        "b/d/average": b_d,
        "a/e/loss": 0.5,
        "a/e/accuracy": 1 / 2,
        "a/e/f1": 2 / 3,
        "a/e/average": a_e,
        "model/all/micro_average": (2 / 3 + 2 / 3 + 1 / 2 + 2 / 3 + 1 / 3) / 5,
        "model/all/macro_average": (a_d + a_e + b_d) / 3,
        "model/all/loss": (2.0 + 0.5 + 3.0) / 3,
    }
    assert table.result() == pytest.approx(expected, abs=TOLERANCE)
    assert set(ScoreTable.variables(tasks, {"a": ["d", "e"], "b": ["d"]})) == set(expected)


def test_the_summary_of_all_streams_is_the_mean_of_their_entries_not_of_their_averages() -> None:
    tasks = {"a": make("a", metrics=["accuracy"]), "b": make("b", metrics=["accuracy"])}
    valid, test = ScoreTable(), ScoreTable()
    valid.add(batch_of("d", {"a": (1.0, [0], [0]), "b": (2.0, [0], [0])}), tasks)
    test.add(batch_of("d", {"a": (6.0, [0], [1])}), tasks)
    assert ScoreTable.summary([valid, test]) == pytest.approx(
        {"model/all/micro_average": 2 / 3, "model/all/macro_average": 2 / 3, "model/all/loss": 3.0}, abs=TOLERANCE
    )
    assert ScoreTable.summary([]) == {} == ScoreTable().result()


def test_only_labelled_rows_are_scored_and_weigh() -> None:
    tasks = {"a": make("a", metrics=["accuracy"], missing_label=-100)}
    table = ScoreTable()
    rows = torch.tensor([1])
    table.add(batch_of("d", {"a": (1.0, [-100, 1, -100], [0, 1, 0])}, rows={"a": rows}), tasks)
    table.add(batch_of("d", {"a": (4.0, [0, 1], [1, 0])}), tasks)
    none = torch.zeros(0, dtype=torch.long)
    table.add(batch_of("d", {"a": (0.0, [-100, -100], [1, 0])}, rows={"a": none}), tasks)
    scores = table.result()
    assert scores["a/d/loss"] == pytest.approx((1 * 1 + 2 * 4) / 3, abs=TOLERANCE)
    assert scores["a/d/accuracy"] == pytest.approx(1 / 3, abs=TOLERANCE)


def test_no_labelled_row_at_all_gives_nan() -> None:
    tasks = {"a": make("a", metrics=["accuracy"], missing_label=-100)}
    table = ScoreTable()
    none = torch.zeros(0, dtype=torch.long)
    table.add(batch_of("d", {"a": (0.0, [-100, -100], [1, 0])}, rows={"a": none}), tasks)
    assert all(map(math.isnan, table.result().values()))


def test_a_task_without_scorer_has_a_loss_and_no_average() -> None:
    tasks = {"a": make("a")}
    table = ScoreTable()
    table.add(batch_of("", {"a": (2.0, [0], [0])}), tasks)
    assert table.result() == {"a/data/loss": 2.0, "model/all/loss": 2.0}
    assert ScoreTable.variables(tasks, {"a": ["data"]}) == ["a/data/loss", "model/all/loss"]
    assert ScoreTable.variables(tasks, {}) == []


def test_a_task_without_label_and_loss_has_nan_under_every_name() -> None:
    tasks = {"a": make("a", metrics=["accuracy"]), "b": Task("b", flow=[Action("f", "m", "x")], metrics=["f1"])}
    table = ScoreTable()
    batch = batch_of("d", {"a": (2.0, [0], [0])})
    batch.tasks["b"] = None
    table.add(batch, tasks)
    scores = table.result()
    assert scores["a/d/average"] == 1
    for name in ("b/d/loss", "b/d/f1", "b/d/average", *(f"model/all/{kind}" for kind in ("micro_average", "loss"))):
        assert math.isnan(scores[name])


def test_an_empty_scorer_spoils_the_macro_average_only() -> None:
    tasks = {"a": make("a", metrics=["accuracy"]), "b": make("b", scorer=Scorer())}
    table = ScoreTable()
    table.add(batch_of("d", {"a": (2.0, [0], [0]), "b": (2.0, [0], [0])}), tasks)
    scores = table.result()
    assert math.isnan(scores["b/d/average"])
    assert math.isnan(scores["model/all/macro_average"])
    assert scores["model/all/micro_average"] == 1


def test_uids_reach_the_functions_that_take_them() -> None:
    seen: list[Any] = []
    tasks = {"a": make("a", metrics=[lambda golds, probs, preds, uids: seen.append(list(uids)) or 1.0])}
    for uids, expected in ((["p", "q", "r"], ["r", "p"]), (torch.tensor([7, 8, 9]), [9, 7])):
        table = ScoreTable()
        batch = batch_of("d", {"a": (2.0, [0, 0, 0], [0, 0, 0])}, rows={"a": torch.tensor([2, 0])})
        batch["_uids_"] = uids
        batch["a/prob"] = torch.rand(3, 2)
        table.add(batch, tasks)
        table.result()
        assert seen.pop() == expected


def test_a_result_is_fetched_once_until_a_batch_comes() -> None:
    calls: list[int] = []
    tasks = {"a": make("a", scorer=Scorer(custom={"m": lambda golds, probs, preds: calls.append(1) or 0}))}
    table = ScoreTable()
    batch = batch_of("d", {"a": (2.0, [0], [0])})
    batch["a/prob"] = torch.rand(1, 2)
    table.add(batch, tasks)
    table.result().clear()
    assert table.result()
    assert ScoreTable.summary([table])
    assert len(calls) == 1
    table.add(batch, tasks)
    table.result()
    assert len(calls) == 2


CORRELATIONS = [
    {"class": "pearson_correlation", "return_pvalue": True},
    {"class": "spearman_correlation", "return_pvalue": True},
    "pearson_spearman",
    *("mean_squared_error", "mean_absolute_error", "r2", "sklearn.metrics.max_error"),
]
METRICS = [
    *("accuracy", "accuracy@2", "precision", "recall", "f1", {"class": "fbeta", "beta": 2}, "accuracy_f1"),
    *("matthews_correlation", "f1_macro", "roc_auc", "average_precision", "balanced_accuracy", "recall_micro"),
    *("log_loss", "brier_score", "calibration_error", "exact_match", "sklearn.metrics.zero_one_loss"),
]


def random_batches(seed: int, number: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for index in range(number):
        size = int(torch.randint(1, 9, (), generator=generator))
        prob = torch.rand(size, 3, generator=generator)
        label = torch.randint(3, (size,), generator=generator)
        batch = Batch({"a_y": label}, tasks={"a": "a_y", "v": "v_y"}, data_name=f"d{index % 2}")
        batch.update({"a/loss": torch.rand((), generator=generator), "a/prob": prob, "a/pred": prob.argmax(1)})
        value = torch.rand(size, 1, generator=generator)
        batch["v_y"] = value[:, 0] + torch.rand(size, generator=generator)
        batch.update({"v/loss": torch.rand((), generator=generator), "v/prob": value, "v/pred": value})
        if index % 3 == 2:
            batch.rows["a"] = torch.arange(0, size, 2)
            batch.rows["v"] = torch.arange(1, size, 2)  # none of a single row
        batches.append(batch)
    return batches


def two_tasks() -> dict[str, Task]:
    values = Task("v", flow=[Action("out", "head", "x")], label="v_y", loss="mse_loss", metrics=CORRELATIONS)
    return {"a": make("a", metrics=METRICS), "v": values}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_all_metrics_are_those_of_the_labelled_rows_at_once(seed: int, number: int) -> None:
    tasks = two_tasks()
    batches = random_batches(seed, number)
    table = ScoreTable()
    for batch in batches:
        batch.data_name = "d"
        table.add(batch, tasks)
    found = table.result()
    for name, task in tasks.items():
        rows = [batch.rows.get(name, slice(None)) for batch in batches]
        columns = [
            torch.cat([batch[column][kept] for batch, kept in zip(batches, rows, strict=True)])
            for column in (f"{name}_y", f"{name}/prob", f"{name}/pred")
        ]
        assert task.scorer is not None
        for metric, value in task.scorer.score(*columns).items():
            # Which of the orders of additions rounds less is chance; a p-value near 1e-9 is the touchiest.
            assert found[f"{name}/d/{metric}"] == pytest.approx(value, rel=1e-9, abs=1e-12, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(0, 8))
def test_a_table_restored_in_mid_epoch_ends_with_the_same_bits(seed: int, number: int, cut: int) -> None:
    tasks = two_tasks()
    batches = random_batches(seed, number)
    straight, first, second = ScoreTable(), ScoreTable(), ScoreTable()
    for batch in batches:
        straight.add(batch, tasks)
    for batch in batches[:cut]:
        first.add(batch, tasks)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True), tasks)
    for batch in batches[cut:]:
        second.add(batch, tasks)
    assert repr(second.result()) == repr(straight.result())


def test_adding_a_batch_does_not_wait_for_the_device(no_waiting: Any) -> None:
    tasks = two_tasks()
    tasks["a"] = make("a", metrics=[*METRICS, "f1_micro", "f1_weighted", "mean_squared_error"])
    batches = random_batches(0, 200)  # more than a running mean keeps unadded
    for batch in batches:
        batch["a_y"] = batch["a_y"] if "a" in batch.rows else torch.nn.functional.one_hot(batch["a_y"], 3)
        batch["a_y"] = torch.nn.functional.one_hot(batch["a_y"], 3) if batch["a_y"].dim() == 1 else batch["a_y"]
    table = ScoreTable()
    with no_waiting():
        for batch in batches:
            table.add(batch, tasks)
    assert len(table.result()) == 2 * (2 + len(METRICS) + 3) + 2 * (2 + 2 + len(CORRELATIONS)) + 3


def test_states_of_other_tasks_or_metrics_are_refused() -> None:
    tasks = {"a": make("a", metrics=["accuracy"])}
    table = ScoreTable()
    table.add(batch_of("d", {"a": (2.0, [0], [0])}), tasks)
    state = table.state_dict()
    with pytest.raises(ConfigError, match="there is no task 'a' to restore scores of"):
        ScoreTable().load_state_dict(state, {"b": make("b")})
    with pytest.raises(ConfigError, match="task 'a' has a scorer now or had one then"):
        ScoreTable().load_state_dict(state, {"a": make("a")})


def test_what_a_batch_lacks_is_named() -> None:
    tasks = {"a": make("a", metrics=["accuracy"])}
    batch = batch_of("d", {"a": (2.0, [0], [0])})
    with pytest.raises(DataError, match="there is no task 'a'; did you mean 'aa'"):
        ScoreTable().add(batch, {"aa": make("aa")})
    del batch["a/pred"]
    with pytest.raises(ConfigError, match="task 'a': its metrics need 'a/pred', which the batch does not hold"):
        ScoreTable().add(batch, tasks)


def test_what_is_found_when_scores_are_fetched_names_the_task() -> None:
    tasks = {"a": make("a", metrics=["f1_macro"], num_classes=2, require_prob_for_eval=False)}
    table = ScoreTable()
    table.add(batch_of("d", {"a": (1.0, [0, 5], [0, 1])}), tasks)
    with pytest.raises(DataError, match=r"^task 'a': metric 'f1_macro': 1 labels or predictions are outside 0\.\.1"):
        table.result()


def test_a_metric_that_finds_no_classes_leads_to_its_place() -> None:
    tasks = {"a": make("a", metrics=["accuracy"])}
    batch = batch_of("d", {"a": (1.0, [0, 1], [0, 1])})
    batch["a/pred"] = batch["a/pred"].float()
    with pytest.raises(ConfigError, match="task 'a': metric 'accuracy' needs predicted classes") as caught:
        ScoreTable().add(batch, tasks)
    note = ModelNote.on(caught.value)
    assert note is not None
    assert note.paths == (("tasks", "a", "metrics", 0), ("tasks", "a"))
