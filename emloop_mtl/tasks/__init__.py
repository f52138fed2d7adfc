"""Learning goals: their flows, losses and scores."""

from .action import Action
from .action_input import INPUT, ActionInput
from .flow import check_flow
from .flow_outputs import FlowOutputs
from .metrics import METRICS, CustomMetric, Metric, create_metric
from .plan import Plan
from .score_table import ScoreTable, average_scores
from .scorer import Scorer
from .slicing import SliceHeads, SlicingFunction, add_slice_labels, slice_tasks, slicing_function
from .task import Task
from .task_network import TaskNetwork

__all__ = [
    "INPUT",
    "METRICS",
    "Action",
    "ActionInput",
    "CustomMetric",
    "FlowOutputs",
    "Metric",
    "Plan",
    "ScoreTable",
    "Scorer",
    "SliceHeads",
    "SlicingFunction",
    "Task",
    "TaskNetwork",
    "add_slice_labels",
    "average_scores",
    "check_flow",
    "create_metric",
    "slice_tasks",
    "slicing_function",
]
