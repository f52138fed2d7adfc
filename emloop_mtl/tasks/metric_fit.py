"""Whether a metric suits what a task predicts."""

from __future__ import annotations

from .metrics import Metric
from .output import Output

_ADVICE = "choose another one, or set 'output'"


def find_misfit(metric: Metric, output: Output, reads_predictions: bool) -> str | None:
    """Return why a metric cannot be computed of what a task predicts; None if nothing is known against it.

    :param output: how the task predicts
    :param reads_predictions: whether the metric gets the task's own predictions
    """
    name = f"metric {metric.name!r}"
    if metric.compares_classes and reads_predictions and output.predicts_values:
        return f"{name} compares classes, but the task predicts values; {_ADVICE}"
    if metric.compares_numbers and output.predicts_classes:
        return f"{name} compares one number per row, but the task predicts classes; {_ADVICE}"
    if metric.compares_values and output.predicts_classes:
        return f"{name} compares values, but the task predicts classes; {_ADVICE}"
    if metric.reads_probabilities and output.gives_no_probabilities:
        return f"{name} needs probabilities, but the task gives other numbers; {_ADVICE}"
    if metric.reads_label_sets and output.predicts_label_sets is False:
        what = "classes" if output.predicts_classes else "one label"
        return f"{name} needs several labels per row that are 0 or 1, but the task predicts {what}; {_ADVICE}"
    return None
