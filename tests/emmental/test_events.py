"""What Emmental 0.1.1 evaluates, writes and saves during a training, and when, said in our hooks.

Its settings are translated as the manual's page for its users says: ``evaluation_freq`` in ``counter_unit`` is
``main_loop.fixed_epoch_size``; ``online_eval`` is ``ScoreTasks: {train: true}``; checkpoints of each evaluation are
those of ``SaveEvery``, the best one that of ``SaveBest``, and ``RestoreBest`` loads it at the end. Numbers are read
from the files that ``WriteJSON`` writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl import Action, ColumnDataset, MainLoop, MultiTaskDataset, MultiTaskModel, Task, TaskLoader
from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, load_checkpoint, newest_checkpoint
from emloop_mtl.config.create import create_training
from emloop_mtl.config.located_error import LocatedError
from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import (
    ClearCheckpoints,
    ComputeStats,
    Evaluate,
    RestoreBest,
    SaveBest,
    SaveEvery,
    SaveLatest,
    ScoreTasks,
    StopAfter,
    WriteJSON,
)
from emloop_mtl.schedulers import Sequential

VECTORS = json.loads((Path(__file__).parent / "events.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in VECTORS["cases"]}
TRAINED = [name for name, case in CASES.items() if "error" not in case]
RESUMED = [name for name in TRAINED if name.startswith("resume")]
WHOLE = [name for name in TRAINED if name not in RESUMED]
SAVED = [name for name in TRAINED if "files_at_end" in CASES[name]]

DIFFERENCES = {
    "weight in training losses": "Emmental multiplies a task's training loss by the task's weight and its evaluation "
    "loss not; here <task>/<data>/loss is the task's own loss in both, so that they can be compared",
    "mean of training losses": "model/all/train/loss is the mean over tasks and data, as it is of every other stream; "
    "what Emmental calls so, the mean over samples of what is minimised, is train/loss/mean of ComputeStats",
    "line of a step": "with WriteJSON.steps a line holds the losses since the line before, not since the last "
    "evaluation; the evaluation has a line of its own",
    "written once": "Emmental writes the numbers of an evaluation a second time when it saves a checkpoint",
    "sample_25": "an evaluation that comes late does not put off the ones after it: they stay at multiples of 25",
    "rate": "writers write the learning rate by its own name, one for each parameter group where there are several; it "
    "is no number of the epoch",
    "name of the stream": "train_split_both: scores are called by the stream, train, not by the split of the loader, "
    "so that the training loss of the rows of `valid` is not replaced by their evaluation loss",
    "no_valid_match": "a stream that does not exist is an error, not an evaluation of nothing",
    "best of all evaluations": "SaveBest looks at every evaluation; Emmental only at those that it saves",
    "ckpt_default_metric_*": "a number that does not exist is an error before the first batch; in Emmental nothing is "
    "ever best, and it may remove everything at the end",
    "resume*": "resuming goes on with weights, optimizer, position and numbers of the checkpoint, and so ends as the "
    "run that was not interrupted; Emmental begins with the weights that it is given, counts from 0, and without "
    "skip_learned_data leaves out the first steps of every epoch but takes batches in a row",
}
"""What differs -> why."""

REL = 1e-6
"""Losses of a batch are float32 numbers, each off by up to 2^-24 = 6e-8 and by what the weights are off."""
ATOL = 1e-6
"""Weights below 1 in float32: 48 updates, each with a rounding of up to 2^-25 = 3e-8, add up to 1.4e-6 at the worst."""

Numbers = dict[str, float]


class Rows(MultiTaskDataset):
    """Both tasks' rows for training and evaluation, and as split `test` the evaluated rows of task2 for task1."""

    def loaders(self) -> Iterator[TaskLoader]:
        for split, source in (("train", "data"), ("valid", "valid_data")):
            for task, rows in VECTORS[source].items():
                name = f"data_{task}" if split == "train" else f"valid_{task}"
                yield self._loader(name, task, split, rows)
        yield self._loader("test_task1", "task1", "test", VECTORS["valid_data"]["task2"])

    @staticmethod
    def _loader(name: str, task: str, split: str, rows: Mapping[str, Any]) -> TaskLoader:
        data = ColumnDataset(name, {"x": torch.tensor(rows["x"])}, {"y": torch.tensor(rows["y"])})
        return TaskLoader(data, {task: "y"}, split, batch_size=10, shuffle=False)


