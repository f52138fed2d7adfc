"""Ensemble: runs whose answers are averaged or voted on, built under the rule of trust, kept or read anew."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emloop_mtl import (
    Action,
    Batch,
    ConfigError,
    DataError,
    Ensemble,
    MultiTaskModel,
    Task,
    create_training,
    load_config,
    open_run,
)
from emloop_mtl.checkpoint import save_checkpoint
from emloop_mtl.config.create import create_model
from emloop_mtl.config.yaml_text import write_yaml
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.models.aggregation import aggregate
from emloop_mtl.models.weights_file import save_weights
from emloop_mtl.testing import FakeModel
from emloop_mtl.types import Position
from emloop_mtl.utils.model_note import ModelNote

from .trained_runs import KIND, LINEAR, command, composed_config, config_of, train, working_in

UNTRAINED = {"modules": {"kind_head": {"class": LINEAR, "in_features": 4, "out_features": 3}}, "tasks": {"kind": KIND}}

OTHER_FLOW = [{"name": "kind_out", "module": "kind_head", "inputs": "y"}]

RUNS = ["log/a", "log/b", "log/c"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with three runs that differ in their seeds only."""
    folder = tmp_path_factory.mktemp("ensemble")
    with working_in(folder), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, name in enumerate("abc"):
            train(folder, name, config_of(seed))
        yield folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(trained)
    return trained


def build(folder: Path, models: list[str] | None, **options: Any) -> Any:
    (folder / "ensemble.yaml").write_text(write_yaml(composed_config("Ensemble", models, **options)))
    return create_training(folder / "ensemble.yaml")


def batches(training: Any) -> list[Batch]:
    return [batch.copy() for batch in training.dataset.valid_stream()]


def member_outputs(batch: Batch) -> list[dict[str, Any]]:
    return [open_run(run).run(batch.copy(), train=False) for run in RUNS]


def mean(values: list[torch.Tensor]) -> torch.Tensor:
    return (values[0] + values[1] + values[2]) / 3


def vote(values: list[torch.Tensor]) -> torch.Tensor:
    """Count votes row by row; of equally frequent classes the lowest wins."""
    winners = []
    for votes in zip(*(value.tolist() for value in values), strict=True):
        most = max(votes.count(each) for each in votes)
        winners.append(min(each for each in votes if votes.count(each) == most))
    return torch.tensor(winners)


@pytest.mark.parametrize("aggregation", ["mean", "major_vote"])
def test_outputs_are_the_averages_and_votes_of_the_members(folder: Path, aggregation: str) -> None:
    training = build(folder, RUNS, aggregation=aggregation)
    for batch in batches(training):
        found = training.model.run(batch.copy(), False)
        members = member_outputs(batch)
        assert found.keys() == members[0].keys()
        for name in ("loss", "kind/loss", "size/loss", "kind/prob", "size/prob", "size/pred"):
            assert torch.equal(found[name], mean([each[name] for each in members])), name
        preds = [each["kind/pred"] for each in members]
        expected = found["kind/prob"].argmax(1) if aggregation == "mean" else vote(preds)
        assert torch.equal(found["kind/pred"], expected)
        assert not all(torch.equal(preds[0], pred) for pred in preds), "the members must differ for this test to tell"


def test_the_command_scores_it_like_the_averages(folder: Path) -> None:
    build(folder, RUNS, aggregation="mean")
    done = command("eval", "valid", "ensemble.yaml")
    assert done.exit_code == 0, done.stderr
    assert "Scores of ensemble.yaml" in done.stdout
    probs, labels = [], []
    for batch in batches(build(folder, RUNS)):
        members = member_outputs(batch)
        probs.append(mean([each["kind/prob"] for each in members]))
        labels.append(batch["kind"])
    prob, label = torch.cat(probs), torch.cat(labels)
    prob, label = prob[label >= 0], label[label >= 0]
    accuracy = (prob.argmax(1) == label).double().mean().item()
    (row,) = (line.split() for line in done.stdout.splitlines() if line.split()[:2] == ["kind", "accuracy"])
    assert row[2] == f"{accuracy:.4f}"
    training = build(folder, RUNS, aggregation="mean")
    scores = training.model.score([loader for loader in training.dataset.loaders() if loader.split == "valid"])
    assert scores["kind/points/valid/accuracy"] == accuracy


