"""What an ensemble refuses, each in one line with its place, and what it runs only with trust."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from emloop_mtl import Batch, ConfigError, DataError, Ensemble, open_run
from emloop_mtl.config.yaml_text import write_yaml
from emloop_mtl.data.stream_wrapper import StreamWrapper
from emloop_mtl.testing import FakeModel
from emloop_mtl.utils.model_note import ModelNote

from ..trained_runs import KIND, LINEAR, command, composed_config, config_of
from .built import batches, build

UNTRAINED = {"modules": {"kind_head": {"class": LINEAR, "in_features": 4, "out_features": 3}}, "tasks": {"kind": KIND}}


@pytest.mark.parametrize(
    ("models", "options", "says"),
    [
        (["log/a", "log/x"], {}, ":7:5: model.models[1]: log/x: no such folder"),
        (["points.py"], {}, ":6:5: model.models[0]: points.py: is a file, not the folder of a run"),
        (["log"], {}, "model.models[0]: log: is not the folder of a run: it has no config.yaml; log/"),
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
