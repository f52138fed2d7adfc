"""What a task's loss is computed of, in which precision, and what it says of rows without labels."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.tasks.action import Action
from emloop_mtl.tasks.task import Task

from .digit_task import loss_of, make


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
        label = torch.randn(size, 3, generator=generator, dtype=torch.float64).where(
            kept[:, None], torch.tensor(torch.nan)
        )
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


def test_a_missing_label_is_left_out_inside_rows_by_the_loss_as_well() -> None:
    """Dense labels, [n, positions], with 255 where a position has none: the loss must not count these."""
    task = make("cross_entropy", num_classes=3, missing_label=255)
    output, label = torch.randn(2, 3, 2), torch.tensor([[0, 255], [2, 1]])
    assert task.check_labels(label) is None
    assert torch.equal(loss_of(task, output, label), functional.cross_entropy(output, label, ignore_index=255))


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


def test_a_class_of_losses_is_no_loss() -> None:
    with pytest.raises(ConfigError, match="a loss is an object, not the class CrossEntropyLoss"):
        make(nn.CrossEntropyLoss)


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
