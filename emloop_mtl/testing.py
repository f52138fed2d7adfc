"""Small fakes and helpers to test hooks, models and datasets with; a real main loop runs them.

The hook at hand is run for an epoch or more on tiny batches, and what happened is looked at::

    from emloop_mtl.testing import run_hook

    def test_that_the_mean_is_computed():
        record = run_hook(ComputeStats(["loss"]), outputs={"loss": 0.5}, epochs=2)
        assert record.epochs[2]["train"]["loss"]["mean"] == 0.5
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .abstract_hook import AbstractHook
from .data.abstract_dataset import AbstractDataset
from .errors import TrainingTerminated
from .main_loop import MainLoop
from .models.abstract_model import AbstractModel
from .types import EpochData, State, TimeProfile

if TYPE_CHECKING:
    from .data.batch import Batch
    from .data.stream_wrapper import StreamWrapper

__all__ = ["FakeDataset", "FakeModel", "RecordEvents", "SaveAndFail", "run_hook"]


class FakeModel(AbstractModel):
    """A model that learns nothing: it returns given outputs and counts how often it ran.

    :param outputs: output name -> its value, or a function that gets the batch and returns it
    :param inputs: names of the sources that a batch must hold
    """

    def __init__(
        self, outputs: Mapping[str, Any | Callable[[Batch], Any]] | None = None, inputs: Collection[str] = ("x",)
    ) -> None:
        self._outputs = {"loss": 1.0} if outputs is None else dict(outputs)
        self._inputs = tuple(inputs)
        self.trained = 0
        """Number of batches that were trained on; the model's state."""
        self.evaluated = 0
        """Number of batches that were evaluated."""

    @property
    def input_names(self) -> Collection[str]:
        return self._inputs

    @property
    def output_names(self) -> Collection[str]:
        return tuple(self._outputs)

    def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Mapping[str, Any]:
        if train:
            self.trained += 1
        else:
            self.evaluated += 1
        return {name: value(batch) if callable(value) else value for name, value in self._outputs.items()}

    def state_dict(self) -> dict[str, State]:
        return {"trained": self.trained}

    def load_state_dict(self, state: dict[str, State]) -> None:
        self.trained = state["trained"]


class FakeDataset(AbstractDataset):
    """Streams made of lists of batches.

    :param streams: stream name -> its batches: mappings of source names to values, or ``Batch``es
    """

    def __init__(self, **streams: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._streams = streams
        for name, batches in streams.items():
            # a method per stream is what the protocol asks for; each walk gets copies, since outputs are added
            setattr(self, f"{name}_stream", lambda batches=batches: [copy.copy(batch) for batch in batches])

    @property
    def num_batches(self) -> Mapping[str, int]:
        return {name: len(batches) for name, batches in self._streams.items()}

    def stream_names(self) -> list[str]:
        return sorted(self._streams)


class RecordEvents(AbstractHook):
    """Write down every event with its arguments, as they were at that moment.

    :param requires: the batch variables to have computed; by default all of them
    """

    def __init__(self, requires: Collection[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._requires = requires
        self.events: list[tuple[str, dict[str, Any]]] = []
        """The events in order, each with its arguments by name; batches are shallow copies."""

    @property
    def names(self) -> list[str]:
        """The names of the events in order."""
        return [name for name, _ in self.events]

    @property
    def epochs(self) -> dict[int, EpochData]:
        """Number of each epoch that has ended -> its numbers."""
        return {event["epoch_id"]: event["epoch_data"] for name, event in self.events if name == "after_epoch"}

    def requires(self) -> Collection[str] | None:
        return self._requires

    def before_training(self) -> None:
        self.events.append(("before_training", {}))

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        arguments = {"train_streams": list(train_streams), "eval_streams": list(eval_streams)}
        self.events.append(("before_epoch", {"epoch_id": epoch_id, **arguments}))

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self.events.append(("after_batch", {"stream_name": stream_name, "batch_data": batch_data.copy()}))

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        numbers = {stream: copy.deepcopy(dict(variables)) for stream, variables in epoch_data.items()}
        self.events.append(("after_epoch", {"epoch_id": epoch_id, "epoch_data": numbers}))

    def after_epoch_profile(self, epoch_id: int, profile: TimeProfile, streams: list[str]) -> None:
        arguments = {"profile": copy.deepcopy(profile), "streams": list(streams)}
        self.events.append(("after_epoch_profile", {"epoch_id": epoch_id, **arguments}))

    def after_training(self, success: bool) -> None:
        self.events.append(("after_training", {"success": success}))


class SaveAndFail(AbstractHook):
    """Ask for checkpoints and fail at a given moment, to see whether hooks go on from there as if nothing had happened.

    Moments are counted from 1: each batch, trained on or evaluated, and each end of an epoch is one.

    :param every: ask for a checkpoint, kept as ``latest``, at every n-th moment
    :param fail_at: the moment that fails with a ``RuntimeError``; None for none
    """

    def __init__(self, every: int = 1, fail_at: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._every, self._fail_at = every, fail_at
        self.moments = 0
        """How many there were."""

    def requires(self) -> Collection[str]:
        return ()

    def provides(self) -> Collection[str]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._count()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        self._count()

    def _count(self) -> None:
        self.moments += 1
        if self.moments == self._fail_at:
            raise RuntimeError(f"failed at moment {self.moments}")
        if self.moments % self._every == 0:
            self.main_loop.request_save("latest")


def run_hook(
    *hooks: AbstractHook,
    epochs: int = 1,
    outputs: Mapping[str, Any | Callable[[Batch], Any]] | None = None,
    model: AbstractModel | None = None,
    dataset: Any = None,
    **main_loop: Any,
) -> RecordEvents:
    """Train a fake model on fake data for a few epochs, with the given hooks in a real main loop.

    :param hooks: the hooks in order
    :param epochs: training epochs after the zeroth, unless a hook ends the training earlier
    :param outputs: outputs of the ``FakeModel`` that is trained if no ``model`` is given
    :param model: another model
    :param dataset: another dataset than the streams ``train`` and ``valid``, each with two batches of two samples of
        the source ``x``
    :param main_loop: further arguments of ``MainLoop``; by default ``valid`` is evaluated if the dataset is the fake
    :return: what happened; its ``main_loop`` is the main loop that ran
    """
    if dataset is None:
        dataset = FakeDataset(train=[{"x": [1, 2]}, {"x": [3, 4]}], valid=[{"x": [5, 6]}, {"x": [7, 8]}])
        main_loop = {"extra_streams": ["valid"], **main_loop}
    record = RecordEvents(requires=())  # so that the hooks at hand decide what is computed
    loop = MainLoop(model or FakeModel(outputs), dataset, [*hooks, record, _StopAfter(epochs)], **main_loop)
    loop.run_training()
    return record


class _StopAfter(AbstractHook):
    """End the training after some epochs; the package's own hooks are above this module."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def max_steps(self) -> int | None:
        steps = self.main_loop.epoch_steps
        return None if steps is None else self._epochs * steps

    def requires(self) -> Collection[str]:
        return ()

    def provides(self) -> Collection[str]:
        return ()

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        if epoch_id >= self._epochs:
            raise TrainingTerminated(f"{epoch_id} epochs are done")
