"""What a model predicts and scores outside of trainings."""

from typing import Any

import numpy as np
import pytest
import torch

from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import ConfigError, DataError

from .kinds_and_sizes import make_batch, make_model, make_tasks


def test_data_without_labels_can_be_predicted_but_not_trained_on() -> None:
    model, unlabelled = make_model(), {"x": torch.zeros(2, 3)}
    found = model.predict([unlabelled, unlabelled])
    assert found["kind"].labels is None
    assert found["kind"].preds is not None
    assert found["kind"].preds.shape == (4,)
    with pytest.raises(DataError, match="task 'kind': the batch cannot be trained on, it holds no label"):
        model.run(unlabelled, train=True)  # type: ignore[arg-type]


def make_loaders(rows: int = 10) -> list[TaskLoader]:
    batch = make_batch(rows)
    dataset = ColumnDataset("things", {"x": batch["x"]}, {"kind": batch["kind"], "size": batch["size"]})
    return [TaskLoader(dataset, {"kind": "kind", "size": "size"}, split="valid", batch_size=4)]


def test_predicting_and_scoring_leave_the_mode_as_it_was() -> None:
    model = make_model()
    model.network["kind_head"].eval()
    modes = [module.training for module in model.network.modules()]
    model.predict(make_loaders()[0])
    model.score(make_loaders())
    assert [module.training for module in model.network.modules()] == modes


def test_predictions_are_in_the_order_of_the_rows() -> None:
    model, (loader,) = make_model(), make_loaders()
    found = model.predict(loader)["kind"]
    model.network.eval()
    logits = model.network({"x": make_batch(10)["x"]}, ["kind"])["kind_logits"]
    assert found.uids == list(range(10))
    assert found.labels is not None
    assert found.preds is not None
    assert found.probs is not None
    assert found.labels.tolist() == make_batch(10)["kind"].tolist()
    assert found.preds.tolist() == logits.argmax(1).tolist()
    # Batches of four and of ten rows may be multiplied by other kernels.
    np.testing.assert_allclose(found.probs, logits.softmax(1).detach().numpy(), rtol=1e-5)


def test_scores_have_flat_names_and_the_values_of_the_whole_data() -> None:
    from sklearn.metrics import accuracy_score, mean_squared_error

    model, (loader,) = make_model(), make_loaders()
    scores = model.score(loader)
    found = model.predict(loader)
    kind, size = found["kind"], found["size"]
    assert scores["kind/things/valid/accuracy"] == accuracy_score(kind.labels, kind.preds)
    expected = mean_squared_error(size.labels.astype(float), size.preds.squeeze(-1).astype(float))  # type: ignore[union-attr]
    # Sums in float64, in another order.
    assert scores["size/things/valid/mean_squared_error"] == pytest.approx(expected, rel=1e-12)
    assert scores["model/all/valid/loss"] == pytest.approx(
        (scores["kind/things/valid/loss"] + scores["size/things/valid/loss"]) / 2, rel=1e-12
    )
    assert scores["model/all/all/micro_average"] == scores["model/all/valid/micro_average"]
    assert model.score({"valid": loader}) == scores


@pytest.mark.parametrize("data", ["valid", [{"x": torch.zeros(2, 3)}]], ids=["text", "batches"])
def test_only_loaders_and_named_streams_can_be_scored(data: Any) -> None:
    with pytest.raises(
        DataError, match="score takes loaders, or batches by stream name, not a .*; write {'valid': batches}, say"
    ):
        make_model().score(data)


def test_no_stream_can_be_called_like_the_averages_over_all() -> None:
    with pytest.raises(ConfigError, match="a stream cannot be called 'all'"):
        make_model().score({"all": [make_batch()]})


def test_only_mappings_are_batches() -> None:
    with pytest.raises(DataError, match="batch 0: a batch is a mapping of source names, not a str"):
        make_model().predict({"x": torch.zeros(2, 3)})  # type: ignore[arg-type]


def test_labels_of_some_rows_only_are_not_mistaken_for_those_of_all() -> None:
    found = make_model().predict([{"x": torch.zeros(2, 3)}, make_batch(rows=4, tasks={"kind": "kind"})])["kind"]
    assert len(found) == 6
    assert found.labels is None


def test_predictions_of_a_function_in_half_precision_can_be_read() -> None:
    tasks = make_tasks(output=lambda outputs: outputs["kind_logits"].softmax(1))
    found = make_model(tasks=tasks, precision="bf16").predict([make_batch()])["kind"]
    assert found.probs is not None
    assert found.probs.dtype == np.float32
