# ruff: noqa: E501
# An answer to a mistake is one line, however long.

"""Metrics with options, and global metrics, as a config names them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.cli import main
from emloop_mtl.config.check import check_config
from emloop_mtl.config.create import create_training
from emloop_mtl.config.load import load_config
from emloop_mtl.config.located_error import LocatedError
from emloop_mtl.errors import ConfigError
from emloop_mtl.tasks.metrics import CustomMetric

Write = Callable[..., Path]

MODULE = """
import torch

from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.tasks.metrics import Recall


class Points(MultiTaskDataset):
    def loaders(self):
        generator = torch.Generator().manual_seed(0)
        columns = ColumnDataset("points", {"x": torch.randn(12, 4, generator=generator)}, {"kind": torch.arange(12) % 4})
        return [TaskLoader(columns, {"kind": "kind"}, split, batch_size=5) for split in ("train", "valid")]


class Found(Recall):
    def __init__(self, share: float = 1.0, name: str = "found") -> None:
        super().__init__(name)
        self.share = share


def missed(golds, probs, preds):
    return (golds != preds).sum()


def costs(golds, preds, weight: float = 1.0):
    return weight * (golds != preds).sum()


def sum_of_losses(scores):
    return scores["model/all/valid/loss"] + scores["kind/points/valid/loss"]


def twice(scores):
    return 2 * scores["sum_of_losses"]


def said(golds, preds):
    return "much\\n" * 100


def broken(golds, preds):
    raise LookupError("no such thing")


def no_output(outputs):
    return outputs["logit"]


def listed(outputs):
    return outputs["logits"].tolist()
"""

CONFIG = """\
dataset: {class: points.Points}
model:
  class: MultiTaskModel
  device: cpu
  modules:
    head: {class: torch.nn.Linear, in_features: 4, out_features: 4}
  tasks:
    kind:
      flow: [{name: logits, module: head, inputs: x}]
      label: kind
      loss: cross_entropy
      metrics: METRICS
hooks:
  - Evaluate: {streams: [valid]}
  - ScoreTasks: {global_metrics: GLOBAL}
  - WriteJSON
  - SaveBest: {stream: all, variable: WATCHED, mode: min}
  - StopAfter: {epochs: 1}
