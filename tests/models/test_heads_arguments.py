"""Which values of a batch a backbone and heads are called with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emloop_mtl import BackboneHeadsModel, Batch, ConfigError, Head
from emloop_mtl.models.component import BACKBONE, Component
from emloop_mtl.tasks.action_input import ActionInput

from .heads import Classifier, Encoder, make_batch, make_model


class Told(nn.Module):
    """Remembers what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.got: dict[str, Any] = {}

    def tell(self, got: dict[str, Any]) -> dict[str, Tensor]:
        self.got = {name: value for name, value in got.items() if name not in ("self", "__class__")}
        return {"loss": self.weight * 1.0}


class Optional(Told):
    def forward(self, encoded: Tensor, scale: Any = None, bias: Any = None) -> dict[str, Tensor]:
        return self.tell(locals())


class Anything(Told):
    def forward(self, encoded: Tensor, *more: Any, **others: Any) -> dict[str, Tensor]:
        assert more == ()
        return self.tell({"encoded": encoded, **others})


class ByPosition(Told):
    def forward(self, encoded: Tensor, scale: Any = None, /, *, bias: Any = None) -> dict[str, Tensor]:
        return self.tell(locals())


def build(head: nn.Module | Head, backbone: nn.Module | None = None, **settings: Any) -> BackboneHeadsModel:
    return BackboneHeadsModel(backbone or Encoder(), {"head": head}, device="cpu", **settings)


TEXT = torch.zeros(2, 4)


def run(model: BackboneHeadsModel, **sources: Any) -> set[str]:
    """Run a batch and return the names of what the head was called with other than its defaults."""
    model.run(Batch({"text": TEXT, **sources}), train=True)
    return {name for name, value in model.network["head"].got.items() if value is not None}


TWO = torch.ones(2)


def test_arguments_are_read_off_the_signature_and_optional_ones_are_given_where_there_is_something() -> None:
    model = build(Optional())
    assert run(model) == {"encoded"}
    assert run(model, scale=TWO) == {"encoded", "scale"}
    assert run(model, bias=TWO, other=TWO) == {"encoded", "bias"}


def test_a_forward_with_kwargs_gets_all_that_there_is() -> None:
    model = build(Anything())
    assert run(model, other=TWO) == {"encoded", "length", "text", "other"}
    limited = build(Anything(), allowed_arguments={"head": ["encoded", "other"]})
    assert run(limited, other=TWO, another=TWO) == {"encoded", "other"}
    assert run(limited, another=TWO) == {"encoded"}, "what is allowed need not be there"


def test_arguments_that_can_be_given_by_position_only_are() -> None:
    model = build(ByPosition())
    assert run(model, scale=TWO, bias=TWO) == {"encoded", "scale", "bias"}
    assert run(model, bias=TWO) == {"encoded", "bias"}


def test_allowed_arguments_keep_optional_ones_from_being_given() -> None:
    model = build(Optional(), allowed_arguments={"head": ["encoded"]})
    assert run(model, scale=TWO, bias=TWO) == {"encoded"}


def test_names_are_mapped_for_each_component() -> None:
    model = build(Optional(), arg_name_mapping={"backbone": {"words": "text"}, "head": {"factor": "scale"}})
    model.run(Batch({"words": TEXT, "factor": TWO}), train=True)
    assert model.network["head"].got["scale"] is TWO


def test_two_names_for_one_argument_work_in_different_batches_and_crash_in_one() -> None:
    model = build(Optional(), arg_name_mapping={"backbone": {"question": "text", "review": "text"}})
    for name in ("question", "review"):
        model.run(Batch({name: TEXT}), train=True)
    with pytest.raises(ConfigError) as caught:
        model.run(Batch({"question": TEXT, "review": TEXT}), train=True)
    text = "the backbone: 'question' and 'review' both go to its argument 'text' in one batch"
    assert str(caught.value).startswith(text)
    assert caught.value.path == ("model", "arg_name_mapping", "backbone", "review")


