"""What the benchmarks compare is the same work. How long it takes is not looked at here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import against_peers, agreement, by_hand, draws, engine, jobs, suite
from benchmarks.__main__ import PAGE, RESULTS, main
from benchmarks.agreement import DifferentWorkError, check
from benchmarks.rows import ratio_row, table, value_row, with_table
from benchmarks.sizes import Sizes
from benchmarks.workloads import OPTIMIZERS, WORKLOADS, make_batches, make_modules

TINY = Sizes(rounds=2, share=0.001, epochs=1, samples=(64, 128), draws=100, more_hooks=1, more_tasks=1)


@pytest.fixture(autouse=True)
def threads() -> Any:
    """Leave torch with as many threads as it had."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_the_engine_trains_as_the_loop_by_hand_does(name: str, optimizer: str) -> None:
    found = check(WORKLOADS[name], optimizer)
    assert found.difference == 0 if found.same_as else found.difference <= agreement.ROUNDING


def test_a_loop_that_does_other_work_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "sgd", {"lr": 0.01})
    train = engine.train

    def other(*arguments: Any, **settings: Any) -> Any:
        OPTIMIZERS["sgd"]["lr"] = 0.0101
        return train(*arguments, **settings)

    monkeypatch.setattr(engine, "train", other)
    with pytest.raises(DifferentWorkError, match="workload A, sgd: the final weights differ"):
        check(WORKLOADS["A"], "sgd")


def test_other_losses_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    train = engine.train

    def other(*arguments: Any, **settings: Any) -> Any:
        found = train(*arguments, **settings)
        found.losses[-1] *= 1.00001
        return found

    monkeypatch.setattr(engine, "train", other)
    with pytest.raises(DifferentWorkError, match="mean loss of epoch 2"):
        check(WORKLOADS["A"], "sgd")


