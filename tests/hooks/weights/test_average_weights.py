"""The average of the weights, next to torch's, and what is evaluated and saved with it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import Checkpoint, newest_checkpoint
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.hooks import (
    AverageWeights,
    ComputeStats,
    Evaluate,
    Freeze,
    RestoreBest,
    SaveBest,
    SaveLatest,
    StopAfter,
)
from emloop_mtl.hooks.weights.weight_average import WeightAverage
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task
from emloop_mtl.testing import FakeDataset, SaveAndFail, run_hook

from ...cli.same_runs import what_differs

ROWS = 12
HEADS = ("a", "b", "c", "d")


def make_batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(6, ROWS, 5, generator=generator)
    return [{"x": each, **{name: each.abs().argmax(1) for name in HEADS}} for each in x]


def make_model(**settings: Any) -> MultiTaskModel:
    """Four heads of one shape, which run as one, on a trunk with batch normalization."""
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {"trunk": nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU())}
    tasks = [make_task(name) for name in HEADS]
    return MultiTaskModel(tasks, modules, **{"optimizer": {"class": "adam", "lr": 0.1}, "device": "cpu", **settings})


def make_task(name: str) -> Task:
    flow = [Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", "features")]
    return Task(name, {f"{name}_head": nn.Linear(7, 5)}, flow, label=name, loss="cross_entropy")


def make_loop(
    folder: Path | None, *hooks: AbstractHook, model: MultiTaskModel | None = None, steps: int = 12, **arguments: Any
) -> MainLoop:
    batches = make_batches()
    dataset = FakeDataset(train=batches[:4], valid=batches[4:])
    listed = [*hooks, Evaluate(streams=["valid"]), ComputeStats(["loss"]), StopAfter(steps=steps)]
    return MainLoop(make_model() if model is None else model, dataset, listed, output_dir=folder, **arguments)


def latest(folder: Path) -> Checkpoint:
    return newest_checkpoint(folder / "checkpoints", "latest")


def average_by(decay: float) -> Any:
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def by_hand(
    steps: int, every: int = 1, first: int = 1, decays: Sequence[float] | None = None, **settings: Any
) -> tuple[MultiTaskModel, AveragedModel]:
    """Train and average as one writes it with torch alone; ``every`` and ``first`` count steps."""
    model = make_model(**settings)
    model.set_length(steps, 4)
    averaged = AveragedModel(model.network, multi_avg_fn=average_by(0.9))
    for step in range(1, steps + 1):
        model.run(Batch(make_batches()[(step - 1) % 4]), train=True)
        if step % every == 0 and step >= first:
            if decays is not None:
                averaged.multi_avg_fn = average_by(decays[int(averaged.n_averaged)])
            averaged.update_parameters(model.network)
    return model, averaged


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("stack_tasks", [True, False])
@pytest.mark.parametrize(
    ("arguments", "update", "hand"),
    [
        ({}, {}, {}),
        ({}, {"accumulate": 2}, {"every": 2}),
        ({"updates": 3}, {}, {"every": 3}),
        ({"updates": 2}, {"accumulate": 2}, {"every": 4}),
        ({"runway": 5}, {}, {"first": 5}),
        ({"ramp": True}, {}, {"decays": [min(0.9, (1 + n) / (10 + n)) for n in range(12)]}),
    ],
)
def test_the_average_is_torchs(
    arguments: dict[str, Any], update: dict[str, Any], hand: dict[str, Any], stack_tasks: bool, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"update": update, "stack_tasks": stack_tasks}
    hook = AverageWeights(decay=0.9, **arguments)
    loop = make_loop(tmp_path, hook, SaveLatest(), model=make_model(**settings))
    loop.run_training()
    model, averaged = by_hand(12, **hand, **settings)
    saved = latest(tmp_path)
    assert_equal(saved.weights, averaged.module.state_dict())
    trained = saved.state["hooks"]["AverageWeights"]["weights"]
    assert_equal(trained, dict(model.network.named_parameters()))
    assert not torch.equal(trained["trunk.0.weight"], saved.weights["trunk.0.weight"])


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"precision": "fp16", "update": {"clip_norm": 1.0}},
        {"update": {"on_nan": "skip"}},
        {"optimizer": {"class": "lbfgs", "max_iter": 2}},
        pytest.param({"compile": {"backend": "eager"}}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_it_is_so_however_the_model_is_trained(settings: dict[str, Any], tmp_path: Path) -> None:
    make_loop(tmp_path, AverageWeights(decay=0.9), SaveLatest(), model=make_model(**settings)).run_training()
    _, averaged = by_hand(12, **settings)
    assert_equal(latest(tmp_path).weights, averaged.module.state_dict())


@pytest.mark.parametrize("share", [0.001, 0.1, 0.7])
def test_the_average_of_parameters_that_are_one_is_that_of_each(share: float) -> None:
    # A resumed training may put tasks together later than one that was not broken off, with the same bits.
    for size in (*range(1, 40), 1001, 33333):
        averages, values = torch.randn(2, 3, size)
        whole, parts = averages.flatten(), averages.clone()
        torch._foreach_lerp_([whole], [values.flatten()], share)
        torch._foreach_lerp_(list(parts.unbind()), list(values.unbind()), share)
        assert torch.equal(whole.view(3, size), parts), size


def test_what_is_frozen_has_an_average_that_comes_to_its_weights(tmp_path: Path) -> None:
    watch = Watch()
    freeze = Freeze(modules=["trunk"], from_epoch=2, until_epoch=2)
    make_loop(tmp_path, AverageWeights(decay=0.9), freeze, watch, SaveLatest()).run_training()
    trained = [weights["trunk.0.weight"] for weights in watch.of("train")]
    assert all(torch.equal(weight, trained[3]) for weight in trained[4:8])
    assert not torch.equal(trained[8], trained[7])
    expected = trained[0].clone()
    for weight in trained[1:]:
        expected.lerp_(weight, 1 - 0.9)
    assert torch.equal(latest(tmp_path).weights["trunk.0.weight"], expected)


def test_an_update_that_is_left_out_counts(tmp_path: Path) -> None:
    batches = make_batches()
    batches[1]["x"] = torch.full_like(batches[1]["x"], torch.nan)
    model = make_model(update={"on_nan": "skip"}, optimizer={"class": "sgd", "lr": 0.1})
    watch = Watch()
    hooks = [AverageWeights(decay=0.9), watch, SaveLatest(), StopAfter(steps=4)]
    MainLoop(model, FakeDataset(train=batches[:4]), hooks, output_dir=tmp_path, skip_zeroth_epoch=True).run_training()
    first, second, *rest = (weights["a_head.weight"] for weights in watch.of("train"))
    assert torch.equal(second, first)
    expected = first.lerp(second, 1 - 0.9)
    for weight in rest:
        expected.lerp_(weight, 1 - 0.9)
    saved = latest(tmp_path)
    assert torch.equal(saved.weights["a_head.weight"], expected)
    assert saved.state["hooks"]["AverageWeights"]["averages"] == 4


class Watch(AbstractHook):
    """Remember the model's weights after each batch that is trained on, and each of the stream ``valid``."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Tensor]]] = []

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if stream_name == "valid" or self.main_loop.is_training:
            weights = {name: value.clone() for name, value in self.main_loop.model.state_dict().items()}
            self.seen.append((stream_name, weights))

    def of(self, stream: str) -> list[dict[str, Tensor]]:
        return [weights for name, weights in self.seen if name == stream]


