"""What a stream is made of, so that one that is gone on with can be compared with what it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import CheckpointError
from ..types import State
from ..utils.shown import shown
from .task_stream import TaskStream

WORDS = {
    "rows": "number of rows",
    "processes": "number of processes that divide the iterable dataset",
    "contents": "sum of the file",
}
"""What facts are called in messages where their names do not tell."""


def describe(stream: Any, seed: int | None) -> dict[str, State]:
    """Return all that the order of a stream depends on, beside what its data hold.

    :param stream: a ``TaskStream``, or one written by hand, of which nothing is known
    :param seed: what the random numbers of one written by hand derive from, None if it draws none
    """
    if not isinstance(stream, TaskStream):
        return {"seed": seed}
    scheduler = stream.scheduler
    return {
        "loaders": [loader.facts() for loader in stream.loaders],
        "scheduler": {"class": type(scheduler).__name__, **scheduler.settings()},
        "seed": stream.seed,
    }


def find_change(before: State, now: dict[str, State]) -> str | None:
    """Return in words what is not as it was, None if nothing is.

    :param before: what ``describe`` returned then
    :param now: and what it returns now
    :raise CheckpointError: if ``before`` is no description
    """
    if type(before) is not dict or before.keys() != now.keys():
        raise CheckpointError("it does not tell what the stream was made of")
    if "loaders" in now:
        of_loaders = _of_loaders(_by_name(before["loaders"]), _by_name(now["loaders"]))
        if of_loaders is not None:
            return of_loaders
        before_scheduler, scheduler = before["scheduler"], now["scheduler"]
        if type(before_scheduler) is not dict:
            raise CheckpointError("it does not tell what the scheduler was")
        change = _first_change(before_scheduler, scheduler)
        if change is not None:
            return f"{change[0]} of its scheduler was {shown(change[1])} and is {shown(change[2])}"
    if before["seed"] != now["seed"]:
        return f"its seed was {shown(before['seed'])} and is {shown(now['seed'])}"
    return None


def is_same_scheduler(before: dict[str, State], now: dict[str, State]) -> bool:
    """Tell whether two descriptions are of one kind of scheduler, so that one understands the state of the other."""
    return bool(before["scheduler"].get("class") == now["scheduler"]["class"])


def _of_loaders(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> str | None:
    gone = [f"{name} is gone" for name in before if name not in now]
    new = [f"{name} is new" for name in now if name not in before]
    if gone or new:
        return ", ".join((*gone, *new))
    if list(before) != list(now):
        return f"the order of its loaders was {_listed(before)} and is {_listed(now)}"
    for name, facts in now.items():
        change = _first_change(before[name], facts)
        if change is not None:
            return f"{WORDS.get(change[0], change[0])} of {name} was {shown(change[1])} and is {shown(change[2])}"
    return None


def _first_change(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, Any, Any] | None:
    for key in dict.fromkeys((*now, *before)):
        if before.get(key) != now.get(key):
            return str(key), before.get(key), now.get(key)
    return None


def _by_name(loaders: State) -> dict[str, dict[str, Any]]:
    if type(loaders) is not list or not all(type(facts) is dict for facts in loaders):
        raise CheckpointError("it does not tell what the loaders were")
    one_split = len({facts.get("split") for facts in loaders}) == 1
    return {
        f"loader {facts.get('name')!r}" + ("" if one_split else f" of split {facts.get('split')!r}"): facts
        for facts in loaders
    }


def _listed(names: Sequence[str] | dict[str, Any]) -> str:
    return ", ".join(name.removeprefix("loader ") for name in names)