def test_every_process_makes_the_same_work() -> None:
    workload = WORKLOADS["B"]
    for one, other in zip(make_batches(workload, "train"), make_batches(workload, "train"), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    weights = make_modules(workload).state_dict()
    more = make_modules(workload, more_tasks=2).state_dict()
    assert all(torch.equal(value, more[name]) for name, value in weights.items())
    assert len(more) == len(weights) + 4  # weight and bias of two heads


def test_losses_and_scores_by_hand_are_those_of_the_formulas(tmp_path: Path) -> None:
    """One step of plain gradient descent, computed in float64 from the definitions."""
    workload = WORKLOADS["C 4"]
    found = by_hand.train(workload, "sgd", 1, 1, tmp_path)
    modules = make_modules(workload).double()
    batch = make_batches(workload, "train")[0]

    def losses(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        hidden = modules["trunk"](batch["x"].double())
        logs = [modules[f"head_{task}"](hidden).log_softmax(1) for task in range(4)]
        return [-log.gather(1, batch[f"label_{task}"][:, None]).mean() for task, log in enumerate(logs)]

    total = torch.stack(losses(batch)).sum()
    total.backward()
    # Float32 rounds a loss of about 9 by less than 1e-6, and a step of 0.01 times a gradient below 1 by less than 1e-8;
    # weights below 1 themselves are rounded to 6e-8.
    assert abs(found.losses[0] - total.item()) < 2e-6
    with torch.no_grad():
        for parameter in modules.parameters():
            parameter -= 0.01 * parameter.grad
        for name, value in modules.state_dict().items():
            assert (found.weights[name] - value).abs().max() < 1e-7
        valid = make_batches(workload, "valid")
        mean = torch.stack([losses(batch)[2] for batch in valid]).mean()
    assert abs(found.scores["task_2/loss"] - mean.item()) < 1e-6


@pytest.mark.long
def test_the_suite_yields_a_line_for_everything() -> None:
    run = suite.parts()
    titles = [row.title for part in ("A", "A2", "B", "hooks", "more tasks") for row in run[part](jobs.here, TINY)]
    assert titles[0] == "A, sgd: MLP 64-64-10, ready batches"
    assert len(titles) == 3 * 6 + 2 + 1  # three workloads with two optimizers and three lines each
    rows = list(run["scoring"](jobs.here, TINY))
    assert [row.target for row in rows] == [1.1] * 4 + [suite.MOST_GROWTH_KB] * 3
    rows = list(run["draws"](jobs.here, TINY))
    assert [row.title.split(",")[0] for row in rows] == [f"a draw by {kind}" for kind in draws.KINDS]


@pytest.mark.long
def test_a_job_is_done_in_a_process_of_its_own() -> None:
    job = jobs.train_job("engine", "A", "sgd", steps=4, epochs=2)
    elsewhere, here = jobs.in_process(job), jobs.here(job)
    assert elsewhere.keys() == here.keys()
    assert (elsewhere["weights"], elsewhere["loss"]) == (here["weights"], here["loss"])


def test_kinds_take_turns_and_their_order_alternates() -> None:
    order: list[str] = []

    def run(job: jobs.Job) -> jobs.Result:
        order.append(job["job"])
        return {"number": len(order)}

    found = jobs.in_turns(run, {"a": {"job": "a"}, "b": {"job": "b"}}, 3)
    assert "".join(order) == "abbaab"
    assert [each["number"] for each in found["b"]] == [2, 3, 6]


def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    row = ratio_row("A", [10.0, 20.0, 40.0], [11.0, 28.0, 42.0], ("by hand", "engine"), target=1.1)
    assert (row.value, row.low, row.high) == (1.1, 1.05, 1.4)
    assert row.times == {"by hand": 20.0, "engine": 28.0}
    assert row.holds
    assert not value_row("B", [3.0, 4.0, 8.0], "µs", 3.5).holds
    assert value_row("C", [3.0], "µs", None).holds is None


def test_the_table_is_markdown() -> None:
    rows = [
        ratio_row("A", [10.0], [11.0], ("by hand", "engine"), 1.2).as_data(),
        value_row("import", [0.25, 0.25, 0.5], "s", 0.2).as_data(),
    ]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(rows).splitlines()]
    assert lines[0] == ["", "by hand", "measured", "ratio", "from", "to", "at most", "holds"]
    assert lines[2] == ["A", "10.0", "11.0", "1.10", "1.10", "1.10", "1.20", "yes"]
    assert lines[3] == ["import", "", "", "0.25 s", "0.25", "0.50", "0.20", "no"]
    assert len({len(line) for line in table(rows).splitlines()}) == 1


def test_the_table_of_the_page_is_replaced() -> None:
    page = "# P\n\n| kept |\n\n## Results\n\nText.\n\n| old |\n|---|\n\n| kept |\n"
    assert with_table(page, "| new |") == "# P\n\n| kept |\n\n## Results\n\nText.\n\n| new |\n\n| kept |\n"


def test_a_part_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--only", "D"])
    assert end.value.code == 2
    assert "invalid choice: 'D'" in capsys.readouterr().err


def test_libraries_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against_peers, "PEERS", {"nothing": "there-is-no-such-library"})
    rows = list(suite.parts()["peers"](jobs.here, TINY))
    assert [(row.title, row.value, row.holds) for row in rows] == [
        ("there-is-no-such-library: not installed", None, None)
    ]


def test_other_work_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(workload: Any, optimizer: str) -> Any:
        raise DifferentWorkError(f"workload {workload.name}")

    monkeypatch.setattr(suite, "check", other)
    with pytest.raises(SystemExit, match="not the same work: workload B joint"):
        main(["--quick", "--only", "B joint"])


def test_the_kept_results_have_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--markdown"])
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    shown = table(kept["rows"])
    assert capsys.readouterr().out == f"{shown}\n"
    page = PAGE.read_text(encoding="utf-8")
    assert shown in page
    assert with_table(page, shown) == page
    assert {"processor", "threads", "python", "torch", "numpy", "emloop_mtl"} <= kept["environment"].keys()