def test_the_command_writes_its_predictions(folder: Path) -> None:
    training = build(folder, RUNS, aggregation="mean")
    done = command("predict", "valid", "ensemble.yaml", "--output", "rows.jsonl")
    assert done.exit_code == 0, done.stderr
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    predicted = training.model.predict(training.dataset.valid_stream())
    kinds = [row for row in rows if row["task"] == "kind"]
    assert [row["pred"] for row in kinds] == predicted["kind"].preds.tolist()
    assert [row["label"] is None for row in kinds] == [row % 5 == 0 for row in range(20)]
    assert [row["prob"] for row in rows if row["task"] == "size"] == [None] * 20


def test_members_that_are_not_kept_are_dropped_and_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Any]] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        assert all(reference() is None for reference in kept), "two models in memory at once"
        model = create_model(*args, **kwargs)
        kept.append(weakref.ref(model.network))
        return model

    eager = build(folder, RUNS)
    monkeypatch.setattr("emloop_mtl.config.open_run.create_model", watched)
    gc.disable()
    try:
        lazy = build(folder, RUNS, eager_loading=False)
        before = len(kept)
        for batch in batches(lazy):
            one, other = lazy.model.run(batch.copy()), eager.model.run(batch.copy())
            assert all(torch.equal(one[name], other[name]) for name in other)
    finally:
        gc.enable()
    assert len(kept) - before == 3 * 3, "each is built for each of three batches"
    assert not any(task.modules for task in lazy.model.tasks.values()), "which would keep what was dropped"


