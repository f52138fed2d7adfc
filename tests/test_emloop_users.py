"""What was written for emloop runs here after changing its imports."""

import sys
from pathlib import Path

import pytest

import emloop_mtl as el
from emloop_mtl.checkpoint import newest_checkpoint

PROJECT = '''
import json

import numpy as np

import emloop_mtl as el
from emloop_mtl import hooks as el_hooks
from emloop_mtl.hooks import TrainingTerminated


class Majority(el.BaseDataset):
    def _configure_dataset(self, output_dir, batch_size, **kwargs):
        self._batch_size = batch_size
        self._rows = np.random.RandomState(0).rand(40, 5) < 0.5

    def _batches(self, rows):
        for start in range(0, len(rows), self._batch_size):
            bits = rows[start : start + self._batch_size]
            yield {"bits": bits.astype(float), "label": bits.sum(axis=1) > 2}

    def train_stream(self) -> el.Stream:
        return self._batches(np.random.permutation(self._rows[:30]))

    def test_stream(self) -> el.Stream:
        return self._batches(self._rows[30:])


class Perceptron(el.AbstractModel):
    def __init__(self, dataset, log_dir, restore_from=None, name=None, rate=0.1):
        assert isinstance(dataset, Majority)
        self._log_dir = log_dir
        self._weights = np.zeros(6)
        self._rate = rate

    @property
    def input_names(self):
        return ["bits", "label"]

    @property
    def output_names(self):
        return ["prediction", "accuracy"]

    def run(self, batch, train, stream):
        with stream.allow_buffering:
            bits = np.hstack([batch["bits"], np.ones((len(batch["bits"]), 1))])
            prediction = bits @ self._weights > 0
        if train:
            error = batch["label"].astype(float) - prediction
            self._weights += self._rate * error @ bits
        return {"prediction": prediction, "accuracy": prediction == batch["label"]}

    def save(self, name_suffix):
        path = f"{self._log_dir}/weights_{name_suffix}.json"
        with open(path, "w") as file:
            json.dump(self._weights.tolist(), file)
        return path


class KeepMean(el.AbstractHook):
    """Sums up in after_batch, tells in after_epoch, saves at the end; takes what it does not use as **kwargs."""

    def __init__(self, variable, model, stop_at=2.0, **kwargs):
        super().__init__(**kwargs)
        self._variable, self._model, self._stop_at = variable, model, stop_at
        self._values = {}

    def after_batch(self, stream_name: str, batch_data: el.Batch) -> None:
        self._values.setdefault(stream_name, []).extend(batch_data[self._variable])

    def after_epoch(self, epoch_id: int, epoch_data: el.EpochData) -> None:
        for stream_name, values in self._values.items():
            epoch_data[stream_name][self._variable] = float(np.mean(values))
        self._values = {}
        if epoch_data["test"][self._variable] >= self._stop_at:
            raise TrainingTerminated("good enough")

    def after_epoch_profile(self, epoch_id, profile: el.TimeProfile, **_) -> None:
        assert len(profile["read_batch_test"]) == len(profile["eval_batch_test"])

    def after_training(self, **_) -> None:
        self._model.save("last")
        assert self._main_loop.training_epochs_done > 0


class Confusion(el_hooks.AccumulateVariables):
    """Counts what was taken for what; as emloop's own hooks of this kind do, it ends with super() and no arguments."""

    def __init__(self, predicted, truth, **kwargs):
        super().__init__(variables=[predicted, truth], **kwargs)
        self._predicted, self._truth = predicted, truth

    def after_epoch(self, epoch_data: el.EpochData, **_):
        for stream_name, variables in self._accumulator.items():
            truth, predicted = np.array(variables[self._truth]), np.array(variables[self._predicted])
            assert len(truth) == {"train": 30, "test": 10}[stream_name]
            epoch_data[stream_name]["missed"] = int(np.sum(truth & ~predicted))
        super().after_epoch()


class Save(el_hooks.EveryNEpoch):
    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self._model = model

    def _after_n_epoch(self, epoch_id: int, **_) -> None:
        self._model.save(str(epoch_id))


class Cool(el_hooks.OnPlateau):
    def __init__(self, model, factor=0.5, **kwargs):
        super().__init__(**kwargs)
        self._model, self._factor = model, factor

    def _on_plateau_action(self, epoch_id: int, epoch_data: el.EpochData, **_) -> None:
        assert epoch_data[self._stream][self._variable] is not None
        self._model._rate *= self._factor
'''

CONFIG = """
dataset: {class: majority.Majority, batch_size: 4}
model: {class: majority.Perceptron, name: majority, rate: 0.5}
main_loop: {extra_streams: [test], buffer: 2}
hooks:
  - ShowProgress
  - majority.KeepMean: {variable: accuracy, stop_at: 0.9}
  - LogVariables
  - StopAfter: {epochs: 100}
  - TrainingTrace
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "majority.py").write_text(PROJECT)
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "majority", raising=False)
    return tmp_path


def test_dataset_model_and_hook_run_unchanged_but_for_the_import(project: Path) -> None:
    training = el.create_training(project / "config.yaml", project)
    training.main_loop.run_training()
    assert 0 < training.main_loop.training_epochs_done < 100
    assert training.main_loop.epoch_data["test"]["accuracy"] >= 0.9
    assert (project / "weights_last.json").exists()
    assert (project / "trace.yaml").exists()


def test_classes_that_inherit_from_its_bases_run_unchanged_but_for_the_import(project: Path) -> None:
    listed = """
  - majority.Confusion: {predicted: prediction, truth: label}
  - majority.Save: {every: 3}
  - majority.Cool: {variable: missed, stream: train, long_term: 4, short_term: 1, factor: 0.1}
  - LogVariables: {variables: [missed], name: LogMissed}
"""
    config = CONFIG.replace("- majority.KeepMean: {variable: accuracy, stop_at: 0.9}", "- StopAfter: {epochs: 8}")
    (project / "config.yaml").write_text(config.replace("  - StopAfter: {epochs: 100}", listed.strip("\n")))
    training = el.create_training(project / "config.yaml", project)
    training.main_loop.run_training()
    assert training.main_loop.training_epochs_done == 8
    assert sorted(path.name for path in project.glob("weights_*.json")) == [f"weights_{n}.json" for n in (0, 3, 6)]
    assert training.main_loop.epoch_data["test"]["missed"] >= 0
    assert training.main_loop.model._rate < 0.5


def test_a_model_that_cannot_be_checkpointed_says_so_where_it_is_asked_to(project: Path) -> None:
    (project / "config.yaml").write_text(CONFIG + "  - SaveLatest\n")
    with pytest.raises(el.ConfigError, match="SaveLatest.*'state_dict' and 'load_state_dict' of Perceptron"):
        el.create_training(project / "config.yaml", project)
    with pytest.raises(el.CheckpointError):
        newest_checkpoint(project / "checkpoints")
