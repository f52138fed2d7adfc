from __future__ import annotations

from collections.abc import Callable

import pytest

from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError
from emloop_mtl.hooks import Evaluate
from emloop_mtl.testing import FakeDataset, RecordEvents, run_hook


def evaluated(record: RecordEvents) -> list[list[str]]:
    return [event["eval_streams"] for name, event in record.events if name == "before_epoch"]


def dataset() -> FakeDataset:
    return FakeDataset(**{name: [{"x": [1]}] for name in ("train", "valid", "test")})


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        (Evaluate(["valid", "test"]), [["train", "valid", "test"], *[["valid", "test"]] * 4]),
        (Evaluate(["valid"], every=2), [["train", "valid"], [], ["valid"], [], ["valid"]]),
        (Evaluate(["valid"], every=3, zeroth=False), [["train"], [], [], ["valid"], []]),
    ],
)
def test_streams_are_evaluated_every_nth_epoch(hook: Evaluate, expected: list[list[str]]) -> None:
    assert evaluated(run_hook(hook, dataset=dataset(), epochs=4)) == expected


def test_a_stream_that_is_evaluated_anyway_is_run_once() -> None:
    record = run_hook(Evaluate(["valid"]), dataset=dataset(), extra_streams=["valid"])
    assert [event["stream_name"] for name, event in record.events if name == "after_batch"] == [
        *("train", "valid"),
        *("train", "valid"),
    ]


def test_an_unknown_stream_is_refused_before_the_training() -> None:
    with pytest.raises(ConfigError, match=r"no stream 'vaild'.*did you mean 'valid'"):
        run_hook(Evaluate(["vaild"]), dataset=dataset())


def test_the_train_stream_is_refused_and_the_advice_works(make_dataset: Callable[..., MultiTaskDataset]) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.streams\.train_eval\.splits: \[train\]") as error:
        run_hook(Evaluate(["valid", "train"]), dataset=dataset())
    assert error.value.path == ("streams", 1)
    streams = make_dataset(streams={"train_eval": {"splits": ["train"]}})
    assert streams.stream_names() == ["test", "train", "train_eval", "valid"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"streams": "valid"}, r"streams must be a list of names, such as \[valid\], not 'valid'"),
        ({"streams": []}, "streams must be a list of names, not"),
        ({"streams": ["valid", "valid"]}, "streams lists 'valid' twice"),
        ({"streams": ["valid"], "every": 0}, "every must be a positive whole number, not 0"),
        ({"streams": ["valid"], "evry": 2}, "unknown argument 'evry'; did you mean 'every'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Evaluate(**arguments)  # type: ignore[arg-type]
