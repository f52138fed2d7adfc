"""Backbone, heads, their losses, and which rows reach which head."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl import BackboneHeadsModel, Batch, DataError, Head, MainLoop
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.hooks import Evaluate, SaveBest, ScoreTasks, StopAfter, WriteJSON, WritePredictions
from emloop_mtl.testing import SaveAndFail
from emloop_mtl.utils.random import seed_everything

from .heads import Classifier, Encoder, Reviews, make_batch, make_model

# ------------------------------------------------------------------------------------------------------- the losses


def by_hand(model: BackboneHeadsModel, batch: dict[str, Any], weights: dict[str, float]) -> Tensor:
    """Return the loss of all rows as the plain formula of the network says."""
    network = model.network
    encoded = network["backbone"](batch["text"])["encoded"]
    topic = functional.cross_entropy(network["topic"].layer(encoded), batch["topic_label"])
    mood = functional.cross_entropy(network["mood"](encoded), batch["mood"])
    return weights.get("topic", 1.0) * topic + weights.get("mood", 1.0) * mood


@pytest.mark.parametrize("weights", [{}, {"topic": 2.0}, {"topic": 0.0, "mood": 0.5}], ids=str)
def test_a_training_is_that_of_the_same_network_in_a_plain_loop(weights: dict[str, float]) -> None:
    settings = {"optimizer": {"class": "adam", "lr": 0.01}, "update": {"clip_norm": 0.1}}
    ours = make_model(loss_weights=weights, **settings)
    theirs = make_model()
    for model in (ours, theirs):
        model.network.double()
    parameters = list(theirs.network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for step in range(5):
        batch = make_batch(seed=step)
        batch["text"] = batch["text"].double()
        outputs = ours.run(Batch(batch), train=True)
        loss = by_hand(theirs, batch, weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        optimizer.step()
        # Equal operations in float64; only the order in which gradients are added up may differ.
        assert outputs["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    for one, other in zip(ours.network.parameters(), parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_loss_weight_is_a_learning_rate_of_the_head() -> None:
    weighted, faster = make_model(loss_weights={"mood": 3.0}), make_model()
    before = faster.network["mood"].weight.detach().clone()
    for model in (weighted, faster):
        model.run(Batch(make_batch()), train=True)
    moved = faster.network["mood"].weight - before
    # One step of SGD in float32: 3 times the gradient is rounded otherwise than 3 times the step.
    torch.testing.assert_close(weighted.network["mood"].weight, before + 3 * moved, rtol=1e-5, atol=1e-6)


def test_the_losses_are_outputs_under_the_names_of_the_heads() -> None:
    model, batch = make_model(loss_weights={"topic": 2.0}), make_batch()
    outputs = model.run(Batch(batch), train=False)
    # The sum is one of float32.
    assert outputs["loss"].item() == pytest.approx(2 * outputs["topic/loss"].item() + outputs["mood/loss"].item())
    assert {"loss", "topic/loss", "mood/loss", "mood/prob", "topic/pred"} <= outputs.keys()
    assert set(model.state_dict()) == {
        *("backbone.layer.weight", "backbone.layer.bias", "topic.layer.weight", "topic.layer.bias"),
        *("mood.weight", "mood.bias"),
    }


def test_windows_of_several_steps_and_half_precision_work_as_with_any_model() -> None:
    model = make_model(update={"accumulate": 2}, precision="bf16")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.run(Batch(make_batch()), train=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    outputs = model.run(Batch(make_batch(seed=1)), train=True)
    assert not any(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert outputs["topic/loss"].dtype == outputs["loss"].dtype == torch.float32


# ------------------------------------------------------------------------------------------------- rows of the heads


@pytest.mark.parametrize(
    "told",
    [
        lambda numbers: [("topic", "mood")[number] for number in numbers],
        lambda numbers: list(numbers),
        lambda numbers: torch.tensor(numbers),
        lambda numbers: torch.tensor(numbers, dtype=torch.int32).unsqueeze(1),
        lambda numbers: torch.tensor(numbers).numpy(),
    ],
    ids=["names", "numbers", "tensor", "column", "array"],
)
def test_only_the_rows_of_a_head_reach_it(told: Callable[[list[int]], Any]) -> None:
    model, batch = make_model(), make_batch()
    whole = model.run(Batch(batch), train=False)
    model.get_metrics(reset=True)
    numbers = [0, 1, 0, 0, 1, 0]
    outputs = model.run(Batch({**batch, "task": told(numbers)}), train=False)
    assert model.network["topic"].seen == [4]
    topic, mood = (torch.tensor([row for row, number in enumerate(numbers) if number == n]) for n in (0, 1))
    encoded = model.network["backbone"](batch["text"])["encoded"]
    logits = {"topic": model.network["topic"].layer(encoded), "mood": model.network["mood"](encoded)}
    # Of all rows and of some the same is computed, but not by the same operations in float32.
    expected = functional.cross_entropy(logits["topic"][topic], batch["topic_label"][topic])
    assert outputs["topic/loss"].item() == pytest.approx(expected.item())
    expected = functional.cross_entropy(logits["mood"][mood], batch["mood"][mood])
    assert outputs["mood/loss"].item() == pytest.approx(expected.item())
    assert torch.equal(outputs["mood/pred"][mood], whole["mood/pred"][mood])
    assert outputs["mood/prob"].shape == whole["mood/prob"].shape


@pytest.mark.parametrize("seed", range(10))
def test_each_row_is_to_its_head_what_it_would_be_alone(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    heads = {name: Head(nn.Linear(6, 2), loss="cross_entropy", label="mood", missing_label=-100) for name in "abc"}
    heads["own"] = Head(Classifier(classes=2))
    mapping = {**{name: {"encoded": "input"} for name in "abc"}, "own": {"mood": "label"}}
    torch.manual_seed(seed)
    model = BackboneHeadsModel(Encoder(), heads, arg_name_mapping=mapping, device="cpu")
    batch = make_batch(9, seed)
    numbers = torch.randint(4, (9,), generator=generator)
    missing = (torch.rand(9, generator=generator) < 0.3) & (numbers < 3)
    batch["mood"][missing] = -100
    outputs = model.run(Batch({**batch, "task": numbers}), train=False)
    losses: dict[str, list[float]] = {}
    for row, name in enumerate(list(heads)[number] for number in numbers):
        alone = {key: value[row : row + 1] for key, value in batch.items()}
        told = model.run(Batch({**alone, "task": [name]}), train=False)
        # One row at a time is multiplied by the weights in another order.
        torch.testing.assert_close(outputs[f"{name}/prob"][row], told[f"{name}/prob"][0])
        if not missing[row]:
            losses.setdefault(name, []).append(told[f"{name}/loss"].item())
    for name, found in losses.items():
        # A mean in float32, and one of float32 losses in float64.
        assert outputs[f"{name}/loss"].item() == pytest.approx(sum(found) / len(found), rel=1e-5)
    present = {list(heads)[number] for number in numbers}
    assert {key.removesuffix("/loss") for key in outputs if key.endswith("/loss")} == present
    total = sum(outputs[f"{name}/loss"].item() for name in present)
    assert outputs["loss"].item() == pytest.approx(total, rel=1e-5)  # likewise


def test_an_update_with_numbers_that_are_not_finite_is_left_out() -> None:
    model = make_model(update={"on_nan": "skip"})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    broken = make_batch()
    broken["text"][2] = float("nan")
    model.run(Batch({**broken, "task": [0, 1, 0, 1, 0, 1]}), train=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model.run(Batch({**make_batch(), "task": [0, 1, 0, 1, 0, 1]}), train=True)
    assert not any(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_head_without_rows_is_not_run_and_does_not_learn() -> None:
    model = make_model(optimizer={"class": "adam", "weight_decay": 0.1})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outputs = model.run(Batch({**make_batch(), "task": ["topic"] * 6}), train=True)
    assert "mood/loss" not in outputs
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if not name.startswith("mood")}


def test_a_batch_without_the_field_goes_to_the_heads_whose_inputs_it_holds() -> None:
    model = make_model()
    batch = make_batch()
    del batch["mood"]
    outputs = model.run(Batch(batch), train=True)
    assert "topic/loss" in outputs
    assert "mood/loss" not in outputs


def test_missing_labels_of_a_heads_rows_do_not_count() -> None:
    torch.manual_seed(0)
    mood = Head(nn.Linear(6, 2), loss="cross_entropy", missing_label=-100, metrics=["accuracy"])
    mapping = {"mood": {"encoded": "input"}, "topic": {"topic_label": "label"}}
    model = BackboneHeadsModel(Encoder(), {"topic": Classifier(), "mood": mood}, arg_name_mapping=mapping, device="cpu")
    batch = make_batch()
    batch["mood"][[1, 3]] = -100
    batch["task"] = ["topic", "mood", "mood", "mood", "mood", "topic"]
    outputs = model.run(Batch(batch), train=False)
    logits = model.network["mood"](model.network["backbone"](batch["text"])["encoded"])
    expected = functional.cross_entropy(logits[[2, 4]], batch["mood"][[2, 4]])
    assert outputs["mood/loss"].item() == pytest.approx(expected.item())
    predicted = model.predict([batch])["mood"]
    assert predicted.uids == [1, 2, 3, 4]
    assert predicted.is_labelled.tolist() == [False, True, False, True]
    scores = model.score({"valid": [batch]})
    right = (logits.argmax(1) == batch["mood"])[[2, 4]].float().mean().item()
    assert scores["mood/data/valid/accuracy"] == right
    assert scores["mood/data/valid/loss"] == pytest.approx(expected.item())  # a mean in float64


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (["topic", "mod", "mood"], "source 'task': row 1 is for head 'mod', which there is not; did you mean 'mood'?"),
        ([0, 1, 2], "source 'task': row 2 is for head number 2, which there is not; heads are 0: topic, 1: mood"),
        ([0, -1, 1], "row 1 is for head number -1"),
        ([0.0, 1.0, 1.0], "must hold the name of a head for each row, or its number, not torch.float"),
        (torch.zeros(3, 2, dtype=torch.long), "one head for each row, not values of shape (3, 2)"),
        ([0, 1], "source 'task' must hold the head of each of 3 rows, not 2 values"),
        (torch.tensor(1), "source 'task' must hold the head of each of 3 rows, not a Tensor"),
        (None, "source 'task' must hold the head of each of 3 rows, not a NoneType"),
        (["topic", 1, "mood"], "row 1 is for head 1, which there is not"),
    ],
    ids=["name", "number", "negative", "float", "table", "short", "scalar", "none", "mixed"],
)
def test_a_field_that_names_no_head_is_an_error(field: Any, says: str) -> None:
    model = make_model()
    with pytest.raises(DataError) as caught:
        model.run(Batch({**make_batch(3), "task": field}), train=True)
    assert says in str(caught.value)


def test_a_row_of_a_head_that_its_loader_has_not_is_an_error() -> None:
    batch = Batch({**make_batch(3), "task": [0, 0, 1]}, tasks={"topic": None})
    with pytest.raises(DataError, match="row 2 is for head 'mood', but the loader has only topic"):
        make_model().prepare(batch)


def test_a_source_of_that_name_may_be_something_else() -> None:
    model = make_model(task_source=None)
    assert model.run(Batch({**make_batch(), "task": [7] * 6}), train=False)["topic/loss"].isfinite()


def test_lists_of_a_source_are_shared_out_as_well() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.words: list[str] = []

        def forward(self, encoded: Tensor, words: list[str]) -> dict[str, Any]:
            self.words = words
            lengths = torch.tensor([float(len(word)) for word in words])
            return {"loss": self.scale * (lengths + encoded.sum(1)).mean(), "tagged": [f"<{word}>" for word in words]}

    words = Words()
    model = BackboneHeadsModel(Encoder(), {"words": words, "topic": Classifier()}, device="cpu")
    batch = {"text": torch.randn(4, 4), "words": ["a", "bb", "ccc", "dddd"], "label": torch.tensor([0, 1, 2, 0])}
    outputs = model.run(Batch({**batch, "task": ["topic", "words", "topic", "words"]}), train=True)
    assert words.words == ["bb", "dddd"]
    assert outputs["words/tagged"] == [None, "<bb>", None, "<dddd>"]


# ----------------------------------------------------------------------------------------------- metrics and outputs


def test_metrics_of_heads_are_collected_by_name_and_reset() -> None:
    model = make_model()
    assert model.get_metrics() == {}
    model.run(Batch(make_batch()), train=False)
    found = model.get_metrics(reset=True)
    assert list(found) == ["topic/accuracy"]
    assert 0 <= found["topic/accuracy"] <= 1
    assert model.network["topic"].seen == []
    assert model.get_metrics() == {}  # no head was run since then
    model.run(Batch({**make_batch(), "task": ["mood"] * 6}), train=False)
    assert model.get_metrics() == {}


def test_outputs_are_made_human_readable_by_the_head_that_they_are_of() -> None:
    model = make_model()
    outputs = model.run(Batch(make_batch()), train=False)
    readable = model.make_output_human_readable(outputs)
    assert readable.keys() - outputs.keys() == {"topic/word"}
    assert readable["topic/word"] == ["abc"[number] for number in outputs["topic/pred"].tolist()]
    assert torch.equal(readable["backbone/encoded"], outputs["backbone/encoded"])


def test_a_head_tells_probabilities_by_its_own_or_of_its_logits() -> None:
    model = make_model()
    outputs = model.run(Batch(make_batch()), train=False)
    assert torch.equal(outputs["topic/prob"], outputs["topic/logits"].softmax(1))
    assert torch.equal(outputs["topic/pred"], outputs["topic/logits"].argmax(1))


def test_data_without_labels_are_predicted() -> None:
    model = make_model()
    batch = {"text": torch.randn(5, 4)}
    outputs = model.run(Batch(batch), train=False)
    assert not [name for name in outputs if name.endswith("/loss")]
    predicted = model.predict([batch])
    assert predicted["topic"].probs.shape == (5, 3)
    assert predicted["mood"].preds.shape == (5,)


def test_a_head_without_probabilities_predicts_nothing_but_runs() -> None:
    class Silent(nn.Module):
        def forward(self, encoded: Tensor) -> dict[str, Tensor]:
            return {"loss": encoded.pow(2).mean()}

    model = BackboneHeadsModel(Encoder(), {"silent": Silent()}, device="cpu")
    predicted = model.predict([{"text": torch.randn(3, 4)}])["silent"]
    assert (len(predicted), predicted.probs, predicted.preds) == (3, None, None)


# --------------------------------------------------------------------------------------------------- in the main loop


def train(folder: Path, numbered: bool = True, fail_at: int | None = None, resume: bool = False) -> MainLoop:
    """Train for three epochs, the heads of the rows told by number or by name, or until a given moment."""
    model = make_model(optimizer={"class": "adam", "lr": 0.02}, update={"accumulate": 2}, loss_weights={"mood": 0.5})
    seed_everything(1)
    end = SaveAndFail(every=1000 if fail_at is None else fail_at - 1, fail_at=fail_at)
    hooks = [
        Evaluate(streams=["valid"]),
        ScoreTasks(),
        SaveBest(stream="valid", variable="mood/reviews/accuracy", mode="max", output_dir=str(folder)),
        WriteJSON(path="metrics.jsonl", output_dir=str(folder)),
        WritePredictions(streams=["valid"], path="rows.jsonl", output_dir=str(folder)),
        end,
        StopAfter(epochs=3),
    ]
    loop = MainLoop(model, Reviews(numbered), hooks, output_dir=str(folder))
    if resume:
        loop.restore(newest_checkpoint(folder / "checkpoints", "latest"))
    if fail_at is None:
        loop.run_training()
    else:
        with pytest.raises(RuntimeError, match="failed at moment"):
            loop.run_training()
    return loop


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, tuple[Path, MainLoop]]:
    """By whether heads are told by number: a training that nothing has disturbed, and its folder."""
    folders = {numbered: tmp_path_factory.mktemp("whole") for numbered in (True, False)}
    return {numbered: (folder, train(folder, numbered)) for numbered, folder in folders.items()}


# Of 33 moments: the middle of an evaluation, of an epoch in an open window, the end of an epoch, and a late one.
@pytest.mark.parametrize(("moment", "numbered"), [(2, True), (7, False), (13, True), (30, False)])
def test_a_training_that_broke_off_goes_on_exactly_where_it_was(
    whole_runs: dict[bool, tuple[Path, MainLoop]], tmp_path: Path, moment: int, numbered: bool
) -> None:
    folder, whole = whole_runs[numbered]
    train(tmp_path, numbered, fail_at=moment)
    resumed = train(tmp_path, numbered, resume=True)
    assert resumed.position == whole.position
    ours, theirs = resumed.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for name in ("metrics.jsonl", "rows.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_files_of_predictions_have_a_row_only_for_the_head_that_a_row_is_for(
    whole_runs: dict[bool, tuple[Path, MainLoop]],
) -> None:
    folder, _ = whole_runs[True]
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [row["task"] for row in rows] == [("topic", "mood")[row % 3 == 0] for row in range(20)]
    assert all(row["label"] is not None for row in rows if row["task"] == "mood")


def test_names_and_numbers_of_heads_are_the_same_to_a_training(whole_runs: dict[bool, tuple[Path, MainLoop]]) -> None:
    first, second = (loop.model.state_dict() for _, loop in whole_runs.values())
    assert all(torch.equal(first[name], second[name]) for name in first)


class Uncounted(Classifier):
    """Does not look at what it has got right."""

    def forward(self, encoded: Tensor, label: Tensor | None = None) -> dict[str, Any]:
        logits = self.layer(encoded)
        return {"logits": logits} if label is None else {"loss": functional.cross_entropy(logits, label)}


def test_a_step_on_rows_that_were_told_apart_waits_for_no_device(no_waiting: Any) -> None:
    mapping = {"mood": {"encoded": "input"}, "topic": {"topic_label": "label"}}
    heads = {"topic": Uncounted(), "mood": Head(nn.Linear(6, 2), loss="cross_entropy", missing_label=-100)}
    model = BackboneHeadsModel(Encoder(), heads, arg_name_mapping=mapping, device="cpu")
    batches = [model.prepare(Batch({**make_batch(), "task": [0, 1, 0, 1, 1, number]})) for number in (0, 1)]
    with no_waiting():
        losses = [model.run(batch, train=True)["loss"] for batch in batches]
    assert torch.stack(losses).isfinite().all()
