"""The name under which a number of an epoch stands in files and services."""

from __future__ import annotations

from ..constants import ALL_STREAMS

SCORE_PARTS = 3
"""A score's variable is ``task/data/metric``; its stream goes before the metric, as in Emmental."""

MODEL_AVERAGES = "model/all/"
"""What the variables of averages over tasks and datasets begin with."""


def flat_name(stream: str, variable: str, aggregation: str | None = None) -> str:
    """Return the one name of a number: ``digit/digits/valid/accuracy``, ``train/loss/mean``.

    :param stream: the stream it belongs to; the reserved ``all`` gives ``model/all/all/micro_average``, and leaves a
        number that is no average its own name
    :param variable: ``task/data/metric``, ``model/all/micro_average``, or the name of a batch variable
    :param aggregation: its key where the variable has several numbers, ``mean`` for example
    """
    if stream == ALL_STREAMS and not variable.startswith(MODEL_AVERAGES):
        name = variable
    else:
        parts = variable.split("/", SCORE_PARTS - 1)
        position = SCORE_PARTS - 1 if len(parts) == SCORE_PARTS else 0
        name = "/".join((*parts[:position], stream, *parts[position:]))
    return name if aggregation is None else f"{name}/{aggregation}"
