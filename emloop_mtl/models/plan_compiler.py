"""How the flows of a model are compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import ConfigError, nearest
from ..tasks.plan import Plan
from .compiled_plan import CompiledPlan


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
        self._check_inner_options()
        try:
            torch.compile(_nothing, **self._options)  # looks at its arguments, and compiles nothing yet
        except Exception as error:  # a class of torch's own for each
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"compile: {reason}", ("compile",)) from error
        self._compiled: dict[int, tuple[Plan, CompiledPlan]] = {}
        """Compiled plans by the identity of the plan, which is kept lest another gets it."""

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
            self._compiled[id(plan)] = plan, CompiledPlan(plan, modules, self._options)
        return self._compiled[id(plan)][1]


def _nothing() -> None:
    """Stand for what is compiled."""
