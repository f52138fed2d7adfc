"""A training made from a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..abstract_hook import AbstractHook
from ..main_loop import MainLoop
from .config import Config


@dataclass(frozen=True)
class Training:
    """A training, ready to run: ``training.main_loop.run_training()``.

    :param config: the resolved config: overrides applied, ``seed`` written out
    :param output_dir: folder of the run, None for a run that writes nothing
    """

    config: Config
    dataset: Any
    model: Any
    hooks: list[AbstractHook]
    main_loop: MainLoop
    output_dir: str | None
