"""Mistakes in flows, tasks and mappings: each is one line that names task and action, before the first batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import (
    AbstractDataset,
    AbstractHook,
    Action,
    Batch,
    ColumnDataset,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.errors import ConfigError, DataError, EmloopError
from emloop_mtl.hooks import ScoreTasks, StopAfter


class Columns(MultiTaskDataset):
    """One loader with the sources x, y and z."""

    def __init__(self, tasks: Any, labels: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.tasks = tasks
        self.labels = {"y": torch.arange(12) % 3, "z": torch.rand(12) + 0.1} if labels is None else labels

    def loaders(self) -> list[TaskLoader]:
        data = ColumnDataset("rows", {"x": torch.randn(12, 4)}, self.labels)
        return [TaskLoader(data, self.tasks, "train", batch_size=4)]


class Written(AbstractDataset):
    """A stream by hand: a list, or a generator."""

    def __init__(self, batches: Iterable[Any], as_generator: bool = False) -> None:
        self.batches, self.as_generator = list(batches), as_generator

    def train_stream(self) -> Iterable[Any]:
        return self._walk() if self.as_generator else self.batches

    def _walk(self) -> Iterator[Any]:
        yield from self.batches


class Seen(AbstractHook):
    """Counts the batches that were run."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self.count += 1


def actions(
    first: Any = "x", second: Any = "features", names: tuple[str, str] = ("features", "logits")
) -> list[Action]:
    return [Action(names[0], "trunk", first), Action(names[1], "head", second)]


def make_task(**options: Any) -> Task:
    modules = {"trunk": nn.Linear(4, 5), "head": nn.Linear(5, 3)}
    given = {"name": "kind", "modules": modules, "flow": actions(), "label": "y", "loss": "cross_entropy"}
    return Task(**(given | options))


def train(tasks: Task | list[Task], dataset: Any = None, seen: Seen | None = None, **options: Any) -> None:
    listed = tasks if isinstance(tasks, list) else [tasks]
    model = MultiTaskModel(listed, device="cpu")
    hooks = [ScoreTasks(), seen or Seen(), StopAfter(epochs=1)]
    MainLoop(model, dataset or Columns({"kind": "y"}), hooks, **options).run_training()