def test_global_random_numbers_are_left_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    open_run("log/a")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("models", "options", "says"),
    [
        (["log/a", "log/x"], {}, ":7:5: model.models[1]: log/x: no such folder"),
        (["points.py"], {}, ":6:5: model.models[0]: points.py: is a file, not the folder of a run"),
        (["log"], {}, "model.models[0]: log: is not the folder of a run: it has no config.yaml"),
        (["log/bare"], {}, "model.models[0]: log/bare: has no checkpoint, so there are no weights to take"),
        (["stray.safetensors"], {}, "lies in no folder of a run, so nothing says what model it is of"),
        ([], {}, ":5:3: model.models: the list is empty"),
        (None, {}, "set 'models' to the folders of runs, or 'models_root'"),
        (None, {"model_paths": ["log/a"]}, "unknown argument 'model_paths'; did you mean 'models'?"),
        (None, {"models_root": "nowhere"}, "model.models_root: nowhere: no such folder"),
        (None, {"models_root": "empty"}, "model.models_root: empty: there is no run in it"),
        ([3], {}, "model.models[0]: expected the folder of a run, or a model, got 3"),
        (
            ["log/a"],
            {"aggregation": "meen"},
            ":7:3: model.aggregation: unknown aggregation 'meen'; did you mean 'mean'?",
        ),
        (["log/a"], {"open_run": "x"}, "argument 'open_run' is handed over by the engine and cannot be set"),
        (["log/one", "log/a"], {}, ":7:5: model.models[1]: model 'log/one' has no output 'size/loss', which model"),
        (["log/a", "log/one"], {}, ":7:5: model.models[1]: model 'log/one' has no output 'size/loss', which model"),
        (
            ["log/a", "log/sets"],
            {},
            ":7:5: model.models[1]: task 'kind' predicts labels that are 0 or 1 in model 'log/sets'",
        ),
        (
            ["log/values", "log/a"],
            {},
            "[1]: task 'kind' predicts classes in model 'log/a', and in model 'log/values' val",
        ),
        (
            ["log/a", "log/labels"],
            {"dataset": {"named": False}},
            ":8:5: model.models[1]: stream 'train', loader 'points': task 'kind' reads the label 'k' in model 'log/lab",
        ),
        (
            ["log/a", "log/unfit"],
            {},
            ":7:5: model.models[1]: log/unfit/checkpoints/latest-00000001: does not fit the m",
        ),
        (["log/a", "x" * 5000], {}, ":7:5: model.models[1]: [Errno 36] File name too long"),
        (
            [{"class": "MultiTaskModel", **UNTRAINED}],
            {},
            ":6:5: model.models[0].class: MultiTaskModel has no weights before it is trained; give the folder of its",
        ),
        (
            [{"class": "Ensemble", "models": [{"class": "MultiTaskModel", **UNTRAINED}]}],
            {},
            ":8:7: model.models[0].models[0].class: MultiTaskModel has no weights before it is trained",
        ),
        (["log/a", "log/four"], {}, "[1]: task 'kind' has 4 classes in model 'log/four', and in model 'log/a' 3"),
        (
            ["log/a"],
            {"outputs": ["kind/prod"]},
            "outputs[0]: model 'log/a' has no output 'kind/prod'; did you mean 'kind/",
        ),
        (["log/a"], {"outputs": []}, "model.outputs: the list is empty; leave it out for all"),
        (["log/a"], {"inputs": ["y"]}, "model.inputs: model 'log/a' reads the source 'x', which is not among them"),
        (["log/a"], {"inputs": ["x", "y"]}, "model.inputs[1]: no model reads a source 'y'; known are: x"),
        (["log/a"], {"device": "gpu"}, ":6:5: model.models[0]: log/a/config.yaml:"),
        (
            ["log/other"],
            {},
            "models[0]: stream 'train', loader 'points': model 'log/other': task 'kind': action 'kind_out'",
        ),
    ],
    ids=lambda value: None if isinstance(value, list | dict) else str(value)[:40] if value else "none",
)
def test_mistakes_are_told_in_one_line_with_their_place(
    folder: Path, models: list[str] | None, options: dict[str, Any], says: str, variants: None
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(folder, models, **options)
    assert "ensemble.yaml:" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def variants(trained: Path) -> None:
    """Runs that do not fit the others, nor themselves; one that has no checkpoint."""
    heads = config_of()["model"]["modules"]
    four = {**heads, "kind_head": {**heads["kind_head"], "out_features": 4}}
    wide = {"class": "torch.nn.Sequential", "args": [four["kind_head"], {"class": "torch.nn.Flatten"}]}
    log, tasks = trained / "log", config_of()["model"]["tasks"]
    configs = {
        "one": config_of(modules={"kind_head": heads["kind_head"]}, tasks={"kind": KIND}),
        "four": config_of(modules=four),
        "other": config_of(tasks={**tasks, "kind": {**KIND, "flow": OTHER_FLOW}}),
        "bare": config_of(),
        "sets": config_of(tasks={**tasks, "kind": {**KIND, "output": "sigmoid", "metrics": []}}),
        "values": config_of(tasks={**tasks, "kind": {**KIND, "loss": "mse_loss", "metrics": []}}),
        "labels": config_of(tasks={**tasks, "kind": {**KIND, "label": "k"}}),
        "wide": config_of(modules={**heads, "kind_head": wide}),
    }
    for name, config in configs.items():
        (log / name).mkdir()
        shutil.copy(log / "a" / "run.yaml", log / name)
        (log / name / "config.yaml").write_text(write_yaml(config))
        if name != "bare":
            model = create_model(load_config(log / name / "config.yaml"), None)
            position = Position(epoch=1, step=3, passes=1, samples=20)
            save_checkpoint(log / name / "checkpoints", ["latest"], model.state_dict(), {}, position)
    shutil.copytree(log / "four", log / "unfit")
    (log / "unfit" / "config.yaml").write_text(write_yaml(config_of()))
    (trained / "empty").mkdir()
    (trained / "stray.safetensors").write_bytes(b"")


def test_what_a_function_of_ones_own_returns_may_have_its_weights(folder: Path) -> None:
    (folder / "loaded.py").write_text(
        "from emloop_mtl import open_run\n\n\ndef model(path):\n    return open_run(path)\n"
    )
    training = build(folder, [{"class": "loaded.model", "path": "log/b"}, "log/a"])
    (batch, *_) = batches(training)
    own, listed = (open_run(run).run(batch.copy(), train=False)["kind/prob"] for run in ("log/b", "log/a"))
    assert torch.equal(training.model.run(batch.copy())["kind/prob"], (own + listed) / 2)


def test_it_cannot_be_trained_nor_saved(folder: Path) -> None:
    training = build(folder, ["log/a"])
    done = command("train", "ensemble.yaml", "--output-dir", "run")
    assert done.exit_code == 2
    text = "ensemble.yaml:4:3: model.class: Ensemble is made of trained models and cannot be trained itself"
    assert done.stderr.startswith(text)
    assert done.stderr.count("\n") == 1
    assert not (folder / "run").exists()
    with pytest.raises(ConfigError, match="cannot be trained"):
        training.main_loop.run_training()
    with pytest.raises(ConfigError, match="cannot be trained"):
        training.model.run(Batch({"x": torch.zeros(1, 4)}), train=True)
    with pytest.raises(ConfigError, match="nothing to save"):
        training.model.save("best")
    assert not training.model.can_be_checkpointed
    done = command("check", "ensemble.yaml")
    assert done.exit_code == 0
    assert "Which hook acts when, in an evaluation\n" in done.stdout


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_a_config_stands_for_a_run_only_where_no_weights_are_needed(folder: Path, name: str) -> None:
    done = command(name, "valid", "a.yaml")
    assert done.exit_code == 2
    assert done.stderr.startswith("a.yaml:5:3: model.class: MultiTaskModel has no weights before it is trained")
    build(folder, ["log/a"])
    done = command(name, "valid", "ensemble.yaml", "--checkpoint", "best")
    assert (done.exit_code, done.stderr) == (
        2,
        "--checkpoint best: ensemble.yaml is a config, and only runs have checkpoints\n",
    )


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_the_config_of_a_run_is_not_taken_for_one_of_the_users_own(folder: Path, name: str) -> None:
    done = command(name, "valid", "log/a/config.yaml")
    text = "log/a/config.yaml: is the config of a run; give the folder of the run, log/a\n"
    assert (done.exit_code, done.stderr) == (2, text)


def test_a_damaged_checkpoint_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "log" / "a", tmp_path / "run")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    (checkpoint / "model.safetensors").write_bytes(b"nothing")
    (folder / "ensemble.yaml").write_text(write_yaml(composed_config("Ensemble", [str(tmp_path / "run"), "log/a"])))
    done = command("eval", "valid", "ensemble.yaml")
    assert done.exit_code == 2
    skipped, told = done.stderr.splitlines()
    assert "skipping a bad checkpoint" in skipped
    assert told.startswith("ensemble.yaml:6:5: model.models[0]: ")
    assert "has no valid checkpoint" in told
    assert "model.safetensors" in told


