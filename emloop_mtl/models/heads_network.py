"""The modules of a model with a backbone and heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ..tasks.plan import Plan
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from .component import BACKBONE, Component
from .head_task import HeadTask
from .heads_plan import HeadsPlan


class HeadsNetwork(TaskNetwork):
    """A backbone and heads; ``state_dict`` keys are ``backbone.<parameter>`` and ``<head>.<parameter>``.

    :param tasks: the heads as tasks
    :param modules: backbone and heads by name
    :param components: the arguments of backbone and heads by name
    :param called: gets the names of the heads that are run
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        modules: Mapping[str, nn.Module],
        components: Mapping[str, Component],
        called: set[str],
    ) -> None:
        super().__init__(tasks, modules)
        self._components = dict(components)
        self._called = called

    def _make_plan(self, tasks: Sequence[Task]) -> Plan:
        heads = [task for task in tasks if isinstance(task, HeadTask)]
        return HeadsPlan(
            heads, self._components[BACKBONE], [self._components[task.name] for task in heads], self._called
        )