def test_streams_are_evaluated_with_the_average_and_the_training_is_what_it_was() -> None:
    watch, plain = Watch(), Watch()
    loop = make_loop(None, AverageWeights(decay=0.9), watch)
    loop.run_training()
    make_loop(None, plain).run_training()
    for found, expected in zip(watch.of("train"), plain.of("train"), strict=True):
        assert_equal(found, expected)
    _, averaged = by_hand(12)
    assert_equal(watch.of("valid")[-1], averaged.module.state_dict())
    evaluated = copy.deepcopy(loop.model)
    evaluated.load_state_dict(averaged.module.state_dict())
    losses = [evaluated.run(Batch(batch), train=False)["loss"].item() for batch in make_batches()[4:]]
    assert loop.epoch_data["valid"]["loss"]["mean"] == pytest.approx(sum(losses) / 2, rel=1e-6)  # a float32 sum


def test_with_evaluate_false_streams_are_evaluated_with_the_weights() -> None:
    watch, plain = Watch(), Watch()
    make_loop(None, AverageWeights(evaluate=False), watch).run_training()
    make_loop(None, plain).run_training()
    for found, expected in zip(watch.seen, plain.seen, strict=True):
        assert found[0] == expected[0]
        assert_equal(found[1], expected[1])


def test_with_save_false_checkpoints_hold_the_weights_even_in_the_middle_of_an_evaluation(tmp_path: Path) -> None:
    class SaveInEvaluation(AbstractHook):
        def requires(self) -> tuple[str, ...]:
            return ()

        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if stream_name == "valid":
                self.main_loop.request_save("middle")

    watch, plain = Watch(), Watch()
    make_loop(tmp_path, AverageWeights(decay=0.9, save=False), SaveInEvaluation(), watch).run_training()
    make_loop(None, plain).run_training()
    saved = newest_checkpoint(tmp_path / "checkpoints", "middle")
    assert_equal(saved.weights, plain.of("train")[-1])
    _, averaged = by_hand(12)
    assert_equal(saved.state["hooks"]["AverageWeights"]["weights"], dict(averaged.module.named_parameters()))
    assert_equal(watch.of("valid")[-1], averaged.module.state_dict())  # in place again after the save