def test_a_run_that_is_gone_when_it_is_read_again_has_its_place(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "log" / "a", tmp_path / "run")
    training = build(folder, ["log/a", str(tmp_path / "run")], eager_loading=False)
    shutil.rmtree(tmp_path / "run")
    for act in (training.model.required_sources, training.model.run):
        with pytest.raises(ConfigError, match="run: no such folder") as caught:
            act(batches(training)[0])
        assert caught.value.path == ("model", "models", 1)


def test_what_only_a_batch_shows_has_the_place_of_the_models(folder: Path, variants: None) -> None:
    (folder / "ensemble.yaml").write_text(write_yaml(composed_config("Ensemble", ["log/a", "log/wide"])))
    done = command("eval", "valid", "ensemble.yaml")
    assert done.stderr.startswith(
        "ensemble.yaml:5:3: model.models: stream 'valid', batch 0, loader 'points': output 'kind/"
    )
    assert (
        "the models give different kinds of values: torch.float32 of shape (8, 3), torch.float32 of shape (8, 4)"
        in done.stderr
    )
    assert (done.stderr.count("\n"), done.exit_code) == (1, 2)


def test_what_cannot_be_counted_or_ordered_is_not_voted_on() -> None:
    for values in ([{1}, {1}], [1j, 2j]):
        with pytest.raises(DataError, match=f"a {type(values[0]).__name__} cannot be voted on; leave it out of 'outp"):
            aggregate(values, by_vote=True)


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_a_run_from_elsewhere_runs_no_code_without_trust(folder: Path, name: str, tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    shutil.copytree(folder / "log" / "a", evil)
    config = config_of()
    config["model"]["modules"]["kind_head"] = {"class": "pathlib.Path.touch", "args": [str(folder / "ran")]}
    (evil / "config.yaml").write_text(write_yaml(config))
    build_text = write_yaml(composed_config("Ensemble", ["log/a", str(evil)]))
    (folder / "ensemble.yaml").write_text(build_text)
    done = command(name, "valid", "ensemble.yaml")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "ensemble.yaml:7:5: model.models[1]" in done.stderr
    assert "'pathlib' is not trusted" in done.stderr
    assert not (folder / "ran").exists()


def test_a_run_may_name_modules_from_elsewhere_with_trust(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("from torch.nn import Linear\n\n\nclass Own(Linear):\n    pass\n")
    (tmp_path / "points.py").write_text("raise RuntimeError('not the module of this run')\n")
    shutil.copytree(folder / "log" / "a", tmp_path / "run")
    config = config_of()
    config["model"]["modules"]["kind_head"]["class"] = "other.Own"
    (tmp_path / "run" / "config.yaml").write_text(write_yaml(config))
    record = {"config": "a.yaml", "source_folder": str(tmp_path), "working_folder": str(tmp_path)}
    (tmp_path / "run" / "run.yaml").write_text(write_yaml(record))
    (folder / "ensemble.yaml").write_text(write_yaml(composed_config("Ensemble", ["log/a", str(tmp_path / "run")])))
    refused = command("eval", "valid", "ensemble.yaml")
    assert (refused.exit_code, "other" in refused.stderr, "--trust" in refused.stderr) == (2, True, True)
    done = command("eval", "valid", "ensemble.yaml", "--trust")
    assert done.exit_code == 0, done.stderr
    assert [command("check", "ensemble.yaml", *words).exit_code for words in ((), ("--trust",))] == [2, 0]
    build(folder, ["log/a"])
    alone = command("eval", "valid", "ensemble.yaml")
    assert done.stdout == alone.stdout, "the average of two equal models"


def test_a_run_made_of_runs_is_refused(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "log" / "a", run)
    (run / "config.yaml").write_text(write_yaml(composed_config("Ensemble", [str(run)])))
    with pytest.raises(ConfigError, match=r"leads out of the run folder"):
        open_run(run)
    with pytest.raises(ConfigError, match=r"is a path, and there is nothing that could open it here"):
        open_run(run, trust=True)


def test_a_checkpoint_a_file_and_a_folder_of_runs_can_be_named(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    shutil.copytree(folder / "log" / "a", run)
    model = open_run(run)
    with torch.no_grad():
        model.network["kind_head"].bias += 1
    save_weights(model.network, run / "model_late.safetensors")
    (checkpoint,) = (run / "checkpoints").iterdir()
    opened = [open_run(path).network["kind_head"].bias for path in (run, checkpoint, run / "model_late.safetensors")]
    assert torch.equal(opened[0], opened[1])
    assert torch.equal(opened[2], opened[0] + 1)
    below = build(folder, None, models_root=str(tmp_path / "runs")).model
    listed = build(folder, ["a", "a"], models_root=str(tmp_path / "runs")).model
    assert (len(below.members), len(listed.members)) == (1, 2)


@pytest.mark.parametrize("aggregation", ["mean", "major_vote"])
def test_models_with_different_tasks_answer_together_where_they_can(
    folder: Path, aggregation: str, variants: None
) -> None:
    names = ["kind/loss", "kind/prob", "kind/pred"]
    training = build(folder, ["log/one", "log/a"], outputs=names, aggregation=aggregation)
    assert list(training.model.tasks) == ["kind"]
    batch = training.model.prepare(batches(training)[0])
    found = training.model.run(batch)
    assert set(found) == set(names)
    assert list(batch.tasks) == ["kind"]
    assert batch.rows["kind"].tolist() == [1, 2, 3, 4, 6, 7]
    alone = build(folder, ["log/one", "log/a"], outputs=["kind/pred"], aggregation=aggregation).model
    assert torch.equal(alone.run(batches(training)[0])["kind/pred"], found["kind/pred"])
    assert alone.tasks == {}
    unscored = build(folder, ["log/one", "log/a"], outputs=["kind/prob", "kind/pred"], aggregation=aggregation).model
    assert unscored.tasks == {}, "without its loss"


@pytest.mark.parametrize("aggregation", ["mean", "major_vote"])
def test_the_mean_predicts_by_probabilities_that_nobody_reads(folder: Path, aggregation: str) -> None:
    training = build(folder, RUNS, aggregation=aggregation)
    (batch, *_) = batches(training)
    stream = StreamWrapper(lambda: (), name="valid")
    stream.outputs = frozenset({"kind/pred"})
    found = training.model.run(batch.copy(), False, stream)
    assert torch.equal(found["kind/pred"], training.model.run(batch.copy(), False)["kind/pred"])
    assert ("kind/prob" in found) == (aggregation == "mean")


def test_models_without_a_loss_of_a_task_answer_together() -> None:
    def model() -> MultiTaskModel:
        heads = {"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 1)}
        a = Task("a", heads, [Action("a_out", "a", "x")], "a", "cross_entropy")
        return MultiTaskModel([a, Task("b", heads, [Action("b_out", "b", "x")])], device="cpu")

    assert list(Ensemble(models=[model(), model()]).tasks) == ["a", "b"]
    without = Ensemble(models=[model(), model()], outputs=["b/prob", "b/pred", "a/prob", "a/pred"])
    assert list(without.tasks) == ["b"]


def test_what_a_model_must_be_and_return() -> None:
    class Listing(FakeModel):
        def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Any:
            return [1.0]

    with pytest.raises(ConfigError, match="model 'a' does not inherit from AbstractModel"):
        Ensemble(models=["a"], open_run=lambda path: 3)
    with pytest.raises(TypeError, match="the model's run returned a list; a mapping of output names is needed"):
        Ensemble(models=[Listing()]).run(Batch({"x": [0]}))
    with pytest.raises(DataError, match="'x' is both a source and an output; rename one"):
        Ensemble(models=[FakeModel({"x": 1.0})]).run(Batch({"x": [0]}))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.int64, torch.float32),
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.complex64, torch.complex64),
    ],
    ids=str,
)
def test_a_mean_has_the_dtype_of_its_values_unless_they_are_whole(dtype: torch.dtype, expected: torch.dtype) -> None:
    found = aggregate([torch.tensor([1, 4], dtype=dtype), torch.tensor([2, 4], dtype=dtype)], by_vote=False)
    assert found.dtype == expected
    assert found.tolist() == [1.5, 4.0]


