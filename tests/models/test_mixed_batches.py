"""Batches that are mixed of several loaders: every task learns from its own rows as if there were no others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import IterableDataset

from emloop_mtl import (
    BackboneHeadsModel,
    ColumnDataset,
    Head,
    Interleaved,
    JointLearning,
    MainLoop,
    MultiTaskDataset,
    MultiTaskModel,
    Task,
    TaskLoader,
)
from emloop_mtl.data import Batch, StreamWrapper, TaskStream
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import ScoreTasks, StopAfter

SIZES = {"a": 5, "b": 7, "c": 3}


def loader_of(task: str, **options: Any) -> TaskLoader:
    """The rows of a task; those of ``c`` have a source that the others lack, and no ``x``."""
    size = SIZES[task]
    generator = torch.Generator().manual_seed(size)
    name, width = ("z", 2) if task == "c" else ("x", 3)
    features = {name: torch.randn(size, width, generator=generator)}
    labels = {task: torch.randint(0, 3, (size,), generator=generator)}
    return TaskLoader(ColumnDataset(task, features, labels), {task: task}, batch_size=2, **options)


def make_modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "trunk": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)),
        "a": nn.Linear(4, 3),
        "b": nn.Linear(4, 3),
        "c": nn.Linear(2, 3),
    }


def make_tasks(**options: Any) -> list[Task]:
    trunk = {"name": "features", "module": "trunk", "inputs": "x"}
    return [
        Task(name, flow=[trunk, head], label=name, loss="cross_entropy", metrics=["accuracy"], **options)
        if name != "c"
        else Task(name, flow=[head], label=name, loss="cross_entropy", metrics=["accuracy"], weight=0.5, **options)
        for name in SIZES
        for head in [{"name": f"{name}_out", "module": name, "inputs": "z" if name == "c" else "features"}]
    ]


def make_model(tasks: list[Task] | None = None, **options: Any) -> MultiTaskModel:
    options = {"optimizer": {"class": "sgd", "lr": 0.1}, "device": "cpu", **options}
    return MultiTaskModel(make_tasks() if tasks is None else tasks, make_modules(), **options)


def mixed(batch_size: int = 4, **options: Any) -> TaskStream:
    return TaskStream([loader_of(task) for task in SIZES], Interleaved(batch_size, **options))


def train(model: MultiTaskModel, stream: TaskStream) -> list[dict[str, Any]]:
    return [
        model.run(batch, train=True) for batch in StreamWrapper(lambda: stream, prepare=model.prepare, name="train")
    ]


def own_rows(batch: Batch, task: str) -> Tensor:
    return batch.shares[task].host if task in batch.shares else torch.arange(batch.size or 0)


def test_training_on_mixed_batches_is_training_on_the_rows_of_each_task_to_the_bit() -> None:
    model, stream = make_model(), mixed()
    outputs = train(model, stream)
    modules = make_modules()
    optimizer = torch.optim.SGD([p for module in modules.values() for p in module.parameters()], lr=0.1)
    assert len(outputs) == 4
    for batch, output in zip(stream, outputs, strict=True):
        through_trunk = [task for task in batch.tasks if task != "c"]
        features = modules["trunk"](torch.cat([batch["x"][own_rows(batch, task)] for task in through_trunk]))
        parts = dict(zip(through_trunk, features.split([len(own_rows(batch, t)) for t in through_trunk]), strict=True))
        losses = {}
        for task in batch.tasks:
            rows = own_rows(batch, task)
            values = batch["z"][rows] if task == "c" else parts[task]
            losses[task] = cross_entropy(modules[task](values), batch[task][rows])
            assert torch.equal(output[f"{task}/loss"], losses[task])
        total = sum((0.5 * loss if task == "c" else loss for task, loss in losses.items()), torch.zeros(()))
        assert torch.equal(output["loss"], total)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            assert torch.equal(model.state_dict()[f"{name}.{key}"], value)


def test_what_is_filled_up_gets_into_no_module() -> None:
    class Root(nn.Module):
        """Infinite slope at the zeros that rows of other loaders are filled up with."""

        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3))

        def forward(self, z: Tensor) -> Tensor:
            assert (z != 0).all()
            return z.abs().sqrt().sum(1, keepdim=True) * self.factor

    tasks = make_tasks()
    model = MultiTaskModel(tasks, {**make_modules(), "c": Root()}, optimizer="sgd", device="cpu")
    for output in train(model, mixed()):
        assert output["loss"].isfinite()
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_outputs_have_the_rows_of_the_batch_and_zeros_where_a_task_is_not_about_them() -> None:
    model = make_model(make_tasks(action_outputs=["_input_"]))
    stream = mixed()
    batch = model.prepare(next(iter(stream)))
    outputs = model.run(batch, train=False)
    for task in "abc":
        rows = own_rows(batch, task)
        others = torch.ones(4, dtype=torch.bool).index_fill(0, rows, False)
        assert outputs[f"{task}/prob"].shape == (4, 3)
        assert outputs[f"{task}/prob"][others].eq(0).all()
        assert (
            outputs[f"{task}/prob"][rows].sum(1).allclose(torch.ones(len(rows)))
        )  # sums of 3 float32, 1e-8 by default


def test_missing_and_wrong_labels_are_found_among_the_rows_of_a_task() -> None:
    def loader(task: str, labels: list[int]) -> TaskLoader:
        data = ColumnDataset(task, {"x": torch.randn(len(labels), 3)}, {task: torch.tensor(labels)})
        return TaskLoader(data, {task: task}, batch_size=1, shuffle=False)

    tasks = make_tasks(missing_label=-100)[:2]
    model = MultiTaskModel(tasks, {key: make_modules()[key] for key in ("trunk", "a", "b")}, device="cpu")
    stream = TaskStream([loader("a", [0, -100, 2]), loader("b", [-100, -100, -100])], Interleaved(6))
    [batch] = StreamWrapper(lambda: stream, prepare=model.prepare)
    assert {task: rows.tolist() for task, rows in batch.rows.items()} == {"a": [0, 2], "b": []}
    outputs = model.run(batch, train=True)
    assert outputs["b/loss"] == 0
    scores = model.score({"s": stream})
    assert scores["a/a/s/loss"] == pytest.approx(float(model.run(batch, train=False)["a/loss"]), rel=1e-6)  # float32
    stream = TaskStream([loader("a", [0, 1]), loader("b", [0, 3])], Interleaved(4))
    with pytest.raises(DataError, match="task 'b', source 'b': .*label 3"):
        list(StreamWrapper(lambda: stream, prepare=model.prepare))


def test_a_loss_without_labels_sees_the_rows_of_its_task() -> None:
    def spread(outputs: Any, label: None) -> Tensor:
        return outputs["p_out"].square().mean()

    tasks = [
        Task("p", flow=[{"name": "p_out", "module": "p", "inputs": "x"}], loss=spread),
        Task("q", flow=[{"name": "q_out", "module": "q", "inputs": "x"}], label="y", loss="mse_loss"),
    ]
    modules = {"p": nn.Linear(2, 2), "q": nn.Linear(2, 1)}
    twins = copy.deepcopy(modules)
    x, y = torch.randn(6, 2), torch.randn(6, 1)
    loaders = [
        TaskLoader(ColumnDataset("p", {"x": x}), {"p": None}, batch_size=1, shuffle=False),
        TaskLoader(ColumnDataset("q", {"x": x}, {"y": y}), {"q": "y"}, batch_size=1, shuffle=False),
    ]
    model = MultiTaskModel(tasks, modules, device="cpu")
    [output] = train(model, TaskStream(loaders, Interleaved(12)))
    assert torch.equal(output["p/loss"], twins["p"](x).square().mean())
    assert torch.equal(output["q/loss"], mse_loss(twins["q"](x), y))
    scores = model.score({"s": TaskStream(loaders, Interleaved(12))})
    assert {"p/p/s/loss", "q/q/s/loss"} < scores.keys()


def test_tokens_of_mixed_batches_have_labels_of_their_own() -> None:
    def loader(name: str, lengths: tuple[int, ...]) -> TaskLoader:
        words = [torch.arange(1, length + 1) for length in lengths]
        data = ColumnDataset(name, {"t": words}, {name: [word % 3 for word in words]})
        return TaskLoader(data, {name: name}, batch_size=1, shuffle=False)

    embed = {"name": "e", "module": "embed", "inputs": "t"}
    tasks = [
        Task(n, flow=[embed, {"name": f"{n}_o", "module": n, "inputs": "e"}], label=n, loss="cross_entropy", tokens="t")
        for n in "uv"
    ]
    modules: dict[str, nn.Module] = {"embed": nn.Embedding(9, 4), "u": nn.Linear(4, 3), "v": nn.Linear(4, 3)}
    loaders = [loader("u", (2, 4)), loader("v", (3, 1))]
    model = MultiTaskModel(tasks, modules, device="cpu")
    together = model.score({"s": TaskStream(loaders, Interleaved(4))})
    apart = model.score({"s": TaskStream(loaders)})
    for name in "uv":
        # means over the same tokens in other groups: float32 of some 4 terms
        mean = [float(model.run(batch, train=False)[f"{name}/loss"]) for batch in loaders["uv".index(name)]]
        assert len(mean) == 2
        assert together.keys() == apart.keys()
        assert together[f"{name}/{name}/s/loss"] == pytest.approx(
            sum(loss * len(batch["t"][0]) for loss, batch in zip(mean, loaders["uv".index(name)], strict=True))
            / sum(len(batch["t"][0]) for batch in loaders["uv".index(name)]),
            rel=1e-5,
        )


# -------------------------------------------------------------------------------------------------------- scores


def test_scores_and_predictions_are_those_of_each_loader() -> None:
    model = make_model()
    model.network.eval()
    apart = model.score({"s": TaskStream([loader_of(task) for task in SIZES])})
    together = model.score({"s": mixed()})
    assert together.keys() == apart.keys()
    for name, value in apart.items():
        assert together[name] == pytest.approx(value, rel=1e-5), name  # float32 losses, averaged in other groups
    for task, prediction in model.predict(mixed()).items():
        alone = model.predict(loader_of(task))[task]
        assert sorted(prediction.uids) == sorted(alone.uids) == list(range(SIZES[task]))
        order = [prediction.uids.index(uid) for uid in alone.uids]
        assert prediction.probs is not None
        assert alone.probs is not None
        # one row more or less in a product of matrices may round its last digits otherwise
        assert abs(prediction.probs[order] - alone.probs).max() < 1e-6


def test_a_task_of_several_loaders_is_scored_under_their_names() -> None:
    loaders = [loader_of("a", name=name) for name in ("m", "n")] + [loader_of("b")]
    model = make_model(make_tasks()[:2])
    stream = TaskStream(loaders, Interleaved(4))
    batch = next(iter(stream))
    assert own_rows(batch, "a").tolist() == [0, 1, 2]
    scores = model.score({"s": stream})
    assert {"a/m+n/s/accuracy", "a/m+n/s/loss", "b/b/s/accuracy"} < scores.keys()
    assert stream.data_name(loaders[0], "a") == "m+n"


def test_heads_learn_from_loaders_that_all_have_labels_for_them() -> None:
    """Whose rows are those of every task, so that heads alike could be run as one but for the mixing."""
    names = ("k", "l", "m")

    def loader(name: str, size: int) -> TaskLoader:
        generator = torch.Generator().manual_seed(size)
        labels = {task: torch.randint(0, 3, (size,), generator=generator) for task in names}
        data = ColumnDataset(name, {"x": torch.randn(size, 3, generator=generator)}, labels)
        return TaskLoader(data, {task: task for task in names}, batch_size=2)

    weights = []
    for stack_tasks in (True, False):
        torch.manual_seed(0)
        modules = {name: nn.Linear(3, 3) for name in names}
        flow = [{"name": f"{name}_out", "module": name, "inputs": "x"} for name in names]
        tasks = [Task(n, flow=[f], label=n, loss="cross_entropy") for n, f in zip(names, flow, strict=True)]
        begun = copy.deepcopy(modules["k"].weight)
        model = MultiTaskModel(tasks, modules, optimizer={"class": "sgd", "lr": 0.1}, stack_tasks=stack_tasks)
        train(model, TaskStream([loader("first", 5), loader("second", 7)], Interleaved(4)))
        weights.append(model.state_dict())
        assert not torch.equal(weights[-1]["k.weight"], begun)
    for name, weight in weights[1].items():
        assert torch.equal(weights[0][name], weight), name


class Mixing(MultiTaskDataset):
    def loaders(self) -> list[TaskLoader]:
        return [loader_of(task, split=split) for task in SIZES for split in ("train", "valid")]


def test_the_numbers_of_an_epoch_are_those_that_were_announced(tmp_path: Path) -> None:
    dataset = Mixing(streams={name: {"scheduler": Interleaved(4)} for name in ("train", "valid")})
    hook = ScoreTasks(train=True)
    loop = MainLoop(make_model(), dataset, [hook, StopAfter(epochs=2)], extra_streams=["valid"], output_dir=tmp_path)
    loop.run_training()
    for stream in ("train", "valid"):
        announced = set(hook._variables(stream) or ())
        assert {"a/a/loss", "c/c/accuracy"} < announced
        assert announced == loop.epoch_data[stream].keys()
    assert loop.position.samples == 2 * sum(SIZES.values())


# ------------------------------------------------------------------------------------------- backbones with heads


def heads_model(kind: Callable[..., BackboneHeadsModel], **options: Any) -> BackboneHeadsModel:
    torch.manual_seed(0)
    heads = {task: Head(nn.Linear(4, 3), loss="cross_entropy", label="y", metrics=["accuracy"]) for task in "ab"}
    return kind(
        nn.Linear(3, 4), heads, arg_name_mapping={"backbone": {"x": "input"}}, optimizer="sgd", device="cpu", **options
    )


def heads_loaders() -> list[TaskLoader]:
    loaders = []
    for task in "ab":
        generator = torch.Generator().manual_seed(SIZES[task])
        x = torch.randn(SIZES[task], 3, generator=generator)
        data = ColumnDataset(task, {"x": x}, {"y": torch.randint(0, 3, (SIZES[task],), generator=generator)})
        loaders.append(TaskLoader(data, {task: "y"}, batch_size=2))
    return loaders


@pytest.mark.parametrize("kind", [BackboneHeadsModel, JointLearning])
def test_heads_learn_from_their_rows_whether_or_not_a_source_tells_them(kind: Any) -> None:
    models = [heads_model(kind), heads_model(kind, task_source="which")]
    for model, source in zip(models, (None, "which"), strict=True):
        train(model, TaskStream(heads_loaders(), Interleaved(4, task_source=source)))
    one, other = (model.state_dict() for model in models)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not torch.equal(one["a.weight"], heads_model(kind).state_dict()["a.weight"])


def test_heads_read_nothing_that_is_filled_up() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
            return self.layer(x if extra is None else x + extra)  # type: ignore[no-any-return]

    heads = {task: Head(nn.Linear(4, 3), loss="cross_entropy", label="y") for task in "ab"}
    model = BackboneHeadsModel(Both(), heads, optimizer="sgd", device="cpu")
    with_extra, without = heads_loaders()
    with_extra.dataset.add_features({"extra": torch.zeros(SIZES["a"], 3)})
    train(model, TaskStream([with_extra, without]))
    with pytest.raises(DataError, match="the backbone reads source 'extra', which loader 'b' does not hold"):
        train(model, TaskStream([with_extra, without], Interleaved(4)))
    without.dataset.add_features({"task": torch.zeros(SIZES["b"], dtype=torch.int64)})
    with_extra.dataset.remove_feature("extra")
    with pytest.raises(DataError, match="source 'task' tells the head of each row, but loader 'a' does not hold it"):
        train(model, TaskStream([with_extra, without], Interleaved(4)))


# ------------------------------------------------------------------------------------------------ what is refused


def test_an_action_that_reads_a_source_which_a_loader_of_its_tasks_lacks_names_both() -> None:
    class Samples(IterableDataset[Any]):
        def __init__(self, sources: tuple[str, ...]) -> None:
            self.sources = sources

        def __iter__(self) -> Iterator[dict[str, Any]]:
            return ({**{name: torch.randn(3) for name in self.sources}, "a": 1} for _ in range(3))

    loaders = [
        TaskLoader(Samples(sources), {"a": "a"}, name=name, batch_size=2)
        for name, sources in (("full", ("x", "w")), ("bare", ("w",)))
    ]
    model = make_model(make_tasks()[:1])
    with pytest.raises(DataError, match="action 'features' reads source 'x', which loader 'bare' does not hold"):
        train(model, TaskStream(loaders, Interleaved(4)))


def test_flows_are_not_compiled_for_mixed_batches() -> None:
    model = make_model(compile={"backend": "eager"})
    batch = model.prepare(next(iter(mixed())))
    with pytest.raises(ConfigError, match="compile: flows are not compiled for batches mixed of several loaders"):
        model.run(batch, train=True)


def test_loaders_without_tasks_go_together_where_they_hold_the_same() -> None:
    def loader(name: str, **features: Tensor) -> TaskLoader:
        return TaskLoader(ColumnDataset(name, features, {"a": torch.zeros(3, dtype=torch.int64)}), batch_size=1)

    model = make_model(make_tasks()[:1])
    train(model, TaskStream([loader("m", x=torch.randn(3, 3)), loader("n", x=torch.randn(3, 3))], Interleaved(4)))
    with pytest.raises(ConfigError, match="loaders 'm' and 'n' name no tasks, so that these cannot be told"):
        TaskStream([loader("m", x=torch.randn(3, 3)), loader("n", w=torch.randn(3, 3))], Interleaved(4))
    samples = [TaskLoader([{name: 1.0}] * 3, name=name, batch_size=1) for name in "mn"]
    with pytest.raises(DataError, match="loaders 'm' and 'n' name no tasks, so that these cannot be told"):
        next(iter(TaskStream(samples, Interleaved(4))))


def test_a_task_may_be_removed_while_mixed_batches_of_it_are_on_their_way() -> None:
    model, twin = make_model(), make_model()
    batch, other = (each.prepare(next(iter(mixed()))) for each in (model, twin))
    model.remove_task("c")
    del other.tasks["c"]
    outputs, expected = model.run(batch, train=False), twin.run(other, train=False)
    assert [name for name in outputs if name.endswith("/loss")] == ["a/loss", "b/loss"]
    assert torch.equal(outputs["loss"], expected["loss"])
