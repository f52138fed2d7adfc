import copy
import math
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.column_dataset import ColumnDataset
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.data.task_loader import TaskLoader
from emloop_mtl.errors import CheckpointError, ConfigError, DataError
from emloop_mtl.hooks import StopAfter
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

SGD = {"class": "sgd", "lr": 0.1, "momentum": 0.9}


def make_modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "trunk": nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5)),
        "kind_head": nn.Linear(8, 4),
        "size_head": nn.Linear(8, 1),
    }


def make_tasks(**options: Any) -> list[Task]:
    features = Action("features", "trunk", "x")
    kind = Task(
        "kind",
        flow=[features, Action("kind_logits", "kind_head", "features")],
        label="kind",
        loss="cross_entropy",
        metrics=["accuracy", "f1_macro"],
        **options,
    )
    size = Task(
        "size",
        flow=[features, Action("size_value", "size_head", "features")],
        label="size",
        loss="mse_loss",
        weight=0.5,
        metrics=["mean_squared_error"],
    )
    return [kind, size]


def make_model(**options: Any) -> MultiTaskModel:
    tasks = options.pop("tasks", None) or make_tasks()
    return MultiTaskModel(
        tasks, make_modules(), optimizer=options.pop("optimizer", SGD), **{"device": "cpu", **options}
    )


def make_batch(rows: int = 6, seed: int = 0, **attributes: Any) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    sources = {
        "x": torch.randn(rows, 3, generator=generator),
        "kind": torch.randint(4, (rows,), generator=generator),
        "size": torch.randn(rows, generator=generator),
    }
    return Batch(sources, **attributes)


class Outputs:
    """Stands for a stream that says which outputs somebody reads."""

    def __init__(self, *names: str) -> None:
        self.outputs = frozenset(names)


def test_training_equals_a_loop_written_by_hand() -> None:
    model = make_model(update={"clip_norm": 1.0})
    modules = nn.ModuleDict(make_modules())
    optimizer = torch.optim.SGD(modules.parameters(), lr=0.1, momentum=0.9, fused=True)
    for step in range(5):
        batch = make_batch(seed=step)
        torch.manual_seed(step)
        features = modules["trunk"](batch["x"])
        kind = functional.cross_entropy(modules["kind_head"](features), batch["kind"])
        size = functional.mse_loss(modules["size_head"](features).squeeze(-1), batch["size"])
        (kind + 0.5 * size).backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

        torch.manual_seed(step)
        outputs = model.run(batch, train=True)
        assert float(outputs["kind/loss"]) == float(kind.detach())
        assert float(outputs["size/loss"]) == float(size.detach())
        assert float(outputs["loss"]) == float((kind + 0.5 * size).detach())
    for name, weight in modules.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_the_batches_of_a_step_make_one_update() -> None:
    model, twin = make_model(optimizer={"class": "sgd", "lr": 0.1}), make_model(optimizer={"class": "sgd", "lr": 0.1})
    for network in (model.network, twin.network):
        network["trunk"][2].p = 0.0
    first, second = make_batch(seed=1, ends_step=False), make_batch(seed=2)
    before = copy.deepcopy(model.state_dict())
    model.run(first, train=True)
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in before.items())
    model.run(second, train=True)
    sources = twin.network.state_dict()
    assert sources.keys() == before.keys()
    losses = [twin.run(batch, train=False)["loss"] for batch in (first, second)]
    assert all(loss.dim() == 0 for loss in losses)
    features = [twin.network(batch) for batch in (first, second)]
    total = sum(
        functional.cross_entropy(made["kind_logits"], batch["kind"])
        + 0.5 * functional.mse_loss(made["size_value"].squeeze(-1), batch["size"])
        for made, batch in zip(features, (first, second), strict=True)
    )
    assert isinstance(total, Tensor)
    twin.network.train()
    gradients = torch.autograd.grad(total, list(twin.network.parameters()))
    for (name, weight), gradient in zip(twin.network.named_parameters(), gradients, strict=True):
        # Two backward passes add in another order than one.
        torch.testing.assert_close(model.state_dict()[name], weight.detach() - 0.1 * gradient, rtol=1e-5, atol=1e-7)