"""

METRICS = """
        - accuracy
        - accuracy@3
        - {class: fbeta, beta: 2}
        - {class: f1, positive: 2}
        - {class: accuracy@2, name: top_two}
        - {class: sklearn.metrics.fbeta_score, beta: 2, average: macro, name: sklearns}
        - sklearn.metrics.cohen_kappa_score
        - {class: points.costs, weight: 3}
        - {class: points.Found, share: 0.5}
        - points.Found
        - points.missed"""

GLOBAL = "{sum_of_losses: points.sum_of_losses, twice/as much: points.twice}"


def config(metrics: str = "[accuracy]", functions: str = "{}", watched: str = "model/all/loss") -> str:
    return CONFIG.replace("METRICS", metrics).replace("GLOBAL", functions).replace("WATCHED", watched)


def position(text: str, where: str) -> str:
    """Return line and column of the last place in the configuration where something stands."""
    before = text[: text.rindex(where, 0, text.index("hooks:"))]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


@pytest.fixture(autouse=True)
def _module(folder: Path) -> None:
    Path("points.py").write_text(MODULE)


def test_metrics_take_options_in_yaml(write: Write) -> None:
    metrics = METRICS.replace("        - points.Found\n", "")
    task = create_training(write(config(metrics)), "run").model.tasks["kind"]
    assert task.scorer.names == (
        *("accuracy", "accuracy@3", "f2", "f1", "top_two", "sklearns", "cohen_kappa_score", "costs", "found", "missed"),
    )
    assert [getattr(metric, "share", None) for metric in task.scorer.metrics][8] == 0.5
    with pytest.raises(
        LocatedError, match=r"config.yaml:22:11: .*metrics\[9\]: task 'kind': metric 'found' is given twice; set 'name'"
    ):
        create_training(write(config(METRICS)), "run")


def test_a_scorer_of_its_own_takes_them_too(write: Write) -> None:
    text = config().replace(
        "metrics: [accuracy]",
        "scorer: {class: Scorer, metrics: [{class: fbeta, beta: 3}, f1], custom: {m: points.missed}}",
    )
    assert create_training(write(text), "run").model.tasks["kind"].scorer.names == ("f3", "f1", "m")


@pytest.mark.parametrize(
    ("metrics", "where", "expected"),
    [
        ("[accuracy, {class: fbetta, beta: 2}]", "class", "[1].class: unknown metric 'fbetta'; did you mean 'fbeta'?"),
        ("[{class: fbeta, betta: 2}]", "betta", "[0]: fbeta: unknown argument 'betta'; did you mean 'beta'?"),
        ("[{class: fbeta, beta: two}]", "beta:", "[0].beta: expected float, got 'two'"),
        ("[{class: f1, positive: 1.5}]", "positive", "[0].positive: expected int, got 1.5"),
        ("[{class: pearson_correlation, return_pvalue: 1}]", "return", "[0].return_pvalue: expected bool, got 1"),
        ("[{class: accuracy@two}]", "class", "[0].class: unknown metric 'accuracy@two'; after accuracy@ comes a whole number > 0"),
        ("[{class: accuracy@2, topk: 3}]", "topk", "[0]: accuracy@2: unknown argument 'topk'; known are: name, normalize"),
        ("[{class: f1, average: makro}]", "average", "[0].average: expected one of 'binary', 'macro', 'micro', 'weighted', 'samples', 'per_class', got 'makro'; did you mean 'macro'?"),
        ("[{class: calibration_error, bins: 2.5}]", "bins", "[0].bins: expected int, got 2.5"),
        ("[{class: sklearn.metrics.fbeta_scor, beta: 2}]", "class", "[0].class: module 'sklearn.metrics' has no 'fbeta_scor'; did you mean 'fbeta_score'?"),
        ("[sklearn.metrics.cohen_kapa_score]", "sklearn", "[0]: module 'sklearn.metrics' has no 'cohen_kapa_score'; did you mean 'cohen_kappa_score'?"),
        ("[{class: sklearn.metrics.f1_score, averag: macro}]", "averag", "[0]: sklearn.metrics.f1_score: unknown argument 'averag'; did you mean 'average'?"),
        ("[{class: points.costs, wait: 2}]", "wait", "[0]: points.costs: unknown argument 'wait'; did you mean 'weight'?"),
        ("[{class: points.costs, weight: two}]", "weight", "[0].weight: expected float, got 'two'"),
        ("[{class: points.Fond}]", "class", "[0].class: module 'points' has no 'Fond'; did you mean 'Found'?"),
        ("[{class: points.Found, shares: 1}]", "shares", "[0]: points.Found: unknown argument 'shares'; did you mean 'share'?"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line_with_its_position(write: Write, metrics: str, where: str, expected: str) -> None:
    with pytest.raises(LocatedError) as caught:
        check_config(load_config(write(config(metrics))))
    assert str(caught.value) == f"config.yaml:{position(config(metrics), where)}: model.tasks.kind.metrics{expected}"


@pytest.mark.parametrize(
    ("metrics", "where", "expected"),
    [
        ("[{class: fbeta, beta: -1}]", "beta:", "[0].beta: fbeta: beta must be a finite number > 0, not -1"),
        ("[{class: f1, positive: -1}]", "positive", "[0].positive: metric 'f1': positive must be a class, 0, 1, …, not -1"),
        ("[f1, fbeta]", "fbeta", "[1]: task 'kind': metric 'f1' is given twice: f1 and fbeta with beta 1 are one metric"),
        ("[accuracy, acuracy]", "acuracy", "[1]: task 'kind': unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ("[{class: f1, name: ''}]", "{class", "[0]: task 'kind': a metric must have a name, not ''"),
        ("{class: accuracy}", "metrics", ": task 'kind': metrics must be a list, not a single Accuracy"),
        ("[accuracy, {class: f1, positive: 4}]", "positive", "[1].positive: task 'kind': metric 'f1' looks for class 4, but there are 4 classes, counted from 0"),
        ("[{class: f1, average: macro, positive: 2}]", "positive", "[0].positive: metric 'f1': positive is the one class of 'average: binary', and average is macro; 'average: per_class' gives the score of each"),
        ("[{class: f1, zero_division: 2}]", "zero_division", "[0].zero_division: metric 'f1': zero_division must be 0, 1 or nan, not 2"),
        ("[{class: f1, average: per_class}, {class: recall, name: f1_of_3}]", "{class: recall", "[1]: task 'kind': metric 'f1_of_3' is given twice; set 'name' to call one of them otherwise"),
        ("[accuracy, r2]", "r2", "[1]: task 'kind': metric 'r2' compares values, but the task predicts classes; choose another one, or set 'output'"),
        ("[f1_samples]", "f1_samples", "[0]: task 'kind': metric 'f1_samples' needs several labels per row that are 0 or 1, but the task predicts classes; choose another one, or set 'output'"),
        ("[pearson_correlation]", "pearson", "[0]: task 'kind': metric 'pearson_correlation' compares one number per row, but the task predicts classes; choose another one, or set 'output'"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_one_line_with_its_position(
    write: Write, metrics: str, where: str, expected: str
) -> None:
    with pytest.raises(LocatedError) as caught:
        create_training(write(config(metrics)), "run")
    assert str(caught.value) == f"config.yaml:{position(config(metrics), where)}: model.tasks.kind.metrics{expected}"


def test_a_value_that_sklearn_refuses_is_one_line_with_its_position(write: Write) -> None:
    metrics = "[{class: sklearn.metrics.f1_score, average: makro}]"
    with pytest.raises(LocatedError) as caught:
        create_training(write(config(metrics)), "run")
    where = f"config.yaml:{position(config(metrics), 'average')}: model.tasks.kind.metrics[0].average: "
    assert str(caught.value).startswith(f"{where}metric 'f1_score': The 'average' parameter of f1_score must be")


@pytest.mark.parametrize("function", ["f1_score", "roc_auc_score", "ndcg_score"])
def test_a_metric_of_sklearn_that_cannot_score_so_many_classes_is_told_with_its_position(
    write: Write, function: str
) -> None:
    text = config(f"[accuracy, sklearn.metrics.{function}]")
    with pytest.raises(LocatedError) as caught:
        create_training(write(text), "run")
    where = f"config.yaml:{position(text, 'sklearn')}: model.tasks.kind.metrics[1]: task 'kind': metric '{function}'"
    assert str(caught.value).startswith(f"{where} cannot score 4 classes: ")
    two = text.replace("out_features: 4", "out_features: 2").replace(
        f"sklearn.metrics.{function}", f"{{class: sklearn.metrics.{function}, name: x}}"
    )
    if function != "ndcg_score":  # which is for several labels per row
        assert create_training(write(two), "two").model.tasks["kind"].num_classes == 2


def test_functions_of_sklearn_are_not_tried_on_more_classes_than_it_takes_to_know() -> None:
    metric = CustomMetric("roc_auc_score", roc_auc_score)
    with pytest.raises(ConfigError, match="cannot score 32 classes"):
        metric.try_classes(32)
    metric.try_classes(10**9)  # a matrix of so many probabilities fits nowhere


@pytest.mark.parametrize(
    ("metrics", "where", "expected"),
    [
        ("[accuracy, points.said]", "points.said", f"metrics[1]: task 'kind': metric 'said' must return a number or a mapping of names to numbers, not '{('much' + chr(92) + 'n') * 16}muc…"),
        ("[accuracy]\n      output: points.no_output", "output:", "output: KeyError: 'logit' in task 'kind', output (-v shows the traceback)"),
        ("[accuracy]\n      output: points.listed", "output:", "output: task 'kind': 'output' must return a tensor, not a list"),
    ],
    ids=["text for a number", "output of another name", "output of another type"],
)  # fmt: skip
def test_a_function_that_gives_something_else_leads_to_its_place(
    write: Write, metrics: str, where: str, expected: str
) -> None:
    result = CliRunner().invoke(main, ["train", str(write(config(metrics))), "--output-dir", "run"])
    line = f"config.yaml:{position(config(metrics), where)}: model.tasks.kind.{expected}"
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, line)
    assert not Path("run").exists()


@pytest.mark.parametrize("is_early", [True, False], ids=["before the first step", "later"])
def test_a_metric_that_fails_is_told_with_its_task(write: Write, is_early: bool) -> None:
    text = config("[accuracy, points.broken]") + f"main_loop: {{skip_zeroth_epoch: {str(not is_early).lower()}}}\n"
    result = CliRunner().invoke(main, ["train", str(write(text)), "--output-dir", "run"])
    place = f"config.yaml:{position(text, 'points.broken')}: model.tasks.kind.metrics[1]" if is_early else "error"
    line = f"{place}: LookupError: no such thing in task 'kind', metric 'broken' (-v shows the traceback)"
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2 if is_early else 1, line)
    assert Path("run").exists() is not is_early


def test_a_stream_that_is_written_by_hand_and_lacks_a_label_leads_to_the_task(write: Write) -> None:
    text = config().replace("points.Points", "written.Written")
    for hook in ("Evaluate: {streams: [valid]}", "SaveBest: {stream: all, variable: model/all/loss, mode: min}"):
        text = text.replace(f"  - {hook}\n", "")
    Path("written.py").write_text(
        """