SETTINGS: list[dict[str, Any]] = [{}, {"save": False}, {"evaluate": False, "updates": 2}]

MOMENTS = 21
"""Batches, trained on or evaluated, and ends of epochs of a training of 8 steps, the zeroth epoch among them."""


def check_resumed(moments: Iterable[int], arguments: dict[str, Any], asynchronous: bool, tmp_path: Path) -> None:
    """Break a training off at some moments, each time with a checkpoint of the moment before, and go on from there."""

    def make(folder: Path, saver: AbstractHook) -> MainLoop:
        hooks = [AverageWeights(decay=0.8, ramp=True, **arguments), saver, SaveLatest(every=9)]
        model = make_model(update={"accumulate": 3})
        return make_loop(folder, *hooks, model=model, steps=8, asynchronous_saving=asynchronous)

    counter = SaveAndFail(every=100)
    make(tmp_path / "whole", counter).run_training()
    assert counter.moments == MOMENTS
    for moment in moments:
        folder = tmp_path / str(moment)
        with pytest.raises(RuntimeError, match="failed at moment"):
            make(folder, SaveAndFail(every=moment - 1, fail_at=moment)).run_training()
        resumed = make(folder, SaveAndFail(every=100))
        resumed.restore(newest_checkpoint(folder / "checkpoints"))
        resumed.run_training()
        assert what_differs(folder, tmp_path / "whole", tags=["latest"]) == [], f"moment {moment}"


@pytest.mark.parametrize("arguments", SETTINGS)
def test_it_resumes_exactly(arguments: dict[str, Any], tmp_path: Path) -> None:
    # Saved in an open window, and in the middle of two evaluations.
    check_resumed([10, 13, 20], arguments, False, tmp_path)