def test_only_what_somebody_reads_is_computed() -> None:
    model, batch = make_model(), make_batch()
    assert model.run(batch, False, Outputs()).keys() == {"loss", "kind/loss", "size/loss"}  # type: ignore[arg-type]
    read = model.run(batch, False, Outputs("kind/pred"))  # type: ignore[arg-type]
    assert read.keys() == {"loss", "kind/loss", "size/loss", "kind/pred"}
    everything = model.run(batch, False)
    assert everything.keys() == set(model.output_names)
    assert torch.equal(everything["kind/pred"], everything["kind/prob"].argmax(1))


def test_action_outputs_come_under_the_tasks_name() -> None:
    model, batch = make_model(tasks=make_tasks(action_outputs=["features"])), make_batch()
    assert model.run(batch, False)["kind/features"].shape == (6, 8)
    assert "kind/features" in model.run(batch, False, Outputs("kind/features"))  # type: ignore[arg-type]


def test_a_task_that_the_batch_does_not_carry_is_not_run() -> None:
    model = make_model()
    batch = make_batch(tasks={"size": "size"})
    outputs = model.run(batch, train=True)
    assert outputs.keys() == {"loss", "size/loss", "size/prob", "size/pred"}
    assert model.network["kind_head"].weight.grad is None
    assert model.update.optimizer.state[model.network["kind_head"].weight] == {}


def test_a_plain_batch_carries_the_tasks_whose_labels_it_holds() -> None:
    model, batch = make_model(), make_batch()
    del batch["kind"]
    assert model.prepare(batch).tasks == {"size": "size"}
    unlabelled = Batch({"x": torch.zeros(2, 3)})
    assert model.prepare(unlabelled).tasks == {"kind": None, "size": None}


@pytest.mark.parametrize("labelled", [[0, 2, 3], []])
def test_rows_without_label_take_no_part(labelled: list[int]) -> None:
    model = make_model(tasks=make_tasks(missing_label=-100))
    model.network.eval()
    batch = make_batch()
    missing = [row for row in range(6) if row not in labelled]
    batch["kind"][missing] = -100
    prepared = model.prepare(batch)
    assert prepared.rows["kind"].tolist() == labelled
    assert "size" not in prepared.rows
    loss = model.run(prepared, train=False)["kind/loss"]
    logits = model.network(batch)["kind_logits"]
    expected = functional.cross_entropy(logits[labelled], batch["kind"][labelled]) if labelled else torch.zeros(())
    assert float(loss) == float(expected.detach())


def test_a_batch_without_any_label_gives_zero_gradients_not_none() -> None:
    model = make_model(
        tasks=make_tasks(missing_label=-100), optimizer={"class": "sgd", "lr": 0.1}, update={"accumulate": 2}
    )
    batch = make_batch(tasks={"kind": "kind"})
    batch["kind"][:] = -100
    model.run(batch, train=True)
    gradient = model.network["kind_head"].weight.grad
    assert gradient is not None
    assert not gradient.any()
    assert model.network["size_head"].weight.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": torch.tensor([0, 9])}, "task 'kind', source 'kind': label 9 in row 1 is out of range 0..3"),
        ({"kind": torch.tensor([0, -1])}, "label -1 in row 1 is out of range 0..3"),
        ({"size": torch.tensor([0.0, math.nan])}, "task 'size', source 'size': label nan in row 1 is not finite"),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_labels_that_cannot_be_used(change: dict[str, Tensor], message: str, train: bool) -> None:
    batch = make_batch(2)
    batch.update(change)
    with pytest.raises(DataError, match=message):
        make_model().run(batch, train)


