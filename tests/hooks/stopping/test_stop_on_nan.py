from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.cli import main
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError, DataError, NotFiniteError
from emloop_mtl.hooks import ComputeStats, Evaluate, SaveLatest, ScoreTasks, StopAfter, StopOnNaN
from emloop_mtl.hooks.stopping import non_finite
from emloop_mtl.hooks.stopping.trained_values import checks_of_training
from emloop_mtl.hooks.stopping.waiting_batches import MANY
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.task import Task
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, run_hook
from emloop_mtl.types import EpochData, EpochNumber

NAN, INF = math.nan, math.inf

BAD: list[Any] = [
    NAN,
    np.float32(NAN),
    np.array(NAN),
    np.array([1.0, NAN]),
    np.array([1.0, NAN], dtype=object),
    np.array([1, complex(NAN, 0)]),
    torch.tensor(NAN),
    torch.tensor([1.0, NAN]),
    torch.tensor([[1.0, 2.0], [NAN, 3.0]], dtype=torch.bfloat16),
    torch.tensor(complex(0, NAN)),
    torch.tensor(NAN, requires_grad=True),
    [1.0, NAN],
    [1, NAN],
    (1.0, NAN),
    [[1.0], [2.0, NAN]],
    [torch.tensor(1.0), torch.tensor(NAN)],
    {"a": [1.0], "b": {"c": np.array([NAN])}},
    complex(NAN, 0),
    ["text", NAN],
]

GOOD: list[Any] = [
    0.0,
    3,
    True,
    np.int64(3),
    np.array([1.0, 2.0]),
    np.array([], dtype=float),
    np.array([True]),
    torch.tensor(3),
    torch.tensor([True]),
    torch.tensor([1.0, 2.0]),
    torch.zeros(0),
    torch.tensor(5.0),
    [1.0, 2.0],
    [],
    {"a": torch.ones(2)},
]

UNKNOWN: list[Any] = ["text", None, np.array(["text"]), [object()], torch.eye(2).to_sparse()]


def in_step(step: int, bad: Any, good: Any = 1.0) -> Callable[[Batch], Any]:
    """Return an output that is ``bad`` from the given run of the model on, counted from 1, and ``good`` before."""
    runs = iter(range(1, 10**6))
    return lambda batch: bad if next(runs) >= step else good


def run(hook: StopOnNaN, loss: Any, epochs: int = 2, **main_loop: Any) -> RecordEvents:
    return run_hook(hook, outputs={"loss": loss}, epochs=epochs, skip_zeroth_epoch=True, **main_loop)


# ------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize("check_every", [1, 100])
def test_nan_of_every_kind_ends_the_training_as_failed(bad: Any, check_every: int) -> None:
    hook, record = StopOnNaN(after_batch=True, after_epoch=False, check_every=check_every), RecordEvents(requires=())
    with pytest.raises(NotFiniteError, match=r"^StopOnNaN: 'loss' is nan in epoch 1, stream 'train', step 2, batch 1$"):
        run_hook(record, hook, outputs={"loss": in_step(2, bad)}, skip_zeroth_epoch=True)
    assert hook.main_loop.end == "failed"
    assert record.events[-1] == ("after_training", {"success": False})


@pytest.mark.parametrize("good", GOOD, ids=repr)
@pytest.mark.parametrize("stop_on_inf", [False, True])
def test_numbers_that_are_in_order_end_nothing(good: Any, stop_on_inf: bool) -> None:
    hook = StopOnNaN(after_batch=True, after_epoch=False, stop_on_inf=stop_on_inf, on_unknown_type="error")
    assert run(hook, good).main_loop.position.epoch == 2


@pytest.mark.parametrize("bad", [INF, -INF])
@pytest.mark.parametrize(
    ("made", "what"),
    [
        (float, ""),
        (lambda bad: torch.tensor(bad), ""),
        (lambda bad: torch.tensor([bad, 1.0]), "nan or infinite"),
        (lambda bad: np.array([bad]), "nan or infinite"),
        (lambda bad: [1.0, bad], "nan or infinite"),
    ],
)
def test_infinity_ends_it_on_demand(made: Callable[[float], Any], what: str, bad: float) -> None:
    run(StopOnNaN(after_batch=True, after_epoch=False), made(bad))
    shown = what or ("nan or infinite" if made is float else str(bad))
    with pytest.raises(NotFiniteError, match=rf"'loss' is {shown} in epoch 1, stream 'train', step 1, batch 0"):
        run(StopOnNaN(after_batch=True, after_epoch=False, stop_on_inf=True), made(bad))


