"""Turns docstrings of the project into Markdown and finds what they leave out."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

FIELD = re.compile(r":(param|raise|raises|return|returns|yield|yields)\b\s*([^:]*):\s*(.*)")
CODE = re.compile(r"\.\. code-block::\s*(\w+)")


@dataclass
class Docstring:
    """One docstring: its text as Markdown, before and after its fields, and the fields."""

    before: str = ""
    after: str = ""
    params: dict[str, str] = field(default_factory=dict)
    returns: str = ""
    raises: list[tuple[str, str]] = field(default_factory=list)

    def markdown(self) -> str:
        rows = [f"`{name}` | {_cell(text)}" for name, text in self.params.items()]
        rows += [f"returns | {_cell(self.returns)}"] * bool(self.returns)
        rows += [f"raises `{name}` | {_cell(text)}" for name, text in self.raises]
        table = "\n".join(["| | |", "|---|---|", *(f"| {row} |" for row in rows)]) if rows else ""
        return "\n\n".join(part for part in (self.before, table, self.after) if part)


def parse(docstring: str) -> Docstring:
    """Read a docstring: paragraphs, ``:param x:`` and its like, and ``.. code-block::``."""
    result = Docstring()
    body: list[str] = []
    for head, block in _blocks(inspect.cleandoc(docstring).splitlines()):
        if match := FIELD.match(head):
            if not result.before:
                result.before, body = "\n".join(body).strip(), []
            kind, name, first = match.groups()
            text = " ".join([first, *(line.strip() for line in block)]).strip()
            if kind == "param":
                result.params[name.split()[-1].lstrip("*")] = text
            elif kind.startswith("raise"):
                result.raises.append((name, text))
            else:
                result.returns = text
        elif match := CODE.match(head):
            code = textwrap.dedent("\n".join(block)).strip("\n")
            body += [f"```{match.group(1)}", code, "```", ""]
        else:
            body += [head, *block]
    if result.before:
        result.after = "\n".join(body).strip()
    else:
        result.before = "\n".join(body).strip()
    return result


def signature(name: str, function: Callable[..., Any], bound: bool) -> str:
    """Write out how ``function`` is called, one line per parameter where one line would be too long."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        return name
    if bound:
        parameters = [each for each in parameters if each.name != "self"]
    shown = list(_parameters(parameters))
    line = f"{name}({', '.join(shown)})"
    return line if len(line) <= 88 else "\n".join([f"{name}(", *(f"    {each}," for each in shown), ")"])


def own_doc(thing: Any) -> str:
    """Return the docstring that stands at ``thing`` itself, not one it inherits."""
    own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else getattr(thing, "__doc__", None)
    return own or ""


def class_doc(kind: type) -> Docstring:
    """Return a class's docstring, completed by the parameters its constructor or its bases' constructors describe."""
    result = parse(own_doc(kind))
    if result.params:
        return result
    constructor = next((base for base in kind.__mro__ if "__init__" in base.__dict__), object)
    for text in (constructor.__dict__["__init__"].__doc__, own_doc(constructor)):
        if constructor is not object and text:
            found = parse(text)
            result.params = result.params or found.params
            result.raises = result.raises or found.raises
    return result


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that ``kind`` itself defines."""
    for name, value in vars(kind).items():
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
            yield name, plain


def alias_doc(module: ModuleType, name: str) -> tuple[str, str]:
    """Return how ``module`` defines the type alias ``name``, and the text below it; both empty if it does not."""
    body = ast.parse(inspect.getsource(module)).body
    for statement, after in itertools.zip_longest(body, body[1:]):
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == name and statement.value:
            text = after.value if isinstance(after, ast.Expr) else None
            written = isinstance(text, ast.Constant) and isinstance(text.value, str)
            return f"{name} = {ast.unparse(statement.value)}", inspect.cleandoc(text.value) if written else ""
    return "", ""


def faults(name: str, thing: Any) -> Iterator[str]:
    """Yield what is missing in the documentation of one public class or function."""
    if not own_doc(thing):
        yield f"{name} has no docstring"
        return
    described = class_doc(thing).params if inspect.isclass(thing) else parse(own_doc(thing)).params
    if not (inspect.isclass(thing) and issubclass(thing, BaseException)):
        taken = {
            each.name
            for each in inspect.signature(thing).parameters.values()
            if each.kind is not each.VAR_KEYWORD and not each.name.startswith("_")
        }
        yield from (f"{name} does not describe its parameter {each!r}" for each in sorted(taken - described.keys()))
        every = set(inspect.signature(thing).parameters)
        yield from (f"{name} describes {each!r}, which it does not take" for each in sorted(described.keys() - every))
    if inspect.isclass(thing):
        for member, _ in members(thing):
            if not inspect.getdoc(getattr(thing, member)):
                yield f"{name}.{member} has no docstring"


def _blocks(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Split into a field or directive with the indented lines that belong to it, and single other lines."""
    index = 0
    while index < len(lines):
        head, block = lines[index], []
        index += 1
        if FIELD.match(head) or CODE.match(head):
            while index < len(lines) and (not lines[index].strip() or lines[index].startswith(" ")):
                block.append(lines[index])
                index += 1
        yield head, block


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        typed = f": {_annotation(each.annotation)}" if each.annotation is not each.empty else ""
        default = "" if each.default is each.empty else f"{' = ' if typed else '='}{each.default!r}"
        yield f"{stars}{each.name}{typed}{default}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
