"""Ensemble: runs whose answers are averaged or voted on, kept in memory or read anew."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl import Action, Batch, DataError, Ensemble, MultiTaskModel, Task, open_run
from emloop_mtl.config.create import create_model
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.models.weights_file import save_weights
from emloop_mtl.testing import FakeModel

from ..trained_runs import command
from .built import RUNS, batches, build, mean, member_outputs, vote


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


def test_what_a_function_of_ones_own_returns_may_have_its_weights(folder: Path) -> None:
    (folder / "loaded.py").write_text(
        "from emloop_mtl import open_run\n\n\ndef model(path):\n    return open_run(path)\n"
    )
    training = build(folder, [{"class": "loaded.model", "path": "log/b"}, "log/a"])
    (batch, *_) = batches(training)
    own, listed = (open_run(run).run(batch.copy(), train=False)["kind/prob"] for run in ("log/b", "log/a"))
    assert torch.equal(training.model.run(batch.copy())["kind/prob"], (own + listed) / 2)


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