@pytest.mark.parametrize("loss", ["cross_entropy", functional.nll_loss])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3, 1], None),
        ([[0], [3], [1]], None),
        ([0, -100, 1], "label -100 in row 1 is out of range 0..3; set missing_label: -100 if it marks a row"),
        ([0, 4, 1], "label 4 in row 1 is out of range 0..3"),
        ([[0], [4], [1]], "label 4 in row 1 is out of range 0..3"),
        ([0, torch.iinfo(torch.int64).min, 1], "in row 1 is out of range 0..3"),
    ],
)
def test_classes_are_checked_by_their_loss_and_before_it_alike(
    labels: list[Any], message: str | None, loss: Any
) -> None:
    """A module as a loss is not asked for its opinion, so that its labels are checked beforehand."""
    module = nn.CrossEntropyLoss() if loss == "cross_entropy" else nn.NLLLoss()
    found = []
    for each in (loss, module):
        task = Task("kind", {"head": nn.Linear(4, 4)}, [Action("o", "head", "x")], "kind", each)
        model = MultiTaskModel([task], optimizer={"class": "sgd", "lr": 0.1}, device="cpu")
        assert bool(model.prepare(Batch({"x": torch.ones(3, 4), "kind": torch.tensor([0, 1, 2])})).kind.unchecked) == (
            each is loss
        )
        nn.init.ones_(model.network["head"].weight)
        nn.init.zeros_(model.network["head"].bias)
        batch = Batch({"x": torch.arange(12.0).view(3, 4), "kind": torch.tensor(labels)})
        if message is None:
            model.run(batch, train=True)
        else:
            with pytest.raises(DataError, match=message):
                model.run(batch, train=True)
        found.append(model.network["head"].bias.detach().clone())
    assert found[0].tolist() == found[1].tolist()
    assert (message is None) == bool(found[0].any())


def test_fewer_classes_than_columns_are_heeded() -> None:
    task = Task("kind", {"head": nn.Linear(4, 4)}, [Action("o", "head", "x")], "kind", "cross_entropy", num_classes=3)
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    model.run(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 2])}), train=True)
    with pytest.raises(DataError, match=r"label 3 in row 1 is out of range 0\.\.2"):
        model.run(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 3])}), train=True)


def test_missing_label_sources_and_unknown_tasks() -> None:
    with pytest.raises(DataError, match="task 'kind': the batch lacks the label source 'knd'; did you mean 'kind'"):
        make_model().prepare(make_batch(tasks={"kind": "knd"}))
    with pytest.raises(ConfigError, match="the model has no task 'knid'; did you mean 'kind'"):
        make_model().prepare(make_batch(tasks={"knid": None}))


def test_arrays_and_lists_become_tensors() -> None:
    batch = Batch({"x": np.zeros((2, 3)), "kind": [0, 1], "size": np.zeros(2), "names": ["a", "b"]})
    outputs = make_model().run(batch, train=True)
    assert outputs["loss"].dtype == torch.float32
    assert isinstance(batch["x"], np.ndarray), "the caller's batch is left alone"


def test_nested_lists_become_tensors_and_texts_stay_lists() -> None:
    batch = Batch({"x": [[0.0, 1.0, 2.0]] * 2, "kind": [0, 1], "size": [0.0, 1.0], "words": [["a"], ["b"]]})
    prepared = make_model().prepare(batch)
    assert prepared["x"].shape == (2, 3)
    assert prepared["words"] == [["a"], ["b"]]


def test_data_without_labels_can_be_predicted_but_not_trained_on() -> None:
    model, unlabelled = make_model(), {"x": torch.zeros(2, 3)}
    found = model.predict([unlabelled, unlabelled])
    assert found["kind"].labels is None
    assert found["kind"].preds is not None
    assert found["kind"].preds.shape == (4,)
    with pytest.raises(DataError, match="task 'kind': the batch cannot be trained on, it holds no label"):
        model.run(unlabelled, train=True)  # type: ignore[arg-type]


