"""Whether backbone and heads find what they read in all rows of a mixed batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..data.batch import Batch
from ..data.mix import Mix
from ..errors import DataError
from .component import BACKBONE, Component
from .given import Given


def check_mixed(components: Mapping[str, Component], batch: Batch, mix: Mix, task_source: str | None) -> None:
    """Check that nothing reads what is filled up in rows of a loader that does not hold it.

    :param components: the backbone and the heads by name
    :param mix: the loaders of the batch
    :param task_source: the source that tells each row's head, if the batch holds it
    :raise DataError: naming source and loader
    """
    partial = {name for name in batch if mix.lacking(name)}
    if not partial:
        return
    backbone = components[BACKBONE]
    for part in mix.parts:
        lacking = partial - part.sources
        if task_source in lacking:
            text = f"source {task_source!r} tells the head of each row, but loader {part.data_name!r} does not hold it"
            raise DataError(f"{text}, whose rows are in a mixed batch with others")
        _refuse(backbone, backbone.bind(batch), lacking, part.data_name)
        for name in part.tasks or (name for name in components if name != BACKBONE):
            head = components.get(name)
            if head is not None:
                _refuse(head, head.check(batch, backbone), lacking, part.data_name)


def _refuse(reader: Component, given: Iterable[Given], lacking: set[str], loader: str) -> None:
    source = next((each.name for each in given if not each.is_encoded and each.name in lacking), None)
    if source is not None:
        text = f"{reader.label} reads source {source!r}, which loader {loader!r} does not hold"
        raise DataError(f"{text}, though rows of it are in a mixed batch with others")
