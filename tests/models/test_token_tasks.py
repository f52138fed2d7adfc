"""Tasks of tokens among others: as heads on a backbone, in mixed batches, resumed, and in files of predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl import (
    BackboneHeadsModel,
    ColumnDataset,
    Ensemble,
    Head,
    Interleaved,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    TaskLoader,
)
from emloop_mtl.hooks import Evaluate, ScoreTasks, StopAfter, WritePredictions
from emloop_mtl.models.prediction_rows import PredictionRows
from emloop_mtl.tasks import Action, Task

CLASSES = 4
MISSING = -100


def texts(seed: int, rows: int = 17, longest: int = 9) -> tuple[list[Tensor], list[Tensor]]:
    """Make words and tags of sequences; each sixth word has no tag."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (rows,), generator=generator).tolist()
    words = [torch.randint(1, 19, (length,), generator=generator) for length in lengths]
    return words, [torch.where(each % 6 == 0, MISSING, each % CLASSES) for each in words]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(20, 8)

    def forward(self, words: Tensor) -> dict[str, Tensor]:
        return {"vectors": self.vectors(words)}


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, vectors: Tensor, words_mask: Tensor) -> Tensor:
        found: Tensor = self.layer(vectors.masked_fill(words_mask.unsqueeze(2), 0).sum(1))
        return found


class Tagger(nn.Module):
    """Computes its own loss, from sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, CLASSES)

    def forward(self, vectors: Tensor, tags: Tensor | None = None, tags_mask: Tensor | None = None) -> dict[str, Any]:
        told: dict[str, Any] = {"logits": self.layer(vectors)}
        if tags is not None and tags_mask is not None:
            told["loss"] = functional.cross_entropy(
                told["logits"].transpose(1, 2), tags.masked_fill(tags_mask, MISSING)
            )
        return told


def by_settings() -> Head:
    return Head(
        nn.Linear(8, CLASSES), "tags", "cross_entropy", missing_label=MISSING, metrics=["accuracy"], tokens="words"
    )


def by_itself() -> Head:
    return Head(Tagger(), "tags", missing_label=MISSING, metrics=["accuracy"], tokens="words")


HEADS = {"settings": (by_settings, {"tag": {"vectors": "input"}}), "a loss of its own": (by_itself, {})}


@pytest.mark.parametrize("by_row", [False, True], ids=["all rows", "rows of heads"])
@pytest.mark.parametrize(("head", "mapping"), HEADS.values(), ids=HEADS.keys())
def test_a_head_has_labels_per_token_among_heads_that_have_them_per_row(head: Any, mapping: Any, by_row: bool) -> None:
    torch.manual_seed(0)
    words, tags = texts(0)
    heads = {"tag": head(), "topic": Head(Pooled(), loss="cross_entropy", metrics=["accuracy"])}
    model = BackboneHeadsModel(Encoder(), heads, arg_name_mapping=mapping, device="cpu")
    features: dict[str, Any] = {"words": words}
    about = list(range(len(words)))
    if by_row:
        features["task"] = ["tag" if row % 3 else "topic" for row in about]
        about = [row for row in about if row % 3]
    data = ColumnDataset("texts", features, {"tags": tags, "topic": torch.arange(len(words)) % 2})
    loader = TaskLoader(data, split="valid", batch_size=5)
    scores, predicted = model.score(loader), model.predict(loader)["tag"]
    backbone: Any = model.network["backbone"]
    layer: Any = getattr(model.network["tag"], "layer", model.network["tag"])
    with torch.no_grad():
        logits = [layer(backbone.vectors(words[row])) for row in about]
    gold = torch.cat([tags[row] for row in about])
    right = (torch.cat(logits).argmax(1) == gold)[gold != MISSING]
    assert scores["tag/texts/valid/accuracy"] == right.double().mean().item()
    assert predicted.preds is not None
    assert [each.tolist() for each in predicted.preds] == [each.argmax(1).tolist() for each in logits]
    # The losses of batches are float32: each is rounded by 6e-8 of its size.
    wanted = functional.cross_entropy(torch.cat(logits), gold).item()
    assert scores["tag/texts/valid/loss"] == pytest.approx(wanted, rel=1e-6)


class Two(MultiTaskDataset):
    """Sequences of two loaders, those of the second longer."""

    def loaders(self) -> list[TaskLoader]:
        made = []
        for name, label, seed, longest in (("first", "tags", 0, 4), ("second", "marks", 1, 9)):
            words, labels = texts(seed, longest=longest)
            data = ColumnDataset(name, {"words": words}, {label: labels})
            made.append(TaskLoader(data, {name: label}, batch_size=4))
        return made


def two_tasks() -> MultiTaskModel:
    torch.manual_seed(0)
    vectors = nn.Embedding(20, 8, dtype=torch.float64)
    tasks = [
        Task(
            name,
            {"vectors": vectors, f"{name}_head": nn.Linear(8, CLASSES, dtype=torch.float64)},
            [Action("encoded", "vectors", "words"), Action(f"{name}_out", f"{name}_head", "encoded")],
            label=label,
            tokens="words",
            loss="cross_entropy",
            missing_label=MISSING,
            metrics=["accuracy"],
        )
        for name, label in (("first", "tags"), ("second", "marks"))
    ]
    return MultiTaskModel(tasks, device="cpu", optimizer={"class": "sgd", "lr": 0.1})


def test_batches_that_mix_rows_of_several_tasks_count_the_tokens_of_each() -> None:
    model = two_tasks()
    apart = model.score({"train": Two().train_stream()})
    mixed = model.score({"train": Two(streams={"train": {"scheduler": Interleaved(batch_size=6)}}).train_stream()})
    # The same numbers in float64, added up in another order.
    assert mixed == pytest.approx(apart, rel=1e-12)


def test_a_file_of_predictions_has_lists_as_long_as_the_sequences(tmp_path: Path) -> None:
    words, tags = texts(0)

    class Texts(MultiTaskDataset):
        def loaders(self) -> list[TaskLoader]:
            data = ColumnDataset("texts", {"words": words}, {"tags": tags})
            return [TaskLoader(data, {"first": "tags"}, split=split, batch_size=4) for split in ("train", "valid")]

    hooks = [
        Evaluate(["valid"]),
        ScoreTasks(),
        WritePredictions(streams=["valid"], path="p.jsonl", output_dir=tmp_path),
    ]
    MainLoop(two_tasks(), Texts(), [*hooks, StopAfter(epochs=1)], output_dir=tmp_path).run_training()
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [len(row["pred"]) for row in rows] == list(map(len, words))
    assert [row["label"] for row in rows] == [[None if t == MISSING else t for t in each.tolist()] for each in tags]


def test_models_that_answer_together_tell_of_sequences_at_their_own_length() -> None:
    words, tags = texts(0)
    ensemble = Ensemble(models=[two_tasks(), two_tasks()])
    rows, taken = PredictionRows(), []
    loader = TaskLoader(
        ColumnDataset("texts", {"words": words}, {"tags": tags}), {"first": "tags"}, split="valid", batch_size=4
    )
    for batch in loader:
        prepared = ensemble.prepare(batch)
        prepared.update(ensemble.run(prepared, train=False))
        taken += rows.take(prepared)
    taken += rows.rest()
    assert [len(row["pred"]) for row in taken] == list(map(len, words))
    assert [row["label"] for row in taken] == [[None if t == MISSING else t for t in each.tolist()] for each in tags]
