from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.config.create import create_hooks
from emloop_mtl.config.load import load_config
from emloop_mtl.config.trust_policy import TrustPolicy
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import ComputeStats, LRSchedule, StopAfter, Warmup
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim.learning_rate import LearningRate
from emloop_mtl.testing import run_hook
from emloop_mtl.types import EpochData, EpochNumber

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
        ([LRSchedule("linear", unit="pass"), Warmup(steps=2)], [0, 3, 6, 3, 3, 3]),
        ([LRSchedule({"class": "step", "step_size": 2, "gamma": 0.5})], [6, 6, 3, 3, 1.5, 1.5]),
        ([LRSchedule({"class": MultiStepLR, "milestones": [2, 3], "gamma": 0.5})], [6, 6, 3, 1.5, 1.5, 1.5]),
        (
            [LRSchedule(lambda base, x, horizon: base * (1 - x / horizon) ** 2)],
            [6, 150 / 36, 96 / 36, 1.5, 24 / 36, 1 / 6],
        ),
    ],
)
def test_the_rate_of_every_step(
    make_model: MakeModel, make_dataset: MakeDataset, hooks: list[AbstractHook], expected: list[float]
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
        (LRSchedule({"class": "step", "size": 3}), ("schedule", "size"), "did you mean 'step_size'"),
        (LRSchedule({"class": "cyclic", "max_lr": [1, 2]}), ("schedule", "max_lr"), "has 2 values"),
        (LRSchedule("linear", stream="valid"), ("stream",), "the schedule plateau watches; this one watches none"),
        (LRSchedule("step", mode="min"), ("mode",), "this one watches none"),
        (LRSchedule("plateau", unit="pass"), ("unit",), "takes no unit"),
        (LRSchedule("plateau", stream="vlaid"), ("stream",), "did you mean 'valid'"),
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


# --------------------------------------------------------------------------------------------------------- the plateau


class Announce(AbstractHook):
    """Write given numbers, one per epoch from the zeroth on; where it is None, the epoch has none."""

    def __init__(self, values: Sequence[float | None]) -> None:
        super().__init__()
        self._values = values

    def requires(self) -> tuple[str, ...]:
        return ()

    def provides(self) -> tuple[EpochNumber, ...]:
        return (EpochNumber("number", "valid"),)

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        value = self._values[epoch_id]
        if value is not None:
            epoch_data["valid"]["number"] = value


@pytest.mark.parametrize(
    ("values", "options", "warm_up", "expected"),
    [
        # The zeroth epoch is better than all others, and not counted.
        ([0, 9, 9, 9, 9], {}, 0, [1, 1, 0.5, 0.25]),
        ([0, 9, 8, 7, 6], {}, 0, [1, 1, 1, 1]),
        ([0, 9, 8, 7, 6], {"mode": "max"}, 0, [1, 1, 0.5, 0.25]),
        ([0, 9, None, 9, 9], {}, 0, [1, 1, 1, 0.5]),
        ([0, 9, float("nan"), 9, 9], {}, 0, [1, 1, 1, 0.5]),
        ([0, 9, 9, 9, 9], {"frequency": 2}, 0, [1, 1, 1, 1]),
        ([0, 9, 9, 9, 9], {"min_lr": 0.03}, 0, [1, 1, 0.5, 0.3]),
        # The first pass is warm-up, and its number is left out.
        ([0, 1, 9, 9, 9], {}, 3, [2 / 3, 1, 1, 0.5]),
    ],
)
def test_plateau_follows_the_numbers_of_the_epochs(
    make_model: MakeModel,
    make_dataset: MakeDataset,
    values: list[float | None],
    options: dict[str, Any],
    warm_up: int,
    expected: list[float],
) -> None:
    schedule = {"class": "plateau", "patience": 0, "factor": 0.5}
    follow = LRSchedule(schedule, stream="valid", variable="number", **options)
    note = NoteRates()
    hooks = [Announce(values), *([Warmup(steps=warm_up)] if warm_up else []), follow, note]
    run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=4, extra_streams=["valid"])
    # the last rate of each epoch, in tenths; the validation batches note it three more times
    assert note.rates[6 + 2 :: 6] == pytest.approx([0.1 * rate for rate in expected])


