"""What a task makes of outputs and labels, and what it refuses when it is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.scorer import Scorer
from emloop_mtl.tasks.task import Task

from .digit_task import loss_of, make

NAN = float("nan")


# ------------------------------------------------------------------------------------------------------------- outputs


def test_default_outputs_follow_the_loss() -> None:
    output = torch.randn(4, 3)
    assert torch.equal(make("cross_entropy").probabilities({"logits": output}), output.softmax(1))
    assert torch.equal(make("nll_loss").probabilities({"logits": output}), output.exp())
    assert torch.equal(make("bce_with_logits").probabilities({"logits": output}), output.sigmoid())
    assert torch.equal(make("mse").probabilities({"logits": output}), output)
    assert torch.equal(make().probabilities({"logits": output}), output)
    assert torch.equal(make("mse", output="sigmoid").probabilities({"logits": output}), output.sigmoid())
    custom = make(output=lambda outputs: outputs["logits"] * 2)
    assert torch.equal(custom.probabilities({"logits": output}), output * 2)


def test_probabilities_are_detached_and_in_float32() -> None:
    prob = make("cross_entropy").probabilities({"logits": torch.randn(2, 3, dtype=torch.bfloat16, requires_grad=True)})
    assert not prob.requires_grad
    assert prob.dtype == torch.float32


def test_predictions() -> None:
    prob = torch.tensor([[0.1, 0.9], [0.5, 0.5], [0.7, 0.3]])
    assert make("cross_entropy").predictions(prob).tolist() == [1, 0, 0]  # the first of equals
    assert make(output=lambda outputs: outputs["logits"]).predictions(prob).tolist() == [1, 0, 0]
    assert make("bce_with_logits").predictions(prob).tolist() == [[0, 1], [0, 0], [1, 0]]
    assert make("bce").predictions(prob[:, 0]).tolist() == [0, 0, 1]
    assert make("mse").predictions(prob) is prob
    dense = torch.randn(2, 3, 5)
    assert torch.equal(make("cross_entropy").predictions(dense), dense.argmax(1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_probabilities_of_a_function_are_in_float32(dtype: torch.dtype) -> None:
    task = make(output=lambda outputs: outputs["logits"].to(dtype))
    assert task.probabilities({"logits": torch.zeros(2, 3)}).dtype == torch.float32


def test_action_outputs_take_every_form() -> None:
    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    outputs = {"features": ["p", "q"], "logits": {"z": "r"}, "_input_": {"x": "s"}}

    def selected(forms: Any) -> dict[str, Any]:
        task = Task("t", flow=flow, action_outputs=forms)
        found = task.select_outputs(outputs)
        assert list(found) == task.action_output_names
        return found

    assert selected("features") == {"t/features": ["p", "q"]}
    assert selected(("features", 1)) == {"t/features_1": "q"}
    assert selected([("features", 0), "logits.z", "features[1]"]) == {
        "t/features_0": "p",
        "t/logits_z": "r",
        "t/features_1": "q",
    }
    assert selected([("_input_", "x"), ("_input_", "x")]) == {"t/_input__x": "s"}
    assert selected([]) == selected(()) == selected(None) == {}
    with pytest.raises(ConfigError, match="no action 'feature'; did you mean 'features'"):
        selected(["feature"])
    with pytest.raises(ConfigError, match="task 't': action_outputs: there is no item 5"):
        selected([("features", 5)])


def test_action_outputs_hold_no_graph() -> None:
    task = Task("t", flow=[Action("a", "m", "x")], action_outputs=["a"])
    value = torch.zeros(2, requires_grad=True) * 2
    found = task.select_outputs({"a": {"list": [value], "tensor": value}})["t/a"]
    assert not found["list"][0].requires_grad
    assert not found["tensor"].requires_grad


# -------------------------------------------------------------------------------------------------------------- labels


@given(st.lists(st.sampled_from([0, 1, 2, -100]), max_size=8))
def test_check_labels_finds_the_labelled_rows(values: list[int]) -> None:
    rows = make("cross_entropy", num_classes=3, missing_label=-100).check_labels(torch.tensor(values, dtype=torch.long))
    labelled = [index for index, value in enumerate(values) if value != -100]
    if len(labelled) == len(values):
        assert rows is None
    else:
        assert rows is not None
        assert rows.dtype == torch.int64
        assert rows.tolist() == labelled


@pytest.mark.parametrize(
    ("options", "label", "rows"),
    [
        ({"loss": "mse", "missing_label": NAN}, [1.0, NAN, 2.0], [0, 2]),
        ({"loss": "mse", "missing_label": NAN}, [[1.0, 2.0], [NAN, NAN]], [0]),
        ({"loss": "cross_entropy", "missing_label": NAN, "num_classes": 3}, [2.0, NAN], [0]),
        ({"loss": "cross_entropy", "missing_label": 255, "num_classes": 3}, [[0, 255], [255, 255]], [0]),
        ({"loss": "cross_entropy", "missing_label": 0, "num_classes": 3}, [1, 0, 2], [0, 2]),
        ({"loss": "cross_entropy", "num_classes": 3}, [[0, -100], [1, 2]], None),
        ({"loss": "cross_entropy", "num_classes": 3}, [[0.5, 0.5, 0.0]], None),
        ({"loss": "cross_entropy", "num_classes": 3}, [], None),
        ({"loss": "bce", "missing_label": -1}, [0, -1, 1], [0, 2]),
        ({"missing_label": NAN}, [1, 2], None),
        ({}, [1, 10**9], None),
        ({}, [True, False], None),
    ],
)
def test_labels_that_can_be_used(options: dict[str, Any], label: list[Any], rows: list[int] | None) -> None:
    found = make(**options).check_labels(torch.tensor(label))
    assert (None if found is None else found.tolist()) == rows


@pytest.mark.parametrize(
    ("options", "label", "message"),
    [
        (
            {"num_classes": 10},
            [3, 12],
            r"label 12 in row 1 is out of range 0\.\.9; set missing_label: 12 if .*num_classes",
        ),
        ({"num_classes": 10}, [3, -100], "label -100 in row 1 is out of range"),
        ({"num_classes": 10}, [3, -1], "label -1 in row 1 is out of range"),
        ({"num_classes": 10}, [3, 10], "label 10 in row 1 is out of range"),
        ({"num_classes": 10, "missing_label": -1}, [-1, 10], "label 10 in row 1 is out of range"),
        ({"num_classes": 10}, [[0.5], [1.0]], "label 0.5 in row 0 is no whole number"),
        ({"loss": "mse"}, [1j], "labels must be real numbers, got torch.complex64"),
        ({"num_classes": 10, "missing_label": -1}, [-1, -1, 12], "label 12 in row 2 is out of range"),
        ({"num_classes": 10}, [0.5, 1.0], "label 0.5 in row 0 is no whole number"),
        ({"num_classes": 10}, [0.0, NAN], "label nan in row 1 is not finite; set missing_label: nan"),
        (
            {"loss": "mse", "missing_label": NAN},
            [NAN, float("inf")],
            "label inf in row 1 is not finite; labels must be",
        ),
        ({"loss": "mse", "missing_label": NAN}, [[1.0, NAN]], "label nan in row 0 is not finite; missing_label is nan"),
        ({"loss": "bce_with_logits"}, [0, 2], r"label 2 in row 1 is out of range 0\.\.1"),
        ({"loss": lambda o, y: y}, [NAN], "label nan in row 0 is not finite"),
    ],
)
def test_labels_that_cannot_be_used(options: dict[str, Any], label: list[Any], message: str) -> None:
    task = make(**{"loss": "cross_entropy", **options})
    with pytest.raises(DataError, match=f"task 'digit', source 'other': {message}"):
        task.check_labels(torch.tensor(label), "other")


def test_labels_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="task 'digit', source 'y': labels must be numbers, got a list"):
        make("mse").check_labels(["a", "b"])
    with pytest.raises(DataError, match="need a row for each sample"):
        make("mse").check_labels(3.0)
    assert make("mse").check_labels([1.0, 2.0]) is None


def test_without_known_classes_negative_labels_are_found_and_too_great_ones_named() -> None:
    task = make("cross_entropy")
    assert task.num_classes is None
    with pytest.raises(
        DataError, match=r"source 'y': label -100 in row 1 is out of range 0\.\.; set missing_label: -100"
    ):
        task.check_labels(torch.tensor([0, -100]))
    with pytest.raises(
        DataError, match=r"task 'digit': loss 'cross_entropy': .*the shape \(2, 3\); set .* num_classes"
    ):
        loss_of(task, torch.zeros(2, 3), torch.tensor([0, 7]))


def test_advice_about_labels_fits_what_is_set() -> None:
    with pytest.raises(DataError, match="missing_label is -1, .* all it holds; set num_classes if there are more"):
        make("cross_entropy", num_classes=2, missing_label=-1).check_labels(torch.tensor([0, 5]))
    with pytest.raises(DataError, match="labels must be real numbers, got torch.complex64"):
        make("cross_entropy").check_labels(torch.zeros(2, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("module", "classes"),
    [
        (nn.Linear(4, 7), 7),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.LogSoftmax(1)), 6),
        (nn.Sequential(nn.Linear(4, 5), nn.Flatten()), None),
        (nn.ReLU(), None),
    ],
)
def test_the_number_of_classes_is_read_off_a_last_linear_layer(module: nn.Module, classes: int | None) -> None:
    assert make("cross_entropy", modules={"head": module}).num_classes == classes
    assert make("mse", modules={"head": module}).num_classes is None
    assert make("cross_entropy", modules={"head": module}, num_classes=3).num_classes == 3


@pytest.mark.parametrize(
    "options", [{"loss": "mse"}, {"loss": "poisson_nll"}, {"loss": nn.HuberLoss()}, {"loss": "l1", "output": "exp"}]
)
def test_a_number_of_classes_of_values_is_refused(options: dict[str, Any]) -> None:
    text = "task 'digit': num_classes has no effect where labels and predictions are values, as of loss '.*_loss'"
    with pytest.raises(ConfigError, match=text) as caught:
        make(**options, num_classes=3)
    assert caught.value.path == ("num_classes",)


# --------------------------------------------------------------------------------------------------------- construction


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "cross_entropi"}, "unknown loss 'cross_entropi'; did you mean 'cross_entropy'"),
        ({"loss": 3}, "a loss is a name, a module or a function"),
        ({"output": "softmaxx"}, "unknown output 'softmaxx'; did you mean 'softmax'"),
        ({"metrics": ["acuracy"]}, "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ({"metrics": ["f1"], "scorer": Scorer()}, "give 'metrics' or a 'scorer', not both"),
        ({"scorer": ["f1"]}, "scorer must be a Scorer"),
        ({"weight": -1}, "weight must be a finite number >= 0, not -1"),
        ({"weight": 10**400}, "weight must be a finite number >= 0, not 1000"),
        ({"weight": NAN}, "weight must be a finite number >= 0, not nan"),
        ({"weight": "1"}, "weight must be a number, not '1'"),
        ({"weight": 0.5}, "weight has no effect without a loss; leave it out, or set 'loss'"),
        ({"missing_label": "none"}, "missing_label must be a number, not 'none'"),
        ({"missing_label": float("inf")}, "missing_label must be a finite number or nan"),
        ({"action_outputs": 5}, "action_outputs: cannot read input 5"),
        ({"num_classes": 0}, "num_classes must be a whole number > 0"),
        ({"modules": {"head": 3}}, "module 'head' must be an nn.Module"),
        ({"module_device": {"head": "nowhere"}}, "device of module 'head'"),
        ({"metrics": ["roc_auc"], "require_prob_for_eval": False}, "metric 'roc_auc' needs require_prob_for_eval"),
        (
            {"metrics": ["f1"], "require_prob_for_eval": False, "require_pred_for_eval": False},
            "metric 'f1' needs require_pred_for_eval",
        ),
    ],
)
def test_a_mistake_names_the_task_and_the_setting(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"task 'digit': {message}"):
        make(**{"loss": None, **options})


@pytest.mark.parametrize("name", ["", "a/b", "model", None])
def test_a_name_that_scores_could_not_be_told_by_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="cannot name a task"):
        Task(name, flow=[Action("a", "m", "x")])


def test_a_flow_is_made_of_actions_or_mappings() -> None:
    assert Task("t", flow=[{"name": "a", "module": "m", "inputs": "x"}]).flow == (Action("a", "m", "x"),)
    with pytest.raises(ConfigError, match=r"task 't': flow\[1\]: an action needs 'module'"):
        Task("t", flow=[Action("a", "m"), {"name": "b"}])
    with pytest.raises(ConfigError, match="its flow has no action"):
        Task("t")
    with pytest.raises(ConfigError, match=r"flow\[0\] must be an Action"):
        Task("t", flow=["a"])  # type: ignore[list-item]


def test_module_device_minus_one_is_the_cpu() -> None:
    assert make(module_device={"head": -1}).module_device == {"head": torch.device("cpu")}
