"""Sequence: a model that reads what another gives, both from their runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from emloop_mtl import Batch, ConfigError, DataError, Sequence, create_training, load_config, open_run
from emloop_mtl.config.yaml_text import write_yaml
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.testing import FakeModel

from .trained_runs import KIND, LINEAR, SIZE, command, composed_config, config_of, train, working_in

RUNS = ["log/first", "log/second"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with a run that tells kinds, and one that reads their probabilities to tell sizes."""
    folder = tmp_path_factory.mktemp("sequence")
    with working_in(folder), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        head = {"class": LINEAR, "in_features": 4, "out_features": 3}
        data = {"class": "points.Points", "named": False}
        first = config_of(0, modules={"kind_head": head}, tasks={"kind": KIND})
        train(folder, "first", {**first, "dataset": data})
        reading = {**SIZE, "flow": [{"name": "size_out", "module": "size_head", "inputs": "kind/prob"}]}
        size_head = {"class": LINEAR, "in_features": 3, "out_features": 1}
        second = config_of(1, modules={"size_head": size_head}, tasks={"size": reading})
        train(folder, "second", {**second, "dataset": {**data, "first": True}})
        yield folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(trained)
    return trained


def build(folder: Path, models: list[str], **options: Any) -> Any:
    (folder / "sequence.yaml").write_text(write_yaml(composed_config("Sequence", models, **options)))
    return create_training(folder / "sequence.yaml")


@pytest.mark.parametrize(("named", "eager"), [(True, True), (True, False), (False, True)])
def test_a_model_reads_what_the_one_before_gives(folder: Path, named: bool, eager: bool) -> None:
    training = build(folder, RUNS, eager_loading=eager, dataset={"named": named})
    assert set(training.model.input_names) == {"x"}
    first, second = (open_run(run) for run in RUNS)
    for batch in training.dataset.valid_stream():
        plain = {name: batch[name] for name in ("x", "kind", "size")}
        found = training.model.run(batch.copy())
        one = first.run(Batch(plain, tasks={"kind": "kind"}), train=False)
        other = second.run(Batch({**plain, "kind/prob": one["kind/prob"]}, tasks={"size": "size"}), train=False)
        expected = {**one, **other, "loss": one["loss"] + other["loss"]}
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_task_that_no_model_has_is_refused_before_the_first_batch(folder: Path) -> None:
    model = build(folder, RUNS).model
    with pytest.raises(ConfigError, match=r"no model has a task 'knid'; did you mean 'kind'\?") as caught:
        model.check_sources(Batch({"x": [0], "kind": [0]}, tasks={"knid": "kind"}))
    assert caught.value.path == ("models",)


def test_a_model_whose_tasks_no_batch_carries_is_run_where_another_reads_it(folder: Path) -> None:
    model = build(folder, RUNS).model
    x, size = torch.randn(4, 4), torch.rand(4, 1)
    batch = Batch({"x": x, "size": size}, tasks={"size": "size"})
    model.check_sources(batch)
    assert set(model.required_sources(batch)) == {"x", "size"}
    assert {"size/loss", "size/pred", "kind/prob"} <= model.run(batch).keys()
    labelled = model.prepare(Batch({**batch, "kind": torch.zeros(4, dtype=torch.long)}, tasks={"size": "size"}))
    assert "kind/loss" not in model.run(labelled), "it is run without labels"
    assert list(labelled.tasks) == ["size"]
    only_first = model.run(Batch({"x": x, "kind": torch.zeros(4, dtype=torch.long)}, tasks={"kind": "kind"}))
    assert not any(name.startswith("size/") for name in only_first)


def test_a_model_gives_what_a_later_one_reads_though_nobody_else_does(folder: Path) -> None:
    model = build(folder, RUNS).model
    stream = StreamWrapper(lambda: (), name="valid")
    stream.outputs = frozenset({"size/pred"})
    batch = Batch({"x": torch.randn(4, 4)}, tasks={"size": None})
    assert torch.equal(model.run(batch.copy(), False, stream)["size/pred"], model.run(batch.copy())["size/pred"])


