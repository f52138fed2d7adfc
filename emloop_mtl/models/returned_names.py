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
    one written out with its keys.
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
        keys = _keys(value)
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
