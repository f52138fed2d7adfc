"""Task schedulers: whose batch comes next."""

from .abstract_task_scheduler import AbstractTaskScheduler, Loader
from .mixed import Mixed
from .round_robin import RoundRobin
from .sequential import Sequential

__all__ = ["AbstractTaskScheduler", "Loader", "Mixed", "RoundRobin", "Sequential"]
