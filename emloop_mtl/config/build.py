"""The one rule of a config: a mapping with ``class`` is an object, its other keys are the arguments, recursively."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import KeyPath
from .annotations import is_object
from .blueprint import realize
from .planner import Planner
from .trust_policy import TrustPolicy


def build(
    value: Any,
    path: KeyPath = (),
    *,
    kind: str = "object",
    handed_over: Mapping[str, Any] | None = None,
    trust: TrustPolicy | None = None,
) -> Any:
    """Return ``value`` with every mapping that has ``class`` replaced by the object it describes.

    All classes are found and all calls checked before the first object is built.

    :param value: plain data of a config
    :param path: where it stands in the config
    :param kind: what ``value`` itself is, see ``resolve_class``
    :param handed_over: what the constructor of ``value`` gets if it names it
    :param trust: refuses what must not run; None trusts everything
    :raise ConfigError: for a class that is not found, arguments that do not fit, or a constructor's complaint
    """
    handed = dict(handed_over or {})
    planner = Planner(trust)
    plan = planner.object(value, path, kind, handed) if is_object(value) else planner.value(value, path)
    return realize(plan, handed)
