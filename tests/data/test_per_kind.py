from __future__ import annotations

import pytest

from emloop_mtl.data.batch import Batch
from emloop_mtl.data.per_kind import PerKind


def make(kind: object = None, name: str = "d", label: str | None = "y", **more: int) -> Batch:
    batch = Batch({"x": [1], **more}, tasks={"a": label}, data_name=name)
    batch.kind = kind
    return batch


@pytest.mark.parametrize("kind", [None, object()], ids=["unknown to the model", "known to the model"])
def test_it_is_worked_out_once_for_batches_of_a_kind(kind: object) -> None:
    seen: list[Batch] = []

    def work_out(batch: Batch) -> int:
        seen.append(batch)
        return len(seen)

    per_kind = PerKind(work_out)
    assert [per_kind.of(make(kind)) for _ in range(3)] == [1, 1, 1]
    assert per_kind.of(make(kind, name="e")) == 2
    assert per_kind.of(make(kind, loss=1)) == 3
    assert per_kind.of(make(object() if kind else None, label=None)) == 4
    assert per_kind.of(make(kind)) == 1
    assert len(seen) == 4