def test_a_task_that_is_replaced_in_the_network_is_run_anew() -> None:
    model, batch = make_model(), make_batch()
    assert "size/loss" in model.run(batch, train=False)
    flow = make_tasks()[1].flow
    model.network.update_task(Task("size", flow=flow))
    assert "size/loss" not in model.run(make_batch(), train=False)


def test_the_mode_is_switched_only_where_it_changes_and_frozen_modules_stay_frozen() -> None:
    model, batch = make_model(), make_batch()
    model.network["trunk"].eval()
    model.run(batch, train=True)
    assert not model.network["trunk"].training
    model.run(batch, train=False)
    assert not model.network["size_head"].training
    model.run(batch, train=True)
    assert model.network["size_head"].training
    assert not model.network["trunk"].training


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
    assert scores["kind/things/valid/accuracy"] == pytest.approx(accuracy_score(kind.labels, kind.preds), rel=1e-12)
    expected = mean_squared_error(size.labels.astype(float), size.preds.squeeze(-1).astype(float))  # type: ignore[union-attr]
    assert scores["size/things/valid/mean_squared_error"] == pytest.approx(expected, rel=1e-12)
    assert scores["model/all/valid/loss"] == pytest.approx(
        (scores["kind/things/valid/loss"] + scores["size/things/valid/loss"]) / 2, rel=1e-12
    )
    assert scores["model/all/all/micro_average"] == scores["model/all/valid/micro_average"]
    assert model.score({"valid": loader}) == scores


def test_bf16_learns_and_keeps_losses_and_weights_in_float32() -> None:
    model = make_model(precision="bf16", optimizer={"class": "adamw", "lr": 0.05})
    model.network["trunk"][2].p = 0.0
    losses = [model.run(make_batch(), train=True)["loss"] for _ in range(30)]
    assert losses[0].dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in model.state_dict().values())
    assert float(losses[-1]) < 0.5 * float(losses[0])
    assert model.run(make_batch(), train=False)["kind/prob"].dtype == torch.float32


def train(model: MultiTaskModel, steps: Sequence[int]) -> None:
    for step in steps:
        torch.manual_seed(step)
        model.run(make_batch(seed=step), train=True)


@pytest.mark.parametrize("stop", range(6))
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_restored_model_goes_on_bit_for_bit(stop: int, precision: str) -> None:
    options: dict[str, Any] = {"optimizer": {"class": "adamw"}, "update": {"accumulate": 2}, "precision": precision}
    expected, first, second = (make_model(**options) for _ in range(3))
    train(expected, range(6))
    train(first, range(stop))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.load_training_state_dict(copy.deepcopy(first.training_state_dict()))
    train(second, range(stop, 6))
    for name, weight in expected.state_dict().items():
        assert torch.equal(second.state_dict()[name], weight), name


def test_saved_weights_come_back(tmp_path: Path) -> None:
    model, other = make_model(output_dir=tmp_path, name="things"), make_model()
    train(model, range(2))
    path = model.save("best")
    assert Path(path) == tmp_path / "things_best.safetensors"
    other.load(path)
    assert all(torch.equal(other.state_dict()[name], weight) for name, weight in model.state_dict().items())
    with pytest.raises(CheckpointError, match="cannot be loaded as weights of this model"):
        other.load(tmp_path / "nothing.safetensors")