def test_the_command_scores_and_predicts(folder: Path) -> None:
    build(folder, RUNS)
    done = command("eval", "valid", "sequence.yaml")
    assert done.exit_code == 0, done.stderr
    assert {("kind", "accuracy"), ("size", "mean_squared_error")} <= {
        tuple(line.split()[:2]) for line in done.stdout.splitlines()
    }
    done = command("predict", "valid", "sequence.yaml", "--task", "size", "--output", "rows.csv")
    assert done.exit_code == 0, done.stderr
    assert len((folder / "rows.csv").read_text().splitlines()) == 1 + 20


def test_equal_names_are_a_mistake(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"gives 'kind/loss', and so does model 'log/first'") as caught:
        build(folder, ["log/first", "log/first"])
    assert "sequence.yaml" in str(caught.value)
    assert "models[1]" in str(caught.value)
    with pytest.raises(ConfigError, match="gives 'x', which is a source that model .* reads"):
        Sequence(models=[FakeModel({"x": 1.0}), open_run("log/first")])


def test_models_in_the_wrong_order_are_a_mistake(folder: Path) -> None:
    text = r"models\[1\]: model 'log/first' gives 'kind/prob', .* model 'log/second' reads; list it before that one"
    with pytest.raises(ConfigError, match=text):
        build(folder, RUNS[::-1])


@pytest.mark.parametrize("name", ["eval", "check"])
def test_a_source_that_is_called_like_an_output_has_its_place(folder: Path, name: str) -> None:
    (folder / "clash.yaml").write_text(write_yaml(composed_config("Sequence", RUNS, dataset={"first": True})))
    done = command(name, *["valid"][: name == "eval"], "clash.yaml")
    says = "'kind/prob' is both a source and an output of model 'log/first'; rename one\n"
    assert done.stderr == f"clash.yaml:8:5: model.models[1]: stream 'train', loader 'points': {says}"
    assert done.exit_code == 2


def test_modules_that_do_not_fit_what_they_read_have_the_place_of_their_model(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "log" / "second", run)
    config = load_config(run / "config.yaml").data
    config["model"]["modules"]["size_head"]["in_features"] = 5
    (run / "config.yaml").write_text(write_yaml(config))
    weights = {"size_head.weight": torch.zeros(1, 5), "size_head.bias": torch.zeros(1)}
    save_file(weights, run / "model.safetensors")
    models = ["log/first", str(run / "model.safetensors")]
    (folder / "unfit.yaml").write_text(write_yaml(composed_config("Sequence", models)))
    done = command("eval", "valid", "unfit.yaml")
    assert done.stderr.startswith("unfit.yaml:7:5: model.models[1]: RuntimeError: mat1 and mat2 shapes cannot be mult")
    assert f"in task 'size', action 'size_out', module 'size_head' of model '{models[1]}'" in done.stderr
    assert (done.stderr.count("\n"), done.exit_code) == (1, 2)


def test_a_source_that_nobody_has_is_a_mistake(folder: Path) -> None:
    (folder / "alone.yaml").write_text(
        write_yaml(composed_config("Sequence", ["log/second"], dataset={"named": False}))
    )
    done = command("eval", "valid", "alone.yaml")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "model 'log/second'" in done.stderr
    assert "'kind/prob'" in done.stderr
    model = Sequence(models=[FakeModel({"y": 1.0}), FakeModel({"z": 2.0}, inputs=("y", "w"))])
    assert set(model.input_names) == {"x", "w"}
    with pytest.raises(DataError, match="needs the source 'w', which neither the batch nor a model before it has"):
        model.run(Batch({"x": [1.0]}))
    assert model.run(Batch({"x": [1.0], "w": [1.0]})) == {"y": 1.0, "z": 2.0}
