"""A backbone and heads that torch has compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from ..data.batch import Batch
from ..tasks.flow_outputs import FlowOutputs
from .compiled_plan import CompiledPlan
from .heads_plan import HeadsPlan


class CompiledHeadsPlan(CompiledPlan):
    """Runs a backbone and heads like their plan, by code that ``torch.compile`` makes of it when it is first run.

    Where heads get certain rows only, whose number is another one in each batch, the backbone alone is compiled.

    :param plan: the plan
    :param modules: module name -> what is called
    :param options: arguments of ``torch.compile``
    """

    def __init__(self, plan: HeadsPlan, modules: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]) -> None:
        super().__init__(plan, modules, options)
        self._heads_plan = plan

        def encode(sources: dict[str, Tensor]) -> Any:
            return plan.encode(modules, sources)

        self._encode = self._compiled(encode)

    def _lacks_sources(self, sources: Mapping[str, Tensor]) -> bool:
        return False  # which ones it needs is known where it is run

    def _run_compiled(self, sources: dict[str, Tensor], batch: Mapping[str, Any]) -> FlowOutputs:
        if isinstance(batch, Batch) and batch.shares:
            return self._heads_plan.decode(self._modules, batch, self._encode(sources))
        return super()._run_compiled(sources, batch)
