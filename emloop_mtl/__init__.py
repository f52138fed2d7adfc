"""A hook-driven engine that trains one PyTorch model on many tasks.

The names below are the package's public ones. Each is imported when it is first used, so that importing the
package costs next to nothing and the command line can print its help without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .abstract_hook import AbstractHook
    from .config.create import create_training
    from .config.load import load_config
    from .config.open_run import open_run
    from .data.abstract_dataset import AbstractDataset
    from .data.base_dataset import BaseDataset
    from .data.batch import Batch
    from .data.column_dataset import ColumnDataset
    from .data.files.file_columns import FileColumns
    from .data.files.file_dataset import FileDataset
    from .data.multi_task_dataset import MultiTaskDataset
    from .data.stream_wrapper import StreamWrapper
    from .data.task_loader import TaskLoader
    from .errors import CheckpointError, ConfigError, DataError, TrainingTerminated
    from .main_loop import MainLoop
    from .models.abstract_model import AbstractModel
    from .models.backbone_heads_model import BackboneHeadsModel
    from .models.ensemble import Ensemble
    from .models.head import Head
    from .models.joint_learning import JointLearning
    from .models.linear_heads import LinearHeads
    from .models.multi_task_model import MultiTaskModel
    from .models.sequence import Sequence
    from .schedulers.annealed import Annealed
    from .schedulers.dynamic import Dynamic
    from .schedulers.interleaved import Interleaved
    from .schedulers.mixed import Mixed
    from .schedulers.proportional import Proportional
    from .schedulers.round_robin import RoundRobin
    from .schedulers.sequential import Sequential
    from .schedulers.temperature import Temperature
    from .schedulers.uniform import Uniform
    from .schedulers.weighted import Weighted
    from .tasks.action import Action
    from .tasks.scorer import Scorer
    from .tasks.slicing.add_slice_labels import add_slice_labels
    from .tasks.slicing.slice_tasks import slice_tasks
    from .tasks.slicing.slicing_function import SlicingFunction, slicing_function
    from .tasks.task import Task
    from .types import EpochData, Stream, TimeProfile

__version__ = "0.1.0"

__all__ = [
    "AbstractDataset",
    "AbstractHook",
    "AbstractModel",
    "Action",
    "Annealed",
    "BackboneHeadsModel",
    "BaseDataset",
    "Batch",
    "CheckpointError",
    "ColumnDataset",
    "ConfigError",
    "DataError",
    "Dynamic",
    "Ensemble",
    "EpochData",
    "FileColumns",
    "FileDataset",
    "Head",
    "Interleaved",
    "JointLearning",
    "LinearHeads",
    "MainLoop",
    "Mixed",
    "MultiTaskDataset",
    "MultiTaskModel",
    "Proportional",
    "RoundRobin",
    "Scorer",
    "Sequence",
    "Sequential",
    "SlicingFunction",
    "Stream",
    "StreamWrapper",
    "Task",
    "TaskLoader",
    "Temperature",
    "TimeProfile",
    "TrainingTerminated",
    "Uniform",
    "Weighted",
    "add_slice_labels",
    "create_training",
    "load_config",
    "open_run",
    "slice_tasks",
    "slicing_function",
]

_MODULES = {
    "AbstractDataset": "data.abstract_dataset",
    "AbstractHook": "abstract_hook",
    "AbstractModel": "models.abstract_model",
    "Action": "tasks.action",
    "Annealed": "schedulers.annealed",
    "BackboneHeadsModel": "models.backbone_heads_model",
    "BaseDataset": "data.base_dataset",
    "Batch": "data.batch",
    "CheckpointError": "errors",
    "ColumnDataset": "data.column_dataset",
    "ConfigError": "errors",
    "DataError": "errors",
    "Dynamic": "schedulers.dynamic",
    "Ensemble": "models.ensemble",
    "EpochData": "types",
    "FileColumns": "data.files.file_columns",
    "FileDataset": "data.files.file_dataset",
    "Head": "models.head",
    "Interleaved": "schedulers.interleaved",
    "JointLearning": "models.joint_learning",
    "LinearHeads": "models.linear_heads",
    "MainLoop": "main_loop",
    "Mixed": "schedulers.mixed",
    "MultiTaskDataset": "data.multi_task_dataset",
    "MultiTaskModel": "models.multi_task_model",
    "Proportional": "schedulers.proportional",
    "RoundRobin": "schedulers.round_robin",
    "Scorer": "tasks.scorer",
    "Sequence": "models.sequence",
    "Sequential": "schedulers.sequential",
    "SlicingFunction": "tasks.slicing.slicing_function",
    "Stream": "types",
    "StreamWrapper": "data.stream_wrapper",
    "Task": "tasks.task",
    "TaskLoader": "data.task_loader",
    "Temperature": "schedulers.temperature",
    "TimeProfile": "types",
    "TrainingTerminated": "errors",
    "Uniform": "schedulers.uniform",
    "Weighted": "schedulers.weighted",
    "add_slice_labels": "tasks.slicing.add_slice_labels",
    "create_training": "config.create",
    "load_config": "config.load",
    "open_run": "config.open_run",
    "slice_tasks": "tasks.slicing.slice_tasks",
    "slicing_function": "tasks.slicing.slicing_function",
}


if not TYPE_CHECKING:  # a type checker would take any name for one that there is

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