def test_it_resumes_exactly_where_saving_is_asynchronous(tmp_path: Path) -> None:
    check_resumed([13], {}, True, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("arguments", SETTINGS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_it_resumes_exactly_from_every_moment(arguments: dict[str, Any], asynchronous: bool, tmp_path: Path) -> None:
    check_resumed(range(2, MOMENTS + 1), arguments, asynchronous, tmp_path)


@pytest.mark.parametrize("save", [True, False])
def test_save_may_change_when_a_training_is_resumed(save: bool, tmp_path: Path) -> None:
    make_loop(tmp_path, AverageWeights(decay=0.9, save=not save), SaveLatest(), steps=8).run_training()
    resumed = make_loop(tmp_path, AverageWeights(decay=0.9, save=save), SaveLatest())
    resumed.restore(latest(tmp_path))
    resumed.run_training()
    model, averaged = by_hand(12)
    assert_equal(latest(tmp_path).weights, (averaged.module if save else model.network).state_dict())


class FailInEvaluation(AbstractHook):
    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if stream_name == "valid" and self.main_loop.position.step:
            raise RuntimeError("out of paper")


def test_after_an_error_in_an_evaluation_the_model_has_its_weights() -> None:
    watch = Watch()
    loop = make_loop(None, AverageWeights(), watch, FailInEvaluation())
    with pytest.raises(RuntimeError, match="out of paper"):
        loop.run_training()
    assert_equal(loop.model.state_dict(), watch.of("train")[-1])
    assert watch.seen[-1][0] == "valid"
    assert not torch.equal(watch.seen[-1][1]["trunk.0.weight"], watch.of("train")[-1]["trunk.0.weight"])


def test_a_finished_training_leaves_the_average_in_the_model_which_is_what_was_saved(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, AverageWeights(decay=0.9), SaveLatest())
    loop.run_training()
    _, averaged = by_hand(12)
    assert_equal(loop.model.state_dict(), averaged.module.state_dict())
    loop.run_evaluation("valid")
    assert_equal(loop.model.state_dict(), averaged.module.state_dict())
    loop = make_loop(None, AverageWeights(decay=0.9, save=False))
    loop.run_training()
    assert_equal(loop.model.state_dict(), by_hand(12)[0].state_dict())


def test_what_is_restored_is_evaluated_with_the_average(tmp_path: Path) -> None:
    make_loop(tmp_path, AverageWeights(decay=0.9), SaveLatest()).run_training()
    watch = Watch()
    loop = make_loop(tmp_path, AverageWeights(decay=0.9), watch)
    loop.restore(latest(tmp_path))
    loop.run_evaluation("valid")
    assert_equal(watch.of("valid")[-1], latest(tmp_path).weights)


def test_the_best_average_is_put_back(tmp_path: Path) -> None:
    watch = Watch()
    best = SaveBest(stream="valid", variable="loss", mode="max")  # of a training that gets better: an early epoch
    listed = [
        AverageWeights(decay=0.9),
        watch,
        Evaluate(streams=["valid"]),
        ComputeStats(["loss"]),
        best,
        RestoreBest(),
    ]
    batches = make_batches()
    dataset = FakeDataset(train=batches[:4], valid=batches[4:])
    loop = MainLoop(make_model(), dataset, [*listed, StopAfter(steps=12)], output_dir=tmp_path, skip_zeroth_epoch=True)
    loop.run_training()
    assert newest_checkpoint(tmp_path / "checkpoints", "best").position.epoch == 1
    assert_equal(loop.model.state_dict(), watch.of("valid")[0])
    loop.run_evaluation("valid")
    assert_equal(watch.of("valid")[-1], watch.of("valid")[0])


def test_it_stands_before_restore_best(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AverageWeights .*: list it before RestoreBest"):
        make_loop(tmp_path, SaveBest(), RestoreBest(), AverageWeights())
    make_loop(tmp_path, SaveBest(), RestoreBest(), AverageWeights(save=False))


def test_tied_weights_are_averaged_once_and_saved_under_both_names(tmp_path: Path) -> None:
    def make() -> MultiTaskModel:
        model = make_model()
        model.network["b_head"].weight = model.network["a_head"].weight
        settings: dict[str, Any] = {"optimizer": {"class": "sgd", "lr": 0.1}, "device": "cpu"}
        return MultiTaskModel(list(model.tasks.values()), dict(model.network.items()), **settings)

    make_loop(tmp_path, AverageWeights(decay=0.5), SaveLatest(), model=make()).run_training()
    saved = latest(tmp_path)
    assert saved.weights["a_head.weight"] is saved.weights["b_head.weight"]
    assert not torch.equal(saved.weights["a_head.weight"], saved.weights["c_head.weight"])
    resumed = make_loop(tmp_path, AverageWeights(decay=0.5), SaveLatest(), model=make(), steps=13)
    resumed.restore(saved)
    resumed.run_training()
    assert resumed.position.step == 13


class Change(AbstractHook):
    """Replace one task's head, remove another task and add one, at different moments."""

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        model, step = self.main_loop.model, self.main_loop.position.step
        assert isinstance(model, MultiTaskModel)
        if stream_name != ("valid" if step == 8 else "train"):
            return
        if step == 3:
            model.update_task(make_task("b"))
        elif step == 5:
            model.remove_task("c")
        elif step == 8 and "c" not in model.tasks:
            model.add_tasks(make_task("c"))


def test_averages_come_and_go_with_tasks(tmp_path: Path) -> None:
    torch.manual_seed(1)
    watch = Watch()
    make_loop(tmp_path, AverageWeights(decay=0.9), Change(), watch, SaveLatest()).run_training()
    saved, trained = latest(tmp_path), watch.of("train")
    # Weights as they were after the updates that each average is of; the first are those it begins with.
    for name, first in {"a_head": 0, "b_head": 3, "c_head": 8}.items():
        expected = trained[first][f"{name}.weight"].clone()
        for weights in trained[first + 1 :]:
            expected.lerp_(weights[f"{name}.weight"], 1 - 0.9)
        assert torch.equal(saved.weights[f"{name}.weight"], expected), name


@pytest.mark.parametrize("stack_tasks", [True, False])
def test_what_is_no_longer_trained_has_an_average_that_comes_to_its_weights(stack_tasks: bool) -> None:
    """A training that is resumed may train less than before."""
    model = make_model(stack_tasks=stack_tasks)
    model.set_length(4, 4)
    before = WeightAverage(model, is_saved=False)
    for batch in make_batches()[:2]:
        model.run(Batch(batch), train=True)
        before.add(0.5)

    def heads(network: nn.ModuleDict) -> list[dict[str, Any]]:
        network["trunk"].requires_grad_(False)
        return [{"params": [value for name, value in network.named_parameters() if "head" in name]}]

    resumed = make_model(optimizer={"class": "adam", "lr": 0.1, "parameters": heads}, stack_tasks=stack_tasks)
    resumed.load_state_dict(model.state_dict())
    resumed.set_length(4, 4)
    after = WeightAverage(resumed, is_saved=False)
    after.load_state_dict(before.state_dict())
    after.take_up()
    weights, averages = (copy.deepcopy(dict(each)) for each in (resumed.state_dict(), before.state_dict()["weights"]))
    for batch in make_batches()[2:4]:
        resumed.run(Batch(batch), train=True)
        after.add(0.5)
        assert not any(name.startswith("trunk") for name in resumed.update.parameters)
        for name in averages:
            averages[name].lerp_(resumed.state_dict()[name], 0.5)
    assert torch.equal(resumed.state_dict()["trunk.0.weight"], weights["trunk.0.weight"])
    assert_equal(after.state_dict()["weights"], averages)


@pytest.mark.parametrize("is_saved", [True, False])
def test_of_tasks_that_are_gone_nothing_is_left_before_the_next_update(is_saved: bool) -> None:
    model = make_model(stack_tasks=False)
    model.set_length(4, 4)
    average = WeightAverage(model, is_saved)
    for batch in make_batches()[:2]:
        model.run(Batch(batch), train=True)
        average.add(0.5)
    averages = average.exchange(model.state_dict())
    model.update_task(make_task("b"))
    model.remove_task("c")
    trained = copy.deepcopy(model.state_dict())
    kept = {name for name, _ in model.network.named_parameters() if not name.startswith("b_head")}
    state: dict[str, Any] = average.state_dict()["weights"]
    assert_equal(state, {name: (trained if is_saved else averages)[name] for name in kept})
    expected = {**trained, **{name: averages[name] for name in kept}}
    assert_equal(average.exchange(model.state_dict()), expected)
    with average.in_place():
        assert_equal(model.state_dict(), expected)
    assert_equal(model.state_dict(), trained)
    average.leave_in_place()
    assert_equal(model.state_dict(), expected)


def test_the_room_for_the_average_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, averaged = make_loop(tmp_path, SaveLatest()), make_loop(tmp_path, SaveLatest(), AverageWeights())
    asked: list[int] = []
    monkeypatch.setattr("emloop_mtl.saver.lack_of_room", lambda folder, size: asked.append(size))
    plain.check_room()
    averaged.check_room()
    model = plain.model
    assert isinstance(model, MultiTaskModel)
    assert asked[1] - asked[0] == sum(each.nbytes for each in model.network.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1}, "decay must be a number from 0 to less than 1, not 1"),
        ({"decay": -0.1}, "decay must be a number from 0 to less than 1, not -0.1"),
        ({"decay": float("nan")}, "decay must be a number from 0 to less than 1, not nan"),
        ({"decay": True}, "decay must be a number from 0 to less than 1, not True"),
        ({"updates": 0}, "updates must be a positive whole number, not 0"),
        ({"runway": 1.5}, "runway must be a positive whole number, not 1.5"),
        ({"evaluate": False, "save": False}, "nothing uses the average"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AverageWeights(**arguments)


@pytest.mark.parametrize(
    "state",
    [{"trained": 1, "weights": {"a_head.bias": torch.zeros(5)}}, {"trained": True, "weights": {"a_head.bias": 0.5}}],
    ids=["kind", "weights"],
)
def test_a_state_of_something_else_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it speaks of no weights"):
        WeightAverage(make_model(), is_saved=True).load_state_dict(state)


def test_an_average_of_another_shape_is_refused(tmp_path: Path) -> None:
    model = make_loop(tmp_path).model
    assert isinstance(model, MultiTaskModel)
    average = WeightAverage(model, is_saved=True)
    average.load_state_dict({"trained": True, "weights": {"a_head.weight": torch.zeros(2, 2)}})
    with pytest.raises(CheckpointError, match=r"of the average of 'a_head.weight' is \[2, 2\], but the parameter \["):
        average.take_up()


def test_a_model_without_an_update_is_refused() -> None:
    with pytest.raises(ConfigError, match="AverageWeights needs a MultiTaskModel.*FakeModel has weights of its own"):
        run_hook(AverageWeights())
