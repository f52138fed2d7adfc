from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.scorer import Scorer
from emloop_mtl.tasks.task import Task
from emloop_mtl.tasks.task_network import TaskNetwork

NAN = float("nan")


def make(loss: Any = None, **options: Any) -> Task:
    return Task("digit", flow=[Action("logits", "head", "x")], label="y", loss=loss, **options)


def loss_of(task: Task, output: Any, label: Any, rows: Tensor | None = None) -> Tensor:
    return task.task_loss({"logits": output}, label, rows)


@pytest.mark.parametrize(
    "loss",
    ["cross_entropy", functional.cross_entropy, partial(functional.cross_entropy), nn.CrossEntropyLoss()],
    ids=["name", "function", "partial", "module"],
)
def test_a_class_loss_takes_the_last_output_and_labels_of_any_whole_type(loss: Any) -> None:
    output, label = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    expected = functional.cross_entropy(output, label)
    task = make(loss)
    for given_label in (label, label.int(), label.to(torch.uint8), label.float(), label[:, None]):
        assert torch.equal(loss_of(task, output, given_label), expected)


def test_class_probabilities_are_labels_too() -> None:
    output, label = torch.randn(4, 3), torch.softmax(torch.randn(4, 3, dtype=torch.float64), 1)
    assert torch.equal(loss_of(make("cross_entropy"), output, label), functional.cross_entropy(output, label.float()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy_with_logits", "cross_entropy"])
def test_half_outputs_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    output = torch.randn(4, 3).to(dtype)
    label = torch.tensor([0, 2, 1, 1]) if name == "cross_entropy" else torch.ones(4, 3)
    loss = loss_of(make(name), output, label)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, loss_of(make(name), output.float(), label))


def test_autocast_does_not_reach_the_loss() -> None:
    """binary_cross_entropy raises under autocast of CUDA, and others would change precision."""
    output, label = torch.rand(4, 3), torch.ones(4, 3)
    expected = functional.binary_cross_entropy(output, label)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss_of(make("bce"), output, label), expected)


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss", "multi_margin_loss"])
def test_a_batch_of_one_row_whose_dimension_a_module_drops_is_refused(loss: str) -> None:
    """torch would take its only dimension for that of the classes, and break off in the backward pass."""
    with pytest.raises(DataError, match=r"output of shape \(3,\) has other rows than labels \(1,\)"):
        loss_of(make(loss), torch.randn(3, requires_grad=True), torch.tensor([1]))


def test_a_column_of_outputs_fits_flat_labels_instead_of_being_broadcast() -> None:
    output, label = torch.randn(4, 1), torch.tensor([0, 1, 1, 0])
    assert torch.equal(loss_of(make("mse_loss"), output, label), functional.mse_loss(output[:, 0], label.float()))
    assert torch.equal(loss_of(make("mse_loss"), output[:, 0], label[:, None]), loss_of(make("mse"), output, label))
    with pytest.raises(DataError, match=r"task 'digit': output of shape \(4, 2\) does not fit labels of shape \(4,\)"):
        loss_of(make("mse_loss"), torch.randn(4, 2), label)
    with pytest.raises(DataError, match="has other rows than labels"):
        loss_of(make("cross_entropy"), torch.randn(3, 2), label)


def test_an_error_of_the_loss_itself_is_told_with_its_task() -> None:
    def broken(outputs: Any, label: Any) -> Any:
        raise RuntimeError("of its own")

    with pytest.raises(RuntimeError, match="of its own") as caught:
        loss_of(make(broken), torch.randn(4, 3), torch.tensor([0, 2, 1, 1]))
    assert caught.value.__notes__ == ["in task 'digit', loss 'broken'"]


def test_losses_per_row_are_averaged() -> None:
    output, label = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    assert torch.equal(
        loss_of(make(nn.CrossEntropyLoss(reduction="none")), output, label),
        functional.cross_entropy(output, label, reduction="none").mean(),
    )