def test_a_mapped_name_overlaps_with_a_name_that_stays() -> None:
    model = build(Optional(), arg_name_mapping={"head": {"factor": "scale"}})
    with pytest.raises(ConfigError, match="'factor' and 'scale' both go to its argument 'scale'"):
        model.run(Batch({"text": TEXT, "factor": TWO, "scale": TWO}), train=True)


def test_a_source_takes_the_place_of_what_the_backbone_returns_under_its_name() -> None:
    model = build(Optional())
    model.run(Batch({"text": TEXT, "encoded": TWO}), train=True)
    assert model.network["head"].got["encoded"] is TWO


@pytest.mark.parametrize("mapping", [{}, {"head": {"backbone": "bias"}}], ids=["first", "mapped"])
def test_one_value_of_the_backbone_goes_to_the_first_argument_or_where_it_is_mapped(mapping: Any) -> None:
    class Head(Told):
        def forward(self, features: Any = None, bias: Any = None) -> dict[str, Tensor]:
            return self.tell(locals())

    model = build(Head(), nn.Linear(4, 5), arg_name_mapping={"backbone": {"text": "input"}, **mapping})
    assert run(model) == ({"bias"} if mapping else {"features"})
    assert model.network["head"].got["bias" if mapping else "features"].shape == (2, 5)


def test_a_head_gets_the_backbones_value_though_a_source_is_called_like_its_argument() -> None:
    head = Head(nn.Linear(4, 3), loss="cross_entropy", label="y")
    model = BackboneHeadsModel(nn.Linear(4, 4), {"head": head}, device="cpu")
    batch = {"input": torch.randn(2, 4), "y": torch.tensor([0, 2])}
    expected = model.network["head"](model.network["backbone"](batch["input"])).softmax(1)
    assert torch.equal(model.run(Batch(batch), train=False)["head/prob"], expected)


def test_a_module_that_is_watched_is_called_as_torch_calls_it() -> None:
    model, seen = make_model(), []
    model.network["mood"].register_forward_hook(lambda *_: seen.append("mood"))
    model.network["backbone"].register_forward_hook(lambda *_: seen.append("backbone"))
    model.run(Batch(make_batch()), train=False)
    assert seen == ["backbone", "mood"]


def test_the_network_alone_needs_nothing_of_the_engine() -> None:
    outputs = make_model().network(make_batch(), tasks=["mood"])
    assert outputs.keys() == {"backbone", "mood"}
    assert outputs["mood"].shape == (6, 2)


# --------------------------------------------------------------------------------------------------------- mistakes


class Faceless(nn.Module):
    pass


class Unsure(nn.Module):
    """Returns what its source does not tell."""

    def forward(self, text: Tensor) -> dict[str, Tensor]:
        found = {"encoding": text}
        found.update({})
        return found


LINEAR = nn.Linear(6, 2)

