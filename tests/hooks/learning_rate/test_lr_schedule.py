from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import LRSchedule, StopAfter, Warmup
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import run_hook

MakeModel = Callable[..., MultiTaskModel]
MakeDataset = Callable[..., MultiTaskDataset]


class NoteRates(AbstractHook):
    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self.rates += self.main_loop.model.learning_rate.current  # type: ignore[attr-defined]


def rates(model: MultiTaskModel, dataset: MultiTaskDataset, *hooks: AbstractHook) -> list[float]:
    """Return the rate of each of the six steps of two epochs; the base rate is 0.1."""
    note = NoteRates()
    run_hook(*hooks, note, StopAfter(steps=6), model=model, dataset=dataset, epochs=9, skip_zeroth_epoch=True)
    return note.rates


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        ([LRSchedule("linear")], [6, 5, 4, 3, 2, 1]),
        ([LRSchedule("linear", min_lr=0.05)], [6, 5, 4, 3, 3, 3]),
        ([LRSchedule("linear", frequency=2)], [6, 6, 4, 4, 2, 2]),
        ([LRSchedule("linear", unit="pass")], [6, 6, 6, 3, 3, 3]),
        ([Warmup(steps=3)], [0, 2, 4, 6, 6, 6]),
        ([Warmup(passes=1)], [0, 2, 4, 6, 6, 6]),
        ([Warmup(percentage=0.5)], [0, 2, 4, 6, 6, 6]),
        ([Warmup(steps=3), LRSchedule("linear")], [0, 2, 4, 6, 4, 2]),
        ([LRSchedule("linear"), Warmup(steps=3)], [0, 2, 4, 6, 4, 2]),
    ],
)
def test_the_rate_of_every_step(
    make_model: MakeModel, make_dataset: MakeDataset, hooks: list[AbstractHook], expected: list[int]
) -> None:
    # in sixtieths; a few roundings of 1e-16
    assert rates(make_model(), make_dataset(), *hooks) == pytest.approx([step / 60 for step in expected], rel=1e-12)


@pytest.mark.parametrize(
    ("hook", "path", "message"),
    [
        (Warmup(), (), "exactly one of steps, percentage, passes"),
        (Warmup(steps=1, passes=1), (), "exactly one of"),
        (Warmup(percentage=2), ("percentage",), "0 to 1"),
        (LRSchedule("linaer"), ("schedule",), "did you mean 'linear'"),
        (LRSchedule("linear", unit="epoch"), ("unit",), "unknown unit 'epoch'"),
    ],
)
def test_wrong_settings_are_refused_where_they_stand(
    make_model: MakeModel, make_dataset: MakeDataset, hook: AbstractHook, path: tuple[Any, ...], message: str
) -> None:
    hook.config_path = ("hooks", 0, hook.name)
    with pytest.raises(ConfigError, match=message) as error:
        run_hook(hook, model=make_model(), dataset=make_dataset())
    assert error.value.path == ("hooks", 0, hook.name, *path)


@pytest.mark.parametrize("hook", [Warmup(steps=1), LRSchedule("linear")])
def test_a_model_without_a_learning_rate_is_refused(hook: AbstractHook) -> None:
    with pytest.raises(ConfigError, match=f"{hook.name} needs a model with a LearningRate .*FakeModel has none"):
        run_hook(hook)