def test_plateau_requires_its_number(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    follow = LRSchedule("plateau", variable="number")
    with pytest.raises(ConfigError, match="requires the number 'number'.*list Announce before LRSchedule"):
        run_hook(follow, Announce([1] * 9), model=make_model(), dataset=make_dataset(), extra_streams=["valid"])


class Stop(AbstractHook):
    """End the training at its ``moment``-th event, after a save."""

    def __init__(self, moment: int | None = None) -> None:
        super().__init__()
        self._moment = moment
        self._events = 0

    def requires(self) -> tuple[str, ...]:
        return ()

    def _count(self) -> None:
        self._events += 1
        if self._events == self._moment:
            self.main_loop.request_save("cut")
            raise TrainingTerminated("cut")

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._count()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self._count()


RESUMED: list[tuple[Any, dict[str, Any]]] = [
    (
        {"class": "plateau", "patience": 0, "factor": 0.5},
        {"reset_state": True, "stream": "train", "mode": "max"},  # the loss falls, so this reduces often
    ),
    ({"class": "step", "step_size": 2, "gamma": 0.5}, {"reset_state": True}),
    ({"class": "cyclic", "base_lr": 0.001, "max_lr": 0.02, "step_size_up": 3}, {}),
    ({"class": MultiStepLR, "milestones": [2, 3, 7], "gamma": 0.5}, {}),
]


@pytest.mark.parametrize(("schedule", "options"), RESUMED, ids=["plateau", "step", "cyclic", "torch"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_is_cut_anywhere_goes_on_exactly(
    make_model: MakeModel,
    make_dataset: MakeDataset,
    tmp_path: Path,
    schedule: Any,
    options: dict[str, Any],
    accumulate: int,
) -> None:
    def start(stop: Stop) -> tuple[MainLoop, NoteRates]:
        note = NoteRates()
        hooks = [
            ComputeStats(["loss"]),
            Warmup(steps=2),
            LRSchedule(schedule, **options),
            note,
            stop,
            StopAfter(epochs=4),
        ]
        model = make_model(update={"accumulate": accumulate})
        model.optimizer.param_groups[0]["momentum"] = 0.9  # so that there is a state to be emptied or kept
        return MainLoop(model, make_dataset(), hooks, skip_zeroth_epoch=True, output_dir=tmp_path), note

    whole, wanted = start(Stop())
    whole.run_training()
    assert len(set(wanted.rates)) > 2
    # Four events an epoch: three batches and its end. What plateau has seen makes each of them another.
    for moment in range(1, 16) if "stream" in options else (2, 4, 7, 9):
        cut, before = start(Stop(moment))
        cut.run_training()
        resumed, after = start(Stop())
        resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
        resumed.run_training()
        assert before.rates + after.rates == wanted.rates, moment
        assert resumed.position.step == whole.position.step
        for name, value in whole.model.state_dict().items():
            assert torch.equal(resumed.model.state_dict()[name], value), (moment, name)


# ---------------------------------------------------------------------------------------------------------- the config


MODULE = """
from emloop_mtl.optim.schedules.abstract_schedule import AbstractSchedule

def ramp(base, x, horizon, power: float = 1.0):
    return base * (1 - x / horizon) ** power

def third(cycle):
    return 1 / 3

class Halving(AbstractSchedule):
    needs_length = False

    def __init__(self, scale: int):
        self.scale = scale

    def rate(self, base, x, horizon):
        return base / (self.scale + x)

class Other:
    pass
"""


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., LRSchedule]:
    """Build the hook from a config whose folder has a module ``own_rates``."""
    (tmp_path / "own_rates.py").write_text(MODULE, encoding="utf-8")

    def build(schedule: str, trust: TrustPolicy | None = None) -> LRSchedule:
        path = tmp_path / "config.yaml"
        text = "dataset: {class: emloop_mtl.testing.FakeDataset}\nmodel: {class: emloop_mtl.testing.FakeModel}\n"
        path.write_text(f"{text}hooks:\n  - LRSchedule: {{schedule: {schedule}}}\n", encoding="utf-8")
        (hook,) = create_hooks(load_config(path), None, None, trust=trust)
        assert isinstance(hook, LRSchedule)
        return hook

    return build


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [6, 5, 4, 3, 2, 1]),
        ("{class: step, step_size: 3, gamma: 0.5}", [6, 6, 6, 3, 3, 3]),
        ("own_rates.ramp", [6, 5, 4, 3, 2, 1]),
        ("{class: own_rates.ramp, power: 2}", [6, 150 / 36, 96 / 36, 1.5, 24 / 36, 1 / 6]),
        ("{class: own_rates.Halving, scale: 1}", [6, 3, 2, 1.5, 1.2, 1]),
        ("{class: torch.optim.lr_scheduler.StepLR, step_size: 3, gamma: 0.5}", [6, 6, 6, 3, 3, 3]),
        ("{class: torch.optim.lr_scheduler.LambdaLR, lr_lambda: own_rates.third}", [2, 2, 2, 2, 2, 2]),
        (
            "{class: cyclic, base_lr: 0.0, max_lr: 0.3, step_size_up: 2, scale_fn: own_rates.third}",
            [0, 3, 6, 3, 0, 3],
        ),
    ],
)
def test_schedules_in_yaml(
    plan: Callable[..., LRSchedule],
    make_model: MakeModel,
    make_dataset: MakeDataset,
    schedule: str,
    expected: list[float],
) -> None:
    # in sixtieths; a few roundings of 1e-16
    wanted = [step / 60 for step in expected]
    assert rates(make_model(), make_dataset(), plan(schedule)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "place", "message"),
    [
        ("linaer", "4:18", "unknown schedule 'linaer'; did you mean 'linear'"),
        ("null", "4:18", "expected the name of a schedule.*got null"),
        ("{step_size: 3}", "4:18", "missing 'class'"),
        ("{class: stepp}", "4:29", "did you mean 'step'"),
        ("{class: step, stepsize: 3}", "4:42", "unknown argument 'stepsize'; did you mean 'step_size'"),
        ("{class: step, step_size: much}", "4:42", "expected int, got 'much'"),
        ("{class: step, step_size: 0}", "4:42", "must be a whole number, 1 or more, not 0"),
        ("{class: plateau, min_lr: 1}", "4:45", "it stands beside 'schedule', not in it"),
        ("own_rates.Other", "4:18", "neither a function f.base, x, horizon. nor an AbstractSchedule nor a scheduler"),
        ("own_rates.rmap", "4:18", "did you mean 'ramp'"),
        ("{class: own_rates.ramp, pover: 2}", "4:52", "unknown argument 'pover'; did you mean 'power'"),
        ("{class: own_rates.ramp, power: much}", "4:52", "expected float, got 'much'"),
        ("own_rates.Halving", "4:18", "missing argument 'scale'"),
        ("{class: own_rates.Halving, scale: 1.5}", "4:55", "expected int, got 1.5"),
        ("{class: torch.optim.lr_scheduler.StepLR, stepsize: 3}", "4:69", "did you mean 'step_size'"),
        ("{class: torch.optim.lr_scheduler.StepLR}", "4:18", "missing argument 'step_size'"),
        ("{class: torch.optim.lr_scheduler.StepLR, step_size: much}", "4:69", "expected int, got 'much'"),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", "4:18", "it watches a number, for which 'plateau' is there"),
        ("{class: cyclic, scale_fn: own_rates.forth}", "4:44", "has no 'forth'"),
    ],
)
def test_a_wrong_schedule_is_refused_where_it_stands(
    plan: Callable[..., LRSchedule], schedule: str, place: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"config.yaml:{place}: hooks\[0\] LRSchedule.schedule.*{message}"):
        plan(schedule)