MISTAKES: list[tuple[dict[str, Any], tuple[str | int, ...], str]] = [
    ({"backbone": 3}, ("backbone",), "the backbone must be an nn.Module, not 3"),
    ({"backbone": Faceless()}, ("backbone",), "the backbone: Faceless has no method 'forward'"),
    ({"heads": {}}, ("heads",), "a model needs at least one head"),
    ({"heads": {"a": 3}}, ("heads", "a"), "head 'a' must be an nn.Module or a Head, not 3"),
    ({"heads": {"backbone": Classifier()}}, ("heads", "backbone"), "'backbone' cannot name a head"),
    ({"heads": {"a/b": Classifier()}}, ("heads", "a/b"), "'a/b' cannot name a head"),
    ({"heads": {"training": Classifier()}}, ("heads", "training"), "'training' cannot name a head"),
    ({"heads": {"model": Classifier()}}, ("heads", "model"), "'model' cannot name a head"),
    ({"heads": {"items": Classifier()}}, ("heads", "items"), "'items' cannot name a head"),
    (
        {"heads": {"a": LINEAR}},
        ("heads", "a"),
        "head 'a': Linear computes no loss of its own, so the head learns nothing",
    ),
    ({"heads": {"a": Head(LINEAR)}}, ("heads", "a"), "so the head learns nothing; set 'loss'"),
    ({"heads": {"a": Head(LINEAR, loss="mse_los")}}, ("heads", "a", "loss"), "head 'a': unknown loss 'mse_los'"),
    (
        {"heads": {"a": Head(LINEAR, loss="mse_loss", metrics=["acuracy"])}},
        ("heads", "a", "metrics", 0),
        "unknown metric 'acuracy'; did you mean 'accuracy'?",
    ),
    ({"loss_weights": {"tpic": 1}}, ("loss_weights", "tpic"), "there is no head 'tpic'; did you mean 'topic'?"),
    ({"loss_weights": {"topic": -1}}, ("loss_weights", "topic"), "must be a finite number >= 0, not -1"),
    (
        {"arg_name_mapping": {"tpic": {}}},
        ("arg_name_mapping", "tpic"),
        "arg_name_mapping: there is no head 'tpic'; did you mean 'topic'?",
    ),
    (
        {"arg_name_mapping": {"topic": {"y": "lable"}}},
        ("arg_name_mapping", "topic", "y"),
        "head 'topic' takes no argument 'lable'; did you mean 'label'?",
    ),
    (
        {"arg_name_mapping": {"topic": "label"}},
        ("arg_name_mapping", "topic"),
        "arg_name_mapping.topic must map names to arguments, not 'label'",
    ),
    ({"allowed_arguments": {"tpic": []}}, ("allowed_arguments", "tpic"), "there is no head 'tpic'"),
    (
        {"allowed_arguments": {"topic": ["encoded", "lable"]}},
        ("allowed_arguments", "topic"),
        "head 'topic' has no argument 'lable'; did you mean 'label'?",
    ),
    (
        {"allowed_arguments": {"topic": ["label"]}},
        ("allowed_arguments", "topic"),
        "head 'topic' cannot be called without its argument 'encoded'; add it to allowed_arguments.topic",
    ),
    ({"precision": "fp8"}, ("precision",), "unknown precision 'fp8'"),
]