def test_a_python_loss_gets_all_outputs_by_name() -> None:
    task = Task(
        "t",
        flow=[Action("features", "trunk", "x"), Action("logits", "head", "features")],
        loss=lambda outputs, label: (outputs["logits"] - label).square() + outputs["features"][1].sum(),
    )
    outputs = {"features": [torch.ones(2), torch.full((2,), 3.0)], "logits": torch.zeros(2)}
    assert task.task_loss(outputs, torch.ones(2)).item() == 7
    assert task.task_loss(outputs, torch.ones(2), torch.tensor([1])).item() == 4
    free = make(lambda outputs, label: outputs["logits"].sum() if label is None else None)
    assert loss_of(free, torch.ones(3), None).item() == 3
    with pytest.raises(ConfigError, match="task 'digit': loss '<lambda>' must return a tensor, not a NoneType"):
        loss_of(free, torch.ones(3), torch.ones(3))


@given(
    st.lists(st.booleans(), min_size=1, max_size=8),
    st.sampled_from(["cross_entropy", "mse", "python"]),
    st.integers(0, 99),
)
def test_unlabelled_rows_have_no_part_in_loss_and_gradient(labelled: list[bool], kind: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = len(labelled)
    output = torch.randn(size, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    kept = torch.tensor(labelled)
    rows = kept.nonzero().squeeze(1)
    if kind == "mse":
        label = torch.randn(size, 3, generator=generator, dtype=torch.float64).where(kept[:, None], torch.tensor(NAN))
        loss, expected = "mse", functional.mse_loss(output[kept], label[kept])
    else:
        label = torch.randint(3, (size,), generator=generator).where(kept, -100)
        loss = "cross_entropy" if kind == "cross_entropy" else lambda o, y: functional.cross_entropy(o["logits"], y)
        expected = functional.cross_entropy(output[kept], label[kept]) if kept.any() else torch.zeros(())
    value = loss_of(make(loss), output, label, rows)
    assert value.dim() == 0
    (gradient,) = torch.autograd.grad(value, output)
    if not kept.any():
        assert value.item() == 0
        assert torch.equal(gradient, torch.zeros_like(output))
        return
    assert torch.equal(value, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected, output)[0])
    assert torch.equal(gradient[~kept], torch.zeros_like(gradient[~kept]))


def test_rows_are_selected_in_nested_outputs() -> None:
    """What has another first dimension than the batch, or is no tensor, is left as it is."""
    seen: list[Any] = []
    output = {"a": (torch.arange(4), [torch.arange(8).reshape(4, 2)]), "b": torch.arange(3), "c": "text"}
    task = make(lambda outputs, label: seen.append((outputs["logits"], label)) or torch.zeros(()))
    loss_of(task, output, torch.tensor([5, 6, 7, 8]), torch.tensor([3, 1]))
    found, label = seen[0]
    assert found["a"][0].tolist() == [3, 1]
    assert found["a"][1][0].tolist() == [[6, 7], [2, 3]]
    assert found["b"].tolist() == [0, 1, 2]
    assert found["c"] == "text"
    assert label.tolist() == [8, 6]


@pytest.mark.parametrize("loss", ["cross_entropy", lambda outputs, label: outputs["logits"].sum()])
def test_without_labelled_rows_gradients_are_zero_instead_of_none(loss: Any) -> None:
    trunk, head = nn.Linear(2, 3), nn.Linear(3, 2)
    task = Task("t", flow=[Action("features", "trunk", "x"), Action("logits", "head", "features")], loss=loss)
    features = trunk(torch.full((4, 2), float("inf")))
    zero = task.task_loss(
        {"features": features, "logits": head(features)}, torch.zeros(4), torch.zeros(0, dtype=torch.long)
    )
    zero.backward()
    assert zero.item() == 0
    for parameter in (*trunk.parameters(), *head.parameters()):
        assert parameter.grad is not None
        # Infinite inputs make the linear layer's own backward pass 0 * inf; the biases never see them.
        if parameter.dim() == 1:
            assert torch.equal(parameter.grad, torch.zeros_like(parameter))


@pytest.mark.parametrize("rows", [None, [0, 2], []])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", lambda outputs, label: outputs["logits"][:, 0] - label])
def test_a_loss_does_not_wait_for_the_device(loss: Any, rows: list[int] | None, no_waiting: Any) -> None:
    task = make(loss)
    label = torch.ones(4, 2) if loss == "mse" else torch.tensor([0, 1, 1, 0])
    output = torch.randn(4, 2, requires_grad=True)
    index = None if rows is None else torch.tensor(rows, dtype=torch.long)
    with no_waiting():
        loss_of(task, output, label, index).backward()
        task.predictions(task.probabilities({"logits": output}))
    assert output.grad is not None
    assert bool(output.grad.any()) == (rows != [])


def test_a_loss_with_parameters_is_trained_with_the_modules() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]))
    assert make(loss).modules == {"digit_loss": loss}
    assert make(nn.CrossEntropyLoss()).modules == {}
    with pytest.raises(ConfigError, match="rename module 'digit_loss'"):
        make(loss, modules={"digit_loss": nn.Linear(1, 1)})


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
    assert selected([]) == selected(()) == {}
    with pytest.raises(ConfigError, match="no action 'feature'; did you mean 'features'"):
        selected(["feature"])
    with pytest.raises(ConfigError, match="task 't': action_outputs: there is no item 5"):
        selected([("features", 5)])


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


