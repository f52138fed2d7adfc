from __future__ import annotations

import pytest

from emloop_mtl.utils.pick import pick


@pytest.mark.parametrize("names", [(), ("b",), ("c", "a")])
def test_the_values_come_in_the_order_of_the_names(names: tuple[str, ...]) -> None:
    assert tuple(pick(names)({"a": 1, "b": 2, "c": 3})) == tuple({"a": 1, "b": 2, "c": 3}[name] for name in names)