@pytest.mark.parametrize(("settings", "path", "says"), MISTAKES, ids=[says[:50] for _, _, says in MISTAKES])
def test_a_mistake_is_found_at_construction(settings: dict[str, Any], path: tuple[str | int, ...], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BackboneHeadsModel(**{"backbone": Encoder(), "heads": {"topic": Classifier()}, "device": "cpu", **settings})
    assert says in str(caught.value)
    assert caught.value.path == path


def sources(*names: str, **attributes: Any) -> Batch:
    return Batch(dict.fromkeys(names), **attributes)


def test_an_argument_that_nothing_gives_is_found_before_there_are_values() -> None:
    model = make_model()
    model.check_sources(sources("text", "topic_label", "mood"))
    with pytest.raises(ConfigError) as caught:
        model.check_sources(sources("txt", "mood"))
    assert str(caught.value) == (
        "the backbone: no source is called like its argument 'text'; did you mean 'txt'? "
        "Or set arg_name_mapping.backbone: {NAME: text} to give it one of another name"
    )
    assert caught.value.path == ("backbone",)
    wrong = make_model(arg_name_mapping={})
    with pytest.raises(ConfigError) as caught:
        wrong.check_sources(sources("text", "topic_label", "mood", tasks={"mood": "mood"}))
    text = (
        "head 'mood': no source and nothing that the backbone returns ('encoded', 'length') is called like its argument"
    )
    assert str(caught.value).startswith(text)
    assert caught.value.path == ("heads", "mood", "module")


def test_what_a_backbone_returns_is_found_out_by_the_first_batch_where_its_source_does_not_tell() -> None:
    model = build(Classifier(), Unsure())
    model.check_sources(sources("text", tasks={"head": None}))
    with pytest.raises(ConfigError) as caught:
        model.run(Batch({"text": TEXT}), train=False)
    assert "the backbone returns ('encoding') is called like its argument 'encoded'; did you mean 'enco" in str(
        caught.value
    )
    assert caught.value.path == ("model", "heads", "head")


def test_a_mapped_name_that_no_data_has_is_found_before_the_training() -> None:
    model = make_model(arg_name_mapping={"topic": {"topic_lable": "label"}, "mood": {"encoded": "input"}})
    batch = sources("text", "topic_label", "mood", split="train", tasks={"topic": None, "mood": "mood"})
    with pytest.raises(ConfigError) as caught:
        model.check_tasks([batch])
    assert str(caught.value) == "arg_name_mapping.topic: there is no 'topic_lable'; did you mean 'topic_label'?"
    assert caught.value.path == ("arg_name_mapping", "topic", "topic_lable")


def test_a_head_whose_input_is_not_certain_before_a_batch_is_no_part_of_a_chain() -> None:
    linear, told = Component(BACKBONE, nn.Linear(4, 4)), Component(BACKBONE, Optional())
    one = Component("head", nn.Linear(4, 3))
    assert one.takes(linear) == ActionInput(BACKBONE)
    assert Component("head", Anything()).takes(linear) is None, "it may get more"
    assert Component("head", nn.Linear(4, 3), {"a": "input"}).takes(told) == ActionInput(BACKBONE, ("a",))
    assert Component("head", nn.Linear(4, 3), {"a": "input", "b": "input"}).takes(told) is None


def test_a_source_that_is_mapped_to_the_argument_of_the_backbones_value_is_an_error() -> None:
    head = Component("head", nn.Linear(4, 3), {"size": "input"})
    with pytest.raises(ConfigError, match="'backbone' and 'size' both go to its argument 'input' in one batch"):
        head.bind(["size"], ())


def test_one_value_of_the_backbone_can_be_mapped_for_heads_and_not_for_itself() -> None:
    batch = sources("text", "encoded", split="train", tasks={"head": None})
    text = {"text": "input"}
    build(Optional(), nn.Linear(4, 5), arg_name_mapping={"backbone": text, "head": {"backbone": "bias"}}).check_tasks(
        [batch]
    )
    model = build(Optional(), nn.Linear(4, 5), arg_name_mapping={"backbone": {**text, "backbone": "input"}})
    with pytest.raises(ConfigError, match="arg_name_mapping.backbone: there is no 'backbone'") as caught:
        model.check_tasks([batch])
    assert caught.value.path == ("arg_name_mapping", "backbone", "backbone")


def test_a_head_that_no_data_has_is_found_before_the_training() -> None:
    with pytest.raises(ConfigError, match="no loader holds its label 'mood'"):
        make_model().check_tasks([sources("text", "topic_label", split="train")])


def test_a_head_without_a_loss_in_training_is_an_error_where_it_is_named() -> None:
    model = make_model()
    batch = make_batch()
    del batch["topic_label"]
    with pytest.raises(ConfigError) as caught:
        model.run(Batch(batch, tasks={"topic": None}), train=True)
    assert str(caught.value).startswith("head 'topic' returns no 'loss' for a batch that is trained on, only 'logits'")
    assert caught.value.path == ("model", "heads", "topic")
    del batch["mood"]
    with pytest.raises(ConfigError, match="no head gives a loss for a batch that is trained on"):
        model.run(Batch(batch), train=True)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (torch.zeros(2), "head 'head' returns a Tensor, no mapping with its own 'loss'; set 'loss'"),
        ({"loss": torch.zeros(2)}, "must be a tensor without dimensions, not a tensor of shape (2,)"),
        ({"loss": 0.5}, "must be a tensor without dimensions, not a float"),
    ],
    ids=["tensor", "rows", "float"],
)
def test_a_head_that_returns_no_loss_is_told_what_it_returns(told: Any, says: str) -> None:
    class Wrong(Told):
        def forward(self, encoded: Tensor) -> Any:
            return told

    with pytest.raises(ConfigError) as caught:
        build(Wrong()).run(Batch({"text": TEXT}), train=True)
    assert says in str(caught.value)


def test_probabilities_that_a_head_does_not_tell_are_an_error_where_somebody_asks() -> None:
    class Silent(Told):
        def forward(self, encoded: Tensor) -> dict[str, Tensor]:
            return self.tell({})

    model = build(Head(Silent(), label="y", metrics=["accuracy"]))
    with pytest.raises(ConfigError, match="head 'head': there are neither 'probs' nor 'logits'") as caught:
        model.score({"valid": [{"text": TEXT, "y": torch.tensor([0, 1])}]})
    assert caught.value.path == ("model", "heads", "head", "output")
