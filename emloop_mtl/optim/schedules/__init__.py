"""Learning-rate schedules: what the rate is after a number of due steps."""

from .abstract_schedule import AbstractSchedule
from .constant import Constant
from .cosine_annealing import CosineAnnealing
from .cyclic import Cyclic
from .exponential import Exponential
from .linear import Linear
from .multi_step import MultiStep
from .one_cycle import OneCycle
from .plateau import Plateau
from .step import Step

__all__ = [
    "AbstractSchedule",
    "Constant",
    "CosineAnnealing",
    "Cyclic",
    "Exponential",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Step",
]