def test_a_missing_label_is_left_out_inside_rows_by_the_loss_as_well() -> None:
    """Dense labels, [n, positions], with 255 where a position has none: the loss must not count these."""
    task = make("cross_entropy", num_classes=3, missing_label=255)
    output, label = torch.randn(2, 3, 2), torch.tensor([[0, 255], [2, 1]])
    assert task.check_labels(label) is None
    assert torch.equal(loss_of(task, output, label), functional.cross_entropy(output, label, ignore_index=255))


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


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "mse", "output": "softmax"},
        {"loss": "soft_margin_loss", "output": "sigmoid"},
        {"loss": "bce"},
        {"loss": None},
        {"loss": lambda outputs, label: outputs["logits"].mean()},
    ],
)
def test_a_number_of_classes_serves_metrics_where_predictions_are_classes(options: dict[str, Any]) -> None:
    metric = {"class": "f1", "average": "per_class"}
    scorer = make(**options, num_classes=3, metrics=[metric]).scorer
    assert scorer is not None
    assert len(scorer.names) == 3


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


def test_eval_outputs_are_what_the_metrics_read() -> None:
    assert make().eval_outputs == frozenset()
    assert make(metrics=["accuracy"]).eval_outputs == {"digit/pred"}
    assert make(metrics=["accuracy"], require_pred_for_eval=False).eval_outputs == {"digit/prob"}
    assert make(metrics=["accuracy", "roc_auc"]).eval_outputs == {"digit/prob", "digit/pred"}
    assert make(metrics=["f1_macro"], require_prob_for_eval=False).eval_outputs == {"digit/pred"}


def test_module_device_minus_one_is_the_cpu() -> None:
    assert make(module_device={"head": -1}).module_device == {"head": torch.device("cpu")}


