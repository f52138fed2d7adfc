"""A backbone and heads that torch compiles."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl import BackboneHeadsModel, Batch, ConfigError, Head

from .heads import Encoder, make_batch
from .test_compile import counting

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    # torch's own compiler imports parts of torch that warn of themselves.
    pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning"),
]


class Topic(nn.Module):
    """Computes its own loss where it gets labels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, encoded: Tensor, label: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layer(encoded)
        return (
            {"logits": logits} if label is None else {"logits": logits, "loss": functional.cross_entropy(logits, label)}
        )


def build(compile: Any = False, **settings: Any) -> BackboneHeadsModel:
    torch.manual_seed(0)
    heads: dict[str, nn.Module | Head] = {
        "topic": Topic(),
        "mood": Head(nn.Linear(6, 2), loss="cross_entropy", missing_label=-100),
    }
    mapping = {"topic": {"topic_label": "label"}, "mood": {"encoded": "input"}}
    options = {"optimizer": {"class": "sgd", "lr": 0.1}, "arg_name_mapping": mapping, **settings}
    return BackboneHeadsModel(Encoder(), heads, device="cpu", compile=compile, **options)


def batches(**more: Any) -> list[Batch]:
    return [Batch({**make_batch(seed=seed), **more}) for seed in range(4)]


def assert_equal_training(compiled: BackboneHeadsModel, plain: BackboneHeadsModel, given: list[Batch]) -> None:
    for batch in given:
        ours, theirs = (model.run(batch.copy(), train=True) for model in (compiled, plain))
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            # The graph's backward pass adds up in another order: units in the last digit of float32.
            torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6)


def test_backbone_and_heads_are_one_graph_with_the_numbers_of_those_that_are_not_compiled() -> None:
    compile = counting()
    assert_equal_training(build(compile), build(), batches())
    assert compile["backend"].frame_count == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def test_each_set_of_heads_and_of_sources_is_one_graph() -> None:
    compile = counting()
    model = build(compile)
    for _ in range(2):
        for tasks in ({"topic": None}, {"mood": "mood"}, {"topic": None, "mood": "mood"}):
            model.run(Batch(make_batch(), tasks=tasks), train=True)
        unlabelled = {"text": make_batch()["text"]}
        model.run(Batch(unlabelled), train=False)
    assert compile["backend"].frame_count == 4


def test_only_the_backbone_is_compiled_where_heads_get_rows_of_their_own() -> None:
    compile = counting()
    given = [Batch({**make_batch(seed=seed), "task": [int(row < seed + 1) for row in range(6)]}) for seed in range(4)]
    assert_equal_training(build(compile), build(), given)
    assert compile["backend"].frame_count == 1


def test_a_head_that_takes_all_there_is_is_run_without_being_compiled(caplog: pytest.LogCaptureFixture) -> None:
    class Anything(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, encoded: Tensor, **others: Any) -> dict[str, Tensor]:
            return {"loss": (self.scale * encoded).square().mean()}

    compile = counting()
    with caplog.at_level(logging.WARNING):
        model = BackboneHeadsModel(Encoder(), {"head": Anything()}, device="cpu", compile=compile)
        model.run(Batch({"text": torch.randn(2, 4), "uid": ["a", "b"]}), train=True)
    assert compile["backend"].frame_count == 0
    texts = [record.getMessage() for record in caplog.records]
    assert "compile: the flow of head is run without being compiled: a module gets the whole batch" in texts
    limited = BackboneHeadsModel(
        Encoder(), {"head": Anything()}, allowed_arguments={"head": ["encoded"]}, device="cpu", compile=compile
    )
    limited.run(Batch({"text": torch.randn(2, 4), "uid": ["a", "b"]}), train=True)
    assert compile["backend"].frame_count == 1


def test_mistakes_are_told_as_without_compiling() -> None:
    model = build({"backend": "eager"})
    with pytest.raises(ConfigError, match="the backbone: no source is called like its argument 'text'"):
        model.run(Batch({"txt": torch.randn(2, 4)}), train=False)
    overlapping = build({"backend": "eager"}, arg_name_mapping={"backbone": {"a": "text", "b": "text"}})
    with pytest.raises(ConfigError, match="'a' and 'b' both go to its argument 'text' in one batch"):
        overlapping.run(Batch({"a": torch.randn(2, 4), "b": torch.randn(2, 4)}), train=False)
    with pytest.raises(ConfigError, match="unknown argument 'fulgraph'") as caught:
        build({"fulgraph": True})
    assert caught.value.path == ("compile", "fulgraph")


@pytest.mark.soak
def test_torchs_own_compiler_makes_code_that_learns_the_same() -> None:
    plain, compiled = build(), build(compile=True)
    for batch in batches():
        losses = [model.run(batch.copy(), train=True)["loss"] for model in (plain, compiled)]
        # Operations are fused, which rounds otherwise in the last of float32's digits.
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
