"""The words that arguments of hooks take, each set of them where several may choose one."""

from __future__ import annotations

from typing import Literal, TypeAlias

OnFailure: TypeAlias = Literal["error", "warn"]
"""What a hook does that cannot write in the middle of a training."""

OnUnwritable: TypeAlias = Literal["default", "warn", "error"]
"""What is done about a number that is missing, or is none, where a table needs one."""

OnUnlogged: TypeAlias = Literal["ignore", "warn", "error", "str"]
"""What is done about a value that is no number where numbers are logged."""

OnUnchecked: TypeAlias = Literal["ignore", "warn", "error"]
"""What is done about a value that cannot be looked at for nan."""

Cleared: TypeAlias = Literal["intermediate", "all_but_best", "all"]
"""Which checkpoints go when a training has finished."""

FigureAction: TypeAlias = Literal["save", "store"]
"""What is done with a figure."""

WandbMode: TypeAlias = Literal["online", "offline"]
"""Where the numbers for Weights & Biases go."""

F1Average: TypeAlias = Literal["binary", "micro", "macro", "weighted", "samples"]
"""How scikit-learn makes one score of those of all classes."""
