"""Whether backbone and heads find what they read in all rows of a mixed batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

from ..data.batch import Batch
from ..data.mix import Mix
from ..data.per_kind import MOST_KINDS
from ..errors import DataError
from .component import BACKBONE, Component
from .given import Given


class MixedHeads:
    """Checks that nothing reads what is filled up in rows of a loader that does not hold it.

    Batches with the same sources of the same loaders are looked at once.
    """

    def __init__(self) -> None:
        self._passed: set[Hashable] = set()

    def check(
        self,
        find_components: Callable[[], Mapping[str, Component]],
        version: int,
        batch: Batch,
        mix: Mix,
        task_source: str | None,
    ) -> None:
        """Check a batch.

        :param find_components: returns the backbone and the heads by name
        :param version: another number whenever there are other heads
        :param mix: the loaders of the batch
        :param task_source: the source that tells each row's head, if the batch holds it
        :raise DataError: naming source and loader
        """
        parts = tuple([(part.data_name, part.sources, tuple(part.tasks)) for part in mix.parts])
        kind = version, task_source, tuple(batch), parts
        if kind not in self._passed:
            _check(find_components(), batch, mix, task_source)
            if len(self._passed) >= MOST_KINDS:
                self._passed.clear()
            self._passed.add(kind)


def _check(components: Mapping[str, Component], batch: Batch, mix: Mix, task_source: str | None) -> None:
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