@pytest.mark.parametrize("first", [True, False])
def test_a_model_that_gives_less_than_another_is_named_with_its_place(first: bool) -> None:
    class Sparse(FakeModel):
        def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Any:
            return {"loss": 1.0}

    outputs = {"loss": 1.0, "y": 2.0}
    models = [Sparse(outputs), FakeModel(outputs)] if first else [FakeModel(outputs), Sparse(outputs)]
    has, lacks = ("1 (FakeModel)", "0 (Sparse)") if first else ("0 (FakeModel)", "1 (Sparse)")
    with pytest.raises(DataError) as caught:
        Ensemble(models=models).run(Batch({"x": [0]}))
    assert str(caught.value) == f"model {has} gives 'y', model {lacks} does not"
    note = ModelNote.on(caught.value)
    assert note is not None
    assert note.paths == (("models", 1),)


def test_an_error_of_a_part_of_a_model_leads_to_the_model() -> None:
    class Faulty(FakeModel):
        def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Any:
            error = DataError("task 'a': label 7")
            error.add_note(ModelNote("in task 'a'", ("tasks", "a")))
            raise error

    with pytest.raises(DataError, match="model 1 .Faulty.: task 'a': label 7") as caught:
        Ensemble(models=[FakeModel(), Faulty()]).run(Batch({"x": [0]}))
    note = ModelNote.on(caught.value)
    assert note == "in task 'a' of model 1 (Faulty)"
    assert note.paths == (("models", 1),)