@pytest.mark.parametrize("check_every", [1, 2, 3, 7, 8, 100])
def test_the_first_bad_batch_is_named_whenever_it_is_found(check_every: int) -> None:
    hook = StopOnNaN(after_batch=True, check_every=check_every, after_epoch=False)
    dataset = FakeDataset(train=[{"x": [index]} for index in range(10)])
    bad = in_step(17, torch.tensor(NAN), torch.tensor(1.0))
    with pytest.raises(NotFiniteError, match="epoch 2, stream 'train', step 17, batch 6"):
        run(hook, bad, epochs=4, dataset=dataset)
    # found after the next reading: every so many batches, which are counted over epochs, and at the end of the second
    assert hook.main_loop.position.step in {min(20, 10 + found) for found in range(7, 11)}
    if check_every == 1:
        assert hook.main_loop.position.step == 17


def test_findings_are_fetched_every_so_many_batches_and_at_the_end_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    fetch = non_finite.fetch_numbers

    def count(values: Any) -> list[float | None]:
        fetched.append(len(list(values)))
        return fetch(values)

    monkeypatch.setattr(non_finite, "fetch_numbers", count)
    dataset = FakeDataset(train=[{"x": [1]}] * 10)
    run(StopOnNaN(after_batch=True, after_epoch=False, check_every=4), torch.tensor(1.0), dataset=dataset)
    assert fetched == [4, 4, 2, 4, 4, 2, 0]  # two epochs, and the end of the training