def second_task(**options: Any) -> Task:
    return make_task(name="size", flow=actions(names=("features", "size")), **options)


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown module": (
        lambda: train(make_task(flow=[Action("a", "trnk", "x")])),
        "task 'kind': action 'a': no module 'trnk'; did you mean 'trunk'",
    ),
    "an unknown input": (
        lambda: train(make_task(flow=actions(second="featurs"))),
        "stream 'train', loader 'rows': task 'kind': action 'logits', input 'featurs'.*did you mean 'features'",
    ),
    "an unknown source": (
        lambda: train(make_task(flow=actions(first="xx"))),
        "stream 'train', loader 'rows': task 'kind': action 'features', input 'xx'.*did you mean 'x'",
    ),
    "an unknown source by _input_": (
        lambda: train(make_task(flow=actions(first="_input_.xx"))),
        "stream 'train', loader 'rows': task 'kind': action 'features', input '_input_.xx': there is no source 'xx'",
    ),
    "an index that is a word": (lambda: actions(second="features[a]"), r"action 'logits': cannot read index \[a\]"),
    "an index that is a fraction": (lambda: actions(second="features[0.5]"), r"action 'logits': cannot read in"),
    "a pair with a fraction": (lambda: actions(second=[("features", 0.5)]), "action 'logits': cannot read input"),
    "a pair with a truth value": (lambda: actions(second=("features", True)), "action 'logits': cannot read input"),
    "a triple": (lambda: actions(second=("a", "b", "c")), "action 'logits': cannot read input"),
    "an input that is a number": (lambda: actions(second=3), "action 'logits': cannot read input 3"),
    "an input that is a mapping": (lambda: actions(second={"a": "x"}), "action 'logits': cannot read input"),
    "an empty input": (lambda: actions(second=""), "action 'logits': cannot read input ''"),
    "an action that needs itself": (
        lambda: train(make_task(flow=actions(first="features"))),
        "task 'kind': action 'features', input 'features': it is made by this action itself",
    ),
    "a cycle": (
        lambda: train(make_task(flow=actions(first="logits"))),
        "task 'kind': action 'features', input 'logits': it is made by a later action",
    ),
    "an action called like a source": (
        lambda: train(make_task(flow=actions(first="_input_.x", second="x", names=("x", "logits")))),
        "task 'kind': action 'x' is called like a source",
    ),
    "an action called like a label": (
        lambda: train(make_task(flow=actions(names=("features", "y")))),
        "stream 'train', loader 'rows': task 'kind': action 'y' is called like a source",
    ),
    "two actions of one name": (
        lambda: train(make_task(flow=actions(names=("a", "a"), second="a"))),
        "task 'kind': two actions are called 'a'",
    ),
    "an action that differs between tasks": (
        lambda: train([make_task(), make_task(name="size", flow=[Action("features", "head", "x")])]),
        "task 'size': action 'features' has another module or other inputs than in task 'kind'",
    ),
    "an action of another task": (
        lambda: train([make_task(), make_task(name="size", flow=[Action("size", "head", "features")])]),
        "task 'size': action 'size', input 'features': only task 'kind' has an action 'features'",
    ),
    "two tasks of one name": (lambda: train([make_task(), make_task()]), "there are two tasks called 'kind'"),
    "a task whose name is a number": (lambda: make_task(name=3), "3 cannot name a task"),
    "no flow": (lambda: make_task(flow=None), "task 'kind': flow must be a list of actions, not None"),
    "an empty flow": (lambda: make_task(flow=[]), "task 'kind': its flow has no action"),
    "a flow that is a word": (lambda: make_task(flow="a"), "task 'kind': flow must be a list of actions, not 'a'"),
    "a flow of words": (lambda: make_task(flow=["a"]), r"task 'kind': flow\[0\] must be an Action or a mapping"),
    "a misspelt key of an action": (
        lambda: make_task(flow=[{"name": "a", "modul": "trunk"}]),
        r"task 'kind': flow\[0\]: an action has no argument 'modul'; did you mean 'module'",
    ),
    "an action without a module": (lambda: make_task(flow=[{"name": "a"}]), r"flow\[0\]: an action needs 'module'"),
    "an action with a number for a module": (lambda: Action("a", 3), "action 'a': 'module' must be the name"),  # type: ignore[arg-type]
    "modules that are a list": (lambda: make_task(modules=[nn.Linear(1, 1)]), "task 'kind': modules must be a mapping"),
    "a module that is a class": (
        lambda: make_task(modules={"trunk": nn.Linear}),
        "task 'kind': module 'trunk' must be an nn.Module",
    ),
    "devices that are a list": (lambda: make_task(module_device=["cpu"]), "module_device must be a mapping"),
    "a device of an unknown module": (
        lambda: train(make_task(module_device={"trnk": "cpu"})),
        "task 'kind': module_device: no module 'trnk'; did you mean 'trunk'",
    ),
    "a device that is not there": (
        lambda: train(make_task(module_device={"trunk": "cuda:99"})),
        "task 'kind': module 'trunk': device 'cuda:99' cannot be used",
    ),
    "an unknown device": (lambda: make_task(module_device={"trunk": "gpu"}), "task 'kind': device of module 'trunk'"),
    "a label that is a number": (lambda: make_task(label=3), "task 'kind': label must name a source, not 3"),
    "a list of labels": (lambda: make_task(label=["y"]), "task 'kind': label must name a source, not"),
    "an unknown loss": (lambda: make_task(loss="cros_entropy"), "task 'kind': unknown loss 'cros_entropy'; did you"),
    "a loss that is a number": (lambda: make_task(loss=3), "task 'kind': a loss is a name, a module or a function"),
    "an unknown output": (lambda: make_task(output="softmx"), "task 'kind': unknown output 'softmx'; did you mean"),
    "an output that is a number": (lambda: make_task(output=3), "task 'kind': output is a name or a function"),
    "an unknown metric": (lambda: make_task(metrics=["acuracy"]), "task 'kind': unknown metric 'acuracy'; did you"),
    "metrics that are a word": (lambda: make_task(metrics="f1"), "task 'kind': metrics must be a list, not 'f1'"),
    "a metric of a class there is not": (
        lambda: make_task(metrics=[{"class": "f1", "positive": 9}]),
        "task 'kind': metric 'f1' looks for class 9, but there are 3 classes",
    ),
    "a scorer that is a list": (lambda: make_task(scorer=["f1"]), "task 'kind': scorer must be a Scorer"),
    "a metric of probabilities that are not required": (
        lambda: make_task(metrics=["roc_auc"], require_prob_for_eval=False),
        "task 'kind': metric 'roc_auc' needs require_prob_for_eval",
    ),
    "a requirement that is a word": (
        lambda: make_task(require_prob_for_eval="no"),
        "task 'kind': require_prob_for_eval must be true or false, not 'no'",
    ),
    "a negative weight": (lambda: make_task(weight=-1), "task 'kind': weight must be a finite number >= 0, not -1"),
    "a weight that is a word": (lambda: make_task(weight="1"), "task 'kind': weight must be a number, not '1'"),
    "an action output of no action": (
        lambda: make_task(action_outputs="logit"),
        "task 'kind': action_outputs: no action 'logit'; did you mean 'logits'",
    ),
    "a mark of missing labels that is a word": (
        lambda: make_task(missing_label="none"),
        "missing_label must be a number",
    ),
    "a fraction of classes": (lambda: make_task(num_classes=2.5), "task 'kind': num_classes must be a whole number"),
    "classes of values": (
        lambda: make_task(loss="mse", num_classes=3),
        "task 'kind': num_classes has no effect .* values, as of loss 'mse_loss'; leave it out, or set another loss",
    ),
    "no loss at all": (lambda: train(make_task(loss=None)), "no task has a loss"),
    "no tasks": (lambda: MultiTaskModel([]), "a model needs at least one task"),
    "tasks that are a number": (lambda: MultiTaskModel(3), "a list of tasks, or a mapping of names"),  # type: ignore[arg-type]
    "a loader with a task that the model does not have": (
        lambda: train(make_task(), Columns({"knd": "y"})),
        "stream 'train', loader 'rows': the model has no task 'knd'; did you mean 'kind'",
    ),
    "a loader without the label source": (
        lambda: train(make_task(), Columns({"kind": "yy"})),
        "loader 'rows': the data has no label 'yy' for task 'kind'; did you mean 'y'",
    ),
    "a loader that is trained on without labels": (
        lambda: train(make_task(), Columns({"kind": None})),
        "loader 'rows': task 'kind': it cannot be trained on without labels",
    ),
    "a loader with a list of tasks": (lambda: train(make_task(), Columns(["kind"])), "tasks is a mapping"),
    "a task that no loader has labels for": (
        lambda: train([make_task(), second_task(label="size_of_it")], Columns(None)),
        "task 'size': no loader holds its label 'size_of_it'",
    ),
    "a label out of range": (
        lambda: train(make_task(), Columns({"kind": "y"}, {"y": torch.full((12,), 7)})),
        "stream 'train', loader 'rows': task 'kind', source 'y': label 7 in row 0 is out of range 0..2",
    ),
    "labels that are fractions": (
        lambda: train(make_task(), Columns({"kind": "z"})),
        "stream 'train', loader 'rows': task 'kind', source 'z': .*is no whole number",
    ),
    "labels that are words": (
        lambda: train(make_task(), Columns({"kind": "y"}, {"y": ["a"] * 12})),
        "stream 'train', loader 'rows': task 'kind', source 'y': labels must be numbers",
    ),
    "a batch of an unknown task": (
        lambda: train(make_task(), Written([Batch({"x": torch.ones(2, 4)}, tasks={"knd": None}, data_name="own")])),
        "stream 'train', batch 0, loader 'own': the model has no task 'knd'; did you mean 'kind'",
    ),
    "a batch size that is a word": (lambda: TaskLoader([{"x": 1}], batch_size="4"), "batch_size must be a whole"),  # type: ignore[arg-type]
    "a batch size that is a fraction": (lambda: TaskLoader([{}], batch_size=1.5), "batch_size must be a whole"),  # type: ignore[arg-type]
    "a number of batches that is a word": (
        lambda: TaskLoader([{}], batch_size=1, n_batches="3"),  # type: ignore[arg-type]
        "n_batches must be a whole number, not '3'",
    ),
    "a split that is a number": (lambda: TaskLoader([{}], split=3, batch_size=1), "split must be a word, not 3"),  # type: ignore[arg-type]
    "a collate that is no function": (
        lambda: TaskLoader([{}], batch_size=1, collate=3),  # type: ignore[arg-type]
        "loader 'list': collate must be a function",
    ),
    "ragged sources that are a number": (lambda: TaskLoader([{}], batch_size=1, ragged=3), "ragged must be a list"),  # type: ignore[arg-type]
    "features that are a list": (lambda: ColumnDataset("d", [1]), "dataset 'd': features must be a mapping"),  # type: ignore[arg-type]
    "labels that are a list": (lambda: ColumnDataset("d", {"x": [1]}, [1]), "dataset 'd': labels must be a mapping"),  # type: ignore[arg-type]
    "a task called by a number": (
        lambda: TaskLoader([{}], {1: "y"}, batch_size=1),  # type: ignore[dict-item]
        "not 1 to 'y'; write '1'",
    ),
    "a feature called by a number": (lambda: ColumnDataset("d", {1: [1]}), "dataset 'd': features must be a mapping"),  # type: ignore[dict-item]
    "a dataset without a name": (lambda: ColumnDataset(None, {"x": [1]}), "a dataset is called by a word, not None"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_is_found_before_the_first_batch(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(Seen, "after_batch", lambda self, stream_name, batch_data: ran.append(stream_name))
    act, text = MISTAKES[mistake]
    with pytest.raises(EmloopError, match=text) as caught:
        act()
    assert "\n" not in str(caught.value)
    assert not ran


def rows(*names: str) -> dict[str, Tensor]:
    return {name: torch.randn(4, 4) if name == "x" else torch.arange(4) % 3 for name in names}


LACKING: dict[str, tuple[Any, str]] = {
    "a list": (Written([rows("x", "y"), rows("x")]), "stream 'train', batch 1: task 'kind'"),
    "a generator": (Written([rows("x", "y"), rows("x")], as_generator=True), "stream 'train', batch 1: task 'kind'"),
    "batches of a loader's name": (
        Written([Batch(rows("x"), tasks={"kind": "y"}, data_name="own")]),
        "stream 'train', batch 0, loader 'own': task 'kind'",
    ),
}


@pytest.mark.parametrize("kind", LACKING)
@pytest.mark.parametrize("buffer", [0, 3])
def test_a_batch_that_lacks_the_label_source_names_stream_loader_and_task(kind: str, buffer: int) -> None:
    dataset, place = LACKING[kind]
    with pytest.raises(DataError, match=f"^{place}.*'y'.*known are: x"):
        train(make_task(), dataset, skip_zeroth_epoch=True, buffer=buffer)


class Mixed(MultiTaskDataset):
    """Loaders of columns, and of rows whose labels only some have."""

    def loaders(self) -> list[TaskLoader]:
        columns = ColumnDataset("columns", rows("x"), rows("y"))
        samples = [{"x": torch.ones(4), **({"y": 1} if row < 2 else {})} for row in range(4)]
        return [
            TaskLoader(columns, {"kind": "y"}, batch_size=4),
            TaskLoader(samples, {"kind": "y"}, name="samples", batch_size=2, shuffle=False),
        ]


def test_a_row_that_lacks_the_label_source_names_stream_loader_and_task_among_loaders_of_several_kinds() -> None:
    with pytest.raises(DataError, match="^stream 'train', batch 2, loader 'samples': task 'kind'.*lacks.*'y'"):
        train(make_task(), Mixed())


def test_a_task_that_no_loader_names_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        train([make_task(), second_task(label="z")])
    said = [record.getMessage() for record in caplog.records if "neither trained" in record.getMessage()]
    assert said == ["no loader names the task 'size', so it is neither trained nor evaluated"]


def test_modules_that_do_not_fit_name_task_action_and_module_before_the_first_batch() -> None:
    modules = {"trunk": nn.Linear(9, 5), "head": nn.Linear(5, 3)}
    seen = Seen()
    with pytest.raises(RuntimeError) as caught:
        train(make_task(modules=modules), seen=seen)
    assert any("task 'kind', action 'features', module 'trunk'" in str(note) for note in caught.value.__notes__)
    assert seen.count == 0


def test_an_item_of_one_value_names_task_and_action_before_the_first_batch() -> None:
    seen = Seen()
    with pytest.raises(ConfigError, match=r"task 'kind', action 'logits', inputs 'features\[1\]'"):
        train(make_task(flow=actions(second="features[1]")), seen=seen)
    assert seen.count == 0
