"""Every evaluation of Emmental 0.1.1 in ``scores.json``, by ``MultiTaskModel.score`` and by the main loop."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import Evaluate, ScoreTasks
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.loss import Loss
from emloop_mtl.tasks.scorer import Scorer
from emloop_mtl.tasks.task import Task
from emloop_mtl.testing import run_hook
from emloop_mtl.utils.flat_names import flatten

F1_IS_FBETA = (
    "f1 and fbeta with beta 1 are one metric, which it is an error to name twice; Emmental counts it once, too, since "
    "the one overwrites the other."
)
DIFFERENCES = {
    "two_tasks_two_splits": F1_IS_FBETA,
    "no_average": f"{F1_IS_FBETA} And averages cost nothing: there is no setting to leave them out.",
    "task_weights": F1_IS_FBETA,
    "fbeta_collides_with_f1": F1_IS_FBETA,
    "no_prob_no_pred": (
        "A metric without anything to compare labels with is refused when the task is made; Emmental fails when it is "
        "first evaluated."
    ),
    "label_none_no_loss": (
        "A metric that has seen no rows is nan under the name that it always reports; Emmental changes the name to the "
        "one that was asked for."
    ),
    "no_loaders": F1_IS_FBETA,
}
"""Name of the case -> why something is another here."""

EXACT = 1e-9  # relative; metrics are float64 functions of whole numbers, and of the order of the probabilities
# relative; losses and probabilities are those of a float32 network, whose last digit another build of torch may change
FLOAT32 = 1e-6

FILE = json.loads((Path(__file__).parent / "scores.json").read_text())
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in FILE["cases"]}


# ------------------------------------------------------------------------------------------- what Emmental was run with


def c(golds: Any, probs: Any, preds: Any, uids: Any) -> dict[str, float]:
    named = [f"data_task1_{uid}" for uid in uids]  # as Emmental names rows
    return {
        "n": len(golds),
        "mean_p1": np.mean(probs[:, 1]),
        "pos_rate": np.mean(preds == 1),
        "first_uid_len": len(named[0]),
    }


def scalar(golds: Any, probs: Any, preds: Any) -> int:
    return (golds == preds).sum()


CUSTOM = {"c": c, "scalar": scalar}


def scorer_of(metrics: list[str]) -> Scorer:
    return Scorer([m for m in metrics if m not in CUSTOM], {m: CUSTOM[m] for m in metrics if m in CUSTOM})


def model_of(case: Mapping[str, Any]) -> MultiTaskModel:
    modules = {"shared": nn.Linear(2, 8), "task1_head": nn.Linear(8, 2), "task2_head": nn.Linear(8, 2)}
    for name, module in modules.items():
        module.load_state_dict({part: torch.tensor(FILE["weights"][f"{name}.{part}"]) for part in ("weight", "bias")})
    tasks = [
        Task(
            name,
            flow=[
                {"name": "features", "module": "shared", "inputs": "x"},
                {"name": f"{name}_logits", "module": f"{name}_head", "inputs": "features"},
            ],
            label="label",
            loss="cross_entropy" if settings["has_loss_func"] else None,
            output="softmax",
            scorer=scorer_of(settings["metrics"]),
            weight=settings["weight"],
            require_prob_for_eval=settings["require_prob_for_eval"],
            require_pred_for_eval=settings["require_pred_for_eval"],
        )
        for name, settings in case["tasks"].items()
    ]
    # A training leaves the weights as they are.
    return MultiTaskModel(tasks, modules, device="cpu", optimizer={"class": "sgd", "lr": 0.0})


def loaders_of(case: Mapping[str, Any]) -> list[TaskLoader]:
    loaders = []
    for batch_size, loader in zip(case["batch_sizes"], case["loaders"], strict=True):
        by_task = {(split, task): FILE["data"][split][task] for split in FILE["data"] for task in FILE["data"][split]}
        # One task's rows serve several datasets, which their number of rows tells apart.
        (data,) = (rows for rows in by_task.values() if len(rows["y"]) == loader["n"])
        labels = {label: torch.tensor(data["y"]) for label in loader["task_to_label"].values() if label is not None}
        dataset = ColumnDataset(loader["data"], {"x": torch.tensor(data["x"])}, labels)
        loaders.append(TaskLoader(dataset, loader["task_to_label"], loader["split"], batch_size=batch_size))
    return loaders


def without_fbeta(case: dict[str, Any]) -> dict[str, Any]:
    """Return the case with ``fbeta`` left out where it stands beside ``f1``."""
    tasks = {
        name: {
            **settings,
            "metrics": [m for m in settings["metrics"] if m != "fbeta" or "f1" not in settings["metrics"]],
        }
        for name, settings in case["tasks"].items()
    }
    return {**case, "tasks": tasks}


def expected(case: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in case["scores"].items()}


def check(found: Mapping[str, float], wanted: Mapping[str, float]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        # Emmental's averages hold the mean of float32 probabilities where a custom metric is one.
        is_float32 = name.endswith("/loss") or "mean_p1" in "".join(wanted)
        assert value == pytest.approx(wanted[name], rel=FLOAT32 if is_float32 else EXACT, nan_ok=True), name


# ---------------------------------------------------------------------------------------------------------- comparison


@pytest.mark.parametrize("name", [name for name in CASES if name not in DIFFERENCES])
def test_the_scores_are_emmentals_in_its_order(name: str) -> None:
    case = CASES[name]
    found = model_of(case).score(loaders_of(case))
    check(found, expected(case))
    assert list(found) == list(case["scores"])


@pytest.mark.parametrize("name", [name for name, reason in DIFFERENCES.items() if F1_IS_FBETA in reason])
def test_f1_and_fbeta_are_one_metric(name: str) -> None:
    case = CASES[name]
    with pytest.raises(ConfigError, match="metric 'f1' is given twice: f1 and fbeta with beta 1 are one metric"):
        model_of(case)
    once = without_fbeta(case)
    found = model_of(once).score(loaders_of(once))
    if name == "no_average":
        averages = {score for score in found if score.endswith("/average") or score.startswith("model/all/")}
        assert len(averages) == 4 + 3 * 3
        found = {score: value for score, value in found.items() if score not in averages}
    check(found, expected(case))
    assert list(found) == list(case["scores"])


def test_a_metric_without_anything_to_compare_with_is_refused() -> None:
    case = CASES["no_prob_no_pred"]
    assert "error" in case
    with pytest.raises(ConfigError, match="task 'task1': metric 'accuracy' needs require_pred_for_eval"):
        model_of(case)


def test_empty_data_gives_nan_under_the_reported_names() -> None:
    case = CASES["label_none_no_loss"]
    found = model_of(case).score(loaders_of(case))
    renamed = {"fbeta": "f1", "matthews_correlation": "matthews_corrcoef"}
    wanted = expected(case)
    assert found.keys() != wanted.keys()
    for asked, reported in renamed.items():
        assert math.isnan(wanted[f"task2/both/valid/{asked}"])
        wanted[f"task2/both/valid/{reported}"] = wanted.pop(f"task2/both/valid/{asked}")
    check(found, wanted)


def test_every_difference_is_one_of_a_case() -> None:
    assert set(DIFFERENCES) < set(CASES)


@pytest.mark.parametrize("index", range(4))
def test_the_predictions_are_emmentals(index: int) -> None:
    case = without_fbeta(CASES["two_tasks_two_splits"])
    wanted, loader = FILE["predictions"][index], loaders_of(case)[index]
    assert (wanted["data"], wanted["split"]) == (loader.name, loader.split)
    found = model_of(case).predict(loader)[wanted["task"]]
    assert [found.uids[0], found.uids[-1]] == [int(uid.rpartition("_")[2]) for uid in wanted["uids_first_last"]]
    assert found.labels is not None
    assert found.labels.tolist() == wanted["golds"]
    assert found.preds is not None
    assert found.preds.tolist() == wanted["preds"]
    assert found.probs == pytest.approx(np.array(wanted["probs"]), rel=FLOAT32)


# ---------------------------------------------------------------------------- what Emmental's code says without numbers


def test_loaders_of_one_name_and_split_are_one_dataset() -> None:
    """Every row counts once; Emmental keeps the last loader's scores, and counts both in the averages."""
    case = CASES["one_task_two_datasets"]
    one, other, third = case["loaders"]
    same = {**case, "loaders": [one, {**other, "data": one["data"]}, third]}
    found = model_of(case).score(loaders_of(same))
    scores = expected(case)
    for kind in ("loss", "accuracy"):
        a, b = (scores[f"task1/{data}/valid/{kind}"] for data in ("a", "b"))
        assert found[f"task1/a/valid/{kind}"] == pytest.approx((37 * a + 29 * b) / (37 + 29), rel=FLOAT32)
        assert f"task1/b/valid/{kind}" not in found
    losses = [found[f"{name}/valid/loss"] for name in ("task1/a", "task2/c")]
    assert found["model/all/valid/loss"] == pytest.approx(sum(losses) / 2, rel=EXACT)