import torch

from emloop_mtl import AbstractDataset


class Written(AbstractDataset):
    deterministic = True

    def train_stream(self):
        yield {"x": torch.ones(3, 4), "kin": torch.arange(3)}
"""
    )
    result = CliRunner().invoke(main, ["train", str(write(text)), "--output-dir", "run"])
    where = f"config.yaml:{position(text, 'label: kind')}: model.tasks.kind.label: stream 'train', batch 0: task 'kind'"
    found = (
        "the batch cannot be trained on, it holds no label for the task: there is no source 'kind'; did you mean 'kin'?"
    )
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"{where}: {found}")
    assert not Path("run").exists()


def test_the_scores_of_single_classes_are_known_before_the_training(write: Write) -> None:
    metrics = "[{class: recall, average: per_class}]"
    text = config(metrics, watched="kind/points/recall_of_3").replace("stream: all", "stream: valid")
    create_training(write(text), "run").main_loop.run_training()
    line = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert [f"kind/points/valid/recall_of_{number}" in line for number in range(5)] == [True] * 4 + [False]
    text = config(metrics, watched="kind/points/recall_of_4").replace("stream: all", "stream: valid")
    with pytest.raises(
        ConfigError, match=r"requires the number 'kind/points/recall_of_4' .* 'kind/points/recall_of_3'"
    ):
        create_training(write(text), "other").main_loop.run_training()


@pytest.mark.parametrize("watched", ["sum_of_losses", "twice/as much"])
def test_global_metrics_are_functions_by_path_that_hooks_watch_and_writers_write(write: Write, watched: str) -> None:
    create_training(write(config(functions=GLOBAL, watched=watched)), "run").main_loop.run_training()
    assert newest_checkpoint(Path("run/checkpoints"), "best")
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line["sum_of_losses"] == 2 * line["kind/points/valid/loss"]
        assert line["twice/as much"] == 2 * line["sum_of_losses"]


@pytest.mark.parametrize(
    ("functions", "expected"),
    [
        ("{best: points.sum_of_loses}", "15:34: hooks[1] ScoreTasks.global_metrics.best: module 'points' has no 'sum_of_loses'; did you mean 'sum_of_losses'?"),
        ("{best: sum_of_losses}", "15:34: hooks[1] ScoreTasks.global_metrics.best: global metric 'best' must be a function of all scores, not 'sum_of_losses'"),
        ("[points.sum_of_losses]", "15:17: hooks[1] ScoreTasks.global_metrics: expected mapping"),
    ],
)  # fmt: skip
def test_a_wrong_global_metric_is_one_line_with_its_position(write: Write, functions: str, expected: str) -> None:
    with pytest.raises(LocatedError) as caught:
        create_training(write(config(functions=functions)), "run")
    assert str(caught.value).split(": ", 1)[1].startswith(expected.split(": ", 1)[1])
    assert str(caught.value).startswith("config.yaml:15:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (config(functions="{size: os.path.getsize}"), "global_metrics.size: 'os' is not trusted"),
        (config("[{class: subprocess.Popen, args: [ls]}]"), "metrics[0].class: 'subprocess' is not trusted"),
        (config("[sklearn.utils.shuffle]"), "metrics[0]: 'sklearn.utils' is not trusted"),
        (config("[sklearn.metrics.cluster.rand_score]"), "metrics[0]: 'sklearn.metrics.cluster' is not trusted"),
        (config("[sklearn.metrics.DistanceMetric]"), "metrics[0]: 'sklearn.metrics.DistanceMetric' is not trusted"),
    ],
)
def test_a_run_folder_names_nothing_from_elsewhere(text: str, message: str) -> None:
    path = Path("log/run/config.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(LocatedError) as caught:
        create_training(path, trusted_only=True, source_folder=".")
    assert message in str(caught.value)


def test_a_run_folder_may_name_metrics_of_sklearn(folder: Path) -> None:
    path = Path("log/run/config.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(
        config("[sklearn.metrics.hamming_loss, {class: sklearn.metrics.fbeta_score, beta: 2, average: macro}]")
    )
    training = create_training(path, "run", trusted_only=True, source_folder=".")
    assert training.model.tasks["kind"].scorer.names == ("hamming_loss", "fbeta_score")


@pytest.mark.long
def test_sklearn_is_not_trusted_where_another_module_takes_its_name(tmp_path: Path) -> None:
    """In a program of its own, since a module that was imported once is no longer looked for."""
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("raise SystemExit('ran')")
    (tmp_path / "sklearn" / "metrics.py").write_text("")
    program = """