@pytest.mark.parametrize("schedule", ["own_rates.ramp", "{class: own_rates.Halving, scale: 1}", "os.getenv"])
def test_a_run_folder_from_elsewhere_may_not_bring_its_own_schedule(
    plan: Callable[..., LRSchedule], schedule: str
) -> None:
    with pytest.raises(ConfigError, match="is not trusted"):
        plan(schedule, TrustPolicy())


@pytest.mark.parametrize("option", ["{class: cyclic, scale_fn: os.getenv}", "{class: LambdaLR, lr_lambda: os.getenv}"])
def test_nor_a_function_as_an_option(plan: Callable[..., LRSchedule], option: str) -> None:
    option = option.replace("LambdaLR", "torch.optim.lr_scheduler.LambdaLR")
    with pytest.raises(ConfigError, match="'os' is not trusted"):
        plan(option, TrustPolicy())


def test_torchs_own_schedulers_are_trusted(plan: Callable[..., LRSchedule]) -> None:
    hook = plan("{class: torch.optim.lr_scheduler.StepLR, step_size: 3}", TrustPolicy())
    learning_rate = LearningRate(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0))
    learning_rate.follow(hook._schedule)
    learning_rate.set_length(6, None)
    rates = []
    for step in range(6):
        learning_rate.apply(step)
        rates += learning_rate.current
    assert rates == [1.0, 1.0, 1.0, 0.1, 0.1, 0.1]
