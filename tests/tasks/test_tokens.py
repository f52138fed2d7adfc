"""Labels of the tokens of sequences: in losses, scores and predictions, padding and missing labels left out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Subset

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import ComputeStats, Evaluate, ScoreTasks, StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.models.prediction_rows import PredictionRows
from emloop_mtl.tasks import Action, Task
from emloop_mtl.tasks.tokens import Tokens

CLASSES = 4
MISSING = -100


def tag_task(**options: Any) -> Task:
    """Make a task whose logits of each token are a row of a table."""
    table = nn.Embedding(20, CLASSES, dtype=torch.float64)
    settings = {"label": "tags", "tokens": "words", "loss": "cross_entropy", "num_classes": CLASSES, **options}
    return Task("tag", {"table": table}, [Action("logits", "table", "words")], **settings)


def model_of(*tasks: Task, **options: Any) -> MultiTaskModel:
    return MultiTaskModel(tasks, device="cpu", **{"optimizer": {"class": "sgd", "lr": 0.1}, **options})


def texts(rows: int = 23, missing: float = 0.3, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Make words and tags of sequences of 1 to 9 tokens, some without tags."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (rows,), generator=generator).tolist()
    words = [torch.randint(1, 20, (length,), generator=generator) for length in lengths]
    tags = [torch.randint(CLASSES, (length,), generator=generator) for length in lengths]
    for tag in tags:
        tag[torch.rand(len(tag), generator=generator) < missing] = MISSING
    return words, tags


def loader_of(words: Any, tags: Any, batch_size: int = 5, split: str = "valid", **options: Any) -> TaskLoader:
    data = ColumnDataset("texts", {"words": words}, {"tags": tags}, **options)
    return TaskLoader(data, split=split, batch_size=batch_size)


def flat(sequences: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    return torch.cat([each[label != MISSING] for each, label in zip(sequences, labels, strict=True)])


def test_the_loss_is_the_mean_over_labelled_tokens() -> None:
    words, tags = texts()
    task = tag_task(missing_label=MISSING)
    batch = next(iter(loader_of(words, tags, batch_size=len(words))))
    loss = model_of(task).run(batch, train=False)["tag/loss"]
    wanted = functional.cross_entropy(task.modules["table"](flat(words, tags)), flat(tags, tags))
    assert torch.equal(loss, wanted.detach())


@pytest.mark.parametrize("batch_size", [1, 4, 23])
@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_scores_are_those_of_scikit_learn_on_labelled_tokens(batch_size: int, missing: float) -> None:
    words, tags = texts(missing=missing, seed=batch_size)
    names = ["accuracy", "f1_macro", "f1_weighted", "matthews_correlation", "log_loss", "roc_auc"]
    per_class = {"class": "recall", "average": "per_class"}
    cohen = "sklearn.metrics.cohen_kappa_score"
    task = tag_task(missing_label=MISSING, metrics=[*names, per_class, cohen, "accuracy@2", "brier_score"])
    scores = model_of(task).score({"valid": loader_of(words, tags, batch_size)})
    gold = flat(tags, tags).numpy()
    prob = torch.softmax(task.modules["table"](flat(words, tags)), 1).detach().numpy()
    pred = prob.argmax(1)
    wanted = {
        "accuracy": sklearn_metrics.accuracy_score(gold, pred),
        "f1_macro": sklearn_metrics.f1_score(gold, pred, average="macro"),
        "f1_weighted": sklearn_metrics.f1_score(gold, pred, average="weighted"),
        "matthews_corrcoef": sklearn_metrics.matthews_corrcoef(gold, pred),
        "log_loss": sklearn_metrics.log_loss(gold, prob, labels=range(CLASSES)),
        "roc_auc": sklearn_metrics.roc_auc_score(gold, prob, multi_class="ovr"),
        "cohen_kappa_score": sklearn_metrics.cohen_kappa_score(gold, pred),
        "accuracy@2": sklearn_metrics.top_k_accuracy_score(gold, prob, k=2),
        **{
            f"recall_of_{number}": score
            for number, score in enumerate(sklearn_metrics.recall_score(gold, pred, average=None))
        },
    }
    for name, value in wanted.items():
        # The probabilities of the task are float32, these are not: each logarithm differs by some 1e-7.
        assert scores[f"tag/texts/valid/{name}"] == pytest.approx(value, abs=1e-5), name


def test_the_loss_of_an_epoch_is_the_mean_over_all_tokens_however_they_are_split() -> None:
    words, tags = texts()
    task = tag_task(missing_label=MISSING)
    model = model_of(task)
    with torch.no_grad():
        wanted = functional.cross_entropy(task.modules["table"](flat(words, tags)), flat(tags, tags)).item()
    for batch_size in (1, 7):
        found = model.score({"valid": loader_of(words, tags, batch_size)})["tag/texts/valid/loss"]
        # The same numbers in float64, added up in another order.
        assert found == pytest.approx(wanted, rel=1e-12)


def test_gradients_come_from_labelled_tokens_alone() -> None:
    words, tags = [torch.tensor([1, 2]), torch.tensor([3])], [torch.tensor([0, MISSING]), torch.tensor([1])]
    task = tag_task(missing_label=MISSING)
    model = model_of(task, update={"accumulate": 2})
    model.run(next(iter(loader_of(words, tags))), train=True)
    gradient = model.gradients()["table.weight"]
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == [1, 3]  # neither 0, the padding, nor 2


def test_a_batch_without_labelled_tokens_has_a_loss_of_zero_and_does_not_count() -> None:
    words, tags = [torch.tensor([1, 2]), torch.tensor([3])], [torch.tensor([MISSING] * 2), torch.tensor([1])]
    model = model_of(tag_task(missing_label=MISSING, metrics=["accuracy"]))
    first, second = loader_of(words, tags, batch_size=1)
    assert model.run(first, train=True)["tag/loss"] == 0
    loss = model.run(second, train=False)["tag/loss"].item()
    assert model.score({"valid": loader_of(words, tags, batch_size=1)})["tag/texts/valid/loss"] == loss


def test_hooks_weigh_losses_by_labelled_tokens() -> None:
    words, tags = texts()

    class Texts(MultiTaskDataset):
        def loaders(self) -> list[TaskLoader]:
            return [loader_of(words, tags, split=split) for split in ("train", "valid")]

    model = model_of(tag_task(missing_label=MISSING, metrics=["accuracy"]))
    seen: dict[str, Any] = {}

    class Keep(StopAfter):
        def after_epoch(self, epoch_id: int, epoch_data: Any) -> None:
            seen.update({name: dict(page) for name, page in epoch_data.items()})
            super().after_epoch(epoch_id, epoch_data)

    hooks = [Evaluate(streams=["valid"]), ScoreTasks(), ComputeStats(variables=["tag/loss"]), Keep(epochs=1)]
    MainLoop(model, Texts(), hooks).run_training()
    # Means of the same losses, added up in another order.
    assert seen["valid"]["tag/loss"]["mean"] == pytest.approx(seen["valid"]["tag/texts/loss"], rel=1e-12)
    assert seen["valid"]["tag/texts/loss"] == model.score({"valid": Texts().valid_stream()})["tag/texts/valid/loss"]


@pytest.mark.parametrize(
    ("loss", "label", "width"),
    [
        ("bce_with_logits", torch.float32, 1),
        ("bce_with_logits", torch.bool, 1),
        ("mse", torch.float32, 1),
        (nn.CrossEntropyLoss(), torch.int64, 3),
        (nn.SmoothL1Loss(), torch.float32, 1),
    ],
    ids=["binary", "boolean", "values", "module of classes", "module of values"],
)
def test_losses_of_every_kind_take_tokens_as_rows(loss: Any, label: torch.dtype, width: int) -> None:
    words = [torch.tensor([1, 2, 3]), torch.tensor([4])]
    tags = [torch.tensor([0, 1, 1]).to(label), torch.tensor([1]).to(label)]
    table = nn.Embedding(9, width)
    flow = [Action("logits", "table", "words")]
    task = Task("tag", {"table": table}, flow, label="tags", tokens="words", loss=loss)
    (batch,) = loader_of(words, tags)
    out = model_of(task).run(batch, train=False)
    by_row = Task("tag", {"table": table}, flow, label="tags", loss=loss)
    rows = Batch({"words": torch.cat(words), "tags": torch.cat(tags)})
    assert torch.equal(out["tag/loss"], model_of(by_row).run(rows, train=False)["tag/loss"])
    assert out["tag/pred"].shape[:2] == (2, 3)


def test_a_python_loss_gets_sequences_with_labels_that_mark_what_has_none() -> None:
    seen = []

    def loss(outputs: Mapping[str, Any], label: Tensor) -> Tensor:
        seen.append(label)
        return functional.cross_entropy(outputs["logits"].transpose(1, 2), label)

    words, tags = [torch.tensor([1, 2, 3]), torch.tensor([4])], [torch.tensor([0, MISSING, 1]), torch.tensor([1])]
    task = tag_task(loss=loss, missing_label=MISSING)
    (batch,) = loader_of(words, tags)
    found = model_of(task).run(batch, train=False)["tag/loss"]
    assert seen[0].tolist() == [[0, MISSING, 1], [1, MISSING, MISSING]]
    wanted = functional.cross_entropy(task.modules["table"](flat(words, tags)), flat(tags, tags))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)  # added up in another order, in float64


def test_predictions_have_the_length_of_their_sequences() -> None:
    words, tags = texts(missing=0.2)
    task = tag_task(missing_label=MISSING)
    model = model_of(task)
    rows, taken = PredictionRows(), []
    for batch in loader_of(words, tags):
        prepared = model.prepare(batch)
        prepared.update(model.run(prepared, train=False))
        taken += rows.take(prepared)
    taken += rows.rest()
    assert [row["label"] for row in taken] == [[None if t == MISSING else t for t in tag.tolist()] for tag in tags]
    with torch.no_grad():
        logits = [task.modules["table"](word) for word in words]
    assert [row["pred"] for row in taken] == [each.argmax(1).tolist() for each in logits]
    assert [np.shape(row["prob"]) for row in taken] == [(len(word), CLASSES) for word in words]
    json.dumps(taken)
    predicted = model.predict(loader_of(words, tags))["tag"]
    assert predicted.preds is not None
    assert [each.tolist() for each in predicted.preds] == [row["pred"] for row in taken]
    labelled = predicted.labelled()
    assert labelled.labels is not None
    assert labelled.preds is not None
    assert np.concatenate(labelled.labels).tolist() == flat(tags, tags).tolist()
    preds = torch.cat([each.argmax(1) for each in logits])[torch.cat(tags) != MISSING]
    assert np.concatenate(labelled.preds).tolist() == preds.tolist()
    tags[1][:] = MISSING
    labelled = model.predict(loader_of(words, tags))["tag"].labelled()
    assert labelled.labels is not None
    assert [each.tolist() for each in labelled.labels] == [
        t[t != MISSING].tolist() for t in tags if (t != MISSING).any()
    ]
    assert len(labelled) == len(labelled.labels)


def test_sequences_without_labels_are_predicted_at_their_own_length_as_well() -> None:
    words, _ = texts()
    loader = TaskLoader(ColumnDataset("texts", {"words": words}), {"tag": None}, split="valid", batch_size=5)
    predicted = model_of(tag_task()).predict(loader)["tag"]
    assert predicted.labels is None
    assert predicted.preds is not None
    assert list(map(len, predicted.preds)) == list(map(len, words))


def test_a_function_of_all_rows_gets_the_uid_of_the_sequence_of_each_token() -> None:
    seen: list[Any] = []

    def metric(golds: Any, probs: Any, preds: Any, uids: Any) -> float:
        seen.extend(zip(golds.tolist(), uids, strict=True))
        return 0.0

    words, tags = [torch.tensor([1, 2]), torch.tensor([3])], [torch.tensor([0, MISSING]), torch.tensor([1])]
    task = tag_task(missing_label=MISSING, metrics=[metric])
    data = ColumnDataset("texts", {"words": words, "name": ["a", "b"]}, {"tags": tags}, uid="name")
    model_of(task).score({"valid": TaskLoader(data, split="valid", batch_size=2)})
    assert seen == [(0, "a"), (1, "b")]


def test_sequences_that_are_cut_lose_the_labels_of_what_is_cut() -> None:
    words, tags = texts(missing=0.0)
    task = tag_task()
    loss = model_of(task).score({"valid": loader_of(words, tags, max_data_len=3)})["tag/texts/valid/loss"]
    with torch.no_grad():
        kept = [torch.cat([each[:3] for each in column]) for column in (words, tags)]
        wanted = functional.cross_entropy(task.modules["table"](kept[0]), kept[1]).item()
    assert loss == pytest.approx(wanted, rel=1e-12)  # the same numbers in float64, added up in another order


@pytest.mark.parametrize("batch_size", [1, 3])
def test_sequences_without_any_token_count_nowhere(batch_size: int) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    words, tags = [none, torch.tensor([3, 4]), none], [none, torch.tensor([1, MISSING]), none]
    task = tag_task(missing_label=MISSING, metrics=["accuracy"])
    model = model_of(task)
    wanted = functional.cross_entropy(task.modules["table"](torch.tensor([3])), torch.tensor([1])).item()
    assert model.score({"valid": loader_of(words, tags, batch_size)})["tag/texts/valid/loss"] == wanted
    predicted = model.predict(loader_of(words, tags, batch_size))["tag"]
    assert predicted.is_labelled.tolist() == [False, True, False]
    assert predicted.preds is not None
    assert list(map(len, predicted.preds)) == [0, 2, 0]


def test_tokens_may_have_several_labels_each() -> None:
    generator = torch.Generator().manual_seed(0)
    words, tags = (
        torch.randint(1, 9, (7, 5), generator=generator),
        torch.randint(2, (7, 5, CLASSES), generator=generator),
    )
    tags[0, 0], tags[1] = -1, -1
    names = ["f1_macro", "exact_match", "hamming_loss"]
    loader = TaskLoader(ColumnDataset("texts", {"words": words}, {"tags": tags}), split="valid", batch_size=3)
    task = tag_task(loss="bce_with_logits", missing_label=-1, metrics=names, num_classes=None)
    table = task.modules["table"]
    scores = model_of(task).score(loader)
    kept = (tags != -1).all(-1)
    gold, pred = tags[kept].numpy(), (table(words)[kept] > 0).long().numpy()
    wanted = {
        "f1_macro": sklearn_metrics.f1_score(gold, pred, average="macro"),
        "exact_match": sklearn_metrics.accuracy_score(gold, pred),
        "hamming_loss": sklearn_metrics.hamming_loss(gold, pred),
    }
    for name, value in wanted.items():
        assert scores[f"tag/texts/valid/{name}"] == pytest.approx(value, rel=1e-12), name  # of counts, in float64


def test_dense_labels_of_tokens_go_without_a_mask() -> None:
    words, tags = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[0, 1], [2, MISSING]])
    task = tag_task(missing_label=MISSING)
    loader = TaskLoader(ColumnDataset("texts", {"words": words}, {"tags": tags}), split="valid", batch_size=2)
    model = model_of(task)
    (batch,) = loader
    wanted = functional.cross_entropy(task.modules["table"](torch.tensor([1, 2, 3])), torch.tensor([0, 1, 2]))
    assert torch.equal(model.run(batch, train=False)["tag/loss"], wanted.detach())
    labels = model.predict(loader)["tag"].labelled().labels
    assert labels is not None
    assert [each.tolist() for each in labels] == [[0, 1], [2]]


def wrong(words: Any, tags: Any, **options: Any) -> None:
    data = ColumnDataset("texts", {"words": words}, {"tags": tags})

    class Texts(MultiTaskDataset):
        def loaders(self) -> list[TaskLoader]:
            return [TaskLoader(data, {"tag": "tags"}, batch_size=2)]

    MainLoop(model_of(tag_task(**options)), Texts(), [StopAfter(epochs=1)]).run_training()


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3, 2]], ids=["whole", "subset"])
def test_more_labels_than_tokens_are_found_before_the_first_batch(rows: list[int]) -> None:
    words = [torch.ones(length, dtype=torch.int64) for length in (2, 3, 1, 4)]
    tags = [torch.zeros(length, dtype=torch.int64) for length in (2, 3, 1, 5)]
    data = ColumnDataset("texts", {"words": words}, {"tags": tags})

    class Texts(MultiTaskDataset):
        def loaders(self) -> list[TaskLoader]:
            return [TaskLoader(Subset(data, rows), {"tag": "tags"}, name="news", batch_size=1)]

    model = model_of(tag_task())
    text = "stream 'train', loader 'news': task 'tag', source 'tags': row 3 has 4 tokens in 'words', but 5 labels"
    with pytest.raises(ConfigError, match=text) as caught:
        MainLoop(model, Texts(), [StopAfter(epochs=1)]).check()
    assert caught.value.path == ("model", "tasks", "tag", "label")


def test_more_labels_than_tokens_are_found_in_the_batches_of_other_datasets() -> None:
    samples = [{"words": torch.ones(n + 1).long(), "tags": torch.zeros(m + 1).long()} for n, m in ((2, 2), (4, 3))]
    loader = TaskLoader(samples, split="valid", batch_size=2, ragged=["words", "tags"], name="news")
    text = "batch 0: task 'tag', source 'tags': row 1 has 5 tokens in 'words', but 4 labels in 'tags'"
    with pytest.raises(DataError, match=text):
        model_of(tag_task()).score(loader)


def test_a_label_that_is_no_class_is_named_with_its_row_and_token() -> None:
    words, tags = [torch.tensor([1]), torch.tensor([1, 2, 3])], [torch.tensor([0]), torch.tensor([0, 1, 7])]
    text = r"source 'tags': label 7 in row 1, token 2, is out of range 0\.\.3; set missing_label: 7 if it marks a token"
    with pytest.raises(DataError, match=text):
        model_of(tag_task()).score(loader_of(words, tags))


def test_labels_that_differ_in_length_need_their_tokens_named() -> None:
    words, tags = texts(missing=0.0)
    with pytest.raises(
        ConfigError, match=r"loader 'texts': task 'tag', source 'tags': labels differ .*'tokens' to the source"
    ):
        wrong(words, tags, tokens=None)
    with pytest.raises(DataError, match="task 'tag', source 'tags': labels differ in length"):
        model_of(tag_task(tokens=None)).score(loader_of(words, tags))


def test_a_python_loss_may_take_labels_that_differ_in_length() -> None:
    shapes: list[torch.Size] = []

    def loss(outputs: Mapping[str, Any], label: Tensor) -> Tensor:
        shapes.append(label.shape)
        return functional.cross_entropy(outputs["logits"][:, 0], label[:, 0])

    words, tags = texts(missing=0.0)
    wrong(words, tags, tokens=None, loss=loss)  # which is not wrong
    assert len({width for _, width in shapes}) > 1


def test_labels_of_rows_that_are_not_read_may_have_another_length() -> None:
    data = ColumnDataset("sets", {"x": torch.zeros(3, 3)}, {"y": [torch.ones(2), torch.ones(5), torch.ones(2)]})
    task = Task("set", {"head": nn.Linear(3, 2)}, [Action("out", "head", "x")], label="y", loss="bce_with_logits")
    model = model_of(task)
    model.check_loader(TaskLoader(Subset(data, [0, 2]), split="valid", batch_size=2))
    with pytest.raises(DataError, match="labels differ in length"):
        model.check_loader(TaskLoader(Subset(data, [0, 1]), split="valid", batch_size=2))


@pytest.mark.parametrize(
    ("label", "missing", "mark"),
    [
        (torch.int64, None, -100),
        (torch.int64, math.nan, -100),
        (torch.int64, 255, 255),
        (torch.uint8, None, -100),
        (torch.bool, None, -100),
        (torch.float32, -1.0, -1.0),
    ],
    ids=str,
)
def test_a_python_loss_is_told_where_there_is_no_label(label: torch.dtype, missing: float | None, mark: float) -> None:
    marked = Tokens("words").marked(torch.tensor([[0, 1], [1, 1]]).to(label), torch.tensor([1, 2]), missing)
    assert marked.tolist() == [[mark, 1], [1, mark]]
    floats = Tokens("words").marked(torch.ones(1, 2), torch.tensor([1]), None)
    assert floats.isnan().tolist() == [[True, False]]


def share_of_a_batch() -> Batch:
    """Return sequences of 2, 4 and 1 tokens, of which the first and the last have labels."""
    padded = torch.tensor([[False, False, True, True], [False] * 4, [False, True, True, True]])
    tags, own = torch.tensor([[1, 2], [0, 0], [3, 0]]), torch.tensor([[False, False], [True, True], [False, True]])
    return Batch({"words": torch.ones(3, 4).long(), "words_mask": padded, "tags": tags, "tags_mask": own})


def test_labels_of_some_rows_are_widened_to_sequences_that_others_have() -> None:
    batch = share_of_a_batch()
    found = tag_task().labelled_tokens(batch, "tags", torch.tensor([0, 2]))
    assert found.tolist() == [0, 1, 8]
    assert batch["tags"].tolist() == [[1, 2, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0]]
    assert (~batch["tags_mask"]).sum(1).tolist() == [2, 0, 1]
    batch = share_of_a_batch()
    batch["tags_mask"][2] = False
    with pytest.raises(DataError, match="row 2 has 1 tokens in 'words', but 2 labels in 'tags'"):
        tag_task().labelled_tokens(batch, "tags", torch.tensor([0, 2]))


def test_other_sequences_of_labels_than_of_tokens_are_refused() -> None:
    batch = Batch({"words": torch.ones(2, 3).long(), "tags": torch.zeros(3, 3).long()})
    with pytest.raises(DataError, match="there are 3 sequences of labels for 2 sequences of 'words'"):
        tag_task().labelled_tokens(batch, "tags")
    shifted = torch.tensor([[False, False, True]])
    batch = Batch({"words": torch.ones(1, 3).long(), "words_mask": shifted, "tags": torch.zeros(1, 3).long()})
    batch["tags_mask"] = shifted.flip(1)
    with pytest.raises(DataError, match="sequences of 'words' and their labels are padded at different places"):
        tag_task().labelled_tokens(batch, "tags")


def test_labels_of_one_length_may_be_several_labels_of_a_row() -> None:
    data = ColumnDataset("sets", {"x": torch.zeros(2, 3)}, {"y": [torch.tensor([0, 1]), torch.tensor([1, 1])]})
    task = Task("set", {"head": nn.Linear(3, 2)}, [Action("out", "head", "x")], label="y", loss="bce_with_logits")
    loader = TaskLoader(data, split="valid", batch_size=2)
    model = model_of(task)
    model.check_loader(loader)
    assert model.score(loader)["set/sets/valid/loss"] > 0


def test_tokens_that_no_source_has_are_an_error_of_the_config() -> None:
    words, tags = texts(missing=0.0)
    with pytest.raises(ConfigError, match=r"tokens: there is no source 'word'; did you mean 'words'\?") as caught:
        wrong(words, tags, tokens="word")
    assert caught.value.path == ("model", "tasks", "tag", "tokens")
    with pytest.raises(ConfigError, match="tokens must name a source, not 3"):
        tag_task(tokens=3)


@pytest.mark.parametrize(
    ("source", "values"),
    [("tags", torch.zeros(2, dtype=torch.int64)), ("words", torch.ones(2, dtype=torch.int64))],
    ids=["labels", "tokens"],
)
def test_what_is_no_sequence_is_refused(source: str, values: Tensor) -> None:
    columns = {"words": torch.ones(2, 3, dtype=torch.int64), "tags": torch.zeros(2, 3, dtype=torch.int64)}
    with pytest.raises(DataError, match=rf"source '{source}' holds no sequences, it has the shape \(2,\)"):
        model_of(tag_task()).run(Batch({**columns, source: values}), train=False)


def test_an_output_without_the_dimension_of_tokens_is_refused() -> None:
    class Turned(nn.Embedding):
        def forward(self, words: Tensor) -> Tensor:
            return super().forward(words).transpose(1, 2)

    flow = [Action("logits", "table", "words")]
    task = Task("tag", {"table": Turned(9, 4)}, flow, label="tags", tokens="words", loss="cross_entropy")
    batch = Batch({"words": torch.ones(2, 3, dtype=torch.int64), "tags": torch.zeros(2, 3, dtype=torch.int64)})
    with pytest.raises(DataError, match=r"output of shape \(2, 4, 3\) .* dimensions of 2 sequences of 3 tokens"):
        model_of(task).run(batch, train=False)


def test_tasks_of_tokens_are_run_one_by_one() -> None:
    flow = [Action("features", "table", "words")]
    tasks = [
        Task(
            name,
            {"table": nn.Embedding(20, 6), f"{name}_head": nn.Linear(6, CLASSES)},
            [*flow, Action(f"{name}_logits", f"{name}_head", "features")],
            label="tags",
            tokens="words",
            loss="cross_entropy",
            missing_label=MISSING,
        )
        for name in ("a", "b", "c")
    ]
    model = model_of(*tasks)
    words, tags = texts()
    for batch in loader_of(words, tags):
        model.run(batch, train=True)
    assert model.stacked_tasks == []
