import pytest

from emloop_mtl.epoch_book import EpochBook, find_number
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochNumber


def test_a_hook_may_add_to_its_own_numbers() -> None:
    book = EpochBook(["valid"])
    book.writer = "ComputeStats"
    book["valid"]["loss"] = {"mean": 1.0}
    book["valid"]["loss"] = {"mean": 1.0, "max": 2.0}
    assert book["valid"]["loss"]["max"] == 2.0


@pytest.mark.parametrize("write", ["item", "update"])
def test_a_hook_may_not_write_over_another_hooks_number(write: str) -> None:
    book = EpochBook(["valid"])
    book.writer = "First"
    book["valid"]["loss"] = 1.0
    book.writer = "Second"
    with pytest.raises(ConfigError, match="Second writes over the number 'loss' of stream 'valid', which First has"):
        if write == "item":
            book["valid"]["loss"] = 2.0
        else:
            book["valid"].update(loss=2.0)
    assert book["valid"]["loss"] == 1.0
    assert book["valid"].setdefault("loss", 3.0) == 1.0


def test_two_hooks_of_one_name_are_told_apart() -> None:
    class Hook:
        name = "Hook"

    book = EpochBook(["valid"])
    book.writer = Hook()
    book["valid"]["loss"] = 1.0
    book.writer = Hook()
    with pytest.raises(ConfigError, match="Hook writes over the number 'loss' of stream 'valid', which Hook has"):
        book["valid"]["loss"] = 2.0


def test_a_hook_may_not_replace_a_streams_numbers() -> None:
    book = EpochBook(["valid"])
    book["valid"]["loss"] = 1.0
    with pytest.raises(ConfigError, match="replaces the numbers of stream 'valid'"):
        book["valid"] = {}


def test_new_streams_are_guarded_too() -> None:
    book = EpochBook()
    book.writer = "First"
    book.setdefault("all", {"average": 1.0})
    book.writer = "Second"
    with pytest.raises(ConfigError, match="which First has written"):
        book["all"]["average"] = 2.0


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="'matrix' of stream 'valid' is no number, but a list"):
        find_number({"valid": {"matrix": [[1.0]]}}, EpochNumber("matrix", "valid"))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EpochNumber("accuracy", "valid"), 0.5),
        (EpochNumber("accuracy"), 0.25),
        (EpochNumber("loss", "valid"), 1.0),
        (EpochNumber("loss", "valid", "max"), 2.0),
        (EpochNumber("time", "valid"), 3.0),
        (EpochNumber("many", "valid"), None),
        (EpochNumber("accuracy", "valid", "max"), None),
        (EpochNumber("accuracy", "test"), None),
        (EpochNumber("nothing"), None),
    ],
)
def test_finding_a_number(wanted: EpochNumber, expected: float | None) -> None:
    epoch_data = {
        "train": {"accuracy": 0.25},
        "valid": {
            "accuracy": 0.5,
            "loss": {"mean": 1.0, "max": 2.0},
            "time": {"sum": 3.0},
            "many": {"min": 1.0, "max": 2.0},
        },
    }
    assert find_number(epoch_data, wanted) == expected
