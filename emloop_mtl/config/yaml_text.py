"""YAML text to plain data with the position of every key, and back.

The rules are those of YAML 1.2's core schema: ``true`` and ``false`` are the only booleans (``yes``, ``no``, ``on``
and ``off`` are strings), ``1e-3`` is a float, ``1_000`` and dates are strings, ``0o17`` and ``0x1F`` are integers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from io import StringIO
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import BaseResolver
from ruamel.yaml.tag import Tag

from ..errors import KeyPath
from .located_error import LocatedError

MAX_DEPTH = 100
"""How deep a config may be nested."""

MAX_NODES = 100_000
"""How many values a config may have once its aliases are expanded."""

Locate: TypeAlias = Callable[[int, int], str]
"""Turns a line and a column, both counted from 0, into the text that errors begin with."""

_PREFIX = "tag:yaml.org,2002:"
_CORE = {
    "null": re.compile(r"null|Null|NULL|~|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": re.compile(
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
    "merge": re.compile(r"<<"),
}

_AMBIGUOUS = re.compile(r"[-+.]?\d|(y|yes|n|no|on|off|=)$", re.IGNORECASE)
"""Strings that readers with other rules take for numbers, dates or booleans; they are written in quotes."""

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
"""Strings that need no quotes wherever they stand, unless they are read as something else."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, as an escape such as ``\\ud800`` puts it into a text."""


class _CoreResolver(BaseResolver):
    """Decides what an untagged value is; used for reading and writing, so that both agree."""

    processing_version = (1, 2)

    def __init__(self, version: Any = None, loader: Any = None) -> None:
        super().__init__(loader)

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is ScalarNode and implicit[0]:
            return Tag(suffix=_PREFIX + _kind_of(value))
        return super().resolve(kind, value, (False, False))


class _Representer(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: Any) -> Any:
        style = None
        if any(character in data for character in "\r\x85\u2028\u2029"):
            style = '"'  # other styles fold these line breaks into spaces when they are read
        elif _AMBIGUOUS.match(data):
            style = "'"
        return self.represent_scalar(f"{_PREFIX}str", data, style=style)


_Representer.add_representer(str, _Representer.represent_str)


def _kind_of(text: str) -> str:
    return next((kind for kind, pattern in _CORE.items() if pattern.fullmatch(text)), "str")


def write_yaml(data: Any) -> str:
    """Return ``data`` as YAML in block style, without anchors; ``read_yaml`` gives the same data back."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _CoreResolver
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its type is that of its default
    yaml.width = 1_000_000
    stream = StringIO()
    yaml.dump(data, stream)
    text = stream.getvalue()
    return text.removesuffix("...\n") if text.endswith("\n...\n") else text


def inline_yaml(value: Any) -> str:
    """Return plain data as YAML in one line; ``read_yaml`` gives the same data back."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{inline_yaml(key)}: {inline_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline_yaml, value))}]"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and _kind_of(value) == "str":
            return value
        return json.dumps(value, ensure_ascii=not value.isprintable()).replace("\x7f", "\\x7f")
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    return json.dumps(value)


def read_yaml(text: str, locate: Locate) -> tuple[Any, dict[KeyPath, str]]:
    """Return the data of one YAML document and the position of every entry.

    :param text: the document
    :param locate: names a place in it
    :raise LocatedError: if it is no YAML, several documents, holds a tag that is not plain data, a key twice, a
        cycle, or is too deep or too large
    """
    node = _compose(text, locate)
    if node is None:
        return None, {(): locate(0, 0)}
    reader = _Reader(locate)
    return reader.value(node, ()), reader.positions


def _compose(text: str, locate: Locate) -> Node | None:
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _CoreResolver
    yaml.composer.warn_double_anchors = False
    yaml.max_depth = MAX_DEPTH + 1
    try:
        node: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        raise _syntax_error(error, locate) from error
    except ReaderError as error:
        before = text[: error.position]
        where = locate(before.count("\n"), len(before) - before.rfind("\n") - 1)
        raise LocatedError(f"{where}: character {text[error.position]!r} is not allowed in YAML") from error
    except RecursionError as error:
        raise LocatedError(f"{locate(0, 0)}: nested more than {MAX_DEPTH} deep") from error
    except Exception as error:  # its scanner lets some errors of Python through, such as that of chr()
        raise LocatedError(f"{locate(yaml.reader.line, yaml.reader.column)}: not valid YAML: {error}") from error
    return node


