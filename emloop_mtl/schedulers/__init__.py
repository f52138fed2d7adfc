"""Task schedulers: whose batch comes next."""

from .abstract_task_scheduler import AbstractTaskScheduler, Loader
from .annealed import Annealed
from .drawn_scheduler import DrawnScheduler
from .dynamic import Dynamic
from .interleaved import Interleaved
from .mixed import Mixed
from .proportional import Proportional
from .round_robin import RoundRobin
from .sequential import Sequential
from .temperature import Temperature
from .uniform import Uniform
from .weighted import Weighted

__all__ = [
    "AbstractTaskScheduler",
    "Annealed",
    "DrawnScheduler",
    "Dynamic",
    "Interleaved",
    "Loader",
    "Mixed",
    "Proportional",
    "RoundRobin",
    "Sequential",
    "Temperature",
    "Uniform",
    "Weighted",
]
