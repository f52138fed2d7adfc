"""What is read in docstrings: summaries, what arguments mean, and their defaults."""

from __future__ import annotations

from typing import Any

from emloop_mtl.config.documented import argument_defaults, argument_docs, summary


class Base:
    """Hold something.

    :param size: how many,
        in ``rows``
    :param kept: of the base
    """

    def __init__(self, size: int = 1, kept: bool = True, given: int = 2) -> None:
        self.size = size


class Derived(Base):
    """Hold
    ``more`` of it. :class: is no field.

    This is told nowhere.

    :param int size: how many
        :raise is no field here, either

        nor is this
    :param **others: of :class:`Base`
    :raise ValueError: never
    """

    def __init__(self, given: int, size: int = 3, **others: Any) -> None:
        super().__init__(size, **others)


class Silent(Base):
    def __init__(self, *sizes: int) -> None:
        super().__init__(sum(sizes))


def function(first: int, second: str = "b") -> None:
    """:param first: the first one"""


def test_a_summary_is_the_first_paragraph_on_one_line() -> None:
    assert summary(Base) == "Hold something."
    assert summary(Derived) == "Hold `more` of it. :class: is no field."
    assert summary(Silent) == ""  # not that of the base
    assert summary(function) == ""
    assert summary(int.__add__) == "Return self+value."


def test_arguments_are_described_by_the_class_before_its_bases() -> None:
    assert argument_docs(Base) == {"size": "how many, in `rows`", "kept": "of the base"}
    assert argument_docs(Derived) == {
        "size": "how many :raise is no field here, either",
        "others": "of :class:`Base`",
        "kept": "of the base",
    }
    assert argument_docs(Silent) == argument_docs(Base)
    assert argument_docs(function) == {"first": "the first one"}


def test_defaults_are_those_of_the_class_before_its_bases() -> None:
    assert argument_defaults(Base) == {"size": 1, "kept": True, "given": 2}
    assert argument_defaults(Derived) == {"size": 3, "kept": True}  # what the class gets without a default has none
    assert argument_defaults(function) == {"second": "b"}
    assert argument_defaults(len) == {}
