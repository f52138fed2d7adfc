"""The step of an optimizer."""

from __future__ import annotations

from typing import Any, cast

from torch._C._autograd import _profiler_enabled
from torch.optim import optimizer as torch_optimizer
from torch.optim.optimizer import Optimizer

_WRAPPER = cast("Any", Optimizer.profile_hook_step)(lambda self: None).__code__
"""What torch puts around the step of every optimizer class, to call hooks and to tell its profiler."""


class OptimizerStep:
    """Calls an optimizer's step, without what torch puts around it where nobody is there to notice.

    That takes as long as the update of some ten small parameters.

    :param optimizer: the optimizer; its step needs no closure
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._wrapped = cast("Any", type(optimizer).step)
        """What the class's step was when ``_bare`` was taken out of it."""
        is_known = getattr(self._wrapped, "__code__", None) is _WRAPPER
        self._bare = self._wrapped.__wrapped__ if is_known else None

    def __reduce__(self) -> tuple[type[OptimizerStep], tuple[Optimizer]]:
        """Leave out the functions, which cannot be pickled; they are found again."""
        return OptimizerStep, (self._optimizer,)

    def __call__(self) -> None:
        """Update the parameters."""
        optimizer = self._optimizer
        if (
            self._bare is None
            or "step" in optimizer.__dict__  # torch's schedulers, and others, put theirs there
            or type(optimizer).step is not self._wrapped
            or optimizer._optimizer_step_pre_hooks
            or optimizer._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or _profiler_enabled()
        ):
            optimizer.step()
        else:
            self._bare(optimizer)
