"""Datasets whose streams are made of loaders."""

import copy
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from emloop_mtl.data import ColumnDataset, MultiTaskDataset, TaskLoader, TaskStream, get_stream
from emloop_mtl.errors import ConfigError
from emloop_mtl.schedulers import Mixed, RoundRobin, Sequential


class Twins(MultiTaskDataset):
    def __init__(self, batch_size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_size = batch_size
        self.calls = 0

    def loaders(self) -> Sequence[TaskLoader]:
        self.calls += 1
        return [
            TaskLoader(
                ColumnDataset(name, {"x": list(range(size))}), split=split, batch_size=self.batch_size, seed=seed
            )
            for name, split, size, seed in [("a", "train", 6, None), ("b", "train", 2, 9), ("a", "valid", 3, None)]
        ]

    def predict_stream(self) -> Any:
        return [{"x": [1]}]


def names(stream: TaskStream) -> str:
    return "".join(batch.data_name for batch in stream)


def test_there_is_a_stream_per_split() -> None:
    dataset = Twins(seed=4)
    assert dataset.calls == 0
    assert dataset.stream_names() == ["predict", "train", "valid"]
    assert names(dataset.train_stream()) == "abaa"
    assert names(get_stream(dataset, "valid")()) == "aa"
    assert get_stream(dataset, "train").info() is dataset.train_stream()  # type: ignore[attr-defined]
    assert dataset.predict_stream() == [{"x": [1]}]
    assert dict(dataset.num_batches) == {"train": 4, "valid": 2}
    assert dataset.calls == 1
    assert isinstance(dataset.train_stream().scheduler, RoundRobin)
    assert isinstance(dataset.valid_stream().scheduler, Sequential)


def test_the_seed_reaches_loaders_without_one() -> None:
    assert [loader.seed for loader in Twins(seed=4).train_stream().loaders] == [4, 9]
    assert Twins(seed=4).train_stream().seed == 4


def test_streams_can_be_configured() -> None:
    dataset = Twins(
        streams={
            "train": {"scheduler": Mixed(fillup=True)},
            "both": {"splits": ["train", "valid"]},
            "other": {"splits": "valid"},
        }
    )
    assert names(dataset.train_stream()) == "ababab"
    assert [loader.split for loader in dataset.both_stream().loaders] == ["train", "train", "valid"]
    assert names(dataset.other_stream()) == "aa"


def test_a_missing_stream_names_those_that_exist() -> None:
    with pytest.raises(
        ConfigError, match=r"Twins has no stream 'vald' \(no method 'vald_stream'\); did you mean 'valid'"
    ):
        get_stream(Twins(), "vald")
    with pytest.raises(AttributeError, match="vald_stream"):
        _ = Twins().vald_stream


def test_errors_in_loaders_keep_their_own_text() -> None:
    class Broken(MultiTaskDataset):
        def loaders(self) -> Sequence[TaskLoader]:
            return self.misspelt  # type: ignore[no-any-return]

    for ask in (lambda dataset: dataset.train_stream(), lambda dataset: get_stream(dataset, "train"), len_of_streams):
        with pytest.raises(AttributeError, match="misspelt"):
            ask(Broken())


def len_of_streams(dataset: MultiTaskDataset) -> int:
    return len(dataset.task_streams)


def test_a_constructor_that_forgets_its_base_still_works() -> None:
    class Forgetful(Twins):
        def __init__(self) -> None:
            self.batch_size, self.calls = 1, 0

    assert names(Forgetful().valid_stream()) == "aaa"


def test_datasets_can_be_copied() -> None:
    for dataset in (copy.deepcopy(Twins(seed=2)), pickle.loads(pickle.dumps(Twins(seed=2)))):  # noqa: S301 - our own
        assert names(dataset.train_stream()) == "abaa"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sed": 1}, "Twins: unknown argument 'sed'; did you mean 'seed'"),
        ({"batchsize": 1}, "did you mean 'batch_size'"),
        (
            {"streams": {"train": {"schedule": 1}}},
            "streams.train: unknown setting 'schedule'; did you mean 'scheduler'",
        ),
        ({"streams": {"train": {"scheduler": "Mixed"}}}, "streams.train.scheduler: a task scheduler is needed"),
        ({"streams": {"train": RoundRobin()}}, "streams.train: a mapping"),
        ({"streams": {"train": {"splits": 3}}}, "streams.train.splits: a name"),
        ({"streams": {"train": {"splits": []}}}, "streams.train.splits: a name"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Twins(**arguments)


@pytest.mark.parametrize(
    ("streams", "text"),
    [
        ({"test": {}}, "stream 'test': no loader has the split 'test'"),
        ({"test": {"splits": ["vald"]}}, "no loader has the split 'vald'; did you mean 'valid'.*streams.test.splits"),
    ],
)
def test_unknown_splits(streams: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Twins(streams=streams).stream_names()


@pytest.mark.parametrize(
    ("loaders", "text"),
    [
        ([], "returned no loader"),
        (None, "returned None, not a list of TaskLoaders"),
        (1, "returned an object of class int, not a list of TaskLoaders"),
        ([1], "returned an object of class int, not a TaskLoader"),
        ([TaskLoader([{}], name="n", batch_size=1)] * 2, "two loaders are named 'n'"),
    ],
)
def test_wrong_loaders(loaders: Any, text: str) -> None:
    class Wrong(MultiTaskDataset):
        def loaders(self) -> Sequence[TaskLoader]:
            return loaders  # type: ignore[no-any-return]

    with pytest.raises(ConfigError, match=text):
        get_stream(Wrong(), "train")
