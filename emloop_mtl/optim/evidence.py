"""What is kept of batches whose losses or gradients are not finite."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..constants import CHECKPOINT_FOLDER, NOT_FINITE_FOLDER
from ..errors import CheckpointError
from ..utils.plain import map_tensors
from .finding import Finding, not_finite

log = logging.getLogger(__name__)

BATCH_FILE = "batch.pt"

SUMMARY_FILE = "summary.json"

MOST_FOLDERS = 5
"""A run keeps so many batches; further ones are told of only."""

MOST_BYTES = 2**28
"""Sources that take more together are left out."""


class Evidence:
    """Writes folders ``not_finite/step-<n>`` into the folder of a run.

    :param output_dir: folder of the run; None for none, so that nothing is written
    """

    def __init__(self, output_dir: str | Path | None) -> None:
        self._folder = None if output_dir is None else Path(output_dir) / NOT_FINITE_FOLDER

    def write(self, finding: Finding, message: str, more: Mapping[str, Collection[str]], is_last: bool) -> Path | None:
        """Write what there is about a batch; a failure is logged, since what was found matters more.

        :param message: what was told of it
        :param more: what else is not finite, as lists of names
        :param is_last: whether the training ends with it, so that it is kept in the place of the oldest one
        :return: the folder, None where none was written
        """
        if self._folder is None:
            return None
        target = self._folder / f"step-{finding.step}"
        temporary = target.with_name(f".tmp-{target.name}")
        try:
            others = [path for path in self._folder.glob("step-*") if path != target]
            if len(others) >= MOST_FOLDERS:
                if not is_last:
                    return None
                shutil.rmtree(min(others, key=lambda path: path.stat().st_mtime))
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            sources, left_out = _plain_sources(finding.sources)
            content = {
                "sources": sources,
                "rows": {task: rows.detach().cpu() for task, rows in finding.batch.rows.items()},
                "tasks": dict(finding.batch.tasks),
                "losses": finding.losses(),
                "gradients": finding.gradients(),
                "step": finding.step,
                "stream": finding.stream,
                "loader": finding.batch.data_name,
                "batch": finding.batch.number,
            }
            with (temporary / BATCH_FILE).open("wb") as file:
                torch.save(content, file)
            summary = self._summary(finding, message, more, sources, left_out)
            (temporary / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)  # of the same step, before the run was resumed
            temporary.rename(target)
        # On a full disk torch's writer raises a RuntimeError.
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            reason = " ".join(str(error).split())
            log.warning("'%s' cannot be written, so nothing is kept of that batch: %s", target, reason)
            return None
        return target

    def _summary(
        self,
        finding: Finding,
        message: str,
        more: Mapping[str, Collection[str]],
        sources: Mapping[str, Any],
        left_out: Mapping[str, str],
    ) -> dict[str, Any]:
        assert self._folder is not None
        place = finding.place
        checkpoints = self._folder.with_name(CHECKPOINT_FOLDER)
        return {
            "message": message,
            "step": finding.step,
            "stream": place.stream,
            "loader": place.data_name,
            "batch": place.number,
            "tasks": list(place.tasks),
            "losses": {name: _number(value) for name, value in finding.losses().items()},
            "not_finite": {
                "gradients": {name: _number(value) for name, value in not_finite(finding.gradients()).items()},
                **{kind: list(names) for kind, names in more.items()},
            },
            "sources": {
                **{name: _described(value) for name, value in sources.items()},
                **{name: f"left out: {reason}" for name, reason in left_out.items()},
            },
            "checkpoints": sorted(path.name for path in checkpoints.glob("[!.]*") if path.is_dir()),
        }


def _plain_sources(sources: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what of the sources can be saved, and why others cannot."""
    found: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    total = 0
    for name, value in sources.items():
        sizes: list[int] = []
        try:
            value = _without_numpy(value)
            map_tensors(value, lambda _, tensor, sizes=sizes: sizes.append(tensor.nbytes))  # type: ignore[misc]
            size = sum(sizes)
            if total + size > MOST_BYTES:
                left_out[name] = f"it has {size / 1e6:,.1f} MB, at most {MOST_BYTES / 1e6:,.1f} MB are kept of a batch"
                continue
            # A tensor that is a part of a larger one would be saved with all of that.
            plain = map_tensors(value, lambda _, tensor: tensor.detach().cpu().clone())
        except (CheckpointError, TypeError, ValueError):
            left_out[name] = "its values are no plain data"
            continue
        total += size
        found[name] = plain
    return found, left_out


def _without_numpy(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return torch.from_numpy(value.copy()) if value.dtype.kind in "fiub" else value.tolist()


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}{f' of {len(value)}' if hasattr(value, '__len__') else ''}"
    shape = f"nested {value.size(0)}" if value.is_nested else "x".join(map(str, value.shape))
    text = f"{str(value.dtype).removeprefix('torch.')} {shape}"
    if not value.is_floating_point():
        return text
    if value.itemsize == 1:  # torch looks through no float8
        value = value.float()
    if value.is_nested:
        value = value.values()
    return f"{text}, {int(value.isnan().sum())} nan, {int(value.isinf().sum())} infinite"


def _number(value: float) -> float | str:
    """Return a number as JSON knows it."""
    return value if math.isfinite(value) else str(value)
