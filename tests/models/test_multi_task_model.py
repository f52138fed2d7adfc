"""A model of several tasks: its steps, its settings, its files."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import CheckpointError, ConfigError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

from .kinds_and_sizes import Outputs, make_batch, make_model, make_modules, make_tasks, train


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


def test_bf16_learns_and_keeps_losses_and_weights_in_float32() -> None:
    model = make_model(precision="bf16", optimizer={"class": "adamw", "lr": 0.05})
    model.network["trunk"][2].p = 0.0
    losses = [model.run(make_batch(), train=True)["loss"] for _ in range(30)]
    assert losses[0].dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in model.state_dict().values())
    assert float(losses[-1]) < 0.5 * float(losses[0])  # by far more than bf16 rounds, which has 8 bits
    assert model.run(make_batch(), train=False)["kind/prob"].dtype == torch.float32


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
        ({"device": torch.device("meta")}, "cannot be used: tensors have shapes there, but no values", ("device",)),
        ({"device": "hpu"}, "device 'hpu' cannot be used: ", ("device",)),
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


def test_saving_makes_its_folder_and_says_where_it_cannot(tmp_path: Path) -> None:
    assert Path(make_model(output_dir=tmp_path / "a" / "b").save()).is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file.model.safetensors: the weights cannot be written"):
        make_model(output_dir=tmp_path / "file").save()


def test_what_is_no_module_is_refused_where_it_stands() -> None:
    with pytest.raises(ConfigError, match="'trunk' must be an nn.Module .*, not 3") as caught:
        MultiTaskModel(make_tasks(), {**make_modules(), "trunk": 3}, device="cpu")  # type: ignore[dict-item]
    assert caught.value.path == ("modules", "trunk")


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
