"""The hooks that come with the package, each imported when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emloop_mtl.abstract_hook import AbstractHook, TrainingTerminated

    from .checkpointing.clear_checkpoints import ClearCheckpoints
    from .checkpointing.restore_best import RestoreBest
    from .checkpointing.save_best import SaveBest
    from .checkpointing.save_every import SaveEvery
    from .checkpointing.save_latest import SaveLatest
    from .evaluation.accumulate_variables import AccumulateVariables
    from .evaluation.classification_metrics import ClassificationMetrics
    from .evaluation.compute_stats import ComputeStats
    from .evaluation.evaluate import Evaluate
    from .evaluation.flatten import Flatten
    from .evaluation.gradient_norms import GradientNorms
    from .evaluation.save_confusion_matrix import SaveConfusionMatrix
    from .evaluation.score_tasks import ScoreTasks
    from .learning_rate.lr_schedule import LRSchedule
    from .learning_rate.warmup import Warmup
    from .reporting.benchmark import Benchmark
    from .reporting.every_n_epoch import EveryNEpoch
    from .reporting.log_dir import LogDir
    from .reporting.log_profile import LogProfile
    from .reporting.log_variables import LogVariables
    from .reporting.show_progress import ShowProgress
    from .reporting.training_trace import TrainingTrace
    from .stopping.check import Check
    from .stopping.on_plateau import OnPlateau
    from .stopping.stop_after import StopAfter
    from .stopping.stop_on_nan import StopOnNaN
    from .stopping.stop_on_plateau import StopOnPlateau
    from .watched_number import WatchedNumber
    from .weights.average_weights import AverageWeights
    from .weights.freeze import Freeze
    from .writing.abstract_writer import AbstractWriter
    from .writing.logits_to_csv import LogitsToCsv
    from .writing.plot_lines import PlotLines
    from .writing.record_file import RecordFile
    from .writing.save_file import SaveFile
    from .writing.sequence_to_csv import SequenceToCsv
    from .writing.write_csv import WriteCSV
    from .writing.write_json import WriteJSON
    from .writing.write_predictions import WritePredictions
    from .writing.write_profile import WriteProfile
    from .writing.write_tensor_board import WriteTensorBoard
    from .writing.write_wandb import WriteWandb

__all__ = [
    "AbstractHook",
    "AbstractWriter",
    "AccumulateVariables",
    "AverageWeights",
    "Benchmark",
    "Check",
    "ClassificationMetrics",
    "ClearCheckpoints",
    "ComputeStats",
    "Evaluate",
    "EveryNEpoch",
    "Flatten",
    "Freeze",
    "GradientNorms",
    "LRSchedule",
    "LogDir",
    "LogProfile",
    "LogVariables",
    "LogitsToCsv",
    "OnPlateau",
    "PlotLines",
    "RecordFile",
    "RestoreBest",
    "SaveBest",
    "SaveConfusionMatrix",
    "SaveEvery",
    "SaveFile",
    "SaveLatest",
    "ScoreTasks",
    "SequenceToCsv",
    "ShowProgress",
    "StopAfter",
    "StopOnNaN",
    "StopOnPlateau",
    "TrainingTerminated",
    "TrainingTrace",
    "Warmup",
    "WatchedNumber",
    "WriteCSV",
    "WriteJSON",
    "WritePredictions",
    "WriteProfile",
    "WriteTensorBoard",
    "WriteWandb",
]

_MODULES = {
    "AbstractHook": "emloop_mtl.abstract_hook",
    "AbstractWriter": ".writing.abstract_writer",
    "AccumulateVariables": ".evaluation.accumulate_variables",
    "AverageWeights": ".weights.average_weights",
    "Benchmark": ".reporting.benchmark",
    "Check": ".stopping.check",
    "ClassificationMetrics": ".evaluation.classification_metrics",
    "ClearCheckpoints": ".checkpointing.clear_checkpoints",
    "ComputeStats": ".evaluation.compute_stats",
    "Evaluate": ".evaluation.evaluate",
    "EveryNEpoch": ".reporting.every_n_epoch",
    "Flatten": ".evaluation.flatten",
    "Freeze": ".weights.freeze",
    "GradientNorms": ".evaluation.gradient_norms",
    "LRSchedule": ".learning_rate.lr_schedule",
    "LogDir": ".reporting.log_dir",
    "LogProfile": ".reporting.log_profile",
    "LogVariables": ".reporting.log_variables",
    "LogitsToCsv": ".writing.logits_to_csv",
    "OnPlateau": ".stopping.on_plateau",
    "PlotLines": ".writing.plot_lines",
    "RecordFile": ".writing.record_file",
    "RestoreBest": ".checkpointing.restore_best",
    "SaveBest": ".checkpointing.save_best",
    "SaveConfusionMatrix": ".evaluation.save_confusion_matrix",
    "SaveEvery": ".checkpointing.save_every",
    "SaveFile": ".writing.save_file",
    "SaveLatest": ".checkpointing.save_latest",
    "ScoreTasks": ".evaluation.score_tasks",
    "SequenceToCsv": ".writing.sequence_to_csv",
    "ShowProgress": ".reporting.show_progress",
    "StopAfter": ".stopping.stop_after",
    "StopOnNaN": ".stopping.stop_on_nan",
    "StopOnPlateau": ".stopping.stop_on_plateau",
    "TrainingTerminated": "emloop_mtl.abstract_hook",
    "TrainingTrace": ".reporting.training_trace",
    "Warmup": ".learning_rate.warmup",
    "WatchedNumber": ".watched_number",
    "WriteCSV": ".writing.write_csv",
    "WriteJSON": ".writing.write_json",
    "WritePredictions": ".writing.write_predictions",
    "WriteProfile": ".writing.write_profile",
    "WriteTensorBoard": ".writing.write_tensor_board",
    "WriteWandb": ".writing.write_wandb",
}


if not TYPE_CHECKING:  # a type checker would take any name for one that there is

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name], __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
