"""The model protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..data.batch import Batch
from ..errors import ConfigError, nearest
from ..types import State
from ..utils.tensor_tree import tensors_of

if TYPE_CHECKING:
    from ..data.stream_wrapper import StreamWrapper
    from ..data.task_loader import TaskLoader


class AbstractModel(ABC):
    """What the main loop trains: it names its inputs and outputs, runs one batch, and can be saved.

    ``run`` is all that a training needs; a model that defines ``state_dict`` and ``load_state_dict`` too can be
    checkpointed and resumed. Nothing here asks for torch.
    """

    can_be_trained: ClassVar[bool] = True
    """Whether ``run`` can train it; else it only evaluates, and needs no weights from a run."""

    @property
    @abstractmethod
    def input_names(self) -> Collection[str]:
        """Names of the sources that the model reads."""

    @property
    @abstractmethod
    def output_names(self) -> Collection[str]:
        """Names of the outputs that ``run`` may return."""

    @abstractmethod
    def run(self, batch: Batch, train: bool, stream: StreamWrapper | None = None) -> Mapping[str, Any]:
        """Run one batch and return its outputs by name, none of them named like a source.

        :param batch: the batch; ``batch.ends_step`` is False for all but the last batch of a step
        :param train: whether to update the parameters
        :param stream: the stream that the batch came from; ``stream.outputs`` names what somebody will read
            (None: everything)
        """

    def save(self, name_suffix: str) -> str:
        """Write the model under a name that ends with ``name_suffix`` and return the path.

        :raise ConfigError: if the model defines no way to be saved
        """
        raise ConfigError(f"{type(self).__name__} defines no method 'save'")

    @property
    def label_names(self) -> Collection[str]:
        """Names of the sources that hold labels; they never count as unused."""
        return ()

    def required_sources(self, batch: Batch) -> Collection[str]:
        """Return the names of the sources that this batch must hold."""
        return self.input_names

    def check_sources(self, batch: Batch) -> None:
        """Check, before a training, that batches with the sources and tasks of ``batch`` can be run.

        :param batch: its values mean nothing
        :raise ConfigError: naming what is missing, with its place below the model's section of the config
        """
        missing = sorted(set(self.required_sources(batch)) - batch.keys())
        if missing:
            raise ConfigError(f"the model needs the source {missing[0]!r}{nearest(missing[0], batch)}")

    def check_tasks(self, batches: Sequence[Batch]) -> None:
        """Check, before a training, that all which is to be learnt occurs in the data.

        :param batches: one of every loader of every stream; their values mean nothing
        :raise ConfigError: naming what never occurs
        """

    def check_loader(self, loader: TaskLoader) -> None:
        """Check, before a training, what can be known of the rows of a loader without reading them.

        :raise DataError: for rows that cannot be used
        """

    def stand_in(self, as_trained: bool = False) -> AbstractModel | None:
        """Return a model that evaluates batches alike, before a training, and by which nothing of this one changes.

        None, as by default, where there is none to be had; then the first batch shows what could have been tried.

        :param as_trained: whether its modules run as in training although it evaluates
        """
        return None

    def try_training(self, batch: Batch) -> None:
        """Run a batch as one that is trained on, but without an update; asked of a ``stand_in`` alone.

        By default nothing is done; then the first batch shows what could have been tried.

        :raise Exception: if it cannot be trained on
        """

    def prepare(self, batch: Batch) -> Batch:
        """Make a fresh batch ready for ``run``: check it, find labelled rows, copy it ahead to a device.

        Called once per batch where the batch is made, possibly in a thread that reads ahead, so it must not touch
        what ``run`` changes.

        :raise DataError: if the batch cannot be used
        """
        batch.prepared = True
        return batch

    def set_length(self, total_steps: int | None, pass_steps: int | None, missing: str = "") -> None:
        """Learn how long the training will be, before its first step.

        :param total_steps: steps of the whole run, None where it is not known beforehand
        :param pass_steps: steps of one pass through the train stream, None where it is not known
        :param missing: what the user can set to make an unknown length known
        :raise ConfigError: if a length is needed and not known
        """

    def settle(self) -> None:
        """Have everything done that was put off, such as looking at what is on a device.

        Called where the batches of an epoch have been trained on, and before a training is saved or ends.
        """

    @property
    def can_be_checkpointed(self) -> bool:
        """Whether ``state_dict`` and ``load_state_dict`` are defined."""
        kind = type(self)
        return (
            kind.state_dict is not AbstractModel.state_dict
            and kind.load_state_dict is not AbstractModel.load_state_dict
        )

    def state_dict(self) -> dict[str, State]:
        """Return what the model has learnt: all that evaluation and prediction need.

        :raise ConfigError: if the model does not define it
        """
        raise ConfigError(
            f"{type(self).__name__} defines no 'state_dict' and 'load_state_dict', so checkpoints cannot hold it"
        )

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Restore what ``state_dict`` returned.

        :raise ConfigError: if the model does not define it
        """
        raise ConfigError(
            f"{type(self).__name__} defines no 'state_dict' and 'load_state_dict', so checkpoints cannot hold it"
        )

    def checkpoint_bytes(self) -> int:
        """Return how many bytes the tensors of a checkpoint will have, as far as that is known before the training.

        By default those of ``state_dict``.
        """
        return sum(tensor.nbytes for tensor in tensors_of(self.state_dict()))

    def training_state_dict(self) -> dict[str, State]:
        """Return what only going on with the training needs: optimizer state, open gradients, counters."""
        return {}

    def load_training_state_dict(self, state: dict[str, State]) -> None:
        """Restore what ``training_state_dict`` returned."""