def test_python_losses_are_computed_in_float32() -> None:
    seen: dict[str, torch.dtype] = {}

    def loss(outputs: Any, label: Tensor) -> Tensor:
        seen.update(first=outputs["nested"]["pair"][0].dtype, whole=outputs["nested"]["count"].dtype)
        return functional.cross_entropy(outputs["logits"], label)

    logits, label = torch.randn(4, 3).bfloat16(), torch.tensor([0, 2, 1, 1])
    outputs = {"logits": logits, "nested": {"pair": (logits, None), "count": label}}
    found = make(loss).task_loss(outputs, label)
    assert torch.equal(found, functional.cross_entropy(logits.float(), label))
    assert seen == {"first": torch.float32, "whole": torch.int64}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_probabilities_of_a_function_are_in_float32(dtype: torch.dtype) -> None:
    task = make(output=lambda outputs: outputs["logits"].to(dtype))
    assert task.probabilities({"logits": torch.zeros(2, 3)}).dtype == torch.float32


def test_action_outputs_hold_no_graph() -> None:
    task = Task("t", flow=[Action("a", "m", "x")], action_outputs=["a"])
    value = torch.zeros(2, requires_grad=True) * 2
    found = task.select_outputs({"a": {"list": [value], "tensor": value}})["t/a"]
    assert not found["list"][0].requires_grad
    assert not found["tensor"].requires_grad


def test_a_class_of_losses_is_no_loss() -> None:
    with pytest.raises(ConfigError, match="a loss is an object, not the class CrossEntropyLoss"):
        make(nn.CrossEntropyLoss)


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


@pytest.mark.parametrize("metric", ["accuracy", "f1", "f1_macro", "f1_micro", "f1_weighted"])
def test_metrics_of_classes_are_refused_where_values_are_predicted(metric: str) -> None:
    with pytest.raises(
        ConfigError, match=f"metric '{metric}' compares classes, but the task predicts values"
    ) as caught:
        make("mse_loss", metrics=["mean_squared_error", metric])
    assert caught.value.path == ("metrics", 1)
    with pytest.raises(ConfigError) as caught:
        make("mse_loss", scorer=Scorer([metric]))
    assert caught.value.path == ("scorer", "metrics", 0)
    make("mse_loss", metrics=[metric], output=lambda outputs: outputs["logits"] > 0)
    make("mse_loss", metrics=[metric], require_pred_for_eval=False)


@pytest.mark.parametrize("metric", ["pearson_correlation", "spearman_correlation", "pearson_spearman"])
def test_metrics_of_numbers_are_refused_where_classes_are_predicted(metric: str) -> None:
    text = f"task 'digit': metric '{metric}' compares one number per row, but the task predicts classes"
    for loss in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        with pytest.raises(ConfigError, match=text) as caught:
            make(loss, metrics=["accuracy", metric])
        assert caught.value.path == ("metrics", 1)
    make("cross_entropy", metrics=[metric], output=lambda outputs: outputs["logits"][:, 0])
    make("mse_loss", metrics=[metric])
    make("cross_entropy", metrics=["mean_squared_error"])  # of labels that are probabilities


def test_r2_is_refused_where_classes_are_predicted() -> None:
    for loss in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        with pytest.raises(ConfigError, match="'r2' compares values, but the task predicts classes") as caught:
            make(loss, metrics=["accuracy", "r2"])
        assert caught.value.path == ("metrics", 1)
    for loss in ("mse_loss", "binary_cross_entropy_with_logits"):
        make(loss, metrics=["r2", "mean_absolute_error"])


@pytest.mark.parametrize("metric", ["log_loss", "brier_score", "calibration_error"])
def test_metrics_of_probabilities_are_refused_where_there_are_none(metric: str) -> None:
    for loss in ("mse_loss", "poisson_nll_loss", "multi_margin_loss"):
        with pytest.raises(ConfigError, match=f"'{metric}' needs probabilities, but the task gives other") as caught:
            make(loss, metrics=[metric])
        assert caught.value.path == ("metrics", 0)
    make("multi_margin_loss", metrics=[metric], output="softmax")
    for loss in ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"):
        make(loss, metrics=[metric])


def test_averages_over_the_labels_of_a_row_are_refused_where_there_is_one() -> None:
    for loss, what in (("cross_entropy", "classes"), ("mse_loss", "values")):
        with pytest.raises(ConfigError, match=f"metric 'f1_samples' .*but the task predicts {what}"):
            make(loss, metrics=["f1_samples"])
    make("binary_cross_entropy_with_logits", metrics=["f1_samples"])