from emloop_mtl.config.trust_policy import TrustPolicy
from emloop_mtl.errors import ConfigError
for name in ("sklearn", "sklearn.metrics"):
    try:
        TrustPolicy().check_module(name)
    except ConfigError:
        print("refused")
"""
    line = [sys.executable, "-c", program]
    found = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout == "refused\n" * 2


def test_a_global_metric_that_fails_is_one_line(write: Write) -> None:
    text = config(functions="{twice: points.twice}")
    with pytest.raises(
        LocatedError,
        match=r"config.yaml:15:\d+: hooks\[1\] ScoreTasks.global_metrics.twice: global metric 'twice': there is no score 'sum_of_losses'",
    ):
        training = create_training(write(text), "run")
        with training.config.located():
            training.main_loop.run_training()


def test_a_function_of_two_streams_has_no_number_where_one_of_them_is_scored(write: Write) -> None:
    """The section `eval` at the end of a training, and the command, evaluate a single stream."""
    Path("points.py").write_text(
        MODULE
        + """

def gap(scores):
    return scores["kind/points/valid/loss"] - scores["kind/points/train/loss"]
"""
    )
    text = config(functions="{gap: points.gap, size: builtins.len}", watched="gap").replace("mode: min", "mode: max")
    path = write(text + "eval:\n  valid: {}\n")
    for command in (["train", str(path), "--output-dir", "run"], ["eval", "valid", "run", "--trust"]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        assert (
            "global metric 'gap' has no number while a stream that it reads is not evaluated (train)" in result.output
        )
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["gap"] == line["kind/points/valid/loss"] - line["kind/points/train/loss"]
