"""A plan that torch has compiled."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ..tasks.action_input import INPUT
from ..tasks.flow_outputs import FlowOutputs
from ..tasks.plan import Plan
from ..utils.model_note import ModelNote

_LOGGER = logging.getLogger(__name__)


class CompiledPlan:
    """Runs a plan like the plan itself, by code that ``torch.compile`` makes of it when it is first run.

    Only tensors go in. A plan that hands over the whole batch, or a source that is no tensor, is run as it is.

    :param plan: the plan
    :param modules: module name -> what is called
    :param options: arguments of ``torch.compile``
    """

    def __init__(self, plan: Plan, modules: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]) -> None:
        self._plan = plan
        self._modules = modules
        self._options = options
        self._slots = {INPUT: 0, **{name: slot for slot, name in enumerate(plan.action_names, 1)}}
        self._runs_as_it_is = plan.takes_all_sources

        def run(sources: dict[str, Tensor]) -> tuple[Any, ...]:
            flow = plan.run(modules, sources)
            return tuple([flow[name] for name in plan.action_names])

        self._run = self._compiled(run)
        if self._runs_as_it_is:
            self._tell("a module gets the whole batch")

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledPlan:
        """Return one that runs the copies of the modules; what is compiled holds on to the modules themselves."""
        twin = type(self)(copy.deepcopy(self._plan, memo), copy.deepcopy(self._modules, memo), self._options)
        memo[id(self)] = twin
        return twin

    def run(self, batch: Mapping[str, Any]) -> FlowOutputs:
        """Run every action once and return what they returned.

        :param batch: the sources, on the device where the modules are
        :raise DataError: if the batch lacks a source
        """
        if self._runs_as_it_is:
            return self._plan.run(self._modules, batch)
        sources = {name: batch[name] for name in self._plan.sources if name in batch}
        if self._lacks_sources(sources):
            return self._plan.run(self._modules, batch)  # which says what is missing
        for name, value in sources.items():
            if not isinstance(value, Tensor):
                self._runs_as_it_is = True
                self._tell(f"the source {name!r} is a {type(value).__name__}")
                return self._plan.run(self._modules, batch)
        try:
            return self._run_compiled(sources, batch)
        except Exception as error:
            if not hasattr(error, "__notes__"):  # one of torch's compiler, which knows no task
                text = f"in the compiled flow of {self._names}; with compile: false it tells the action"
                error.add_note(ModelNote(text, ("compile",)))
            raise

    def _lacks_sources(self, sources: Mapping[str, Tensor]) -> bool:
        return len(sources) < len(self._plan.sources)

    def _run_compiled(self, sources: dict[str, Tensor], batch: Mapping[str, Any]) -> FlowOutputs:
        return FlowOutputs(self._slots, [batch, *self._run(sources)])

    def _compiled(self, function: Callable[[dict[str, Tensor]], Any]) -> Callable[[dict[str, Tensor]], Any]:
        assert isinstance(function, FunctionType)
        # torch keeps what it has compiled, and counts how often it had to, by code object; so each plan has its own.
        code = function.__code__.replace(co_name="run_flow")
        own = FunctionType(code, function.__globals__, closure=function.__closure__)
        return torch.compile(own, **self._options)

    @property
    def _names(self) -> str:
        return ", ".join(self._plan.task_names)

    def _tell(self, reason: str) -> None:
        _LOGGER.warning("compile: the flow of %s is run without being compiled: %s", self._names, reason)
