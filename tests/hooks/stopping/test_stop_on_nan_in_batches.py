from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError, NotFiniteError
from emloop_mtl.hooks import StopOnNaN
from emloop_mtl.hooks.stopping import non_finite
from emloop_mtl.hooks.stopping.waiting_batches import MANY
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.testing import FakeDataset, FakeModel, RecordEvents, run_hook

from .nan_runs import INF, NAN, in_step, run

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
