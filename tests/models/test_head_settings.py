"""Heads and models with a backbone take the settings of tasks and of models with flows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from emloop_mtl import (
    Action,
    BackboneHeadsModel,
    Batch,
    ColumnDataset,
    ConfigError,
    Head,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)

from .heads import Classifier, Encoder, make_batch

OTHERWISE = {
    "name": "heads are a mapping of names",
    "modules": "a head has one module",
    "flow": "the backbone and the module",
    "weight": "loss_weights of the model",
    "action_outputs": "outputs",
    "module_device": "device",
}
"""Settings of a task that a head has in another form."""


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind).parameters)


def test_a_head_takes_every_setting_of_a_task() -> None:
    ours, theirs = parameters_of(Head), parameters_of(Task)
    assert theirs.keys() - ours.keys() == OTHERWISE.keys()
    for name in theirs.keys() & ours.keys():
        assert ours[name].default == theirs[name].default, name


def test_a_model_with_a_backbone_takes_every_setting_of_one_with_flows() -> None:
    ours, theirs = parameters_of(BackboneHeadsModel), parameters_of(MultiTaskModel)
    assert theirs.keys() - ours.keys() == {"tasks", "modules"}
    for name in theirs.keys() & ours.keys():
        assert ours[name].default == theirs[name].default, name


class Sentences(MultiTaskDataset):
    """Sequences of two to five tokens, each of which has a label."""

    def loaders(self) -> Iterator[TaskLoader]:
        generator = torch.Generator().manual_seed(0)
        words = [torch.randint(9, (2 + row % 4,), generator=generator) for row in range(12)]
        data = ColumnDataset("sentences", {"words": words}, {"tag": [word % 3 for word in words]})
        yield TaskLoader(data, {"tag": "tag"}, "train", batch_size=4, shuffle=False)


def test_a_head_of_tokens_learns_as_a_task_of_tokens_does() -> None:
    settings: dict[str, Any] = {"optimizer": {"class": "sgd", "lr": 0.5}, "device": "cpu"}
    torch.manual_seed(0)
    heads = {"tag": Head(nn.Linear(6, 3), loss="cross_entropy", tokens="words", metrics=["accuracy"])}
    mapping = {"backbone": {"words": "input"}}
    ours = BackboneHeadsModel(nn.Embedding(9, 6), heads, arg_name_mapping=mapping, **settings)
    torch.manual_seed(0)
    task = Task(
        "tag",
        modules={"tag": nn.Linear(6, 3), "backbone": nn.Embedding(9, 6)},
        flow=[Action("encoded", "backbone", "words"), Action("out", "tag", "encoded")],
        label="tag",
        loss="cross_entropy",
        tokens="words",
        metrics=["accuracy"],
    )
    theirs = MultiTaskModel([task], **settings)
    theirs.load_state_dict(ours.state_dict())
    (loader,) = Sentences().loaders()
    for batch in loader:
        outputs = [model.run(batch.copy(), train=True) for model in (ours, theirs)]
        assert torch.equal(outputs[0]["tag/loss"], outputs[1]["tag/loss"])
    assert ours.score(loader) == theirs.score(loader)


def test_metrics_of_a_head_take_no_more_than_they_may() -> None:
    with pytest.raises(ConfigError, match="head 'a': metric 'roc_auc' needs require_prob_for_eval") as caught:
        head = Head(nn.Linear(6, 2), loss="cross_entropy", metrics=["roc_auc"], require_prob_for_eval=False)
        BackboneHeadsModel(Encoder(), {"a": head}, arg_name_mapping={"a": {"encoded": "input"}}, device="cpu")
    assert caught.value.path == ("heads", "a", "metrics", 0)


def heads_on(device: Any) -> dict[str, nn.Module | Head]:
    torch.manual_seed(0)
    return {
        "mood": Head(nn.Linear(6, 2), loss="cross_entropy", missing_label=-100, device=device),
        "topic": Head(Classifier(), device=device),
    }


def train_heads(place: Any, model_device: str) -> list[float]:
    heads = heads_on(place)
    mapping = {"mood": {"encoded": "input"}, "topic": {"topic_label": "label"}}
    model = BackboneHeadsModel(
        Encoder(), heads, arg_name_mapping=mapping, device=model_device, optimizer={"class": "sgd", "lr": 0.1}
    )
    losses = []
    for seed, rows in enumerate([None, [0, 1, 1, 0, 1, 1]]):
        batch = make_batch(seed=seed)
        batch["mood"][2] = -100
        outputs = model.run(Batch(batch if rows is None else {**batch, "task": rows}), train=True)
        assert outputs["mood/prob"].shape == (6, 2)
        losses.append(outputs["loss"].item())
    places = {name: parameter.device.type for name, parameter in model.network.named_parameters()}
    assert places["mood.weight"] == places["topic.layer.weight"] == torch.device("cpu" if place == -1 else place).type
    assert places["backbone.layer.weight"] == model_device
    return losses


def test_a_head_may_be_on_a_device_of_its_own() -> None:
    expected = train_heads("cpu", "cpu")
    assert train_heads(-1, "cpu") == expected
    for place, model_device in ((-1, "cuda"), ("cuda", "cpu")) if torch.cuda.is_available() else ():
        # Two devices add up in different orders, in float32.
        assert train_heads(place, model_device) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_there_is_not_is_told_with_its_head(device: str) -> None:
    with pytest.raises(ConfigError, match="head 'mood'.*device") as caught:
        BackboneHeadsModel(Encoder(), heads_on(device), device="cpu")
    assert caught.value.path == ("heads", "mood", "device")
