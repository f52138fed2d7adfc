"""What is read so that a model can be tried before its training, and who reads it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, get_worker_info

from emloop_mtl import AbstractDataset, Action, Batch, MainLoop, MultiTaskModel, Task, TaskLoader
from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.checkpoint import newest_checkpoint
from emloop_mtl.constants import CHECKPOINT_FOLDER
from emloop_mtl.errors import ConfigError, DataError
from emloop_mtl.hooks import Evaluate, SaveEvery, StopAfter
from emloop_mtl.schedulers import Interleaved, RoundRobin, Weighted
from emloop_mtl.testing import RecordEvents
from emloop_mtl.utils.random import permutation

from .trial import ROWS, SETTINGS, Counted, DatasetOf, columns, loader, make_model, train

DOES_NOT_FIT = "shapes cannot be multiplied"


class Walked(IterableDataset[Any]):
    """Rows that come in their own order, and the processes that read them."""

    def __init__(self, width: int = 4) -> None:
        self.walks = 0
        self.width = width

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.walks += 1
        for index in range(ROWS):
            yield {"x": torch.randn(self.width), "y": index % 3}


def make_loop(data: Any, model: MultiTaskModel | None = None, *hooks: Any, **options: Any) -> MainLoop:
    return MainLoop(model or make_model(), data, [*hooks, StopAfter(epochs=1)], **options)


def tried(data: Any, **settings: Any) -> None:
    make_loop(DatasetOf(loader(data, **settings))).try_batches()


def test_rows_that_are_read_here_are_tried_and_draw_nothing_from_others() -> None:
    data, model = Counted(), make_model()
    before = torch.get_rng_state()
    make_loop(DatasetOf(loader(data)), model).try_batches()
    assert data.read == permutation(ROWS, 0, "Counted", "train", 0)[:8].tolist()  # those of the first batch
    assert torch.equal(torch.get_rng_state(), before)


class Tells(Counted):
    """Tells of the process that reads a row."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __getitem__(self, index: int) -> dict[str, Any]:
        (self.folder / f"{index} {os.getpid()}").touch()
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_rows_that_other_processes_read_are_read_by_another_one_that_ends(num_workers: int, tmp_path: Path) -> None:
    data = Tells(tmp_path)
    tried(data, num_workers=num_workers)
    assert data.read == []
    told = [path.name.split() for path in tmp_path.iterdir()]
    rows, processes = {int(row) for row, _ in told}, {int(process) for _, process in told}
    assert rows == set(permutation(ROWS, 0, "Tells", "train", 0)[:8].tolist())
    assert len(processes) == 1
    assert os.getpid() not in processes
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [0, 1, 2, "auto"])
def test_an_iterable_is_walked_where_its_batches_are_read(num_workers: Any) -> None:
    data = Walked()
    tried(data, num_workers=num_workers)
    assert data.walks == (num_workers in (0, "auto"))
    assert multiprocessing.active_children() == []
    with pytest.raises(RuntimeError, match=DOES_NOT_FIT):
        tried(Walked(3), num_workers=num_workers)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("data", [Counted(), Walked()], ids=["rows", "iterable"])
