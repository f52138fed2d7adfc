"""What heads have in common with all tasks: metrics, outputs, labels that loaders name, copies and changes."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl import (
    AbstractDataset,
    BackboneHeadsModel,
    Batch,
    ColumnDataset,
    ConfigError,
    Head,
    MainLoop,
    Task,
    TaskLoader,
)
from emloop_mtl.hooks import StopAfter

from .heads import Classifier, Encoder, make_batch, make_model


def build(head: nn.Module | Head, **settings: Any) -> BackboneHeadsModel:
    torch.manual_seed(0)
    return BackboneHeadsModel(Encoder(), {"head": head}, device="cpu", **settings)


def test_a_head_that_computes_its_loss_is_scored_like_any_task() -> None:
    head = Head(Classifier(), label="label", metrics=["accuracy", "f1_macro"], num_classes=3)
    model = build(head)
    batch = {"text": torch.randn(8, 4), "label": torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])}
    scores = model.score({"valid": [batch]})
    preds = model.predict([batch])["head"].preds
    assert scores["head/data/valid/accuracy"] == (preds == batch["label"].numpy()).mean()
    # One is a mean in float32, the other in float64.
    assert scores["head/data/valid/loss"] == pytest.approx(model.run(batch, train=False)["head/loss"].item())
    assert "head/data/valid/f1_macro" in scores


def test_keys_of_a_head_are_outputs_where_somebody_reads_them() -> None:
    model = build(Head(Classifier(), outputs=["logits"]))
    assert "head/logits" in model.output_names

    class Stream:
        name, walk, is_undisturbed = "valid", None, False
        outputs = frozenset({"head/logits"})

    batch = {"text": torch.randn(3, 4), "task": ["head", "head", "head"]}
    assert set(model.run(batch, False, Stream())) == {"loss", "head/logits"}  # type: ignore[arg-type]
    Stream.outputs = frozenset()
    assert set(model.run(batch, False, Stream())) == {"loss"}  # type: ignore[arg-type]


class Unsure(Classifier):
    """Returns what its source does not tell."""

    def forward(self, encoded: Tensor, label: Tensor | None = None) -> dict[str, Any]:
        return dict(super().forward(encoded, label))


def test_a_key_that_a_head_does_not_return_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'lgits' among what Classifier returns; did you mean 'logits'") as caught:
        build(Head(Classifier(), outputs=["lgits"]))
    assert caught.value.path == ("heads", "head", "outputs", 0)
    with pytest.raises(ConfigError, match="head 'head': Linear returns one value, no mapping") as caught:
        build(Head(nn.Linear(6, 2), loss="cross_entropy", outputs=["logits"]))
    assert caught.value.path == ("heads", "head", "outputs")


def test_a_key_that_a_head_does_not_return_is_an_error_at_the_first_batch_where_its_source_does_not_tell() -> None:
    model = build(Head(Unsure(), outputs=["lgits"]))
    with pytest.raises(ConfigError, match="head 'head': outputs: there is no 'lgits' among 'logits'") as caught:
        model.run({"text": torch.randn(3, 4)}, train=False)
    assert caught.value.path == ("model", "heads", "head", "outputs")


def test_a_loader_names_the_heads_and_the_sources_of_their_labels() -> None:
    model = make_model()
    batch = make_batch()
    batch["feeling"] = batch.pop("mood")
    data = ColumnDataset(
        "d", {"text": batch["text"], "topic_label": batch["topic_label"]}, {"feeling": batch["feeling"]}
    )
    loader = TaskLoader(data, {"mood": "feeling"}, split="valid", batch_size=6)
    model.check_sources(next(iter(loader)))
    model.check_tasks([next(iter(loader))])  # which has no source ``mood``, as its labels would be called otherwise
    scores = model.score(loader)
    assert "mood/d/valid/accuracy" in scores
    assert not [name for name in scores if name.startswith("topic")]
    assert model.network["topic"].seen == []


def test_a_label_that_a_head_names_and_no_data_has_is_an_error_though_a_loader_names_another() -> None:
    head = Head(nn.Linear(6, 2), label="mod", loss="cross_entropy")
    model = build(head, arg_name_mapping={"head": {"encoded": "input"}})
    with pytest.raises(ConfigError, match="no loader holds its label 'mod'; did you mean 'mood'"):
        model.check_tasks([Batch(dict.fromkeys(["text", "mood"]), tasks={"head": "mood"})])


@pytest.mark.parametrize("label", ["mod", None], ids=["given", "by its name"])
def test_a_head_that_no_loader_names_is_told_of_with_a_label_that_no_data_has(
    label: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    extra = Head(nn.Linear(6, 2), label=label, loss="cross_entropy")
    mapping = {"topic": {"topic_label": "label"}, "extra": {"encoded": "input"}}
    model = BackboneHeadsModel(
        Encoder(), {"topic": Classifier(), "extra": extra}, arg_name_mapping=mapping, device="cpu"
    )
    model.check_tasks([Batch(dict.fromkeys(["text", "topic_label", "mood"]), tasks={"topic": None})])
    told = "no loader names the task 'extra', so it is neither trained nor evaluated"
    # Without one, that there may be data of it is only the name's guess.
    hint = "; no loader holds its label 'mod'; did you mean 'mood'?" if label else ""
    assert caplog.messages == [told + hint]


def test_a_loss_may_be_a_function_of_all_outputs_and_have_parameters() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output: Tensor, label: Tensor) -> Tensor:
            return self.scale * functional.cross_entropy(output, label)

    def own(outputs: Any, label: Tensor) -> Tensor:
        assert outputs["backbone"]["encoded"].shape == (len(label), 6)
        return functional.cross_entropy(outputs["b"], label)

    heads = {name: Head(nn.Linear(6, 3), label="y", loss=loss) for name, loss in (("a", Scaled()), ("b", own))}
    mapping = {name: {"encoded": "input"} for name in heads}
    model = BackboneHeadsModel(Encoder(), heads, arg_name_mapping=mapping, device="cpu")
    before = model.state_dict()["a_loss.scale"].clone()
    batch = {"text": torch.randn(6, 4), "y": torch.tensor([0, 1, 2, 0, 1, 2]), "task": [0, 1, 1, 0, 1, 1]}
    outputs = model.run(batch, train=True)
    assert outputs["b/loss"].isfinite()
    assert not torch.equal(model.state_dict()["a_loss.scale"], before)


def test_rows_that_a_loader_has_chosen_are_all_that_a_heads_own_loss_sees() -> None:
    model, batch = make_model(), make_batch()
    rows = torch.tensor([0, 4])
    tasks = {"topic": "topic_label"}
    chosen = Batch(batch, tasks=tasks, rows={"topic": rows})
    part = Batch({name: value[rows] for name, value in batch.items()}, tasks=tasks)
    losses = [model.run(each, train=False)["topic/loss"].item() for each in (chosen, part)]
    assert losses[0] == pytest.approx(losses[1])  # the backbone is run on all rows, or on two, in float32
    assert model.network["topic"].seen == [2, 2]


def test_a_model_can_be_copied_and_its_network_pickled() -> None:
    model, batch = make_model(), make_batch()
    expected = model.run(Batch(batch), train=False)["mood/prob"]
    twin = copy.deepcopy(model)
    model.run(Batch(batch), train=True)
    assert torch.equal(twin.run(Batch(batch), train=False)["mood/prob"], expected)
    network = pickle.loads(pickle.dumps(twin.network))  # noqa: S301 - it was written here
    assert torch.equal(network(batch, tasks=["mood"])["mood"].softmax(1), expected)


def test_a_head_that_is_removed_takes_its_module_along_and_a_plain_task_is_none() -> None:
    model = make_model()
    model.network.remove_task("topic")
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "mood"}
    assert "mood/loss" in model.run(Batch(make_batch()), train=False)
    task = Task("new", {"new": nn.Linear(4, 2)}, [{"name": "n", "module": "new", "inputs": "text"}])
    for change in (model.network.add_tasks, model.add_tasks):
        with pytest.raises(ConfigError, match="task 'new' is no head of this model; give its module to add_head"):
            change(task)


@pytest.mark.parametrize("stack_tasks", [True, False])
def test_a_head_that_is_added_between_two_steps_trains_as_if_it_had_been_there(stack_tasks: bool) -> None:
    def twin(names: str) -> BackboneHeadsModel:
        torch.manual_seed(0)
        made = {name: Head(nn.Linear(6, 2), loss="cross_entropy", label="mood") for name in "abcd"}
        mapping = {name: {"encoded": "input"} for name in names}
        heads = {name: made[name] for name in names}
        options = {"optimizer": {"class": "sgd", "lr": 0.1}, "device": "cpu", "stack_tasks": stack_tasks}
        return BackboneHeadsModel(Encoder(), heads, None, mapping, **options)  # type: ignore[arg-type]

    early, late = twin("abcd"), twin("abc")
    late.load_state_dict({name: value for name, value in early.state_dict().items() if not name.startswith("d.")})
    first = {"tasks": dict.fromkeys("abc", "mood")}
    for model in (early, late):
        model.run(Batch(make_batch(), **first), train=True)
    head = Head(nn.Linear(6, 2), loss="cross_entropy", label="mood")
    head.module.load_state_dict(early.network["d"].state_dict())
    late.add_head("d", head, weight=1.0, arg_name_mapping={"encoded": "input"})
    for seed in (1, 2):
        for model in (early, late):
            model.run(Batch(make_batch(seed=seed), tasks=dict.fromkeys("abcd", "mood")), train=True)
    for name, value in early.state_dict().items():
        # Which heads run as one may differ, and with it the last digits of float32.
        torch.testing.assert_close(late.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    late.remove_task("a")
    late.update_head("b", Classifier(classes=2), 0.5, {"mood": "label"})
    outputs = late.run(Batch(make_batch()), train=True)
    losses = {name: outputs[f"{name}/loss"].item() for name in "bcd"}
    # The sum is one of float32.
    assert outputs["loss"].item() == pytest.approx(0.5 * losses["b"] + losses["c"] + losses["d"])
    assert "a/loss" not in outputs


def test_a_head_that_cannot_be_added_changes_nothing() -> None:
    model = make_model()
    before = set(model.state_dict())
    for name, head, mapping, says in (
        ("new", nn.Linear(6, 2), {}, "computes no loss of its own"),
        ("new", Classifier(), {"topic_label": "lable"}, "head 'new' takes no argument 'lable'; did you mean 'label'?"),
        ("mood", Classifier(), {}, "there are two tasks called 'mood'"),
        ("backbone", Classifier(), {}, "'backbone' cannot name a head"),
    ):
        with pytest.raises(ConfigError, match=re.escape(says)):
            model.add_head(name, head, arg_name_mapping=mapping)
    with pytest.raises(ConfigError, match="the model has no task 'new'"):
        model.update_head("new", Classifier())
    assert set(model.state_dict()) == before
    assert model.run(Batch(make_batch()), train=True)["loss"].isfinite()


class Unlabelled(AbstractDataset):
    """Batches that hold the labels of ``topic`` under a name that nobody maps, and those of ``mood``."""

    def train_stream(self) -> Any:
        for seed in range(2):
            batch = make_batch(seed=seed)
            batch["topic_lable"] = batch.pop("topic_label")
            yield batch


def test_a_head_that_never_gets_labels_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    MainLoop(make_model(), Unlabelled(), [StopAfter(epochs=2)], on_unused_sources="ignore").run_training()
    said = [record.getMessage() for record in caplog.records if "learns nothing" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("head 'topic' is trained on batches that hold no labels for it, or under another name")
    assert said[0].endswith("see arg_name_mapping.topic")


class Detached(Classifier):
    """Returns a loss that nothing can be learnt from."""

    def forward(self, encoded: Tensor, label: Tensor | None = None) -> dict[str, Any]:
        return {name: value.detach() for name, value in super().forward(encoded, label).items()}


def test_a_head_whose_loss_has_no_gradient_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    heads: dict[str, nn.Module | Head] = {"topic": Detached(), "mood": Head(nn.Linear(6, 2), loss="cross_entropy")}
    heads["frozen"] = Classifier().requires_grad_(False)
    mapping = {"topic": {"topic_lable": "label"}, "mood": {"encoded": "input"}, "frozen": {"topic_lable": "label"}}
    model = BackboneHeadsModel(Encoder().requires_grad_(False), heads, arg_name_mapping=mapping, device="cpu")
    MainLoop(model, Unlabelled(), [StopAfter(epochs=2)], on_unused_sources="ignore").run_training()
    said = [record.getMessage() for record in caplog.records if "learns nothing" in record.getMessage()]
    assert said == [
        "head 'topic' returns a 'loss' without a gradient, as of a tensor that was detached, and learns nothing so far"
    ]


class Lossy(nn.Module):
    def forward(self, input: Tensor) -> dict[str, Tensor]:
        return {"loss": input.square().mean()}


def test_a_sequence_that_ends_in_a_module_with_a_loss_computes_it() -> None:
    model = build(nn.Sequential(nn.Linear(6, 2), Lossy()), arg_name_mapping={"head": {"encoded": "input"}})
    assert model.run({"text": torch.randn(3, 4)}, train=True)["head/loss"] > 0


def test_what_a_wrapped_backbone_returns_is_not_guessed() -> None:
    wrapped = nn.DataParallel(Encoder())
    heads = {"head": Classifier()}
    model = BackboneHeadsModel(wrapped, heads, allowed_arguments={"backbone": ["text"]}, device="cpu")
    model.check_sources(Batch({"text": None}, tasks={"head": None}))
    assert model.run({"text": torch.randn(3, 4), "label": torch.tensor([0, 1, 2])}, train=True)["head/loss"] > 0


@pytest.mark.parametrize("rows", [0, 2])
def test_a_loss_of_a_head_itself_without_a_labelled_row_is_zero_and_spoils_no_other(rows: int) -> None:
    torch.manual_seed(0)
    other = Head(nn.Linear(6, 3), label="other", loss="cross_entropy")
    heads = {"head": Head(Classifier(), label="label", missing_label=-100), "other": other}
    mapping = {"other": {"encoded": "input"}}
    model = BackboneHeadsModel(Encoder(), heads, arg_name_mapping=mapping, device="cpu", optimizer="sgd")
    labels = {"label": torch.full((rows,), -100), "other": torch.zeros(rows, dtype=torch.long)}
    outputs = model.run({"text": torch.randn(rows, 4), **labels}, train=True)
    assert outputs["head/loss"] == 0
    assert outputs["loss"] == outputs["other/loss"]
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_weights_of_losses_that_are_all_zero_are_an_error_before_the_first_batch() -> None:
    model = build(Head(nn.Linear(6, 3), loss="cross_entropy"), loss_weights={"head": 0})
    with pytest.raises(ConfigError, match="^all losses are multiplied by 0.*set a weight that is not 0") as caught:
        model.check_tasks([])
    assert caught.value.path == ("loss_weights",)
