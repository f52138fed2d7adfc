"""All that a config asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .blueprint import Blueprint
from .hook_plan import HookPlan


@dataclass(frozen=True)
class TrainingPlan:
    """All that a config asks for, found and checked, but not built."""

    seed: int
    dataset: Blueprint
    model: Blueprint
    hooks: list[HookPlan]
    main_loop: dict[str, Any]
