"""How the flows of a model are compiled."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import torch

from ..errors import ConfigError, nearest
from ..tasks.plan import Plan
from .compiled_heads_plan import CompiledHeadsPlan
from .compiled_plan import CompiledPlan
from .heads_plan import HeadsPlan

_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "fullgraph": ((bool,), "true or false"),
    "dynamic": ((bool, NoneType), "true, false or null"),
    "backend": ((str, Callable), "a name, or in Python a function"),  # type: ignore[dict-item]
    "mode": ((str, NoneType), "a name"),
    "options": ((Mapping, NoneType), "a mapping"),
    "disable": ((bool,), "true or false"),
}
"""What the arguments of ``torch.compile`` are, at some of which it does not look before it compiles."""


class PlanCompiler:
    """Compiles each plan once.

    :param options: arguments of ``torch.compile``; True for its defaults
    :raise ConfigError: for arguments that it does not take
    """

    def __init__(self, options: object) -> None:
        if not isinstance(options, bool | Mapping):
            text = f"compile must be true, false, or arguments of torch.compile, not {options!r}"
            raise ConfigError(text, ("compile",))
        self._options: dict[str, Any] = dict(options) if isinstance(options, Mapping) else {}
        known = [name for name in inspect.signature(torch.compile).parameters if name != "model"]
        for name in self._options:
            if name not in known:
                raise ConfigError(f"compile: unknown argument {name!r}{nearest(name, known)}", ("compile", name))
            kinds, text = _KINDS.get(name, ((object,), ""))
            if not isinstance(self._options[name], kinds):
                raise ConfigError(f"compile: {name} must be {text}, not {self._options[name]!r}", ("compile", name))
        self._check_inner_options()
        try:
            torch.compile(_nothing, **self._options)  # looks at its arguments, and compiles nothing yet
        except Exception as error:  # a class of torch's own for each
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"compile: {reason}", ("compile",)) from error
        self._compiled: dict[int, tuple[Plan, CompiledPlan]] = {}
        """Compiled plans by the identity of the plan, which is kept lest another gets it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> PlanCompiler:
        """Return a compiler that has compiled the copies of the plans."""
        twin = memo[id(self)] = PlanCompiler(self._options)
        for plan, compiled in copy.deepcopy(list(self._compiled.values()), memo):
            twin._compiled[id(plan)] = plan, compiled
        return twin

    def _check_inner_options(self) -> None:
        """Check the options of torch's own backend, which itself answers with the hundreds that there are."""
        options = self._options.get("options")
        if self._options.get("backend", "inductor") != "inductor" or not isinstance(options, Mapping):
            return
        from torch import _inductor  # here: it takes as long to import as a small training

        known = _inductor.list_options()
        for name in options:
            if name.replace("-", "_") not in known:
                text = f"compile.options: unknown option {name!r}{nearest(name, known)}"
                raise ConfigError(text, ("compile", "options", name))

    def __call__(self, plan: Plan, modules: Mapping[str, Callable[..., Any]]) -> CompiledPlan:
        """Return the plan, compiled when it is first run."""
        if id(plan) not in self._compiled:
            if isinstance(plan, HeadsPlan):
                compiled: CompiledPlan = CompiledHeadsPlan(plan, modules, self._options)
            else:
                compiled = CompiledPlan(plan, modules, self._options)
            self._compiled[id(plan)] = plan, compiled
        return self._compiled[id(plan)][1]


def _nothing() -> None:
    """Stand for what is compiled."""
