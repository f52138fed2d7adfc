"""Tasks that run as one in a training that is resumed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from emloop_mtl.models.frozen_part import FrozenPart
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.models.task_stacks import MOST_CHANGES

from .stacks import ALL, MakeBatch, MakeHeads, freeze, move, same_state, watch


@pytest.mark.parametrize(
    "optimizer",
    [
        {"class": "sgd", "lr": 0.1, "momentum": 0.9},
        {"class": "adamw", "lr": 0.01, "amsgrad": True},
        {"class": "nadam", "lr": 0.01},
        {"class": "adagrad", "lr": 0.01},
        {"class": "adadelta"},
        {"class": "rprop"},
    ],
    ids=lambda optimizer: optimizer["class"],
)
@pytest.mark.parametrize("steps", [3, 4])
def test_a_checkpoint_knows_no_more_of_it_than_which_tasks_were_together(
    make_heads: MakeHeads, make_batch: MakeBatch, optimizer: dict[str, Any], steps: int
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "update": {"accumulate": 2}}
    model = make_heads(**settings)
    for step in range(steps):  # after three, a window is open
        model.run(make_batch(seed=step), train=True)
    assert model.stacked_tasks == ALL
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(model.training_state_dict())
    assert bool(state["gradients"]) is (steps == 3)
    for stacked_before in (False, True):
        for stack in (False, True):
            other = make_heads(stack_tasks=stack, **settings)
            if stacked_before:
                other.run(make_batch(seed=77), train=True)
            other.load_state_dict(copy.deepcopy(weights))
            other.load_training_state_dict(copy.deepcopy(state))
            assert same_state(other.state_dict(), weights)
            kept = other.training_state_dict()
            assert kept.pop("stacked", None) == ([list(ALL[0])] if stack else None)
            assert same_state(kept, {name: value for name, value in state.items() if name != "stacked"})
            if not stack:
                continue
            # The next batch stacks again, and comes to the same bits as the model that was not disturbed.
            going_on = copy.deepcopy((weights, state))
            for seed in (20, 21):
                other.run(make_batch(seed=seed), train=True)
            reference = make_heads(**settings)
            for step in [*range(steps), 20, 21]:
                reference.run(make_batch(seed=step), train=True)
            assert other.stacked_tasks == ALL
            assert same_state(other.state_dict(), reference.state_dict())
            assert same_state(other.training_state_dict(), reference.training_state_dict())
            assert same_state(*[{"all": {"w": w, "s": s}} for w, s in (going_on, (weights, state))])


def test_a_restart_in_an_evaluation_computes_what_it_would_have(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    for step in range(3):
        model.run(make_batch(seed=step), train=True)
    other = make_heads()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    other.load_training_state_dict(copy.deepcopy(model.training_state_dict()))
    other.network.place(other.device)  # as before a training, which has plans made anew
    prepared = other.prepare(make_batch(seed=9))  # as by a thread that reads ahead, before anything is run
    expected = model.run(make_batch(seed=9), train=False)
    assert same_state({"all": other.run(prepared, train=False)}, {"all": expected})
    assert other.stacked_tasks == model.stacked_tasks == ALL


def test_tasks_that_changed_before_a_restart_ran_are_not_put_together_again(
    make_heads: MakeHeads, make_batch: MakeBatch
) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    other = make_heads()
    other.load_training_state_dict(copy.deepcopy(model.training_state_dict()))
    other.remove_task("t1")
    assert "stacked" not in other.training_state_dict()
    other.run(make_batch(["t0", "t2", "t3"]), train=False)
    assert other.stacked_tasks == []


def test_tasks_one_of_which_was_changed_are_apart_after_a_restart_too(
    make_heads: MakeHeads, make_batch: MakeBatch
) -> None:
    """A hook may change weights after a batch; what comes next is then run apart, until a batch is trained on."""
    model, other = make_heads(), make_heads()
    model.run(make_batch(), train=True)
    move(model)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    other.load_training_state_dict(copy.deepcopy(model.training_state_dict()))
    for train, stacked in ((False, []), (True, ALL)):
        outputs = [each.run(make_batch(seed=9), train=train) for each in (model, other)]
        assert same_state(*({"all": each} for each in outputs))
        assert model.stacked_tasks == other.stacked_tasks == stacked
    assert same_state(model.training_state_dict(), other.training_state_dict())


@pytest.mark.parametrize("change", [watch, freeze], ids=lambda change: change.__name__)
def test_tasks_one_of_which_is_changed_before_a_restart_runs_are_all_apart(
    make_heads: MakeHeads, make_batch: MakeBatch, change: Callable[[MultiTaskModel], None]
) -> None:
    model, other = make_heads(), make_heads()
    model.run(make_batch(), train=True)
    other.load_training_state_dict(copy.deepcopy(model.training_state_dict()))
    for each in (model, other):
        change(each)
        each.run(make_batch(), train=False)
        assert each.stacked_tasks == []


@pytest.mark.parametrize("restart", [1, MOST_CHANGES - 1, MOST_CHANGES, MOST_CHANGES + 1])
def test_how_often_modules_changed_counts_on_after_a_restart(
    make_heads: MakeHeads, make_batch: MakeBatch, restart: int
) -> None:
    whole, broken = make_heads(), make_heads()
    for step in range(1, MOST_CHANGES + 3):
        for model in (whole, broken):
            model.run(make_batch(seed=step), train=True)
            move(model)
        if step == restart:
            weights, state = copy.deepcopy((broken.state_dict(), broken.training_state_dict()))
            broken = make_heads()
            broken.load_state_dict(weights)
            broken.load_training_state_dict(state)
        assert broken.training_state_dict().get("changes") == whole.training_state_dict().get("changes")
        model_states = whole.training_state_dict(), broken.training_state_dict()
        assert same_state({"all": whole.state_dict()}, {"all": broken.state_dict()})
        assert model_states[0].get("stacked") == model_states[1].get("stacked")


def test_updates_of_a_loaded_state_do_not_share_their_counters(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads()
    for step in range(3):
        model.run(make_batch(seed=step), train=True)
    other = make_heads(stack_tasks=False)
    other.load_training_state_dict(model.training_state_dict())
    other.run(make_batch(), train=True)
    steps = [entry["step"] for entry in other.training_state_dict()["optimizer"].values()]
    assert [float(step) for step in steps] == [4.0] * len(steps)


def test_tasks_that_were_parted_stay_so_after_a_restart(make_heads: MakeHeads, make_batch: MakeBatch) -> None:
    model = make_heads(7)
    for step, tasks in enumerate([7, ["t0", "t1", "t4"], 7]):
        model.run(make_batch(tasks, seed=step), train=True)
    state, weights = copy.deepcopy(model.training_state_dict()), copy.deepcopy(model.state_dict())
    assert state["together"] == [["t0", "t1", "t4"], ["t2", "t3", "t5", "t6"]]
    other = make_heads(7)
    other.load_state_dict(weights)
    other.load_training_state_dict(state)
    for step in range(3, 6):
        for each in (model, other):
            each.run(make_batch(7, seed=step), train=True)
    assert sorted(other.stacked_tasks) == sorted(model.stacked_tasks) == [("t0", "t1", "t4"), ("t2", "t3", "t5", "t6")]
    assert same_state(model.state_dict(), other.state_dict())


def test_what_is_trained_again_before_a_restart_ran_leaves_nothing_to_put_together(
    make_heads: MakeHeads, make_batch: MakeBatch
) -> None:
    model = make_heads()
    model.run(make_batch(), train=True)
    model.freeze(part := FrozenPart(("trunk",)))
    model.run(make_batch(), train=True)
    other = make_heads()
    other.load_training_state_dict(copy.deepcopy(model.training_state_dict()))
    other.freeze(again := FrozenPart(("trunk",)))  # as a hook does when a training goes on
    assert other.training_state_dict()["stacked"] == [list(ALL[0])]
    for each, frozen in ((model, part), (other, again)):
        each.unfreeze(frozen)
        assert "stacked" not in each.training_state_dict()