def test_what_is_read_for_it_does_not_count_where_the_number_of_processes_is_found_out(
    data: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = loader(data, num_workers="auto")
    loop = make_loop(DatasetOf(rows))
    with caplog.at_level(logging.INFO):
        for _ in range(6):  # more often than batches are timed
            loop.try_batches()
            loop._is_tried = False
        assert "num_workers auto" not in caplog.text
        for _ in range(2):
            list(rows)
        assert caplog.text.count("num_workers auto is") == 1


def test_columns_are_tried_whoever_reads_them() -> None:
    with pytest.raises(RuntimeError, match=DOES_NOT_FIT):
        make_loop(DatasetOf(loader(num_workers=2)), make_model(trunk=nn.Linear(3, 5))).try_batches()


class Wrong(Counted):
    """Rows that are of no use, in one way or another."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.what == "fails":
            raise OSError("the disk is gone")
        row = super().__getitem__(index)
        if self.what == "label":
            row["y"] = 3
        else:
            del row[self.what]
        return row


MISTAKES = {
    "x": "stream 'train', loader 'Wrong': task 'kind', action 'features': the batch holds no source 'x'",
    "y": "stream 'train', loader 'Wrong': task 'kind': the batch lacks the label source 'y'",
    "label": "stream 'train', loader 'Wrong': task 'kind', source 'y': label 3 in row 0 is out of range 0..2",
    "fails": "the disk is gone",
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_in_rows_are_told_before_any_hook_begins(what: str, num_workers: int) -> None:
    record = RecordEvents()
    with pytest.raises(OSError if what == "fails" else DataError) as caught:
        train(make_model(), loader(Wrong(what), num_workers=num_workers), hooks=[record])
    assert MISTAKES[what] in str(caught.value)
    assert set(record.names) <= {"register_mainloop", "after_training"}
    assert multiprocessing.active_children() == []


def test_rows_that_make_no_batch_are_told_with_stream_and_loader() -> None:
    rows = loader(Counted(), collate=lambda samples: samples)
    with pytest.raises(DataError, match="^stream 'train': loader 'Counted': collate returned a list"):
        make_loop(DatasetOf(rows)).try_batches()


def test_a_source_named_like_an_output_is_told_before_any_hook_begins() -> None:
    record, data = RecordEvents(), Written(rows(loss=torch.ones(8)))
    with pytest.raises(DataError, match="^stream 'train': 'loss': both a source and an output of the model"):
        make_loop(data, None, record).run_training()
    assert set(record.names) <= {"register_mainloop", "after_training"}


def two_tasks(trunk: nn.Module, heads: str = "ab") -> MultiTaskModel:
    tasks = [Task(n, {}, [Action("f", "trunk", "x"), Action(n + "_out", n, "f")], "y", "cross_entropy") for n in heads]
    return MultiTaskModel(tasks, {"trunk": trunk, **{name: nn.Linear(5, 3) for name in heads}}, **SETTINGS)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("is_walked", [False, True])
def test_loaders_that_are_mixed_are_read_by_whom_they_are_read_later(is_walked: bool, num_workers: int) -> None:
    class Eight(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert len(x) == 8, "a batch of another size"
            return super().forward(x)

    data = Walked() if is_walked else Counted()
    loaders = [
        loader(tasks={"a": "y"}, name="a"),
        loader(data, tasks={"b": "y"}, name="b", num_workers=num_workers),
    ]
    mixed = DatasetOf(*loaders, streams={"train": {"scheduler": Interleaved(8)}})
    loop = make_loop(mixed, two_tasks(Eight(4, 5)))
    loop.try_batches()
    assert bool(data.walks if isinstance(data, Walked) else data.read) == (num_workers == 0)
    with pytest.raises(RuntimeError, match=DOES_NOT_FIT):
        make_loop(mixed, two_tasks(Eight(3, 5))).try_batches()
    assert multiprocessing.active_children() == []


class Wider(RoundRobin):
    """Gives each batch what no loader holds."""

    def steps(self, *args: Any, **options: Any) -> Iterator[Any]:
        for step in super().steps(*args, **options):
            for batch in step:
                batch["wide"] = torch.cat([batch["x"], batch["x"]], 1)
            yield step


def wide_model(width: int = 8, second: int = 5) -> MultiTaskModel:
    flows = {name: [Action("f", "trunk", "wide"), Action(name + "_out", name, "f")] for name in "ab"}
    tasks = [Task(name, {}, flow, "y", "cross_entropy") for name, flow in flows.items()]
    modules = {"trunk": nn.Linear(width, 5), "a": nn.Linear(5, 3), "b": nn.Linear(second, 3)}
    return MultiTaskModel(tasks, modules, **SETTINGS)


def test_what_a_scheduler_of_ones_own_makes_of_batches_is_tried_for_every_loader() -> None:
    loaders = [loader(Counted(), tasks={name: "y"}, name=name) for name in "ab"]
    data = DatasetOf(*loaders, streams={"train": {"scheduler": Wider()}})
    loop = make_loop(data, wide_model())
    loop.run_training()
    assert loop.end == "finished"
    with pytest.raises(RuntimeError, match=DOES_NOT_FIT) as caught:
        make_loop(data, wide_model(4)).try_batches()
    assert "in task 'a', action 'f', module 'trunk'" in caught.value.__notes__
    with pytest.raises(RuntimeError, match=DOES_NOT_FIT) as caught:
        make_loop(data, wide_model(second=6)).try_batches()
    assert "in task 'b', action 'b_out', module 'b'" in caught.value.__notes__


class WiderMix(Interleaved):
    """Gives each mixed batch what no loader holds."""

    def steps(self, *args: Any, **options: Any) -> Iterator[Any]:
        for step in super().steps(*args, **options):
            for part in step:
                part["wide"] = torch.cat([part["x"], part["x"]], 1)
            yield step


def test_what_is_made_of_mixed_batches_is_tried() -> None:
    loaders = [loader(Counted(), tasks={name: "y"}, name=name) for name in "ab"]
    data = DatasetOf(*loaders, streams={"train": {"scheduler": WiderMix(8)}})
    make_loop(data, wide_model()).try_batches()
    with pytest.raises(RuntimeError, match=DOES_NOT_FIT):
        make_loop(data, wide_model(4)).try_batches()


def test_of_a_scheduler_of_ones_own_as_many_batches_are_read_as_there_are_loaders() -> None:
    class First(Wider):
        """Gives the batches of one loader before those of the other."""

        def picks(self, lengths: Any, **options: Any) -> Any:
            for index, length in enumerate(lengths):
                for _ in range(length):
                    yield (index,)

    first, second = Counted(), Counted()
    loaders = [loader(each, tasks={name: "y"}, name=name) for each, name in ((first, "a"), (second, "b"))]
    data = DatasetOf(*loaders, streams={"train": {"scheduler": First()}})
    make_loop(data, wide_model(second=6)).try_batches()
    assert len(first.read) == 16
    assert second.read == []
    stream = data.stream("train")
    assert stream is not None
    assert [batch.data_name for batch in stream().first_batches()] == ["a"]


def rows(width: int = 4, **sources: Any) -> dict[str, Any]:
    return {"x": torch.randn(8, width), "y": torch.arange(8) % 3, **sources}


class Written(AbstractDataset):
    """Streams without loaders, and what was asked of them."""

    def __init__(self, *train_batches: Any, valid: Iterable[Any] = ()) -> None:
        super().__init__()
        self.batches = {"train": train_batches, "valid": tuple(valid)}
        self.events: list[str] = []

    def train_stream(self) -> Iterator[Any]:
        return self._walk("train")

    def valid_stream(self) -> Iterator[Any]:
        return self._walk("valid")

    def _walk(self, name: str) -> Iterator[Any]:
        self.events.append("begins " + name)
        try:
            for number, batch in enumerate(self.batches[name]):
                self.events.append(f"yields {name} {number}")
                yield batch
        finally:
            self.events.append("ends " + name)


def test_of_a_stream_without_loaders_one_batch_is_read() -> None:
    data = Written(rows(), rows())
    make_loop(data).try_batches()
    assert data.events == ["begins train", "yields train 0", "ends train"]


@pytest.mark.parametrize(
    ("batch", "kind", "text"),
    [
        (rows(3), RuntimeError, DOES_NOT_FIT),
        (
            {"y": torch.ones(8)},
            DataError,
            "stream 'train', batch 0: task 'kind', action 'features'.* no source 'x'",
        ),
        ({"x": torch.ones(8, 4)}, DataError, "stream 'train', batch 0: task 'kind': .* no source 'y'"),
        (rows(y=torch.arange(8)), DataError, "stream 'train', batch 0: task 'kind', source 'y': label 3 in row 3"),
        (rows(y=torch.arange(7)), DataError, "stream 'train', batch 0: sources differ in length"),
        (Batch(rows(), tasks={"kin": "y"}), ConfigError, "^stream 'train', batch 0: the model has no task 'kin'"),
        (3, DataError, "^stream 'train', batch 0: a batch is a mapping"),
    ],
    ids=["width", "no x", "no y", "label", "lengths", "no such task", "no batch"],
)
def test_mistakes_in_a_stream_without_loaders_are_told_before_any_hook_begins(batch: Any, kind: Any, text: str) -> None:
    record, data = RecordEvents(), Written(batch)
    with pytest.raises(kind, match=text):
        make_loop(data, None, record).run_training()
    assert set(record.names) <= {"register_mainloop", "after_training"}
    assert data.events[-1] == "ends train"


def test_streams_without_loaders_that_are_evaluated_are_tried() -> None:
    data = Written(rows(), valid=[rows(3)])
    make_loop(data).try_batches()
    assert "begins valid" not in data.events
    with pytest.raises(RuntimeError, match=DOES_NOT_FIT):
        make_loop(data, None, Evaluate(["valid"])).try_batches()


class Drawn(AbstractDataset):
    """Draws what it yields from the global generators, from the moment on that it is asked for a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def train_stream(self) -> Iterator[dict[str, Any]]:
        first = random.random() + np.random.rand()
        return (self._batch(first) for _ in range(2))

    def _batch(self, first: float) -> dict[str, Any]:
        x = torch.randn(8, 4) + first
        self.drawn.append(float(x.sum()))
        return rows(x=x)


def test_a_stream_without_loaders_draws_what_it_draws_later_and_nothing_from_others() -> None:
    data = Drawn()
    loop = make_loop(data, skip_zeroth_epoch=True, seed=5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    loop.try_batches()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    loop.run_training()
    assert len(data.drawn) == 3
    assert data.drawn[0] == data.drawn[1]


def test_a_stream_that_does_not_begin_anew_is_not_read_for_it() -> None:
    class Once(AbstractDataset):
        def __init__(self) -> None:
            super().__init__()
            self.left = iter([rows(3)])

        def train_stream(self) -> Iterator[dict[str, Any]]:
            return self.left

    data = Once()
    make_loop(data).try_batches()
    assert len(list(data.left)) == 1


@pytest.mark.parametrize("of", ["list", "loader"])
def test_streams_that_are_lists_or_loaders_are_tried(of: str) -> None:
    class Returned(AbstractDataset):
        def train_stream(self) -> Any:
            return [rows(3), rows(3)] if of == "list" else loader(Walked(3))

    with pytest.raises(RuntimeError, match=DOES_NOT_FIT):
        make_loop(Returned()).try_batches()


@pytest.mark.parametrize("batch", [{"x": torch.zeros(0, 4), "y": torch.zeros(0, dtype=torch.int64)}, None])
def test_nothing_is_tried_where_nothing_comes(batch: Any) -> None:
    data = Written(*[] if batch is None else [batch])
    make_loop(data, make_model(trunk=nn.Linear(3, 5))).try_batches()
    assert data.events[-1] == "ends train"


def test_a_training_may_do_without() -> None:
    data, walked = Written(rows(3)), Walked()
    make_loop(data, try_batches=False).try_batches()
    assert data.events == []
    loop = make_loop(DatasetOf(loader(walked)), skip_zeroth_epoch=True, try_batches=False)
    loop.run_training()
    assert walked.walks == 1


def test_processes_are_as_many_as_read_later() -> None:
    class Divided(Counted):
        def __getitem__(self, index: int) -> dict[str, Any]:
            info = get_worker_info()
            assert info is not None
            assert info.num_workers == 2
            return super().__getitem__(index)

    tried(Divided(), num_workers=2)


class Gone(Counted):
    """Rows that nobody can read any more."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise OSError("the data are gone")


def test_nothing_is_read_where_nothing_is_left_to_do(tmp_path: Path) -> None:
    def run(data: Any, steps: int = 2) -> MainLoop:
        hooks = [SaveEvery(steps=1), StopAfter(steps=steps)]
        return MainLoop(make_model(), DatasetOf(loader(data, name="rows")), hooks, output_dir=tmp_path)

    run(Counted()).run_training()
    over = run(Gone())
    over.restore(newest_checkpoint(tmp_path / CHECKPOINT_FOLDER))
    over.run_training()
    assert over.end == "finished"
    longer = run(Gone(), steps=3)
    longer.restore(newest_checkpoint(tmp_path / CHECKPOINT_FOLDER))
    with pytest.raises(OSError, match="the data are gone"):
        longer.try_batches()


def test_loaders_that_the_scheduler_never_draws_from_are_not_read() -> None:
    left, right = Counted(), Gone()
    loaders = [loader(each, name=name) for each, name in ((left, "a"), (right, "b"))]
    scheduler = Weighted({"a": 1, "b": 0}, batches_per_pass=3)
    make_loop(DatasetOf(*loaders, streams={"train": {"scheduler": scheduler}})).run_training()
    assert left.read


def test_epochs_of_ones_own_are_not_tried() -> None:
    data = Written(rows(3))
    with MainLoop(make_model(), data) as loop:
        loop.epoch([[rows()]], [])
    assert data.events == []


class Adds(AbstractHook):
    """Adds a task that the data name."""

    def before_training(self) -> None:
        model = self.main_loop.model
        assert isinstance(model, MultiTaskModel)
        flow = [Action("features", "trunk", "x"), Action("new_logits", "new_head", "features")]
        model.add_tasks(Task("new", {"new_head": nn.Linear(5, 3)}, flow, label="y", loss="cross_entropy"))


def test_batches_of_tasks_that_a_hook_may_be_about_to_add_are_not_tried() -> None:
    data = Written(Batch(rows(), tasks={"kind": "y", "new": "y"}))
    loop = make_loop(data, None, Adds())
    loop.run_training()
    assert loop.end == "finished"
    with pytest.raises(ConfigError, match="the model has no task 'new'"):
        make_loop(data).try_batches()


def test_warnings_come_where_a_batch_is_run_for_good() -> None:
    class Warns(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            warnings.warn("seen", stacklevel=1)
            return super().forward(x)

    loop = make_loop(DatasetOf(loader()), make_model(trunk=Warns(4, 5)))
    loop.try_batches()  # in these tests warnings are errors
    with pytest.warns(UserWarning, match="seen"):
        loop.run_training()


def test_a_model_that_is_not_tried_has_nothing_read_for_it() -> None:
    data, model = Written(rows()), make_model()
    model.stand_in = lambda *_: None  # type: ignore[method-assign]
    make_loop(data, model).try_batches()
    assert data.events == []


def test_a_loader_without_batches_is_left_to_what_is_set_about_it() -> None:
    few = TaskLoader([{"x": 0.0}], {"kind": "y"}, "train", name="few", batch_size=8, drop_last=True)
    assert few.first_batch() is None
    assert loader(columns()).first_batch() is not None