def new_model() -> MultiTaskModel:
    modules = {"shared": nn.Linear(2, 8), "task1_head": nn.Linear(8, 2), "task2_head": nn.Linear(8, 2)}
    tasks = [
        Task(
            name,
            flow=[Action("features", "shared", "x"), Action(f"{name}_out", f"{name}_head", "features")],
            label="y",
            loss="cross_entropy",
            output="softmax",
            metrics=["accuracy"],
            weight=weight,
        )
        for name, weight in VECTORS["base"]["task_weights"].items()
    ]
    model = MultiTaskModel(tasks, modules, optimizer={"class": "sgd", "lr": 0.1}, device="cpu")
    load(model, VECTORS["initial_weights"])
    return model


def load(model: MultiTaskModel, weights: Mapping[str, Any]) -> None:
    model.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})


class Watch(AbstractHook):
    """Note which batches are trained on, at which rate, and what checkpoints there are after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.trained: list[list[Any]] = []
        self.sizes: list[int] = []
        self.rates: list[float] = []
        self.kept: dict[int, dict[str, int]] = {}

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.is_training:
            self.trained.append([batch_data.data_name, int(batch_data["_uids_"][0]) // 10])
            self.sizes.append(batch_data.size or 0)
            self.rates.append(self.main_loop.model.optimizer.param_groups[0]["lr"])

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        self.main_loop.when_saved(self._look)  # as the last hook, so after whatever SaveEvery asked for

    def _look(self) -> None:
        self.kept[self.main_loop.position.step] = kept(Path(self.main_loop.output_dir or ""))


def kept(folder: Path) -> dict[str, int]:
    """Return the step of every checkpoint by its tag."""
    found = [load_checkpoint(path) for path in list_checkpoints(folder / "checkpoints")]
    return {checkpoint.tag: checkpoint.position.step for checkpoint in found}


# ------------------------------------------------------------------------------------- their settings, said in ours


def learner(case: Mapping[str, Any]) -> dict[str, Any]:
    return {**VECTORS["base"]["learner_config"], **case["overrides"].get("learner_config", {})}


def logging_of(case: Mapping[str, Any]) -> dict[str, Any]:
    return {**VECTORS["base"]["logging_config"], **case["overrides"].get("logging_config", {})}


def epoch_size(case: Mapping[str, Any]) -> Any:
    unit, frequency = (logging_of(case)[key] for key in ("counter_unit", "evaluation_freq"))
    if unit == "epoch":
        return {"passes": frequency}
    return math.ceil(frequency) if unit == "batch" else {"samples": math.ceil(frequency)}


def total_steps(case: Mapping[str, Any]) -> int:
    settings = learner(case)
    return int(settings.get("n_steps") or settings["n_epochs"] * case["n_batches_per_epoch"])


def splits(case: Mapping[str, Any], which: str) -> list[str]:
    wanted = learner(case).get(f"{which}_split", which)
    return [wanted] if isinstance(wanted, str) else list(wanted)


def saving_hooks(case: Mapping[str, Any]) -> list[AbstractHook]:
    settings = logging_of(case)
    if not settings.get("checkpointing"):
        return []
    saving = settings.get("checkpointer_config", {})
    hooks: list[AbstractHook] = []
    keep, runway = None if saving.get("checkpoint_all") else 1, saving.get("checkpoint_runway")
    hooks.append(SaveEvery(every=saving.get("checkpoint_freq", 1), keep=keep, runway=runway))
    metrics = saving.get("checkpoint_metric", {})
    for name, mode in metrics.items():
        assert name == "model/all/valid/loss"
        hooks.append(SaveBest(stream="valid", variable="model/all/loss", mode=mode, runway=runway))
        hooks.append(RestoreBest())
    if saving.get("clear_intermediate_checkpoints", True):
        hooks.append(ClearCheckpoints("all_but_best" if metrics else "all"))
    return hooks


class Run:
    """A training by the settings of a case."""

    def __init__(self, case: Mapping[str, Any], folder: Path, *extra: AbstractHook, **changes: Any) -> None:
        self.case = case
        self.folder = folder
        self.watch = Watch()
        self.model = new_model()
        by_step = WriteJSON(path="steps.jsonl", steps=1)
        by_step.name = "WriteEveryStep"
        streams = changes.get("evaluated", splits(case, "valid"))
        hooks: list[AbstractHook] = [
            *([Evaluate(streams=streams)] if streams else []),
            ScoreTasks(train=bool(learner(case).get("online_eval"))),
            ComputeStats(["loss"], streams=["train"]),
            WriteJSON(),
            by_step,
            *changes.get("saving", saving_hooks(case)),
            *extra,
            StopAfter(steps=changes.get("steps", total_steps(case))),
            self.watch,
        ]
        dataset = Rows(streams={"train": {"scheduler": Sequential(), "splits": splits(case, "train")}})
        size = changes.get("size", epoch_size(case))
        self.loop = MainLoop(
            self.model, dataset, hooks, fixed_epoch_size=size, skip_zeroth_epoch=True, output_dir=folder
        )

    def train(self) -> Run:
        self.loop.run_training()
        assert self.loop.end == "finished"
        return self

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of evaluations, as they stand in the file."""
        text = (self.folder / "metrics.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The lines of single steps."""
        text = (self.folder / "steps.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if not any(name.startswith("model/") for name in line)]


def evaluations(case: Mapping[str, Any]) -> dict[int, Numbers]:
    """Return the numbers of Emmental's evaluations by how many batches were trained before."""
    return {
        number: metrics
        for number, (_, metrics, *notes) in enumerate(case["events"], 1)
        if notes and notes[0]["evaluated"]
    }


def check_weights(model: MultiTaskModel, name: str) -> None:
    for key, values in VECTORS["weights"][name].items():
        torch.testing.assert_close(model.state_dict()[key], torch.tensor(values), rtol=0, atol=ATOL)


def are_weights(model: MultiTaskModel, name: str) -> bool:
    pairs = ((model.state_dict()[key], torch.tensor(values)) for key, values in VECTORS["weights"][name].items())
    return all(torch.allclose(one, other, rtol=0, atol=ATOL) for one, other in pairs)


def check_numbers(ours: Mapping[str, float], theirs: Mapping[str, float], rate: float) -> None:
    """Compare the line of an epoch with the numbers of an evaluation."""
    expected = dict(theirs)
    assert expected.pop("model/all/train/lr") == rate == ours["learning_rate"]
    assert "model/all/train/lr" not in ours, DIFFERENCES["rate"]
    mean = expected.pop("model/all/train/loss")
    assert ours["train/loss/mean"] == pytest.approx(mean, rel=REL)
    losses = {name: value for name, value in ours.items() if is_loss_of_training(name)}
    # Sums of float64, maybe in another order.
    assert ours["model/all/train/loss"] == pytest.approx(sum(losses.values()) / len(losses), rel=1e-12)
    assert ours["model/all/train/loss"] != pytest.approx(mean, rel=REL) or set(losses) == {
        "task1/data_task1/train/loss"
    }, DIFFERENCES["mean of training losses"]
    for name, value in expected.items():
        weight = VECTORS["base"]["task_weights"].get(name.split("/")[0], 1.0) if is_loss_of_training(name) else 1.0
        # Accuracies are quotients of small whole numbers, and means of those.
        assert ours[name] * weight == pytest.approx(value, rel=REL if name.endswith("/loss") else 1e-12), name
        assert weight == 1 or ours[name] != pytest.approx(value, rel=REL), DIFFERENCES["weight in training losses"]
    ours_alone = {"train/loss/mean", "model/all/train/loss", "learning_rate"}
    if "valid_task1" in "".join(losses):
        ours_alone |= {"task1/valid_task1/train/loss", "task2/valid_task2/train/loss"}
        assert ours_alone.isdisjoint(expected), DIFFERENCES["name of the stream"]
    assert set(ours) - set(expected) == {"epoch", "step", "samples", *ours_alone}


def is_loss_of_training(name: str) -> bool:
    return name.endswith("/train/loss") and not name.startswith("model/")


def check_running_means(run: Run, skipped: int = 0) -> None:
    """Make Emmental's training losses of every batch from our lines of single steps."""
    lines = run.steps[skipped:]
    assert len(lines) == len(run.case["events"])
    sums: dict[str, tuple[float, int]] = {}
    for line, (data, _), size, (_, theirs, *notes) in zip(
        lines, run.watch.trained[skipped:], run.watch.sizes[skipped:], run.case["events"], strict=True
    ):
        task = data.rpartition("_")[2]
        assert set(line) == {"epoch", "step", "samples", "train/loss", f"train/{task}/loss", "learning_rate"}
        assert line["learning_rate"] == theirs["model/all/train/lr"]
        weight = VECTORS["base"]["task_weights"][task]
        assert line["train/loss"] == pytest.approx(weight * line[f"train/{task}/loss"], rel=REL)
        split = "train" if data.startswith("data") else "valid"
        for name in (f"{task}/{data}/{split}/loss", "model/all/train/loss"):
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + size * line["train/loss"], count + size
        is_evaluated = bool(notes and notes[0]["evaluated"])
        for name, (total, count) in sums.items():
            is_replaced = is_evaluated and "/valid/" in name
            assert (theirs[name] == pytest.approx(total / count, rel=REL)) != is_replaced, DIFFERENCES[
                "name of the stream"
            ]
        if is_evaluated:
            sums = {}


# --------------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("name", WHOLE)
def test_a_training_goes_as_in_emmental(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    changes: dict[str, Any] = {}
    if name == "no_valid_match":
        with pytest.raises(ConfigError, match="Evaluate: .*'nope'"):
            Run(case, tmp_path)
        assert all(not any("/valid/" in key for key in metrics) for metrics in evaluations(case).values())
        changes = {"evaluated": []}
    run = Run(case, tmp_path, **changes).train()
    assert run.watch.trained == case["trained"]
    assert len(run.watch.trained) == total_steps(case) == run.loop.position.step == run.loop.total_steps
    assert [line["samples"] for line in run.steps] == [event[0] for event in case["events"]]
    check_weights(run.model, case["final_weights"])
    check_running_means(run)

    theirs = evaluations(case)
    ours = {line["step"]: line for line in run.epochs}
    assert len(ours) == len(run.epochs)
    if name == "sample_25":
        due = [25 * number for number in range(1, 13)]
        reached = [next(step for step in range(1, 33) if 10 * step >= samples) for samples in due]
        assert list(ours) == reached != list(theirs), DIFFERENCES["sample_25"]
        compared = [3, 15, 18, 30]  # where both have trained equally long since the evaluation before, and others
        assert set(compared) <= set(ours) & set(theirs)
    else:
        assert list(ours) == list(theirs)
        compared = list(theirs)
    for step in compared:
        if name == "sample_25" and step != 3:
            for key in theirs[step]:
                if "/train/" not in key:
                    assert ours[step][key] == pytest.approx(theirs[step][key], rel=REL)
        else:
            check_numbers(ours[step], theirs[step], run.watch.rates[step - 1])


@pytest.mark.parametrize("name", TRAINED)
def test_scores_after_the_training(name: str, tmp_path: Path) -> None:
    """Emmental scores the split `valid` whatever it has evaluated before."""
    case = CASES[name]
    model = new_model()
    load(model, VECTORS["weights"][case["final_weights"]])
    loaders = [loader for loader in Rows().loaders() if loader.split == "valid"]
    scores = model.score(loaders)
    assert set(scores) == set(case["score_after_learn"])
    for key, value in case["score_after_learn"].items():
        assert scores[key] == pytest.approx(value, rel=REL if key.endswith("loss") else 1e-12), key


def test_samples_that_are_counted_like_emmentals_batches_give_its_evaluations(tmp_path: Path) -> None:
    """With 30 samples, what Emmental makes of 25, every number is Emmental's."""
    case = CASES["sample_25"]
    run = Run(case, tmp_path, size={"samples": 30}).train()
    theirs = evaluations(case)
    assert [line["step"] for line in run.epochs] == list(theirs)
    for line in run.epochs:
        check_numbers(line, theirs[line["step"]], 0.1)


@pytest.mark.parametrize("name", [name for name in WHOLE if name.startswith(("write_loss", "ckpt", "epoch"))])
def test_nothing_is_written_twice(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    run = Run(case, tmp_path).train()
    written = [notes[0]["logged"] if notes else [] for _, _, *notes in case["events"]]
    per_step = logging_of(case).get("writer_config", {}).get("write_loss_per_step")
    assert [line["step"] for line in run.steps] == list(range(1, len(written) + 1))
    if per_step:
        assert all(len(sizes) == 1 for sizes in written)
        # The second of Emmental's steps tells of two batches, ours of one.
        first, second = (line["train/loss"] for line in run.steps[:2])
        assert case["events"][1][1]["model/all/train/loss"] == pytest.approx((first + second) / 2, rel=REL)
        assert second != pytest.approx((first + second) / 2, rel=REL), DIFFERENCES["line of a step"]
    elif "files_at_end" in case:
        assert [len(sizes) for sizes in written if sizes].count(2) == sum(
            bool(notes and notes[0]["saved"]) for _, _, *notes in case["events"]
        ), DIFFERENCES["written once"]
    assert len({line["step"] for line in run.epochs}) == len(run.epochs) == len(evaluations(case))


# ------------------------------------------------------------------------------------------------------- checkpoints


def steps_of(files: Sequence[str], case: Mapping[str, Any]) -> list[int]:
    """Return after how many batches Emmental wrote its checkpoints `checkpoint_<unit_total>`."""
    units = {f"{notes[0]['unit_total']:g}": number for number, (_, _, *notes) in enumerate(case["events"], 1) if notes}
    return sorted(units[file.removeprefix("checkpoint_")] for file in files if file.startswith("checkpoint_"))


@pytest.mark.parametrize("name", SAVED)
def test_checkpoints_are_written_and_kept_as_in_emmental(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    run = Run(case, tmp_path).train()
    seen_best = []
    for step, tags in run.watch.kept.items():
        notes = case["events"][step - 1][2]
        every = sorted(number for tag, number in tags.items() if tag.startswith("epoch-"))
        assert every == steps_of(notes["files"], case)
        has_best = any(file.startswith("best_model_") for file in notes["files"])
        if "default_metric" in name:
            assert not has_best
        else:
            assert tags.get("best") == best_step(case, step)
            seen_best.append(has_best == ("best" in tags))
    assert all(seen_best) or name == "ckpt_epoch_0.5_freq_2", DIFFERENCES["best of all evaluations"]
    at_end = kept(tmp_path)
    assert sorted(number for tag, number in at_end.items() if tag != "best") == steps_of(case["files_at_end"], case)
    assert ("best" in at_end) == any(file.startswith("best_model_") for file in case["files_at_end"])
    if case["best"]:
        (saved,) = [hook for hook in run.loop.hooks if isinstance(hook, SaveBest)]
        assert saved.state_dict()["best"]["value"] == pytest.approx(case["best"]["model/all/valid/loss"], rel=REL)
        best = newest_checkpoint(tmp_path / "checkpoints", "best")
        for key, weight in run.model.state_dict().items():  # which are Emmental's, as the first test says
            assert torch.equal(best.weights[key], weight)


def best_step(case: Mapping[str, Any], until: int) -> int | None:
    runway = logging_of(case)["checkpointer_config"].get("checkpoint_runway", 0)
    losses = {
        step: numbers["model/all/valid/loss"] for step, numbers in evaluations(case).items() if runway <= step <= until
    }
    return min(losses, key=lambda step: losses[step], default=None)


@pytest.mark.parametrize("name", [name for name in SAVED if "default_metric" in name])
def test_a_default_number_that_does_not_exist_is_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert case["best"] == {}
    wrong = SaveBest(stream="train", variable="model/train/all/loss")
    with pytest.raises(ConfigError, match="SaveBest requires the number 'model/train/all/loss' of stream 'train'"):
        Run(case, tmp_path / "wrong", saving=[wrong, RestoreBest()]).train()
    meant = SaveBest(stream="train", variable="model/all/loss")
    run = Run(case, tmp_path, saving=[meant, RestoreBest()]).train()
    assert kept(tmp_path) == {"best": 32}
    assert not any(file.startswith("best") for file in case["files_at_end"]), DIFFERENCES["ckpt_default_metric_*"]
    check_weights(run.model, case["final_weights"])


@pytest.mark.parametrize(
    ("name", "hook", "message"),
    [
        ("ckpt_freq_0", "SaveEvery: {every: 0}", "SaveEvery.*every.* must be a positive whole number, not 0"),
        ("ckpt_bad_mode", "SaveBest: {mode: low}", "SaveBest.mode: expected one of 'min', 'max', got 'low'"),
    ],
)
def test_what_emmental_refuses_is_an_error_with_its_place(name: str, hook: str, message: str, tmp_path: Path) -> None:
    assert CASES[name]["error"] == "ValueError"
    fakes = "".join(f"{part.lower()}: {{class: emloop_mtl.testing.Fake{part}}}\n" for part in ("Dataset", "Model"))
    config = tmp_path / "config.yaml"
    config.write_text(f"{fakes}hooks:\n  - {hook}\n", encoding="utf-8")
    with pytest.raises(LocatedError, match=rf"config\.yaml:4:\d+: hooks\[0\] {message}$"):
        create_training(config, tmp_path / "run")


# ---------------------------------------------------------------------------------------------------------- resuming


def begin(case: Mapping[str, Any], folder: Path) -> int:
    """Train as far as Emmental is told that a training came, keep a checkpoint, and return the step."""
    settings = learner(case)
    step = settings["epochs_learned"] * case["n_batches_per_epoch"] + settings.get("steps_learned", 0)
    Run(case, folder, SaveLatest(every=99), steps=step).train()
    return int(step)


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_training_ends_as_one_that_was_not_interrupted(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    begun = begin(case, tmp_path)
    run = Run(case, tmp_path, SaveLatest(every=99))
    run.loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    run.train()
    whole = Run(case, tmp_path / "whole", SaveLatest(every=99)).train()
    assert run.watch.trained == whole.watch.trained[begun:]
    for key, weight in whole.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[key], weight)
    for file in ("metrics.jsonl", "steps.jsonl"):
        assert (tmp_path / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert [line["step"] for line in run.epochs] == list(range(run.epochs[0]["step"], 33, run.epochs[0]["step"]))
    check_weights(run.model, "epoch_2")  # those of every training of 4 epochs
    assert not are_weights(run.model, case["final_weights"]), DIFFERENCES["resume*"]


@pytest.mark.parametrize("name", [name for name in RESUMED if name.endswith("_skip")])
def test_skipped_data_are_those_before_the_position(name: str, tmp_path: Path) -> None:
    """With the initial weights that Emmental was given, a resumed training comes to Emmental's weights."""
    case = CASES[name]
    begun = begin(case, tmp_path)
    run = Run(case, tmp_path, SaveLatest(every=99))
    run.loop.restore(newest_checkpoint(tmp_path / "checkpoints"))
    load(run.model, VECTORS["initial_weights"])
    run.train()
    assert run.watch.trained == case["trained"]
    check_weights(run.model, case["final_weights"])
    skipped = run.watch.trained, run.watch.sizes
    run.watch.trained, run.watch.sizes = ([None] * begun + part for part in skipped)  # type: ignore[assignment]
    check_running_means(run, skipped=begun)
    lines = {line["step"] - begun: line for line in run.epochs if line["step"] > begun}
    if name == "resume_epochs_1_skip":
        assert list(lines) == list(evaluations(case)) == [8, 16, 24]
        for step, theirs in evaluations(case).items():
            check_numbers(lines[step], theirs, 0.1)
    else:
        assert list(lines) == [1, 5, 9, 13, 17, 21]  # at every fourth step of the run
        assert list(evaluations(case)) == [4, 8, 12, 16, 20], DIFFERENCES["resume*"]


def test_without_skipping_emmental_trains_a_fresh_and_shorter_run(tmp_path: Path) -> None:
    case = CASES["resume_epochs_1_steps_3"]
    steps = (4 - 1) * (8 - 3)
    run = Run(case, tmp_path, steps=steps).train()
    assert run.watch.trained == case["trained"]
    check_weights(run.model, case["final_weights"])
    check_running_means(run)
    assert [line["step"] for line in run.epochs] == list(evaluations(case)) == [4, 8, 12]
    for line in run.epochs:
        check_numbers(line, evaluations(case)[line["step"]], 0.1)


def test_every_case_is_looked_at() -> None:
    assert len(CASES) == len(VECTORS["cases"]) == 21
    assert {*WHOLE, *RESUMED} | {name for name, case in CASES.items() if "error" in case} == set(CASES)
    assert sorted(name for name, case in CASES.items() if "error" in case) == ["ckpt_bad_mode", "ckpt_freq_0"]
    assert len(RESUMED) == 3
