"""The modules of a model with a backbone and heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from ..errors import ConfigError
from ..tasks.plan import Plan
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .component import Component
from .head_task import HeadTask
from .heads_plan import HeadsPlan


class HeadsNetwork(TaskNetwork):
    """A backbone and heads; ``state_dict`` keys are ``backbone.<parameter>`` and ``<head>.<parameter>``.

    :param tasks: the heads as tasks
    :param modules: backbone and heads by name
    :param backbone: the arguments of the backbone
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        modules: Mapping[str, nn.Module],
        backbone: Component,
    ) -> None:
        self._backbone = backbone
        super().__init__(tasks, modules)

    def _accept(self, tasks: Sequence[Task], module_names: set[str]) -> None:
        for task in tasks:
            if not isinstance(task, HeadTask):
                text = f"task {task.name!r} is no head of this model; give its module to add_head or update_head"
                raise ConfigError(text, (task.name,))
        super()._accept(tasks, module_names)

    def _make_plan(self, tasks: Sequence[Task]) -> Plan:
        return self.plan_of([task for task in tasks if isinstance(task, HeadTask)])

    def finds_inputs(self, name: str, sources: Collection[str]) -> bool:
        """Whether the backbone and a head find each of their arguments once."""
        head = self.task(name)
        assert isinstance(head, HeadTask)
        try:
            head.component.check(sources, self._backbone)
        except ConfigError:
            return False
        return True

    def plan_of(self, heads: Sequence[HeadTask]) -> HeadsPlan:
        """Return the plan for the backbone and some heads, which may be none."""
        return HeadsPlan(heads, self._backbone, [head.component for head in heads], self._module_devices())
