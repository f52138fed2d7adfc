"""Tasks whose flows are the same run as one."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import DataError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

from .stacks import ALL, MakeBatch, MakeHeads, same_state


def test_equal_heads_run_as_one_from_the_first_batch_that_is_trained_on(
    make_heads: MakeHeads, make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_heads()
    with caplog.at_level(logging.INFO, "emloop_mtl"):
        model.run(make_batch(), train=False)
        assert model.stacked_tasks == []
        model.run(make_batch(), train=True)
        model.run(make_batch(seed=1), train=True)
    assert model.stacked_tasks == ALL
    assert [record.message for record in caplog.records] == [
        "tasks 't0', 't1', 't2', 't3' run as one: what remains of their flows is the same"
    ]


def test_of_many_tasks_the_log_names_a_few(
    make_heads: MakeHeads, make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "emloop_mtl"):
        make_heads(12).run(make_batch(12), train=True)
    assert caplog.messages == [
        "12 tasks, 't0', 't1', 't2' … 't11', run as one: what remains of their flows is the same"
    ]


def test_one_operation_is_run_for_all_heads(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    calls: list[str] = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    counts = {}
    for stacked in (True, False):
        model = make_heads(9, stack_tasks=stacked)
        model.run(make_batch(9), train=True)
        calls.clear()
        with Count():
            model.run(make_batch(9), train=False)
        counts[stacked] = calls.count("addmm"), calls.count("_log_softmax")
    assert counts == {True: (2, 1), False: (10, 9)}


@pytest.mark.parametrize("hidden", [False, True])
def test_it_can_be_turned_off(make_heads: MakeHeads, make_batch: MakeBatch, hidden: bool) -> None:
    model = make_heads(hidden=hidden, stack_tasks=False)
    model.run(make_batch(), train=True)
    assert model.stacked_tasks == []


def test_two_tasks_run_apart(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads(2)
    model.run(make_batch(2), train=True)
    assert model.stacked_tasks == []


def test_tasks_in_turn_and_a_single_one_run_apart(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    for step in range(8):
        model.run(make_batch([f"t{step % 4}"], seed=step), train=True)
    assert model.stacked_tasks == []
    # They have been trained apart before, so one of them may be absent again.
    model.run(make_batch(), train=True)
    assert model.stacked_tasks == []


def test_only_tasks_that_always_come_together_are_one(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads(7)
    every = [f"t{number}" for number in range(7)]
    splits = [(every[:3], "train"), (every, "train"), (every[6:], "valid")]
    model.check_tasks(
        [Batch(dict.fromkeys(["x", *names]), tasks={n: n for n in names}, split=split) for names, split in splits]
    )
    model.run(make_batch(7), train=True)
    assert model.stacked_tasks == [("t0", "t1", "t2"), ("t3", "t4", "t5", "t6")]
    assert "together" not in model.training_state_dict()


def test_a_batch_of_some_of_the_tasks_takes_them_apart_for_good(
    make_heads: MakeHeads, make_batch: MakeBatch, caplog: pytest.LogCaptureFixture
) -> None:
    together, apart = (make_heads(update={"accumulate": 2}, stack_tasks=stack) for stack in (True, False))
    carried = [4, ["t0", "t2", "t3"], 4, 4, ["t1"], 4]
    with caplog.at_level(logging.INFO, "emloop_mtl"):
        for step, tasks in enumerate(carried):
            for model in (together, apart):
                model.run(make_batch(tasks, seed=step), train=True)
    assert caplog.messages == [
        "tasks 't0', 't1', 't2', 't3' run as one: what remains of their flows is the same",
        "tasks 't0', 't1', 't2', 't3' run apart from now on: a batch carries 3 of them",
        "tasks 't0', 't2', 't3' run as one: what remains of their flows is the same",
    ]
    assert together.stacked_tasks == [("t0", "t2", "t3")]
    for name, weight in apart.state_dict().items():
        # float64 rounds in the 16th digit, and sums are taken in another order
        torch.testing.assert_close(together.state_dict()[name], weight, rtol=1e-12, atol=1e-12)


def test_evaluating_some_of_the_tasks_leaves_them_together(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    whole = model.run(make_batch(seed=5), train=False)
    part = model.run(make_batch(["t1", "t2"], seed=5), train=False)
    single = model.run(Batch({"x": make_batch(seed=5)["x"]}, tasks={"t0": None}), train=False)
    assert model.stacked_tasks == ALL
    # The sources are drawn alike, labels are not; sums over six features differ in the last digit.
    torch.testing.assert_close(part["t1/prob"], whole["t1/prob"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(single["t0/t0_out"], whole["t0/t0_out"], rtol=1e-12, atol=1e-12)


def test_evaluating_in_inference_mode_does_not_keep_from_training(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    losses = []
    for inference in (True, False):
        model = make_heads()
        model.run(make_batch(), train=True)
        model.tasks["t0"].weight = 3.0  # so that what is known by the weights is made anew
        with torch.inference_mode(inference):
            model.run(make_batch(seed=1), train=False)
        losses.append(model.run(make_batch(seed=1), train=True)["loss"])
        assert model.stacked_tasks == ALL
    assert torch.equal(*losses)


def test_outputs_of_actions_are_tensors_of_their_own(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    outputs = model.run(make_batch(), train=True)
    assert model.stacked_tasks == ALL
    output = outputs["t1/t1_out"]
    assert output.is_contiguous()
    assert output.untyped_storage().nbytes() == output.nbytes


def test_a_rate_that_empties_the_state_does_so_for_all(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    models = [
        make_heads(optimizer={"class": "adagrad", "lr": 0.1, "initial_accumulator_value": 0.2}, stack_tasks=stack)
        for stack in (True, False)
    ]
    for model in models:
        model.learning_rate.follow("step", reset_state=True, frequency=2)
        model.set_length(8, None)
    for step, tasks in enumerate([4, 4, 4, 4, ["t0"], 4, 4, 4]):
        for model in models:
            model.run(make_batch(tasks, seed=step), train=True)
    for name, weight in models[1].state_dict().items():
        # float64 rounds in the 16th digit, and sums are taken in another order
        torch.testing.assert_close(models[0].state_dict()[name], weight, rtol=1e-12, atol=1e-12)


def test_tasks_whose_states_differ_run_apart(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads(6)
    state = copy.deepcopy(model.training_state_dict())
    trained = make_heads(6, stack_tasks=False)
    trained.run(make_batch(["t0", "t1", "t2"]), train=True)
    state["optimizer"] = trained.training_state_dict()["optimizer"]
    model.load_training_state_dict(state)
    model.run(make_batch(6), train=True)
    assert model.stacked_tasks == [("t0", "t1", "t2"), ("t3", "t4", "t5")]


def test_a_copy_of_a_model_is_trained_by_itself(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads(optimizer={"class": "adagrad", "lr": 0.1})
    model.run(make_batch(), train=True)
    before = copy.deepcopy(model.state_dict())
    twin = copy.deepcopy(model)
    for step in range(3):
        twin.run(make_batch(seed=step), train=True)
    assert same_state(model.state_dict(), before)
    for step in range(3):
        model.run(make_batch(seed=step), train=True)
    assert twin.stacked_tasks == model.stacked_tasks == ALL
    assert same_state(model.state_dict(), twin.state_dict())
    assert same_state(model.training_state_dict(), twin.training_state_dict())


def test_a_wrong_label_is_named_as_ever(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    errors = []
    for stack in (True, False):
        model = make_heads(stack_tasks=stack)
        model.run(make_batch(), train=True)
        batch = make_batch()
        batch["t2"] = torch.tensor([0, 1, 2, 0, 3, 0, 1])
        with pytest.raises(DataError) as caught:
            model.run(batch, train=True)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert errors[0].startswith("task 't2', source 't2': label 3 in row 4 is out of range 0..2")


def test_a_wrong_input_is_named_as_ever(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    notes = []
    for stack in (True, False):
        model = make_heads(stack_tasks=stack)
        model.run(make_batch(), train=True)
        model.network["trunk"].append(nn.Linear(6, 5).double())
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
            model.run(make_batch(), train=True)
        notes.append(caught.value.__notes__)
    assert notes[0] == notes[1] == ["in task 't0', action 't0_out', module 't0_head'"]


def test_a_batch_without_labels_cannot_be_trained_on(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    batch = Batch({"x": make_batch()["x"]}, tasks=dict.fromkeys(["t0", "t1", "t2", "t3"]))
    with pytest.raises(DataError, match="task 't0': the batch cannot be trained on, it holds no label for the task"):
        model.run(batch, train=True)
    outputs = model.run(batch, train=False)
    assert float(outputs["loss"]) == 0.0
    assert "t0/loss" not in outputs
    assert outputs["t3/pred"].shape == (7,)


def test_labels_of_other_shapes_have_their_losses_one_by_one(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    together, apart = (make_heads(stack_tasks=stack) for stack in (True, False))
    for step in range(3):
        for model in (together, apart):
            batch = make_batch(seed=step)
            batch["t1"] = batch["t1"].unsqueeze(1)  # a column, as other libraries want it
            batch["t2"] = batch["t2"].tolist() if step else batch["t2"].clamp(0).to(torch.uint16)
            model.run(batch, train=True)
    assert together.stacked_tasks == ALL
    for name, weight in apart.state_dict().items():
        # float64 rounds in the 16th digit, and sums are taken in another order
        torch.testing.assert_close(together.state_dict()[name], weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.5, 1.0])
def test_batches_may_be_prepared_before_and_after(make_heads: MakeHeads, make_batch: MakeBatch, missing: float) -> None:
    together, apart = (make_heads(stack_tasks=stack) for stack in (True, False))
    for model in (together, apart):
        ahead = [model.prepare(make_batch(seed=step, missing=missing)) for step in range(3)]
        model.run(make_batch(seed=9), train=True)
        late = [model.prepare(make_batch(seed=step, missing=missing)) for step in range(3, 6)]
        for batch in [*ahead, *late[:2]]:
            model.run(batch, train=True)
        model.run(make_batch(["t3"]), train=True)
        model.run(late[2], train=True)
    for name, weight in apart.state_dict().items():
        # float64 rounds in the 16th digit, and sums are taken in another order
        torch.testing.assert_close(together.state_dict()[name], weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("label", [-100, 3])
def test_a_batch_prepared_before_has_its_labels_checked(
    make_heads: MakeHeads, make_batch: MakeBatch, label: int
) -> None:
    model = make_heads()
    for task in model.tasks.values():
        model.network.update_task(Task(task.name, flow=task.flow, label=task.label, loss="cross_entropy"))
    wrong = make_batch()
    wrong["t1"][3] = label
    early = model.prepare(wrong)
    model.run(make_batch(), train=True)
    assert model.stacked_tasks == ALL
    with pytest.raises(DataError, match=f"task 't1', source 't1': label {label} in row 3 is out of range"):
        model.run(early, train=True)


def test_labelled_rows_are_known_under_the_names_of_the_tasks(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    found = []
    for stack in (True, False):
        model = make_heads(stack_tasks=stack)
        model.run(make_batch(), train=True)
        batch = make_batch(seed=3, missing=0.4)
        batch["t2"].fill_(-100)
        batch["t3"].fill_(1)
        found.append(model.prepare(batch).rows)
    assert sorted(found[0]) == sorted(found[1]) == ["t0", "t1", "t2"]
    assert all(torch.equal(found[0][name], rows) for name, rows in found[1].items())


def test_an_unlabelled_row_leaves_no_trace(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    batch = make_batch(seed=1)
    for name in model.tasks:
        batch[name][2] = -100
    twin = copy.deepcopy(model.state_dict()), copy.deepcopy(model.training_state_dict())
    handle = model.network["trunk"].register_forward_hook(
        lambda module, inputs, output: output.index_fill(0, torch.tensor([2]), 1e200)
    )
    outputs = model.run(batch, train=True)
    handle.remove()
    assert torch.isfinite(outputs["loss"])
    after = copy.deepcopy(model.state_dict())
    model.load_state_dict(twin[0])
    model.load_training_state_dict(twin[1])
    model.run(batch, train=True)
    assert same_state(model.state_dict(), after)


def test_training_does_not_wait_for_the_device(make_heads: MakeHeads, make_batch: MakeBatch, no_waiting: Any) -> None:
    model = make_heads(optimizer={"class": "sgd", "lr": 0.1, "momentum": 0.9}, hidden=True)
    model.run(make_batch(), train=True)
    batches = [model.prepare(make_batch(seed=step, missing=0.3 * step)) for step in range(3)]
    with no_waiting():
        for batch in batches:
            model.run(batch, train=True)
    assert model.stacked_tasks == ALL


@pytest.mark.parametrize("hidden", [False, True])
def test_autocast_is_the_same(make_batch: MakeBatch, hidden: bool) -> None:
    outputs = []
    for stack in (True, False):
        torch.manual_seed(0)
        layers = [nn.Linear(16, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4)] if hidden else [nn.Linear(16, 4)]
        modules = {"trunk": nn.Linear(5, 16), **{f"t{n}_head": nn.Sequential(*layers) for n in range(1)}}
        tasks = []
        for n in range(3):
            modules[f"t{n}_head"] = copy.deepcopy(nn.Sequential(*layers))
            flow = [Action("features", "trunk", "x"), Action(f"t{n}_out", f"t{n}_head", "features")]
            tasks.append(Task(f"t{n}", flow=flow, label=f"t{n}", loss="cross_entropy", action_outputs=f"t{n}_out"))
        model = MultiTaskModel(
            tasks, modules, optimizer={"class": "sgd", "lr": 0.01}, device="cpu", precision="bf16", stack_tasks=stack
        )
        found = []
        for step in range(3):
            batch = make_batch(3, seed=step)
            batch["x"] = batch["x"].float()
            found.append(model.run(batch, train=True))
        assert bool(model.stacked_tasks) is stack
        outputs.append(found)
    for got, wanted in zip(*outputs, strict=True):
        for name, value in wanted.items():
            assert got[name].dtype == value.dtype, name
            if not name.endswith("/pred"):
                # bfloat16 has 8 bits; outputs and weights are about 1
                torch.testing.assert_close(got[name], value, rtol=2**-7, atol=2**-7)