@pytest.mark.parametrize("read", [{}, {"require_pred_for_eval": False}, {"require_prob_for_eval": False}])
def test_several_labels_per_row_are_scored_as_sklearn_scores_multilabel_ones(read: dict[str, bool]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 50, 4, generator=generator)
    label = (label > 0.7).float()
    names = ["f1_macro", "f1_micro", "recall_weighted", "precision_samples", "exact_match", "hamming_loss"]
    task = make("binary_cross_entropy_with_logits", metrics=[*names, {"class": "f1", "average": "per_class"}], **read)
    assert task.scorer is not None
    scorer = task.scorer.fresh(task.num_classes)
    prob = task.probabilities({"logits": logits})
    pred = task.predictions(prob)
    for rows in torch.arange(50).split(16):
        read_prob = prob[rows] if "digit/prob" in task.eval_outputs else None
        read_pred = pred[rows] if "digit/pred" in task.eval_outputs else None
        scorer.update(label[rows], read_prob, read_pred)
    golds, preds = label.numpy(), (logits > 0).long().numpy()
    each = metrics.f1_score(golds, preds, average=None)
    expected = {
        "f1_macro": metrics.f1_score(golds, preds, average="macro"),
        "f1_micro": metrics.f1_score(golds, preds, average="micro"),
        "recall_weighted": metrics.recall_score(golds, preds, average="weighted"),
        "precision_samples": metrics.precision_score(golds, preds, average="samples", zero_division=0),
        "exact_match": metrics.accuracy_score(golds, preds),
        "hamming_loss": metrics.hamming_loss(golds, preds),
        **{f"f1_of_{number}": score for number, score in enumerate(each.tolist())},
    }
    assert scorer.compute() == pytest.approx(expected, rel=1e-12)  # quotients of whole numbers


def test_a_metric_of_a_class_that_there_is_not_is_refused() -> None:
    text = "task 'digit': metric 'f1' looks for class 3, but there are 3 classes, counted from 0"
    metrics = ["accuracy", {"class": "f1", "positive": 3}]
    with pytest.raises(ConfigError, match=text) as caught:
        make("cross_entropy", metrics=metrics, num_classes=3)
    assert caught.value.path == ("metrics", 1, "positive")
    make("cross_entropy", metrics=metrics, num_classes=4)
    task = make("cross_entropy", metrics=metrics)
    with pytest.raises(ConfigError, match=text) as caught:
        TaskNetwork([task], {task.flow[-1].module: nn.Linear(2, 3)})
    assert caught.value.path == ("digit", "metrics", 1, "positive")


class Correlation(nn.Module):
    """A loss with an operation that autocast would take for itself."""

    def forward(self, output: Tensor, label: Tensor) -> Tensor:
        return (output.T @ label[:, None].to(output.dtype)).mean()


def test_a_loss_is_computed_in_float32_inside_autocast_as_well() -> None:
    output, label = torch.randn(4, 3), torch.tensor([0.1, 0.2, 0.3, 0.4])
    expected = loss_of(make(Correlation()), output, label)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(make(Correlation()), output, label)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_without_labelled_rows_every_action_of_the_flow_gets_zero_gradients() -> None:
    task = Task("t", flow=[Action("side", "m", "x"), Action("last", "n", "x")], loss=lambda outputs, label: label)
    side, last = (torch.full((2,), float("inf"), requires_grad=True) for _ in range(2))
    loss = task.task_loss({"side": side, "last": last}, torch.zeros(2), torch.zeros(0, dtype=torch.int64))
    loss.backward()  # type: ignore[no-untyped-call]
    for value in (side, last):
        assert value.grad is not None
        assert value.grad.tolist() == [0.0, 0.0]