def test_training_does_not_wait_for_the_device() -> None:
    class Forbid(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            assert name not in {"_local_scalar_dense", "nonzero", "equal", "is_nonzero", "_unique2"}, name
            return func(*args, **(kwargs or {}))

    model = make_model(tasks=make_tasks(missing_label=-100), update={"clip_norm": 1.0, "accumulate": 2})
    prepared = [model.prepare(make_batch(seed=step)) for step in range(4)]
    # Adam reads its step counters on the host; plain SGD shows that nothing of ours reads anything.
    with Forbid():
        for batch in prepared:
            model.run(batch, train=True, stream=Outputs("kind/pred", "kind/prob"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message", "path"),
    [
        ({"precision": "bf15"}, "unknown precision 'bf15'; did you mean 'bf16'", ("precision",)),
        ({"device": "gpu"}, "device 'gpu' cannot be used", ("device",)),
        ({"optimizer": {"class": "adm"}}, "unknown class 'adm'", ("optimizer", "class")),
        ({"update": {"clip": 1.0}}, "update: unknown argument 'clip'", ("update", "clip")),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], message: str, path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_model(**options)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (None, "a list of tasks, or a mapping of names to them, is needed, not None"),
        (3, "is needed, not an object of class int"),
        ("kind", "is needed, not an object of class str"),
        ([], "a model needs at least one task"),
        ([*make_tasks(), nn.Linear(1, 1)], "every task must be a Task, not an object of class Linear"),
        ({"kind": "size"}, "every task must be a Task, not an object of class str"),
    ],
)
def test_what_is_no_task_is_refused(tasks: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        MultiTaskModel(tasks, make_modules())
    assert caught.value.path == ("tasks",)


def test_tasks_may_be_generated() -> None:
    assert list(MultiTaskModel((task for task in make_tasks()), make_modules()).tasks) == ["kind", "size"]


def test_an_unknown_module_is_found_at_construction() -> None:
    tasks = [Task("kind", flow=[Action("features", "trnk", "x")])]
    with pytest.raises(ConfigError, match="no module 'trnk'; did you mean 'trunk'") as caught:
        make_model(tasks=tasks)
    assert caught.value.path[:2] == ("tasks", "kind")


def test_a_model_without_parameters_can_be_evaluated_but_not_trained() -> None:
    task = Task(
        "same", modules={"same": nn.Identity()}, flow=[Action("value", "same", "x")], label="y", loss="mse_loss"
    )
    model = MultiTaskModel([task])
    batch = Batch({"x": torch.ones(2), "y": torch.zeros(2)})
    assert float(model.run(batch, train=False)["loss"]) == 1.0
    with pytest.raises(ConfigError, match="no parameter that requires a gradient"):
        model.run(batch, train=True)


def test_batches_with_the_same_sources_but_other_tasks_are_told_apart() -> None:
    model = make_model()
    assert model.prepare(make_batch()).tasks == {"kind": "kind", "size": "size"}
    assert model.prepare(make_batch(tasks={"size": "kind"})).tasks == {"size": "kind"}
    prepared = model.prepare(make_batch())
    prepared.tasks.clear()
    assert model.prepare(make_batch()).tasks == {"kind": "kind", "size": "size"}
    model.network.remove_task("size")
    assert model.prepare(make_batch()).tasks == {"kind": "kind"}


@pytest.mark.parametrize("train", [False, True])
def test_tasks_that_are_taken_from_a_prepared_batch_are_missing_in_no_other(train: bool) -> None:
    model = make_model()
    less = model.prepare(make_batch())
    del less.tasks["kind"]
    assert {name for name in model.run(less, train) if "loss" in name} == {"size/loss", "loss"}
    assert {name for name in model.run(make_batch(), train) if "loss" in name} == {"kind/loss", "size/loss", "loss"}
    assert less.kind is not model.prepare(make_batch()).kind


def test_labels_of_unsigned_types_that_torch_hardly_knows_are_used() -> None:
    model, batch = make_model(), make_batch()
    expected = model.score({"s": [batch]})
    for kind in (batch["kind"].to(torch.uint16), batch["kind"].numpy().astype(np.uint32)):
        assert model.score({"s": [Batch({**batch, "kind": kind})]}) == expected


@pytest.mark.parametrize("data", ["valid", [{"x": torch.zeros(2, 3)}]], ids=["text", "batches"])
def test_only_loaders_and_named_streams_can_be_scored(data: Any) -> None:
    with pytest.raises(DataError, match="score takes loaders, or batches by stream name, not a "):
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


def test_saving_makes_its_folder_and_says_where_it_cannot(tmp_path: Path) -> None:
    assert Path(make_model(output_dir=tmp_path / "a" / "b").save()).is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file.model.safetensors: the weights cannot be written"):
        make_model(output_dir=tmp_path / "file").save()


def test_what_is_no_module_is_refused_where_it_stands() -> None:
    with pytest.raises(ConfigError, match="'trunk' must be an nn.Module .*, not 3") as caught:
        MultiTaskModel(make_tasks(), {**make_modules(), "trunk": 3}, device="cpu")  # type: ignore[dict-item]
    assert caught.value.path == ("modules", "trunk")


class Rows(MultiTaskDataset):
    """Rows of which the loader does not say what tasks they are for."""

    def loaders(self) -> list[TaskLoader]:
        batch = make_batch()
        labels = {"kind": batch["kind"], "size": batch["size"]}
        return [TaskLoader(ColumnDataset("rows", {"x": batch["x"]}, labels), split="train", batch_size=3)]


@pytest.mark.parametrize(
    ("change", "message", "path"),
    [
        ({"label": "kin"}, "task 'kind': no loader holds its label 'kin'; did you mean 'kind'?", ("label",)),
        (
            {"flow": [Action("features", "trunk", "y"), Action("kind_logits", "kind_head", "features")]},
            "task 'kind': action 'features', input 'y': there is no such source",
            ("flow", 0, "inputs"),
        ),
        (
            {"flow": [Action("kind_logits", "trunk", "y")], "label": None, "loss": None},
            "task 'kind': action 'kind_logits', input 'y': there is no such source",
            ("flow", 0, "inputs"),
        ),
        ({"label": None}, "task 'kind': its loss 'cross_entropy' needs labels; set 'label'", ()),
    ],
)
def test_a_task_is_not_left_out_for_a_misspelt_name(
    change: dict[str, Any], message: str, path: tuple[str | int, ...]
) -> None:
    settings = {"flow": make_tasks()[0].flow, "label": "kind", "loss": "cross_entropy", **change}
    size = Task("size", flow=[Action("size_value", "size_head", "x")], label="size", loss="mse_loss")
    modules = {**make_modules(), "size_head": nn.Linear(3, 1)}
    model = MultiTaskModel([Task("kind", **settings), size], modules, device="cpu")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        MainLoop(model, Rows(), [StopAfter(epochs=1)]).check()
    assert caught.value.path == ("model", "tasks", "kind", *path)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_pickled_model_goes_on_alike(optimizer: str) -> None:
    model = make_model(optimizer=optimizer)
    model.run(make_batch(), train=True)
    twin = pickle.loads(pickle.dumps(model))  # noqa: S301 - it was made a line before
    for each in (model, twin):
        torch.manual_seed(1)  # there is dropout
        each.run(make_batch(), train=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name])
        assert value.data_ptr() != twin.state_dict()[name].data_ptr()


class Strict(Task):
    """Has a check of its own."""

    def check_labels(self, label: Any, source: str | None = None) -> Tensor | None:
        raise DataError("none will do")


def test_a_check_of_ones_own_is_asked_before_the_loss() -> None:
    task = Strict("kind", {"head": nn.Linear(4, 4)}, [Action("o", "head", "x")], "kind", "cross_entropy")
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    with pytest.raises(DataError, match="none will do"):
        model.prepare(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 1])}))


@pytest.mark.parametrize("module_device", [None, {"head": "cpu"}])
def test_labels_are_left_to_the_loss_only_where_all_modules_are_on_the_host(module_device: Any) -> None:
    task = Task(
        "kind",
        {"head": nn.Linear(4, 4)},
        [Action("o", "head", "x")],
        "kind",
        "cross_entropy",
        module_device=module_device,
    )
    model = MultiTaskModel([task], optimizer="sgd", device="cpu")
    batch = model.prepare(Batch({"x": torch.ones(2, 4), "kind": torch.tensor([0, 1])}))
    assert bool(batch.kind.unchecked) == (module_device is None)
