"""Which of a model's tasks are run as one, and when no longer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..data.batch import Batch
from ..optim.update import Update
from ..tasks.stackable import FEWEST, find_stacks
from ..tasks.task import Task
from ..tasks.task_network import TaskNetwork
from ..tasks.task_stack import TaskStack
from ..tasks.watched import are_all_watched
from ..types import State
from .parted_names import PartedNames

if TYPE_CHECKING:
    from ..data.stream_wrapper import StreamWrapper

_LOGGER = logging.getLogger(__name__)

SHOWN = 4
"""How many tasks of a stack the log names."""

MOST_CHANGES = 10
"""How often somebody may change modules of tasks that are run as one, before these run apart for good."""


class TaskStacks:
    """Puts tasks together whose remaining flow is the same, and takes them apart where they could come out different.

    Tasks are together only as long as every batch that is trained on carries all of them or none: one that is absent
    has no gradient, which to an optimizer is not the same as a gradient of zero.

    :param network: the modules and tasks
    :param update: what trains them
    """

    def __init__(self, network: TaskNetwork, update: Update) -> None:
        self._network = network
        self._update = update
        self._version = network.version
        self._active: list[TaskStack] = []
        self._restored: list[list[str]] = []
        """The names of tasks that were together in the state that was restored, until they are so again."""
        self._parting = PartedNames()
        self._were_parted = False
        self._is_frozen_anew = False
        """Whether it is to be looked at anew which tasks are frozen alike."""
        self._walk: object | None = None
        """The walk through a stream that was looked at last."""
        self._changes: Counter[str] = Counter()
        """Task name -> how often it was taken apart because of what somebody has changed."""
        self._is_copy = False
        """Whether what is together is so in another model only, which this one is a copy of."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be the copy of another, as by ``copy.deepcopy``."""
        self.__dict__.update(state)
        self._is_copy = True

    @property
    def names(self) -> list[tuple[str, ...]]:
        """The names of the tasks of each stack."""
        return [stack.names for stack in self._active]

    def of(self, names: Collection[str]) -> list[TaskStack]:
        """Return the stacks all of whose tasks are among ``names``, in an order that depends on nothing else."""
        if self._version != self._network.version:  # tasks have changed, what is together will be looked at anew
            return []
        whole = [stack for stack in self._active if all(name in names for name in stack.names)]
        places = {name: place for place, name in enumerate(names)}
        return sorted(whole, key=lambda stack: places[stack.names[0]])

    def learn(self, batches: Iterable[Batch]) -> None:
        """Learn from batches of all loaders that are trained on which tasks will never be together."""
        for batch in batches:
            if batch.tasks:
                self._part(batch.tasks)

    def settle(self, names: Collection[str]) -> None:
        """Put tasks together and take them apart, as it is to be before a batch of these tasks is trained on."""
        self.check()
        self._were_parted |= self._part(names)
        if self._is_frozen_anew:
            self._is_frozen_anew = False
            self._part_frozen()
        for stack in list(self._active):
            carried = sum(name in names for name in stack.names)
            if 0 < carried < len(stack.names):
                self._dissolve(stack, f"a batch carries {carried} of them")
        if not self._update.takes_stacks or are_all_watched():
            return
        stacked = {name for stack in self._active for name in stack.names}
        free: dict[int, list[Task]] = {}
        known = self._network.tasks
        for name in known:
            if name in names and name not in stacked:
                free.setdefault(self._parting.class_of(name), []).append(known[name])
        conditions: Mapping[Any, Any] | None = None
        for tasks in free.values():
            if len(tasks) >= FEWEST:
                conditions = self._update.stack_conditions() if conditions is None else conditions
                for alike in find_stacks(tasks, self._network, conditions, known.values()):
                    self._stack(alike)

    def keep_apart(self, names: Collection[str], reason: str) -> None:
        """Have each of these tasks run by itself from now on."""
        for name in names:
            self._were_parted |= self._part([name])
        for stack in [stack for stack in self._active if any(name in names for name in stack.names)]:
            self._dissolve(stack, reason)

    def notice(self, stream: StreamWrapper | None) -> None:
        """Check what is together before a batch of a stream, or before the first only where nobody else acts between.

        :param stream: the stream; None where batches are run one by one
        """
        if self._restored:
            self._put_together_again()
        if self._active:
            walk = None if stream is None or not stream.is_undisturbed else stream.walk
            if walk is not None and walk is self._walk and self._version == self._network.version:
                return
            self._walk = walk
        self.check()

    def check(self) -> None:
        """Take apart what somebody has changed the modules, weights or tasks of."""
        if not self._active:
            self._version = self._network.version
            return
        if self._version != self._network.version:
            self._version = self._network.version
            self.dissolve("the model's tasks have changed")
        elif not self._update.takes_stacks or are_all_watched():
            self.dissolve("somebody watches every module, or the optimizer")
        elif self._is_copy:
            self.dissolve("they belong to a copy of the model")
        for stack in list(self._active):
            if not stack.is_intact(self._network):
                self._dissolve(stack, "somebody has changed or watches one of their modules")
                self._count_change(stack.names)

    def begin_change(self) -> None:
        """Run all tasks apart, since the model's tasks are about to change.

        What has parted them is part of the state from now on: it no longer follows from the tasks alone.
        """
        self._were_parted = True
        self._restored.clear()
        self.dissolve("the model's tasks have changed")

    def begin_freezing(self, is_released: bool = False) -> None:
        """Run all tasks apart, since what is frozen is about to change.

        Those that are then frozen differently are parted for good: what the optimizer remembers of them will differ,
        and may be alike again where a training is resumed.

        :param is_released: whether a part is trained again; what was together in a state that was restored is then no
            longer put together, while freezing again what was frozen there leaves that to come
        """
        if is_released:
            self._restored.clear()
        self._is_frozen_anew = True
        self.dissolve("what is frozen changes")

    def dissolve(self, reason: str) -> None:
        """Run all tasks apart from now on, until some are put together again."""
        for stack in list(self._active):
            self._dissolve(stack, reason)
        self._is_copy = False

    def state_dict(self) -> dict[str, State]:
        """Return which tasks are together and what has parted others, for a resumed run to compute the same."""
        stacked, changes = self._restored, Counter(self._changes)
        if self._active:
            # What somebody has changed will be taken apart before the next batch.
            changed = [stack for stack in self._active if not stack.is_intact(self._network)]
            stacked = [list(stack.names) for stack in self._active if stack not in changed]
            for stack in changed if not self._is_copy else ():
                changes.update(stack.names)
        parted = dict(self._parting.state_dict(self._network.tasks)) if self._were_parted else {}
        counted = {"changes": dict(changes)} if changes else {}
        return {**({"stacked": [list(names) for names in stacked]} if stacked else {}), **counted, **parted}

    def load_state_dict(self, state: Mapping[str, State]) -> None:
        """Go on from what ``state_dict`` returned: tasks are together again before the next batch is run.

        Not before, since hooks may have yet to freeze what was frozen.
        """
        self._restored = [[str(name) for name in names] for names in state.get("stacked", [])]
        if "together" in state:
            self._were_parted = True
            self._parting.load_state_dict({"together": state["together"], "new": state["new"]})
        self._changes = Counter(state.get("changes", {}))
        self._part_changed(self._changes)

    def _put_together_again(self) -> None:
        restored, self._restored = self._restored, []
        self._version = self._network.version
        if not self._update.takes_stacks or are_all_watched():
            return
        known, conditions = self._network.tasks, self._update.stack_conditions()
        for names in restored:
            tasks = [known[name] for name in names if name in known]
            for alike in find_stacks(tasks, self._network, conditions, known.values()):
                if [task.name for task in alike] == names:  # else somebody has changed one, which takes all apart
                    self._stack(alike)

    def _count_change(self, names: Collection[str]) -> None:
        """Leave tasks apart that are changed again and again, as by a hook that gives them weights after each batch."""
        self._changes.update(names)
        self._part_changed(names)

    def _part_changed(self, names: Iterable[str]) -> None:
        for name in names:
            if self._changes[name] >= MOST_CHANGES:
                self._were_parted |= self._part([name])

    def _part_frozen(self) -> None:
        kinds: dict[tuple[bool, ...], list[str]] = {}
        for name, task in self._network.tasks.items():
            modules = [self._network[action.module] for action in task.flow]
            flags = tuple(parameter.requires_grad for module in modules for parameter in module.parameters())
            kinds.setdefault(flags, []).append(name)
        if len(kinds) > 1:
            for names in kinds.values():
                self._were_parted |= self._part(names)

    def _part(self, names: Collection[str]) -> bool:
        """Part these tasks from all others, and return whether that is new."""
        return self._parting.part(names, self._network.tasks)

    def _stack(self, tasks: list[Task]) -> None:
        self._is_copy = False
        stack = TaskStack(tasks, self._network, list(self._network.tasks.values()))
        self._update.stack(stack.tail.parameters)
        self._active.append(stack)
        self._has_changed()
        _LOGGER.info("%s run as one: what remains of their flows is the same", _shown(stack))

    def _dissolve(self, stack: TaskStack, reason: str) -> None:
        self._update.unstack(stack.tail.parameters)
        for parameter in stack.tail.parameters:
            parameter.release()
        self._active.remove(stack)
        self._has_changed()
        _LOGGER.info("%s run apart from now on: %s", _shown(stack), reason)

    def _has_changed(self) -> None:
        # In this order, since a thread that prepares batches may ask meanwhile.
        self._version += 1
        self._network.forget_plans()


def _shown(stack: TaskStack) -> str:
    names = [repr(name) for name in stack.names]
    if len(names) <= SHOWN:
        return f"tasks {', '.join(names)}"
    return f"{len(names)} tasks, {', '.join(names[: SHOWN - 1])} … {names[-1]},"
