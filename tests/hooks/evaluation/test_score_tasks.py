from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError, TrainingTerminated
from emloop_mtl.hooks import Evaluate, SaveLatest, ScoreTasks, StopAfter, StopOnPlateau
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks.task import Task
from emloop_mtl.testing import RecordEvents, run_hook
from emloop_mtl.types import EpochNumber
from emloop_mtl.utils.flat_names import flatten

MakeModel = Callable[..., MultiTaskModel]
MakeDataset = Callable[..., MultiTaskDataset]

LOSSES = {"digit/shapes/loss", "size/shapes/loss", "model/all/loss"}
AVERAGES = {"model/all/micro_average", "model/all/macro_average", "model/all/loss"}
SCORES = {
    *("digit/shapes/accuracy", "digit/shapes/average", "size/shapes/mean_squared_error", "size/shapes/average"),
    *LOSSES,
    *AVERAGES,
}


def test_the_scores_are_those_of_the_model(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    dataset = make_dataset()
    record = run_hook(Evaluate(["valid", "test"]), ScoreTasks(), model=make_model(), dataset=dataset, epochs=0)
    loaders = [*dataset.valid_stream().loaders, *dataset.test_stream().loaders]
    expected = make_model().score(loaders)
    for stream in ("valid", "test"):
        assert set(record.epochs[0][stream]) == SCORES
        for variable, value in record.epochs[0][stream].items():
            task, data, kind = variable.split("/")
            assert value == expected[f"{task}/{data}/{stream}/{kind}"]


def test_the_averages_over_all_are_those_of_the_evaluated_streams(
    make_model: MakeModel, make_dataset: MakeDataset
) -> None:
    record = run_hook(Evaluate(["valid", "test"]), ScoreTasks(), model=make_model(), dataset=make_dataset(), epochs=1)
    zeroth, first = record.epochs[0], record.epochs[1]
    assert set(zeroth["train"]) == SCORES
    assert set(first["train"]) == LOSSES
    for epoch, streams in ((zeroth, ["train", "valid", "test"]), (first, ["valid", "test"])):
        assert set(epoch["all"]) == AVERAGES
        for variable in AVERAGES:  # each stream has as many metrics and losses, so the mean of means is the mean
            expected = sum(epoch[stream][variable] for stream in streams) / len(streams)
            assert epoch["all"][variable] == pytest.approx(expected, rel=1e-14)


def test_an_epoch_without_evaluation_has_no_averages_over_all(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    record = run_hook(ScoreTasks(), model=make_model(), dataset=make_dataset(), epochs=1)
    assert set(record.epochs[1]) == {"train"}


def test_probabilities_are_computed_in_training_only_if_they_are_scored(
    make_model: MakeModel, make_dataset: MakeDataset
) -> None:
    for train, expected in ((False, False), (True, True)):
        record = run_hook(ScoreTasks(train=train), model=make_model(), dataset=make_dataset(), epochs=1)
        batches = [event["batch_data"] for name, event in record.events if name == "after_batch"]
        assert ["digit/pred" in batch for batch in batches] == [True] * 3 + [expected] * 3
        assert ("digit/shapes/accuracy" in record.epochs[1]["train"]) is expected
        assert "all" not in record.epochs[1]


@pytest.mark.parametrize("train", [False, True])
def test_output_functions_are_called_in_training_only_if_batches_are_scored_there(
    train: bool, make_model: MakeModel, make_dataset: MakeDataset
) -> None:
    model = make_model()
    calls = {"evaluated": 0, "trained": 0}

    def probabilities(outputs: Any) -> Any:
        calls["trained" if loop.is_training else "evaluated"] += 1
        return outputs["digit_head_out"].softmax(1)

    task = model.tasks["digit"]
    model.update_task(
        Task("digit", flow=task.flow, label="digit", loss="cross_entropy", metrics=["accuracy"], output=probabilities)
    )
    loop = MainLoop(model, make_dataset(), [Evaluate(["valid"]), ScoreTasks(train=train), StopAfter(epochs=2)])
    loop.run_training()
    # the first rows of the two streams that are run to try whether all fits, three batches of each in the zeroth epoch,
    # then in each epoch those of `valid`
    assert calls == {"evaluated": 14, "trained": 6 if train else 0}
    averages = {f"{name}/train/{kind}" for name in ("digit/shapes", "size/shapes") for kind in ("loss", "average")}
    averages |= {f"model/all/train/{kind}" for kind in ("micro_average", "macro_average", "loss")}
    found = {name for name in flatten(loop.epoch_data) if "/train/" in name}
    scored = averages | {"digit/shapes/train/accuracy", "size/shapes/train/mean_squared_error"}
    assert found == (scored if train else {name for name in averages if name.endswith("/loss")})


def test_only_the_listed_streams_are_scored(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    hooks = [Evaluate(["valid", "test"]), ScoreTasks(["test"])]
    record = run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=1)
    scored = {stream: bool(numbers) for stream, numbers in record.epochs[1].items()}
    assert scored == {"train": False, "valid": False, "test": True, "all": True}


def test_what_it_announces_is_what_it_writes(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    hook = ScoreTasks()
    hooks = [Evaluate(["valid", "test"]), hook]
    record = run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=1)
    written = {EpochNumber(name, stream) for stream, names in record.epochs[1].items() for name in names}
    assert set(hook.provides() or ()) == written


def test_it_knows_the_tasks_that_loaders_leave_open(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    dataset = make_dataset()
    for stream in ("train", "valid", "test"):
        for loader in getattr(dataset, f"{stream}_stream")().loaders:
            loader.tasks = {}
    hook = ScoreTasks()
    record = run_hook(Evaluate(["valid", "test"]), hook, model=make_model(), dataset=dataset, epochs=1)
    written = {EpochNumber(name, stream) for stream, names in record.epochs[1].items() for name in names}
    assert set(hook.provides() or ()) == written


def test_what_cannot_be_known_beforehand_is_not_announced(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    def spread(golds: Any, probs: Any, preds: Any) -> dict[str, float]:
        return {"wide": float(max(probs.max() - probs.min(), 0))}

    hook = ScoreTasks()
    record = run_hook(hook, model=make_model([spread]), dataset=make_dataset(), epochs=0)
    assert hook.provides() is None
    assert "digit/shapes/wide" in record.epochs[0]["train"]


def test_a_model_without_tasks_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a model with 'tasks', such as MultiTaskModel; FakeModel has none"):
        run_hook(ScoreTasks())


@pytest.mark.parametrize(
    ("arguments", "message", "path"),
    [
        ({"streams": ["valid", "tset"]}, "ScoreTasks: .*; did you mean 'test'", ("streams", 1)),
        ({"streams": ["valid"], "train": True}, "train: true scores 'train', which streams does not list", ("train",)),
    ],
)
def test_wrong_streams(
    make_model: MakeModel, make_dataset: MakeDataset, arguments: dict[str, Any], message: str, path: tuple[Any, ...]
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_hook(ScoreTasks(**arguments), model=make_model(), dataset=make_dataset())
    assert caught.value.path == path


@pytest.mark.parametrize("train", [False, True])
def test_a_training_resumed_in_mid_epoch_ends_with_the_same_scores(
    make_model: MakeModel, make_dataset: MakeDataset, tmp_path: Path, train: bool
) -> None:
    def loop(**limits: int) -> tuple[MainLoop, RecordEvents]:
        record = RecordEvents(requires=())
        hooks = [Evaluate(["valid"]), ScoreTasks(train=train), SaveLatest(), record, StopAfter(**limits)]
        return MainLoop(make_model(), make_dataset(), hooks, output_dir=tmp_path), record

    whole, expected = loop(epochs=2)
    whole.run_training()
    cut, _ = loop(steps=5)
    cut.run_training()
    resumed, record = loop(epochs=2)
    resumed.restore(newest_checkpoint(tmp_path / "checkpoints"))
    resumed.run_training()
    assert record.epochs == {2: expected.epochs[2]}


# ------------------------------------------------------------------------------------------------------ global metrics


def count(scores: dict[str, float]) -> int:
    return len(scores)


def test_a_global_metric_is_called_once_per_epoch_with_all_that_is_written(
    make_model: MakeModel, make_dataset: MakeDataset
) -> None:
    seen: list[dict[str, float]] = []
    hooks = [
        Evaluate(["valid", "test"]),
        ScoreTasks(global_metrics={"keep": lambda scores: seen.append(scores) or 1.5, "count": count}),
    ]
    record = run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=2)
    assert len(seen) == 3  # the zeroth epoch evaluates, too
    for epoch, scores in enumerate(seen):
        numbers = record.epochs[epoch]
        assert numbers["all"].pop("keep") == 1.5
        assert numbers["all"].pop("count") == len(scores) + 1
        assert scores == flatten(numbers)
    assert set(seen[1]) >= {"digit/shapes/train/loss", "digit/shapes/valid/accuracy", "model/all/all/micro_average"}


def test_an_epoch_without_evaluation_has_no_global_metric(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    hooks = [Evaluate(["valid"], every=2), ScoreTasks(global_metrics={"count": count})]
    record = run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=2)
    assert ["count" in record.epochs[epoch].get("all", {}) for epoch in range(3)] == [True, False, True]


def test_a_global_metric_waits_for_the_streams_that_it_reads(
    make_model: MakeModel, make_dataset: MakeDataset, caplog: pytest.LogCaptureFixture
) -> None:
    hook = ScoreTasks(global_metrics={"worst": lambda scores: scores["digit/shapes/test/loss"], "count": count})
    hooks = [Evaluate(["valid"]), Evaluate(["test"], every=2), hook]
    record = run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=3)
    assert ["worst" in record.epochs[epoch]["all"] for epoch in range(4)] == [True, False, True, False]
    assert all("count" in record.epochs[epoch]["all"] for epoch in range(4))
    text = "global metric 'worst' has no number while a stream that it reads is not evaluated (test)"
    assert [message for message in caplog.messages if "worst" in message] == [f"ScoreTasks: {text}"]
    hook = ScoreTasks(["valid"], global_metrics={"worst": lambda scores: scores["digit/shapes/test/loss"]})
    with pytest.raises(ConfigError, match="there is no score 'digit/shapes/test/loss'"):
        run_hook(Evaluate(["valid", "test"]), hook, model=make_model(), dataset=make_dataset())


def test_global_metrics_are_announced(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    hook = ScoreTasks(global_metrics={"count": count})
    hooks = [Evaluate(["valid"]), hook, StopOnPlateau(stream="all", variable="count", mode="min")]
    run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=1)
    assert EpochNumber("count", "all") in set(hook.provides() or ())
    with pytest.raises(ConfigError, match=r"requires the number 'cuont' of stream 'all'.*did you mean 'count'"):
        run_hook(hook, StopOnPlateau(stream="all", variable="cuont"), model=make_model(), dataset=make_dataset())


def test_a_global_metric_that_fails_ends_the_training(make_model: MakeModel, make_dataset: MakeDataset) -> None:
    hook = ScoreTasks(global_metrics={"gap": lambda scores: scores["digit/shapes/valid/accurac"]})
    hook.config_path = ("hooks", 1, "ScoreTasks")
    with pytest.raises(ConfigError, match="no score .*; did you mean 'digit/shapes/valid/accuracy'") as caught:
        run_hook(Evaluate(["valid"]), hook, model=make_model(), dataset=make_dataset())
    assert caught.value.path == ("hooks", 1, "ScoreTasks", "global_metrics", "gap")


def test_a_global_metric_may_end_the_training_and_keeps_no_score_from_being_written(
    make_model: MakeModel, make_dataset: MakeDataset
) -> None:
    def end(scores: dict[str, float]) -> float:
        raise TrainingTerminated("good enough")

    hooks = [Evaluate(["valid"]), ScoreTasks(global_metrics={"end": end})]
    record = run_hook(*hooks, model=make_model(), dataset=make_dataset(), epochs=2)
    assert set(record.epochs) == {0}
    assert set(record.epochs[0]["all"]) == AVERAGES
