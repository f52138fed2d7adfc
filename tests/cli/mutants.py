"""Broken configs: the examples, changed at random, but in the same way every time."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from emloop_mtl.config.yaml_text import read_yaml, write_yaml

from .strange_values import BYTES, CLASSES, LINES, NUMBERS, TEXTS

Path = tuple[Any, ...]

HOOKS = """
  - SaveEvery: {every: 2, keep: 1}
  - AccumulateVariables: {variables: [loss]}
  - WriteCSV: {path: all.csv, delimiter: ";", on_missing_variable: default}
  - WritePredictions: {streams: [test], tasks: [digit], path: "rows/{stream}_{epoch}.csv"}
  - StopOnNaN: {variables: [loss], after_batch: true, check_every: 3}
  - StopOnPlateau: {stream: valid, variable: digit/digits/loss, long_term: 20, short_term: 5, mode: min}
  - RestoreBest: {tag: best}
  - LogProfile
  - ComputeStats: {variables: [{ink/loss: [mean, max, median]}], streams: [valid], name: Second}
"""
"""More hooks for example 1, so that more settings can be broken."""

MORE = {
    "seed: 7\n": "seed: 7\nmain_loop: {fixed_epoch_size: {passes: 0.5}, buffer: 2, extra_streams: [test], "
    "on_unused_sources: ignore}\n",
    "  batch_size: 32\n": "  batch_size: 32\n  streams:\n    train: {scheduler: {class: RoundRobin, fillup: true}}\n"
    "    both: {splits: [valid, test]}\n",
    "update: {clip_norm: 1.0}": "update: {clip_norm: 1.0, accumulate: 2}\n  precision: fp32",
    "schedule: cosine_annealing": "schedule: {class: step, step_size: 5}, min_lr: 1.0e-6, unit: pass",
    "metrics: [accuracy, f1_macro]": "metrics: [accuracy, {class: fbeta, beta: 2}, accuracy@3]\n      output: softmax",
    "\neval:": HOOKS + "\neval:",
    "test: {hooks: [ScoreTasks]}": "test: {dataset: {batch_size: 10}, hooks: [ScoreTasks, WritePredictions]}",
}


class Mutant(NamedTuple):
    """A broken config.

    :param name: what was changed
    :param example: index of the example that it was made from
    """

    name: str
    example: int
    content: bytes


def with_more(text: str) -> str:
    """Return example 1 with more settings and hooks."""
    for right, other in MORE.items():
        assert right in text, "the example has changed: choose another place"
        text = text.replace(right, other, 1)
    return text


def mutants(examples: list[str], seed: int, numbers: Iterable[int]) -> Iterator[Mutant]:
    """Yield a broken config for each of the numbers, made from the texts of ``examples``, the same everywhere."""
    trees = [read_yaml(text, lambda line, column: "")[0] for text in examples]
    for number in numbers:
        chance = random.Random(f"{seed}/{number}")
        example = number % len(examples)
        if chance.random() < 0.6:
            name, tree = "", copy.deepcopy(trees[example])
            for _ in range(chance.choice((1, 1, 1, 2, 3))):
                change = chance.choice(TREE_CHANGES)
                name += f" {change.__name__.strip('_')}"
                tree = change(tree, chance)
            content = write_yaml(tree).encode()
        else:
            name, content = "", examples[example].encode()
            for _ in range(chance.choice((1, 1, 1, 2, 4))):
                edit = chance.choice(TEXT_CHANGES)
                name += f" {edit.__name__.strip('_')}"
                content = edit(content, chance)
        yield Mutant(name.strip(), example, content)


def override(tree: Any, chance: random.Random) -> str:
    """Return an override of an entry of ``tree`` that is as strange as a mutant."""
    keys = list(map(str, chance.choice(list(_paths(tree)))))
    kind = chance.random()
    if kind < 0.15 and keys:
        keys[-1] = _misspelt(keys[-1], chance)
    elif kind < 0.3:
        keys.append(str(_strange(chance))[:50])
    elif kind < 0.35:
        keys = [str(_strange(chance))[:50]]
    value = chance.choice(LINES) if chance.random() < 0.3 else write_yaml(_strange(chance)).strip()
    return ".".join(keys) + chance.choice(("=", "=", "=", "=", "=", "=", "=", "==", "", ":")) + value


def _paths(tree: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from _paths(value, (*path, key))


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _pick(tree: Any, chance: random.Random, wanted: Callable[[Any], bool] = lambda value: True) -> Path:
    return chance.choice([path for path in _paths(tree) if path and wanted(_at(tree, path))] or [()])


def _replaced(tree: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    _at(tree, path[:-1])[path[-1]] = value
    return tree


def _strange(chance: random.Random) -> Any:
    return chance.choice(
        (
            lambda: chance.choice(NUMBERS),
            lambda: chance.choice(TEXTS),
            lambda: chance.choice((None, True, False, [], {}, [[]], [None], {"": None}, {1: 2}, {"class": None})),
            lambda: chance.choice(([1, 2], ["a"], {"a": 1}, {"class": chance.choice(CLASSES)}, {"class": ["a"]})),
            lambda: {"class": chance.choice(CLASSES), "args": [chance.choice(NUMBERS)]},
        )
    )()


def _misspelt(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    return chance.choice(
        (
            text[:place] + text[place + 1 :],
            text[:place] + chance.choice("xyz_ .ä1") + text[place:],
            text[:place] + text[place : place + 2][::-1] + text[place + 2 :],
            text.upper(),
            "",
        )
    )


def _strange_value(tree: Any, chance: random.Random) -> Any:
    return _replaced(tree, _pick(tree, chance), _strange(chance))


def _strange_number(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, int | float) and not isinstance(value, bool))
    return _replaced(tree, path, chance.choice(NUMBERS))


def _strange_text(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, str))
    text = _at(tree, path)
    return _replaced(tree, path, chance.choice((chance.choice(TEXTS), _misspelt(str(text), chance))))


def _other_class(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, dict) and "class" in value)
    return _replaced(tree, (*path, "class"), chance.choice(CLASSES)) if path else tree


def _misspelt_key(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, dict) and len(value) > 0)
    mapping = _at(tree, path)
    if not isinstance(mapping, dict):
        return {}
    wrong = chance.choice(list(mapping))
    renamed = {_misspelt(str(key), chance) if key == wrong else key: value for key, value in mapping.items()}
    return _replaced(tree, path, renamed)


def _without_entry(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance)
    if path:
        del _at(tree, path[:-1])[path[-1]]
    return tree


def _one_more_entry(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, dict | list))
    value = _at(tree, path)
    if isinstance(value, dict):
        value[chance.choice((*TEXTS[:40], 0, -1, 10**30))] = _strange(chance)
    elif isinstance(value, list):
        value.insert(chance.randrange(len(value) + 1), _strange(chance))
    return tree


def _twice(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, list) and len(value) > 0)
    entries = _at(tree, path)
    if isinstance(entries, list) and entries:
        entries.append(copy.deepcopy(chance.choice(entries)))
        chance.shuffle(entries)
    return tree


def _swapped(tree: Any, chance: random.Random) -> Any:
    one, other = _pick(tree, chance), _pick(tree, chance)
    if one[: len(other)] == other or other[: len(one)] == one:
        return tree
    values = _at(tree, one), _at(tree, other)
    return _replaced(_replaced(tree, one, values[1]), other, values[0])


def _copied(tree: Any, chance: random.Random) -> Any:
    value = copy.deepcopy(_at(tree, _pick(tree, chance)))
    return _replaced(tree, _pick(tree, chance), value)


def _wrapped(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance)
    value = _at(tree, path)
    depth = chance.choice((1, 1, 1, 2, 30, 80, 98, 120))
    for _ in range(depth):
        value = [value] if chance.random() < 0.5 else {chance.choice(("class", "args", "a", "name")): value}
    return _replaced(tree, path, value)


def _list_for_mapping(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, dict))
    value = _at(tree, path)
    return _replaced(tree, path, [{key: item} for key, item in value.items()] if isinstance(value, dict) else [])


def _mapping_for_list(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance, lambda value: isinstance(value, list))
    value = _at(tree, path)
    return _replaced(tree, path, {chance.choice((n, str(n))): item for n, item in enumerate(value)} if value else {})


def _text_for_value(tree: Any, chance: random.Random) -> Any:
    path = _pick(tree, chance)
    return _replaced(tree, path, str(_at(tree, path)))


TREE_CHANGES = (
    *(_strange_value, _strange_value, _strange_value, _strange_number, _strange_number, _strange_text, _strange_text),
    *(_other_class, _misspelt_key, _misspelt_key, _without_entry, _without_entry, _one_more_entry, _twice, _swapped),
    *(_copied, _wrapped, _list_for_mapping, _mapping_for_list, _text_for_value),
)


def _bytes_put_in(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(BYTES) * chance.choice((1, 1, 1, 3)) + content[place:]


def _bytes_replaced(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(BYTES) + content[place + chance.choice((0, 1, 2, 10)) :]


def _bytes_left_out(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + content[place + chance.choice((1, 1, 2, 5, 50)) :]


def _cut_off(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _line_put_in(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    place = chance.choice((0, len(lines), chance.randrange(len(lines) + 1)))
    indent = b" " * chance.choice((0, 0, 2, 4, 6, 3))
    return b"\n".join([*lines[:place], indent + chance.choice(LINES).encode(), *lines[place:]])


def _line_left_out(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    del lines[chance.randrange(len(lines))]
    return b"\n".join(lines)


def _lines_moved(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    begin = chance.randrange(len(lines))
    moved = lines[begin : begin + chance.choice((1, 2, 5))]
    del lines[begin : begin + len(moved)]
    place = chance.randrange(len(lines) + 1)
    copies = chance.choice((1, 1, 2))
    return b"\n".join([*lines[:place], *moved * copies, *lines[place:]])


def _indented(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n")
    place = chance.randrange(len(lines))
    change = chance.choice((b" ", b"  ", b"\t", b"    ", None))
    lines[place] = lines[place].lstrip(b" ") if change is None else change + lines[place]
    return b"\n".join(lines)


def _anchored(content: bytes, chance: random.Random) -> bytes:
    mark = chance.choice(
        (b"&features ", b"*features ", b"*nobody ", b"&x ", b"!!str ", b"!!map ", b"!x ", b"!!null ", b"! ")
    )
    places = [place + 2 for place in range(len(content)) if content[place : place + 2] in (b": ", b"- ", b", ", b"[i")]
    place = chance.choice(places or [0])
    return content[:place] + mark + content[place:]


def _word_replaced(content: bytes, chance: random.Random) -> bytes:
    words = content.split(b" ")
    words[chance.randrange(len(words))] = chance.choice((*TEXTS[:40], *CLASSES, *LINES[:60])).encode()
    return b" ".join(words)


def _otherwise_written(content: bytes, chance: random.Random) -> bytes:
    return chance.choice(
        (
            content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"),
            b"\xef\xbb\xbf" + content,
            b"\xef\xbb\xbf" * 2 + content,
            content.decode(errors="replace").encode("utf-16"),
            content.decode(errors="replace").encode("utf-32"),
            content.replace(b"\n", "\u2028".encode()),
            content.replace(b"  ", b"\t"),
            content + b"\n---\n" + content,
            content + content,
            content + b"\x00" * 10,
            content.replace(b"\n", b""),
            content.upper(),
            b"",
            b"\n" * 100,
            b"# nothing\n",
            b"---\n",
            b"null\n",
            b"~",
        )
    )


TEXT_CHANGES = (
    *(_bytes_put_in, _bytes_put_in, _bytes_replaced, _bytes_replaced, _bytes_left_out, _bytes_left_out, _cut_off),
    *(_line_put_in, _line_put_in, _line_left_out, _lines_moved, _indented, _anchored, _word_replaced, _word_replaced),
    _otherwise_written,
)
