"""Ensemble: runs whose answers are averaged or voted on, built under the rule of trust, kept or read anew."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl import Batch, create_training, open_run
from emloop_mtl.config.yaml_text import write_yaml

from .trained_runs import command, composed_config, config_of, train, working_in

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


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("aggregation", ["mean", "major_vote"])
def test_outputs_are_the_averages_and_votes_of_the_members(folder: Path, aggregation: str, eager: bool) -> None:
    training = build(folder, RUNS, aggregation=aggregation, eager_loading=eager)
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
    assert build(folder, RUNS, aggregation="mean").model.score(build(folder, RUNS).dataset.loaders())[
        "kind/points/valid/accuracy"
    ] == pytest.approx(accuracy, abs=1e-12)  # one division of integers, in float64


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
    import emloop_mtl.config.open_run as opening

    kept: list[weakref.ref[Any]] = []
    create = opening.create_model

    def watched(*args: Any, **kwargs: Any) -> Any:
        assert all(reference() is None for reference in kept), "two models in memory at once"
        model = create(*args, **kwargs)
        kept.append(weakref.ref(model.network))
        return model

    eager = build(folder, RUNS)
    monkeypatch.setattr(opening, "create_model", watched)
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


def test_global_random_numbers_are_left_alone(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    open_run("log/a")
    assert torch.equal(torch.rand(3), expected)
