"""A backbone, heads and data for the tests of models with a backbone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from emloop_mtl import BackboneHeadsModel, ColumnDataset, Head, MultiTaskDataset, TaskLoader


class Encoder(nn.Module):
    """Returns a mapping, whose keys its source tells."""

    def __init__(self, inputs: int = 4, width: int = 6) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, width)

    def forward(self, text: Tensor) -> dict[str, Tensor]:
        return {"encoded": torch.tanh(self.layer(text)), "length": text.abs().sum(1)}


class Classifier(nn.Module):
    """Computes its own loss where it gets labels, and counts what it has got right."""

    def __init__(self, classes: int = 3, width: int = 6) -> None:
        super().__init__()
        self.layer = nn.Linear(width, classes)
        self.seen: list[int] = []
        self.right = 0

    def forward(self, encoded: Tensor, label: Tensor | None = None) -> dict[str, Any]:
        logits = self.layer(encoded)
        told: dict[str, Any] = {"logits": logits}
        self.seen.append(len(encoded))
        if label is not None:
            told["loss"] = functional.cross_entropy(logits, label)
            self.right += int((logits.argmax(1) == label).sum())
        return told

    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        found = {"accuracy": self.right / max(1, sum(self.seen))}
        if reset:
            self.seen, self.right = [], 0
        return found

    def make_output_human_readable(self, outputs: dict[str, Any]) -> dict[str, Any]:
        return {"word": ["abc"[number] for number in outputs["logits"].argmax(1).tolist()]}


def make_model(seed: int = 0, **settings: Any) -> BackboneHeadsModel:
    """Make a model of an encoder, the head ``topic``, which computes its own loss, and ``mood``, a linear layer."""
    torch.manual_seed(seed)
    heads = {
        "topic": Classifier(),
        "mood": Head(nn.Linear(6, 2), loss="cross_entropy", metrics=["accuracy"]),
    }
    mapping = {"topic": {"topic_label": "label"}, "mood": {"encoded": "input"}}
    options = {"optimizer": {"class": "sgd", "lr": 0.1}, "device": "cpu", "arg_name_mapping": mapping, **settings}
    return BackboneHeadsModel(Encoder(), heads, **options)


def make_batch(rows: int = 6, seed: int = 0) -> dict[str, Any]:
    """Make a batch for both heads."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "text": torch.randn(rows, 4, generator=generator),
        "topic_label": torch.randint(3, (rows,), generator=generator),
        "mood": torch.randint(2, (rows,), generator=generator),
    }


class Reviews(MultiTaskDataset):
    """Rows of both heads in one loader, a third of them for ``mood``.

    :param numbered: whether the heads are told by number
    """

    def __init__(self, numbered: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self._numbered = numbered

    def loaders(self) -> Iterator[TaskLoader]:
        for split, rows in (("train", 40), ("valid", 20)):
            batch = make_batch(rows, seed=rows)
            heads = [int(row % 3 == 0) for row in range(rows)]
            features = {"text": batch["text"], "topic_label": batch["topic_label"]}
            features["task"] = torch.tensor(heads) if self._numbered else [("topic", "mood")[head] for head in heads]
            yield TaskLoader(ColumnDataset("reviews", features, {"mood": batch["mood"]}), split=split, batch_size=8)
