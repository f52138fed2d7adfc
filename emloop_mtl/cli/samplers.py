"""Samplers and pruners of Optuna."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..config.build import build
from ..errors import ConfigError

CONSTANT_SEED = ("GridSampler", "QMCSampler")
"""Samplers that number their points themselves, in an order that their seed decides."""


@contextmanager
def asking(kind: str) -> Iterator[None]:
    """Name the setting in errors of a sampler or pruner, such as that of one that does not know a range."""
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, ImportError) as error:
        raise ConfigError(f"cannot be used here: {error}", ("search", kind)) from error


def made(section: Mapping[str, Any], kind: str, base: type, seed: int, number: int) -> Any:
    """Return the object that a section describes; a class without a path is one of Optuna's.

    :param number: of the trial; what draws random numbers draws others in each
    """
    path = ("search", kind)
    if "." not in section["class"]:
        section = {**section, "class": f"optuna.{kind}s.{section['class']}"}
    made = build(_seeded(section, number), path, handed_over={"seed": _derived(section, seed, number)})
    if not isinstance(made, base):
        raise ConfigError(f"{section['class']!r} is no {kind} of Optuna's", (*path, "class"))
    return made


def _seeded(value: Any, number: int) -> Any:
    """Return plain data in which the seeds of objects are others for every trial."""
    if isinstance(value, list):
        return [_seeded(item, number) for item in value]
    if not isinstance(value, Mapping):
        return value
    found = {key: _seeded(item, number) for key, item in value.items()}
    seed = found.get("seed")
    if "class" in found and isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0:
        found["seed"] = _derived(found, seed, number)
    return found


def _derived(section: Mapping[str, Any], seed: int, number: int) -> int:
    import numpy as np

    is_constant = str(section["class"]).endswith(CONSTANT_SEED)
    return int(np.random.SeedSequence((seed, 0 if is_constant else number)).generate_state(1)[0])