@pytest.mark.parametrize(
    ("models", "options", "says"),
    [
        (3, {}, "expected a list of models, got 3"),
        ("log/a", {}, "expected a list of models, got 'log/a'"),
        ([FakeModel()], {"outputs": "loss"}, "expected a list of names, got 'loss'"),
        ([FakeModel()], {"inputs": 3}, "expected a list of names, got 3"),
    ],
    ids=["number", "path", "outputs", "inputs"],
)
def test_what_is_no_list_is_refused(models: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Ensemble(models=models, **options)


def test_predicting_leaves_modes_as_they_were(folder: Path) -> None:
    model = open_run("log/a")
    model.network.train()
    Ensemble(models=[model, model]).predict([{"x": torch.zeros(2, 4)}])
    assert model.network.training


def test_models_in_an_ensemble_may_be_made_of_models_themselves(folder: Path) -> None:
    nested = build(folder, [{"class": "Ensemble", "models": ["log/a", "log/b"], "aggregation": "mean"}, "log/c"])  # type: ignore[list-item]
    (batch, *_) = batches(nested)
    found = nested.model.run(batch.copy())["size/pred"]
    a, b, c = (each["size/pred"] for each in member_outputs(batch))
    assert torch.equal(found, ((a + b) / 2 + c) / 2)


def test_models_without_tasks_are_put_together_too() -> None:
    one = FakeModel({"y": np.array([1.0, 2.0]), "n": np.array([1, 5]), "t": ("a", 2)})
    two = FakeModel({"y": np.array([2.0, 2.0]), "n": np.array([3, 5]), "t": ("b", 2)})
    three = FakeModel({"y": np.array([6.0, 5.0]), "n": np.array([1, 4]), "t": ("b", 3)})
    found = Ensemble(models=[one, two, three]).run(Batch({"x": [0, 0]}))
    assert (found["y"].tolist(), found["n"].tolist(), found["t"]) == ([3.0, 3.0], [1, 5], ("b", 2))
    found = Ensemble(models=[one, two, three], aggregation="mean", outputs=["y", "n"]).run(Batch({"x": [0, 0]}))
    assert found["n"].tolist() == [5 / 3, 14 / 3]
    with pytest.raises(DataError, match=r"output 't': a str cannot be averaged; leave it out of 'outputs'"):
        Ensemble(models=[one, two], aggregation="mean").run(Batch({"x": [0, 0]}))
    with pytest.raises(AttributeError, match="have no tasks"):
        _ = Ensemble(models=[one, two]).tasks


def test_values_of_other_shapes_or_kinds_are_an_error() -> None:
    with pytest.raises(DataError, match=r"different kinds of values: torch.float32 of shape \(2, 3\), .* \(2, 4\)"):
        aggregate([torch.zeros(2, 3), torch.zeros(2, 4)], by_vote=True)
    with pytest.raises(DataError, match="a list of 2 entries, a list of 3 entries"):
        aggregate([[1, 2], [1, 2, 3]], by_vote=True)
    with pytest.raises(DataError, match="different kinds of values"):
        aggregate([torch.zeros(2), torch.zeros(2, dtype=torch.int64)], by_vote=True)
    with pytest.raises(DataError, match="different kinds of values"):
        aggregate([{"a": 1.0}, {"b": 1.0}], by_vote=True)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=7))
