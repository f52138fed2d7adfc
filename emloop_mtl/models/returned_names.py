"""What a module returns, as far as its source tells."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

from torch import nn


def returned_names(module: nn.Module) -> tuple[str, ...] | None:
    """Return the keys of the mapping that ``module`` returns, none for one value; None where that is not certain.

    It is certain for the layers of torch.nn, which return no mappings, and for a ``forward`` that only ever returns
    one written out with its keys, directly or as a variable to which further keys may be added.
    """
    if type(module).__module__.startswith("torch.nn.modules."):
        last = list(module.children())[-1:] if isinstance(module, nn.Sequential) else []
        return returned_names(last[0]) if last else ()
    if module._forward_hooks or "forward" in vars(module):  # which may return something else
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(type(module).forward)))
    except (OSError, TypeError, SyntaxError):
        return None
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef) or function.decorator_list:
        return None
    found: tuple[str, ...] | None = None
    for value in _returned(function):
        keys = _keys_of_variable(value.id, function) if isinstance(value, ast.Name) else _keys(value)
        if keys is None or found not in (None, keys):
            return None
        found = keys
    return found


def _returned(function: ast.AST) -> Iterator[ast.expr | None]:
    """Yield what a function returns, but not what functions inside of it do."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.Return):
            yield node.value
        elif not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield from _returned(node)


def _keys(value: ast.expr | None) -> tuple[str, ...] | None:
    if not isinstance(value, ast.Dict):
        return None
    keys = [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return tuple(keys) if keys and len(keys) == len(value.keys) else None


def _keys_of_variable(name: str, function: ast.FunctionDef) -> tuple[str, ...] | None:
    """Return the keys that a mapping may have which a variable holds; None if it is used in any further way."""
    keys: list[str] = []
    understood: set[ast.AST] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if len(targets) == 1 and isinstance(targets[0], ast.Name) and targets[0].id == name:
                found = _keys(node.value)
                if found is None:
                    return None
                keys += found
                understood.add(targets[0])
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if isinstance(node.value, ast.Name) and node.value.id == name and isinstance(node.slice.value, str):
                keys += [node.slice.value] if isinstance(node.ctx, ast.Store) else []
                understood.add(node.value)
        elif isinstance(node, ast.Return) and node.value is not None:
            understood.add(node.value)
    uses = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
    return tuple(dict.fromkeys(keys)) if keys and all(node in understood for node in uses) else None
