"""Loaders with shares that follow from the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from ..errors import CheckpointError, ConfigError, TrainingTerminated, nearest
from ..types import EpochData, State
from ..utils.flat_names import flatten
from .abstract_task_scheduler import Loader
from .drawn_scheduler import DrawnScheduler
from .loader_weights import check_weights, match_weights


class Dynamic(DrawnScheduler):
    """Take batches of each loader in proportion to a weight that follows from the numbers of the last epoch.

    After every epoch, the zeroth included, a function gets all its numbers by the names that they have in files, such
    as ``digit/digits/valid/accuracy``, and returns a weight for every loader: for the passes that begin from then on.
    If it returns None, as it may in epochs that evaluate nothing, the weights stay as they were.

    :param function: ``f(numbers) -> {loader name: weight}``, in YAML by its dotted path; weights are numbers >= 0, of
        which only the ratios count
    :param start: loader name -> weight before the function is asked first; by default equal ones
    :param batches_per_pass: batches of one pass; None for as many as the loaders have together
    :raise ConfigError: for weights of which no shares can be made, or a function that fails

    .. code-block:: yaml

        class: Dynamic
        function: my_module.weights_by_accuracy
        batches_per_pass: 1000
    """

    learns: ClassVar[bool] = True

    def __init__(
        self,
        function: Callable[[dict[str, float]], Mapping[str, float] | None],
        start: Mapping[str, float] | None = None,
        batches_per_pass: int | None = None,
    ) -> None:
        super().__init__(batches_per_pass)
        if not callable(function):
            raise ConfigError(
                f"Dynamic: function must be a function of an epoch's numbers, not {function!r}", ("function",)
            )
        self._function = function
        self._name = str(getattr(function, "__name__", type(function).__name__))
        try:
            self._start = None if start is None else check_weights(start, "Dynamic: start")
        except ConfigError as error:
            raise error.below(("start",)) from error.__cause__
        self._learnt: list[tuple[int, dict[str, float]]] = []
        """The pass from which on weights count, and these: the last ones, and those before, of a pass under way."""

    def settings(self) -> dict[str, State]:
        return {**super().settings(), "function": self._name, "start": None if self._start is None else {**self._start}}

    def weights(self, loaders: Sequence[Loader], pass_number: int) -> Sequence[float]:
        for begin, weights in reversed(self._learnt):
            if begin <= pass_number:
                return match_weights(weights, loaders, f"Dynamic: what {self._name} returned")
        if self._start is None:
            return [1.0] * len(loaders)
        try:
            return match_weights(self._start, loaders, "Dynamic: start")
        except ConfigError as error:
            raise error.below(("start",)) from error.__cause__

    def after_epoch(self, epoch_data: EpochData, next_pass: int) -> None:
        """Ask the function for the weights of the passes to come."""
        numbers = flatten(epoch_data)
        try:
            weights = self._function(dict(numbers))
        except TrainingTerminated:
            raise
        except Exception as error:
            reason = _described(error)
            if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
                reason = f"there is no number {error.args[0]!r}{nearest(error.args[0], numbers)}"
            raise ConfigError(f"Dynamic: {self._name}: {reason}", ("function",)) from error
        if weights is not None:
            try:
                found = check_weights(weights, f"Dynamic: what {self._name} returned")
            except ConfigError as error:
                raise ConfigError(str(error), ("function",)) from error
            before = [entry for entry in self._learnt if entry[0] < next_pass]
            self._learnt = [*before[-1:], (next_pass, found)]

    def state_dict(self) -> dict[str, State]:
        return {"learnt": [{"pass": begin, "weights": dict(weights)} for begin, weights in self._learnt]}

    def load_state_dict(self, state: dict[str, State]) -> None:
        try:
            found = [(entry["pass"], check_weights(entry["weights"], "Dynamic")) for entry in state["learnt"]]
        except (KeyError, TypeError, ConfigError) as error:
            raise CheckpointError(f"what Dynamic has learnt cannot be read: {_described(error)}") from error
        if not all(type(begin) is int for begin, _ in found):
            raise CheckpointError("what Dynamic has learnt cannot be read: a pass is no number")
        self._learnt = found


def _described(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