def test_the_most_frequent_value_wins_and_of_several_the_lowest(rows: list[list[int]]) -> None:
    expected = vote([torch.tensor(row) for row in rows]).tolist()
    assert aggregate([torch.tensor(row) for row in rows], by_vote=True).tolist() == expected
    voted = aggregate([np.array(row, dtype=np.int8) for row in rows], by_vote=True)
    assert (voted.tolist(), voted.dtype) == (expected, np.int8)
    assert aggregate(rows, by_vote=True) == expected


def test_halves_are_averaged_in_single_precision() -> None:
    values = [torch.tensor([40000.0], dtype=torch.float16)] * 3
    assert aggregate(values, by_vote=False).tolist() == [40000.0]
    assert aggregate([value.numpy() for value in values], by_vote=False).tolist() == [40000.0]


def test_named_tuples_stay_what_they_are() -> None:
    pairs = [torch.ones(2, 2).max(1), torch.zeros(2, 2).max(1)]
    found = aggregate(pairs, by_vote=True)
    assert type(found) is type(pairs[0])
    assert found.values.tolist() == [0.5, 0.5]
    Pair = namedtuple("Pair", ["one", "other"])
    assert aggregate([Pair(1.0, 2), Pair(3.0, 2)], by_vote=True) == Pair(2.0, 2)