def test_losses_per_row_are_averaged_over_the_rows() -> None:
    case = without_fbeta(CASES["two_tasks_two_splits"])
    model = model_of(case)
    loss = nn.functional.cross_entropy
    model.tasks["task1"].loss = Loss(lambda outputs, label: loss(outputs["task1_logits"], label, reduction="none"))
    check(model.score(loaders_of(case)), expected(case))


def test_global_metrics_are_functions_of_all_scores_and_stand_beside_them() -> None:
    case = without_fbeta(CASES["two_tasks_two_splits"])
    functions: dict[str, Any] = {
        "gap": lambda scores: scores["model/all/valid/loss"] - scores["model/all/test/loss"],
        "number": len,
    }
    wanted = expected(case)
    gap = wanted["model/all/valid/loss"] - wanted["model/all/test/loss"]
    found = model_of(case).score(loaders_of(case), global_metrics=functions)
    assert list(found) == [*case["scores"], "gap", "number"]
    assert found.pop("gap") == pytest.approx(gap, rel=100 * FLOAT32)  # a difference that leaves two digits fewer
    assert found.pop("number") == len(wanted) + 1  # the first function's number included
    check(found, wanted)
    splits = Evaluate(["valid", "test"])
    hooks = [splits, ScoreTasks(streams=["valid", "test"], global_metrics=functions)]
    record = run_hook(*hooks, model=model_of(case), dataset=Splits(case), epochs=1)
    # As above, for the gap is among them.
    assert flatten(record.epochs[1]) == pytest.approx({**found, "gap": gap, "number": len(wanted) + 1}, rel=1e-4)
    assert model_of(case).score([], global_metrics=functions) == {}


# ------------------------------------------------------------------------------------------------------- the main loop


class Splits(MultiTaskDataset):
    """The loaders of a case, and one to train on."""

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        self._case = case

    def loaders(self) -> list[TaskLoader]:
        rows = ColumnDataset("rest", {"x": torch.zeros(2, 2)}, {"label": torch.zeros(2, dtype=torch.long)})
        return [*loaders_of(self._case), TaskLoader(rows, {"task1": "label"}, "train", batch_size=2)]


@pytest.mark.parametrize("name", ["two_tasks_two_splits", "pred_only", "task2_empty_scorer", "one_task_two_datasets"])
def test_the_main_loop_finds_the_same_scores(name: str) -> None:
    case = without_fbeta(CASES[name])
    splits = sorted({loader["split"] for loader in case["loaders"]})
    record = run_hook(Evaluate(splits), ScoreTasks(), model=model_of(case), dataset=Splits(case), epochs=1)
    numbers = flatten(record.epochs[1])
    check({score: value for score, value in numbers.items() if "/train/" not in score}, expected(case))