def test_no_batch_waits_for_the_device(no_waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(values: Any) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(non_finite, "fetch_numbers", refuse)
    hook = StopOnNaN(["loss", "prob", "hidden"], after_batch=True, after_epoch=False, check_every=10)
    outputs = {"loss": torch.tensor(1.0), "prob": torch.rand(2, 3), "hidden": [torch.rand(2), torch.ones(2, 2)]}
    MainLoop(FakeModel(outputs), FakeDataset(train=[{"x": [1, 2]}]), [hook])
    hook.before_epoch(1, ["train"], [])
    batch = Batch({"x": [1, 2], "_uids_": torch.tensor([3, 4]), **outputs})
    with no_waiting():
        for _ in range(9):
            hook.after_batch("train", batch)
    with pytest.raises(AssertionError, match="fetched"):
        hook.after_batch("train", batch)


def test_a_finding_on_the_host_ends_it_at_once_and_names_what_was_bad_before() -> None:
    dataset = FakeDataset(train=[{"x": [1]}] * 10)
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    with pytest.raises(NotFiniteError, match="step 4, batch 3"):
        run(hook, in_step(4, NAN), dataset=dataset)
    assert hook.main_loop.position.step == 4
    losses = iter([torch.tensor(1.0), torch.tensor(NAN), 1.0, NAN, NAN])
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    with pytest.raises(NotFiniteError, match="step 2, batch 1"):
        run(hook, lambda batch: next(losses), dataset=dataset)
    assert hook.main_loop.position.step == 4


def test_all_bad_variables_of_the_batch_are_named_those_of_tasks_first() -> None:
    outputs: dict[str, Any] = {"loss": torch.tensor(NAN), "a/loss": torch.tensor(1.0), "b/loss": torch.tensor(NAN)}
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    with pytest.raises(
        NotFiniteError, match="StopOnNaN: 'b/loss' is nan, 'loss' is nan in epoch 0, stream 'train', ba"
    ):
        run_hook(hook, outputs=outputs)


def test_what_is_bad_in_later_batches_only_is_not_named() -> None:
    outputs = {
        "a/loss": in_step(2, torch.tensor(NAN), torch.tensor(1.0)),
        "b/loss": in_step(3, torch.tensor(NAN), torch.tensor(1.0)),
    }
    hook, dataset = StopOnNaN(after_batch=True, after_epoch=False), FakeDataset(train=[{"x": [1]}] * 5)
    with pytest.raises(NotFiniteError, match="^StopOnNaN: 'a/loss' is nan in epoch 0, stream 'train', batch 1$"):
        run_hook(hook, outputs=outputs, dataset=dataset)


def test_a_bad_batch_of_an_evaluation_has_no_step() -> None:
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    good, bad = torch.tensor(0.0), torch.tensor(NAN)
    with pytest.raises(NotFiniteError, match=r"in epoch 1, stream 'valid', batch 1$"):
        run(hook, lambda batch: bad if batch["x"] == [7, 8] else good)


def test_the_batches_that_a_step_has_are_of_that_step() -> None:
    batches = [Batch({"x": [value]}, data_name="rows", tasks={"a": None}, ends_step=value % 2 == 0) for value in (1, 2)]
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    message = "step 2, batch 0, loader 'rows', task 'a'$"
    with pytest.raises(NotFiniteError, match=message):
        run(hook, in_step(3, torch.tensor(NAN)), dataset=FakeDataset(train=batches))


@pytest.mark.parametrize("uids", [list(range(20)), torch.arange(20), np.arange(20), [*"abcdefghij"]])
def test_some_uids_of_the_batch_are_named(uids: Any) -> None:
    size = len(uids)
    dataset = FakeDataset(train=[{"x": [0] * size, "_uids_": uids}])
    shown = "a, b, c, d, e, f, g, h" if size == 10 else "0, 1, 2, 3, 4, 5, 6, 7"
    with pytest.raises(NotFiniteError, match=rf"batch 0, uids {shown}, …$"):
        run(StopOnNaN(after_batch=True, after_epoch=False), NAN, dataset=dataset)


def test_listed_variables_are_looked_at_instead_of_losses_and_are_sources_too() -> None:
    dataset = FakeDataset(train=[{"x": [1.0, NAN]}])
    outputs = {"loss": NAN}
    run_hook(StopOnNaN(after_batch=True, after_epoch=False, variables=["x"]), outputs=outputs)
    with pytest.raises(NotFiniteError, match="'x' is nan in epoch 0"):
        run_hook(StopOnNaN(["x"], after_batch=True, after_epoch=False), outputs=outputs, dataset=dataset)


@pytest.mark.parametrize("value", UNKNOWN, ids=lambda value: type(value).__name__)
def test_what_cannot_be_looked_at(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    run(StopOnNaN(after_batch=True, after_epoch=False, stop_on_inf=True), value)
    assert caplog.text == ""
    run(StopOnNaN(after_batch=True, after_epoch=False, stop_on_inf=True, on_unknown_type="warn"), value)
    assert caplog.text.count("in 'loss' of stream 'train' cannot be nan") == 1
    with pytest.raises(
        ConfigError, match=r"StopOnNaN: a \w+ in 'loss' of stream 'train' cannot be nan; set on_"
    ) as info:
        run(StopOnNaN(after_batch=True, after_epoch=False, stop_on_inf=True, on_unknown_type="error"), value)
    assert info.value.path == ("on_unknown_type",)


def test_nothing_is_kept_with_its_graph() -> None:
    weight = torch.ones((), requires_grad=True)
    hook = StopOnNaN(after_batch=True, after_epoch=False)

    class Look(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            waiting = hook._waiting._waiting
            assert len(waiting) > 0
            assert not any(each.check.requires_grad for each in waiting)  # type: ignore[union-attr]

    run_hook(hook, Look(), outputs={"loss": lambda batch: weight * 2})


def test_a_training_that_ends_before_the_findings_are_fetched_fails_all_the_same() -> None:
    class End(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            raise TrainingTerminated("early")

    hook = StopOnNaN(after_batch=True, after_epoch=False)
    with pytest.raises(NotFiniteError, match="step 1"):
        run_hook(hook, End(), outputs={"loss": torch.tensor(NAN)}, skip_zeroth_epoch=True)
    assert hook.main_loop.end == "failed"


def test_what_made_another_hook_fail_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Fail(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            raise ValueError("Input contains NaN")

    hook = StopOnNaN(after_batch=True, after_epoch=False)
    with pytest.raises(ValueError, match="Input contains NaN"):
        run_hook(hook, Fail(), outputs={"loss": torch.tensor(NAN)}, skip_zeroth_epoch=True)
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "StopOnNaN: 'loss' is nan in epoch 1, stream 'train', step 1, batch 0"
    ]


# -------------------------------------------------------------------------------------------------------------- epochs


class Put(AbstractHook):
    """Write given numbers into every epoch, without saying which."""

    def __init__(self, **streams: dict[str, Any]) -> None:
        super().__init__()
        self._streams = streams

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        for stream, numbers in self._streams.items():
            epoch_data.setdefault(stream, {}).update(numbers)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"loss": NAN}, "the number 'loss' of stream 'valid' is nan in epoch 0;"),
        ({"loss": {"max": 1.0, "mean": torch.tensor(NAN)}}, r"the number 'loss' \(mean\) of stream 'valid' is nan in"),
        ({"a/rows/loss": np.float64(NAN)}, "the number 'a/rows/loss' of stream 'valid' is nan in epoch 0; list other"),
        ({"loss": [1.0, [NAN]]}, "the number 'loss' of stream 'valid' is nan"),
    ],
)
def test_losses_of_the_epoch_are_looked_at_by_default(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(NotFiniteError, match=message):
        run_hook(Put(train={"loss": 1.0}, valid=numbers), StopOnNaN())


def test_a_score_is_looked_at_on_demand_only() -> None:
    scores = {"a/rows/roc_auc": NAN, "loss": 1.0, "lossy": NAN, "text": "a"}
    assert run_hook(Put(valid=scores), StopOnNaN(), epochs=2).main_loop.position.epoch == 2
    with pytest.raises(
        NotFiniteError, match="'a/rows/roc_auc' of stream 'valid' is nan in epoch 0; list other numbers"
    ):
        run_hook(Put(valid=scores), StopOnNaN(["loss", "a/rows/roc_auc"]))


def test_the_loss_of_a_task_without_labels_is_no_reason_to_end(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path
) -> None:
    class Unlabelled(MultiTaskDataset):
        """``size`` has no label but nan in ``valid``, and in ``test`` none at all; ``digit`` has all."""

        def loaders(self) -> list[TaskLoader]:
            image = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
            labels = {"digit": image.argmax(1), "size": image.sum(1)}
            rows = {
                "train": ColumnDataset("shapes", {"image": image}, labels),
                "valid": ColumnDataset("shapes", {"image": image}, labels | {"size": torch.full((8,), NAN)}),
                "test": ColumnDataset("shapes", {"image": image}, {"digit": labels["digit"]}),
            }
            tasks = {"digit": "digit", "size": "size"}
            return [
                TaskLoader(rows[split], tasks | ({"size": None} if split == "test" else {}), split, batch_size=4)
                for split in rows
            ]

    class Cut(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if stream_name == "test" and self.main_loop.position.epoch == 0 and self.main_loop.position.step == 2:
                self.main_loop.request_save("cut")
                raise TrainingTerminated("cut")

    def loop(*hooks: AbstractHook) -> MainLoop:
        stats = ComputeStats(["size/loss"])
        hooks = (Evaluate(["valid", "test"]), ScoreTasks(), stats, StopOnNaN(), *hooks)
        return MainLoop(make_model(), Unlabelled(), hooks, output_dir=tmp_path)

    whole, record = loop(StopAfter(epochs=1)), RecordEvents(requires=())
    whole.run_training()
    assert math.isnan(whole.epoch_data["valid"]["size/shapes/loss"])
    assert math.isnan(whole.epoch_data["valid"]["size/loss"]["mean"])
    assert math.isnan(whole.epoch_data["test"]["size/shapes/loss"])
    assert math.isnan(whole.epoch_data["all"]["model/all/loss"])
    loop(Cut()).run_training()
    resumed = loop(record)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    (hook,) = [hook for hook in resumed.hooks if isinstance(hook, StopOnNaN)]
    both, digit = [("digit", "shapes"), ("size", "shapes")], [("digit", "shapes")]
    labelled = {"train": both, "valid": digit, "test": digit}
    assert hook.state_dict()["losses"] == {"labelled": labelled, "lacking": ["size"]}
    with torch.no_grad():  # as if a step had gone wrong: the labelled losses of the rest of the epoch are nan
        resumed.model.network.get_parameter(next(iter(dict(resumed.model.network.named_parameters())))).fill_(NAN)
    with pytest.raises(NotFiniteError, match="the number 'digit/shapes/loss' of stream 'test' is nan in epoch 1"):
        resumed.run_training()


@pytest.mark.parametrize("is_cut", [False, True])
def test_the_loss_of_a_task_without_labels_is_none_either_where_the_task_is_removed_in_the_epoch(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, is_cut: bool
) -> None:
    class Unlabelled(MultiTaskDataset):
        def loaders(self) -> list[TaskLoader]:
            image = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
            labels = {"digit": image.argmax(1), "size": torch.full((8,), NAN)}
            return [TaskLoader(ColumnDataset("shapes", {"image": image}, labels), split="train", batch_size=2)]

    class Remove(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.position.step == 2 and "size" in self.main_loop.model.tasks:  # type: ignore[attr-defined]
                self.main_loop.model.remove_task("size")  # type: ignore[attr-defined]
            if is_cut and self.main_loop.position.step == 3:
                self.main_loop.request_save("cut")
                raise TrainingTerminated("cut")

    def loop(*hooks: AbstractHook) -> MainLoop:
        stats = [] if is_cut else [ComputeStats(["size/loss"])]  # of a task that it never had, a model knows nothing
        hooks = (ScoreTasks(train=True), *stats, StopOnNaN(), *hooks, StopAfter(epochs=1))
        return MainLoop(make_model(), Unlabelled(), hooks, output_dir=tmp_path, skip_zeroth_epoch=True)

    trained = loop(Remove())
    trained.run_training()
    if is_cut:
        trained = loop()
        trained.model.remove_task("size")  # type: ignore[attr-defined]
        trained.restore(newest_checkpoint(tmp_path / "checkpoints"))
        trained.run_training()
    numbers = trained.epoch_data["train"]
    assert math.isnan(numbers["size/shapes/loss"])
    assert numbers["digit/shapes/loss"] > 0


def test_infinity_among_the_numbers_of_the_epoch() -> None:
    run_hook(Put(valid={"loss": INF}), StopOnNaN())
    with pytest.raises(NotFiniteError, match="the number 'loss' of stream 'valid' is nan or infinite in epoch 0"):
        run_hook(Put(valid={"loss": INF}), StopOnNaN(stop_on_inf=True))


def test_epochs_are_left_out_on_demand() -> None:
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    record = run_hook(Put(valid={"loss": NAN}), hook)
    assert record.main_loop.end == "finished"
    with pytest.raises(NotFiniteError, match="the number 'loss' of stream 'valid' is nan in epoch 0"):
        run_hook(Put(valid={"loss": NAN}), StopOnNaN(after_batch=True))


def test_batches_are_named_rather_than_the_epoch() -> None:
    with pytest.raises(NotFiniteError, match="epoch 0, stream 'train', batch 0"):
        run_hook(ComputeStats(["loss"]), StopOnNaN(after_batch=True), outputs={"loss": torch.tensor(NAN)})


def test_text_among_the_numbers_of_the_epoch(caplog: pytest.LogCaptureFixture) -> None:
    put = Put(train={"loss": "text"})
    run_hook(put, StopOnNaN())
    run_hook(put, StopOnNaN(on_unknown_type="warn"), epochs=2)
    assert caplog.text.count("a str in 'loss' of stream 'train' cannot be nan") == 1
    with pytest.raises(ConfigError, match="a str in 'loss' of stream 'train' cannot be nan"):
        run_hook(put, StopOnNaN(on_unknown_type="error"))


# -------------------------------------------------------------------------------------------------- wiring, arguments


def test_without_any_numbers_there_is_nothing_to_look_at() -> None:
    with pytest.raises(
        ConfigError, match="no hook before it writes numbers .* ComputeStats or ScoreTasks .* after_batch"
    ):
        run_hook(StopOnNaN())
    run_hook(StopOnNaN(after_batch=True))
    run_hook(ComputeStats(["loss"]), StopOnNaN())


def test_numbers_that_come_too_late_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    run_hook(Put(), StopOnNaN(), ComputeStats(["loss"]))
    assert "StopOnNaN misses the numbers of ComputeStats: list it after ComputeStats" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variables": ["los"]}, "the number 'los', which no hook before it provides; did you mean 'loss'"),
        ({"variables": ["los"], "after_batch": True}, "did you mean 'loss'"),
    ],
)
def test_an_unknown_variable_is_an_error_before_the_first_batch(arguments: dict[str, Any], message: str) -> None:
    model = FakeModel()
    with pytest.raises(ConfigError, match=message):
        run_hook(ComputeStats([{"loss": ["min", "max"]}]), StopOnNaN(**arguments), model=model)
    assert model.evaluated == 0
    run_hook(ComputeStats([{"loss": ["min", "max"]}]), StopOnNaN(**{**arguments, "variables": ["loss"]}))


def test_a_variable_that_a_batch_should_hold_is_an_error() -> None:
    with pytest.raises(DataError, match="StopOnNaN: a batch of stream 'train' lacks the variable 'los'; did you mean"):
        run_hook(StopOnNaN(["los"], after_batch=True, after_epoch=False))


def test_batch_variables_and_numbers_are_listed_together() -> None:
    hook = StopOnNaN(["x", "size"], after_batch=True)
    with pytest.raises(NotFiniteError, match="the number 'size' of stream 'valid' is nan in epoch 0"):
        run_hook(Put(valid={"size": NAN}), hook)
    assert hook.requires() == ["x", EpochNumber("size")]
    with pytest.raises(NotFiniteError, match="'x' is nan in epoch 0, stream 'train', batch 0"):
        run_hook(Put(valid={"size": NAN}), hook, dataset=FakeDataset(train=[{"x": [NAN]}]))


def test_a_model_without_losses_needs_names() -> None:
    with pytest.raises(ConfigError, match=r"no output 'loss'.*; known are: score; name others under 'variables'"):
        run_hook(StopOnNaN(after_batch=True), outputs={"score": 1.0})
    run_hook(StopOnNaN(["score"], after_batch=True), outputs={"score": 1.0})


@pytest.mark.parametrize(
    ("arguments", "message", "path"),
    [
        ({"after_epoch": False}, "nothing is looked at: set after_batch or after_epoch to true", "after_epoch"),
        ({"on_unknown_type": "warning"}, "'warning' is unknown; did you mean 'warn'", "on_unknown_type"),
        ({"check_every": 0}, "check_every must be a positive whole number", "check_every"),
        ({"check_every": 5}, "check_every says when batches are looked at: set after_batch to true", "check_every"),
        ({"variables": "loss"}, r"variables must be a list of names, such as \[loss\]", "variables"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str, path: str) -> None:
    with pytest.raises(ConfigError, match=message) as info:
        StopOnNaN(**arguments)
    assert info.value.path == (path,)


# -------------------------------------------------------------------------------------------- checkpoints and resuming


def loop_until(folder: Path, bad_from: int, *hooks: AbstractHook) -> MainLoop:
    """Make a loop over 5 steps per epoch whose loss is nan from a batch of the source ``x`` on."""
    outputs = {"loss": lambda batch: torch.tensor(NAN if batch["x"][0] >= bad_from else 1.0)}
    dataset = FakeDataset(train=[{"x": [index]} for index in range(5)])
    return MainLoop(FakeModel(outputs), dataset, list(hooks), output_dir=folder, skip_zeroth_epoch=True)


@pytest.mark.parametrize("before", [True, False])
def test_a_good_checkpoint_is_never_replaced_by_a_bad_one(tmp_path: Path, before: bool) -> None:
    save, hook = SaveLatest(steps=1), StopOnNaN(after_batch=True, after_epoch=False)
    hooks: list[AbstractHook] = [hook, save] if before else [save, hook]
    with pytest.raises(NotFiniteError, match="step 4, batch 3"):
        loop_until(tmp_path, 3, *hooks).run_training()
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.position.step == 3  # found when the fourth was about to be saved
    assert not checkpoint.finished


def test_a_resumed_training_counts_on(tmp_path: Path) -> None:
    class Cut(AbstractHook):
        def after_batch(self, stream_name: str, batch_data: Batch) -> None:
            if self.main_loop.position.step == 2:
                self.main_loop.request_save("cut")
                raise TrainingTerminated("cut")

    loop_until(tmp_path, 9, StopOnNaN(after_batch=True, after_epoch=False), Cut()).run_training()
    hook = StopOnNaN(after_batch=True, after_epoch=False)
    loop = loop_until(tmp_path, 3, hook)
    loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    assert hook.state_dict() == {"epoch": 1, "batches": {"train": 2}, "losses": {"labelled": {}, "lacking": []}}
    with pytest.raises(NotFiniteError, match=r"epoch 1, stream 'train', step 4, batch 3$"):
        loop.run_training()


# ------------------------------------------------------------------------------------------------- with the real model


class WithABadRow(MultiTaskDataset):
    """12 rows whose row 7 has an image of nan; of two loaders only ``shapes`` holds it."""

    def loaders(self) -> list[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(12, 3, generator=generator)
        bad = image.clone()
        bad[7, 1] = NAN
        digits = ColumnDataset("digits", {"image": image}, {"digit": image.argmax(1)})
        shapes = ColumnDataset("shapes", {"image": bad}, {"size": image.sum(1)})
        return [
            TaskLoader(digits, {"digit": "digit"}, "train", batch_size=4, shuffle=False),
            TaskLoader(shapes, {"size": "size"}, "train", batch_size=4, shuffle=False),
            TaskLoader(shapes, {"size": "size"}, "valid", batch_size=4),
        ]


class DatasetOf(MultiTaskDataset):
    """The streams of some loaders."""

    def __init__(self, *loaders: TaskLoader) -> None:
        super().__init__()
        self._loaders = list(loaders)

    def loaders(self) -> list[TaskLoader]:
        return self._loaders


@pytest.mark.parametrize("check_every", [1, 100])
def test_a_bad_row_of_one_task_is_found(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, check_every: int
) -> None:
    hooks = [StopOnNaN(after_batch=True, check_every=check_every), ScoreTasks(), SaveLatest(steps=1)]
    loop = MainLoop(make_model(), WithABadRow(), hooks, skip_zeroth_epoch=True, output_dir=tmp_path)
    expected = (
        "StopOnNaN: 'size/loss' is nan (task 'size'), 'loss' is nan in epoch 1, stream 'train', step 4, batch 3, "
        "loader 'shapes', task 'size', uids 4, 5, 6, 7"
    )
    with pytest.raises(NotFiniteError, match=f"^{re.escape(expected)}$"):
        loop.run_training()
    weights = newest_checkpoint(tmp_path / "checkpoints").weights
    assert all(weight.isfinite().all() for weight in weights.values())


def root_of_zero(at_step: int) -> Any:
    """Return a loss that is finite always, and whose gradient is nan in one step."""
    steps = iter(range(1, 10**6))
    return lambda outputs, label: outputs["out"].mul(0 if next(steps) == at_step else 1).square().sum().sqrt()


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({}, "the weight 'size_head.weight' is nan or infinite after step 2, so that is not saved"),
        ({"accumulate": 3}, "the gradient of 'size_head.weight' is nan or infinite after step 2, so that is not saved"),
    ],
)
@pytest.mark.parametrize("after_batch", [True, False])
def test_weights_that_an_update_has_spoilt_are_not_saved(
    tmp_path: Path, update: dict[str, Any], message: str, after_batch: bool
) -> None:
    head = torch.nn.Linear(3, 1)
    flow = [{"name": "out", "module": "size_head", "inputs": "image"}]
    task = Task("size", flow=flow, label="size", loss=root_of_zero(at_step=2))
    model = MultiTaskModel([task], {"size_head": head}, optimizer={"class": "sgd", "lr": 0.1}, update=update)
    image = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    rows = ColumnDataset("shapes", {"image": image}, {"size": image.sum(1, keepdim=True)})
    dataset = DatasetOf(TaskLoader(rows, {"size": "size"}, "train", batch_size=4))
    hooks = [ScoreTasks(), StopOnNaN(after_batch=after_batch), SaveLatest(steps=1), StopAfter(epochs=1)]
    loop = MainLoop(model, dataset, hooks, skip_zeroth_epoch=True, output_dir=tmp_path)
    with pytest.raises(NotFiniteError, match=re.escape(message)):
        loop.run_training()
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.position.step == 1
    assert all(weight.isfinite().all() for weight in checkpoint.weights.values())


def test_weights_that_are_infinite_are_not_saved_and_frozen_ones_may_be(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> None:
    model = make_model()
    hook = StopOnNaN()
    MainLoop(model, make_dataset(), [hook], output_dir=tmp_path)
    weight = model.network.get_parameter("size_head.weight")
    weight.data[0, 1] = -INF
    with pytest.raises(NotFiniteError, match="the weight 'size_head.weight' is nan or infinite after step 0"):
        hook.state_dict()
    weight.requires_grad_(False)
    assert hook.state_dict()["epoch"] == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_open_gradient_may_be_infinite_in_fp16_only(precision: str) -> None:
    network = torch.nn.Linear(2, 1)
    network.weight.grad = torch.tensor([[INF, 1.0]])
    model = SimpleNamespace(network=network, precision=precision)
    bad = [what for what, check in checks_of_training(model) if check]
    assert bad == (["the gradient of 'weight'"] if precision == "fp32" else [])


def test_a_sparse_gradient_is_looked_at() -> None:
    table = torch.nn.Embedding(4, 1, sparse=True)
    (table(torch.tensor([1])).sum() * NAN).backward()
    assert [what for what, check in checks_of_training(SimpleNamespace(network=table)) if check] == [
        "the gradient of 'weight'"
    ]


def test_a_bad_row_of_an_evaluated_stream_is_found_in_the_scores(make_model: Callable[..., MultiTaskModel]) -> None:
    hooks = [Evaluate(["valid"]), ScoreTasks(streams=["valid"]), StopOnNaN()]
    expected = (
        "StopOnNaN: the number 'size/shapes/loss' of stream 'valid' is nan in epoch 0 (task 'size', loader 'shapes'); "
    )
    with pytest.raises(NotFiniteError, match=re.escape(expected)):
        MainLoop(make_model(), WithABadRow(), hooks).run_training()


def test_an_evaluation_leaves_it_out() -> None:
    assert StopOnNaN.training_only


def test_the_command_says_so_in_one_line_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("config.yaml").write_text("""
        dataset: {class: emloop_mtl.testing.FakeDataset, train: [{x: [1]}]}
        model: {class: emloop_mtl.testing.FakeModel, outputs: {loss: .nan}}
        hooks: [StopOnNaN: {after_batch: true}]
    """)
    result = CliRunner().invoke(main, ["train", "config.yaml"])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last == "error: StopOnNaN: 'loss' is nan in epoch 0, stream 'train', batch 0"


@pytest.mark.parametrize("stop_on_inf", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_of_many_losses_those_that_are_bad_are_named(bad: float, stop_on_inf: bool) -> None:
    def values(task: int) -> Any:
        def loss(batch: Batch) -> torch.Tensor:
            return torch.tensor(bad if batch["x"][0] == 7 and task in (3, 20) else 1.0)

        return loss

    outputs = {f"t{task}/loss": values(task) for task in range(MANY + 10)}
    dataset = FakeDataset(train=[{"x": [number]} for number in range(12)])
    hook = StopOnNaN(after_batch=True, after_epoch=False, stop_on_inf=stop_on_inf)
    arguments: dict[str, Any] = {"outputs": outputs, "dataset": dataset, "skip_zeroth_epoch": True}
    if bad == math.inf and not stop_on_inf:
        run_hook(hook, **arguments)
        return
    with pytest.raises(NotFiniteError) as info:
        run_hook(hook, **arguments)
    place = "in epoch 1, stream 'train', step 8, batch 7"
    assert str(info.value) == f"StopOnNaN: 't3/loss' is {bad}, 't20/loss' is {bad} {place}"


def test_many_values_of_several_kinds_are_looked_at_one_by_one() -> None:
    outputs: dict[str, Any] = {f"t{task}/loss": torch.tensor(1.0) for task in range(MANY)}
    outputs |= {"host/loss": math.nan, "each/loss": torch.ones(3)}
    with pytest.raises(NotFiniteError, match="'host/loss' is nan in epoch 1"):
        run_hook(StopOnNaN(after_batch=True, after_epoch=False), outputs=outputs, skip_zeroth_epoch=True)


def test_a_weight_that_torch_cannot_look_at_is_saved_with_the_others() -> None:
    model = FakeModel()
    model.network = nn.Module()  # type: ignore[attr-defined]
    model.network.weight = nn.Parameter(torch.ones(3).to(torch.float8_e4m3fn))  # torch has no isfinite of these
    hook = StopOnNaN(after_batch=True)
    run_hook(hook, model=model)
    assert hook.state_dict()["epoch"] == 1