def _syntax_error(error: MarkedYAMLError, locate: Locate) -> LocatedError:
    mark = error.problem_mark or error.context_mark
    where = locate(mark.line, mark.column) if mark else locate(0, 0)
    if "single document" in str(error.context):
        return LocatedError(f"{where}: a second document begins; a config is one document")
    if "maximum depth" in str(error.problem):
        return LocatedError(f"{where}: nested more than {MAX_DEPTH} deep")
    problem = str(error.problem or error.context)
    if "\\t" in problem:
        problem += "; indent with spaces"
    elif error.context and error.context_mark and error.context != problem:
        begin = error.context_mark
        problem += f" ({error.context} that begins at {begin.line + 1}:{begin.column + 1})"
    return LocatedError(f"{where}: not valid YAML: {' '.join(problem.split())}")


class _Reader:
    """Walks composed nodes; constructs nothing but plain data."""

    def __init__(self, locate: Locate) -> None:
        self.positions: dict[KeyPath, str] = {}
        self._locate = locate
        self._open: list[int] = []
        self._count = 0

    def value(self, node: Node, path: KeyPath) -> Any:
        self.positions.setdefault(path, self._where(node))
        self._begin(node)
        result: Any
        if isinstance(node, MappingNode):
            self._expect(node, "map")
            result = {}
            for key, (key_node, value_node) in self._pairs(node).items():
                self.positions[*path, key] = self._where(key_node)
                result[key] = self.value(value_node, (*path, key))
        elif isinstance(node, SequenceNode):
            self._expect(node, "seq")
            result = [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            result = self._scalar(node)
        self._open.pop()
        return result

    def _pairs(self, node: MappingNode) -> dict[str | int, tuple[Node, Node]]:
        """Return the entries by key; an entry's own key wins over a merged one, an earlier merge over a later."""
        own: dict[str | int, tuple[Node, Node]] = {}
        merged: dict[str | int, tuple[Node, Node]] = {}
        merge_node: Node | None = None
        for key_node, value_node in node.value:
            if key_node.tag == f"{_PREFIX}merge":
                if merge_node is not None:
                    raise self._error(key_node, f"'<<' stands here twice, first at {self._where(merge_node)}")
                merge_node = key_node
                for source in self._merge_sources(value_node):
                    self._begin(source)
                    for key, pair in self._pairs(source).items():
                        self._count_one(source)
                        merged.setdefault(key, pair)
                    self._open.pop()
                continue
            key = self._key(key_node)
            if key in own:
                raise self._error(key_node, f"key {key!r} stands here twice, first at {self._where(own[key][0])}")
            own[key] = (key_node, value_node)
        return {**merged, **own}

    def _merge_sources(self, node: Node) -> list[MappingNode]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            if not isinstance(source, MappingNode):
                raise self._error(node, "'<<' takes a mapping or a list of mappings")
        return list(sources)

    def _key(self, node: Node) -> str | int:
        key = self._scalar(node) if isinstance(node, ScalarNode) else None
        if isinstance(key, bool) or not isinstance(key, str | int):
            shown = f"{node.value!r} is {_kind_of(node.value)}" if isinstance(node, ScalarNode) else "this is none"
            raise self._error(node, f"a key must be text or an integer, and {shown}; put it in quotes")
        return key

    def _scalar(self, node: Node) -> Any:
        text: str = node.value
        if _SURROGATE.search(text):  # JSON escapes a character beyond 16 bits as two halves
            try:
                text = text.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError as error:
                raise self._error(node, f"{text!r} holds half a character, which no file can") from error
        kind = str(node.tag).removeprefix(_PREFIX)
        implied = _kind_of(text)
        if kind in ("str", "merge"):
            return text
        if kind not in _CORE or (implied != kind and (kind, implied) != ("float", "int")):
            self._expect(node, "str", f"{text!r} is not {kind}" if kind in _CORE else "")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()) if "." in text else text)
        try:
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        except ValueError as error:
            raise self._error(node, f"an integer of {len(text)} digits is too long") from error

    def _expect(self, node: Node, kind: str, problem: str = "") -> None:
        if node.tag != _PREFIX + kind:
            tag = str(node.tag).replace(_PREFIX, "!!")
            raise self._error(node, problem or f"tag {tag} is refused; a config holds plain data only")

    def _begin(self, node: Node) -> None:
        if id(node) in self._open:
            raise self._error(node, f"anchor {node.anchor!r} contains itself")
        if len(self._open) >= MAX_DEPTH:
            raise self._error(node, f"nested more than {MAX_DEPTH} deep")
        self._open.append(id(node))
        self._count_one(node)

    def _count_one(self, node: Node) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise self._error(node, f"more than {MAX_NODES} values once aliases are expanded")

    def _where(self, node: Node) -> str:
        return self._locate(node.start_mark.line, node.start_mark.column)

    def _error(self, node: Node, text: str) -> LocatedError:
        return LocatedError(f"{self._where(node)}: {text}")
