"""A model whose flows torch compiles."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from emloop_mtl.data.batch import Batch
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.tasks import Action, Task

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    # torch's own compiler imports parts of torch that warn of themselves.
    pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning"),
]


def counting(**options: Any) -> dict[str, Any]:
    """Compile without making machine code, and count the graphs; a break in a graph is an error."""
    return {"backend": CompileCounterWithBackend("aot_eager"), "fullgraph": True, **options}


def make_model(names: str = "abc", compile: Any = False, **options: Any) -> MultiTaskModel:
    torch.manual_seed(0)
    modules = {
        "trunk": nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4)),
        **{f"{name}_head": nn.Linear(4, 2) for name in names},
    }
    tasks = [
        Task(
            name,
            flow=[Action("features", "trunk", "x"), Action(f"{name}_out", f"{name}_head", "features")],
            label=name,
            loss="cross_entropy",
            action_outputs=["features"],
        )
        for name in names
    ]
    options = {"optimizer": {"class": "adam", "lr": 0.1}, "stack_tasks": False, **options}
    return MultiTaskModel(tasks, modules, device="cpu", compile=compile, **options)


def make_batch(tasks: str, rows: int = 8, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = {task: torch.randint(2, (rows,), generator=generator) for task in tasks}
    uids = {"uid": [f"{seed}-{row}" for row in range(rows)]}
    return Batch({"x": torch.randn(rows, 3, generator=generator), **labels, **uids}, tasks={t: t for t in tasks})


def test_each_set_of_tasks_is_one_graph() -> None:
    compile = counting()
    model = make_model(compile=compile)
    sets = ["a", "b", "c", "ab", "abc"]
    for seed in range(3):
        for tasks in sets:
            model.run(make_batch(tasks, seed=seed), train=True)
    assert compile["backend"].frame_count == len(sets)
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.long
def test_there_may_be_more_sets_of_tasks_than_torch_compiles_a_function_for() -> None:
    names = "abcdefghijkl"
    assert len(names) > torch._dynamo.config.recompile_limit
    compile = counting()
    model = make_model(names, compile)
    for task in names:
        model.run(make_batch(task), train=True)
    assert compile["backend"].frame_count == len(names)


def test_a_smaller_last_batch_costs_one_graph_more_and_no_other_size_any() -> None:
    compile = counting()
    model = make_model(compile=compile)
    for rows in (8, 8, 5, 6, 8, 3):
        model.run(make_batch("a", rows), train=True)
    assert compile["backend"].frame_count == 2


def test_evaluation_is_compiled_once_whatever_is_read() -> None:
    class Stream:
        def __init__(self, *outputs: str) -> None:
            self.outputs = frozenset(outputs)

    compile = counting()
    model = make_model(compile=compile)
    for stream in (Stream("loss"), Stream("a/prob"), Stream("a/pred", "loss")):
        model.run(make_batch("a"), train=False, stream=stream)  # type: ignore[arg-type]
    assert compile["backend"].frame_count == 1


@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"stack_tasks": True}], ids=str)
def test_numbers_are_those_of_a_model_that_is_not_compiled(options: Any) -> None:
    plain, compiled = make_model(**options), make_model(compile=counting(), **options)
    for seed, tasks in enumerate(["abc"] * 3 if options.get("stack_tasks") else ["ab", "c", "abc"]):
        ours = compiled.run(make_batch(tasks, seed=seed), train=True)
        theirs = plain.run(make_batch(tasks, seed=seed), train=True)
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            # The graph's backward pass sums up in another order: units in the last digit of what precision computes in
            tolerance = {"rtol": 0.02, "atol": 0.02} if "precision" in options else {"rtol": 1e-5, "atol": 1e-6}
            torch.testing.assert_close(ours[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_weights_keep_their_names_and_a_run_goes_on_from_one_that_was_not_compiled() -> None:
    whole, first, second = make_model(), make_model(), make_model(compile=counting())
    for seed in range(2):
        for model in (whole, first):
            model.run(make_batch("ab", seed=seed), train=True)
    assert second.state_dict().keys() == first.state_dict().keys()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.load_training_state_dict(copy.deepcopy(first.training_state_dict()))
    for seed in range(2, 4):
        for model in (whole, second):
            model.run(make_batch("ab", seed=seed), train=True)
    for name, value in whole.state_dict().items():
        # two steps of float32, in another order of summation
        torch.testing.assert_close(second.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_tasks_that_are_added_are_compiled_too() -> None:
    compile = counting()
    model = make_model("ab", compile)
    model.run(make_batch("a"), train=True)
    head = {"c_head": nn.Linear(4, 2)}
    flow = [Action("features", "trunk", "x"), Action("c_out", "c_head", "features")]
    model.network.add_tasks(Task("c", modules=head, flow=flow, label="c", loss="cross_entropy"))
    assert model.run(make_batch("c"), train=True).keys() >= {"loss", "c/loss"}
    assert compile["backend"].frame_count == 2


def test_a_copy_of_a_model_runs_modules_of_its_own() -> None:
    compile = counting()
    model = make_model(compile=compile)
    expected = model.run(make_batch("a"), train=False)["loss"].item()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.network.parameters():
            parameter.zero_()
    for tasks in ("a", "b"):
        # All outputs are 0, so both classes have the probability 0.5.
        assert twin.run(make_batch(tasks), train=False)["loss"].item() == pytest.approx(math.log(2))
    assert model.run(make_batch("a"), train=False)["loss"].item() == expected
    assert compile["backend"].frame_count == 3


class Whole(nn.Module):
    """Reads what it likes from the batch."""

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        found: torch.Tensor = batch["_input_"]["x"]
        return found


class Lengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, texts: list[str]) -> torch.Tensor:
        made: torch.Tensor = self.layer(torch.tensor([[float(len(text))] for text in texts]))
        return made


@pytest.mark.parametrize(
    ("modules", "flow", "reason"),
    [
        (
            {"whole": Whole(), "head": nn.Linear(3, 2)},
            [Action("x2", "whole", None), Action("out", "head", "x2")],
            "a module gets the whole batch",
        ),
        ({"head": Lengths()}, [Action("out", "head", "uid")], "the source 'uid' is a list"),
    ],
)
def test_what_is_no_tensor_stays_out_of_the_graph(
    modules: Any, flow: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    compile = counting()
    task = Task("a", flow=flow, label="a", loss="cross_entropy")
    with caplog.at_level(logging.WARNING):
        model = MultiTaskModel([task], modules, device="cpu", compile=compile, optimizer={"class": "sgd", "lr": 0.1})
        for seed in range(3):
            model.run(make_batch("a", seed=seed), train=True)
    assert compile["backend"].frame_count == 0
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [f"compile: the flow of a is run without being compiled: {reason}"]


def test_what_the_compiler_refuses_is_told_with_its_tasks() -> None:
    model = make_model(compile={"backend": "eager"})
    batch = make_batch("ab")
    batch["x"] = batch["x"][:, :2]
    with pytest.raises(torch._dynamo.exc.TorchRuntimeError) as caught:
        model.run(batch, train=True)
    assert caught.value.__notes__ == ["in the compiled flow of a, b; with compile: false it tells the action"]


def test_an_error_of_a_module_is_told_as_without_compiling() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("of its own")

    task = Task("a", modules={"head": Broken()}, flow=[Action("out", "head", "x")], label="a", loss="cross_entropy")
    model = MultiTaskModel(
        [task], {"other": nn.Linear(1, 1)}, device="cpu", compile={"backend": "eager"}, optimizer="adam"
    )
    with pytest.raises(ValueError, match="of its own") as caught:
        model.run(make_batch("a"), train=True)
    assert caught.value.__notes__ == ["in task 'a', action 'out', module 'head'"]


def test_a_missing_source_is_told_as_without_compiling() -> None:
    model = make_model(compile=counting())
    batch = make_batch("a")
    del batch["x"]
    with pytest.raises(DataError, match="holds no source 'x'"):
        model.run(batch, train=True)


@pytest.mark.parametrize(
    ("compile", "message", "path"),
    [
        ({"fulgraph": True}, "unknown argument 'fulgraph'; did you mean 'fullgraph'", ("compile", "fulgraph")),
        ({"fullgraph": "no"}, "fullgraph must be true or false, not 'no'", ("compile", "fullgraph")),
        ({"backend": ["eager"]}, "backend must be a name", ("compile", "backend")),
        ({"options": 3}, "options must be a mapping, not 3", ("compile", "options")),
        ({"mode": "nope"}, "Unrecognized mode=nope", ("compile",)),
        ({"backend": "nope"}, "Invalid backend: 'nope'", ("compile",)),
        (
            {"options": {"max_autotun": 1}},
            "unknown option 'max_autotun'; did you",
            ("compile", "options", "max_autotun"),
        ),
        ("yes", "compile must be true, false, or arguments of torch.compile, not 'yes'", ("compile",)),
    ],
)
def test_wrong_settings_are_refused_in_one_line(compile: Any, message: str, path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_model(compile=compile)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


@pytest.mark.soak
def test_torchs_own_compiler_makes_code_that_learns_the_same() -> None:
    plain, compiled = make_model("a"), make_model("a", compile=True)
    for seed in range(2):
        losses = [model.run(make_batch("a", seed=seed), train=True)["loss"] for model in (plain, compiled)]
        # Operations are fused, which rounds otherwise in the last of float32's digits.
        torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
