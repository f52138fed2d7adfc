"""The hooks that come with the package, each imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated

    from .checkpointing.save_best import SaveBest
    from .checkpointing.save_latest import SaveLatest
    from .evaluation.compute_stats import ComputeStats
    from .evaluation.evaluate import Evaluate
    from .evaluation.score_tasks import ScoreTasks
    from .learning_rate.lr_schedule import LRSchedule
    from .learning_rate.warmup import Warmup
    from .reporting.log_variables import LogVariables
    from .reporting.show_progress import ShowProgress
    from .reporting.training_trace import TrainingTrace
    from .stopping.stop_after import StopAfter
    from .stopping.stop_on_plateau import StopOnPlateau
    from .writing.write_json import WriteJSON
    from .writing.write_tensor_board import WriteTensorBoard

__all__ = [
    "AbstractHook",
    "ComputeStats",
    "Evaluate",
    "LRSchedule",
    "LogVariables",
    "SaveBest",
    "SaveLatest",
    "ScoreTasks",
    "ShowProgress",
    "StopAfter",
    "StopOnPlateau",
    "TrainingTerminated",
    "TrainingTrace",
    "Warmup",
    "WriteJSON",
    "WriteTensorBoard",
]

_MODULES = {
    "AbstractHook": "emloop_mtl.abstract_hook",
    "ComputeStats": ".evaluation.compute_stats",
    "Evaluate": ".evaluation.evaluate",
    "LRSchedule": ".learning_rate.lr_schedule",
    "LogVariables": ".reporting.log_variables",
    "SaveBest": ".checkpointing.save_best",
    "SaveLatest": ".checkpointing.save_latest",
    "ScoreTasks": ".evaluation.score_tasks",
    "ShowProgress": ".reporting.show_progress",
    "StopAfter": ".stopping.stop_after",
    "StopOnPlateau": ".stopping.stop_on_plateau",
    "TrainingTerminated": "emloop_mtl.abstract_hook",
    "TrainingTrace": ".reporting.training_trace",
    "Warmup": ".learning_rate.warmup",
    "WriteJSON": ".writing.write_json",
    "WriteTensorBoard": ".writing.write_tensor_board",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
