"""The hook protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import ConfigError, KeyPath, TrainingTerminated, nearest
from .types import EpochData, EpochNumber, State, TimeProfile

if TYPE_CHECKING:
    from .data.batch import Batch
    from .main_loop import MainLoop

__all__ = ["EVENTS", "AbstractHook", "TrainingTerminated"]

EVENTS = (
    "before_training",
    "before_epoch",
    "after_batch",
    "after_epoch",
    "after_epoch_profile",
    "after_training",
)
"""The events, in the order in which a training fires them."""

HANDED_OVER = ("model", "dataset", "output_dir")
"""Arguments that a hook's constructor receives by itself if it names them."""


class AbstractHook:
    """A side concern of a training: override the events it acts at.

    A training calls ``register_mainloop``, ``before_training``, then for each epoch ``before_epoch``,
    ``after_batch`` per batch, ``after_epoch`` and ``after_epoch_profile``, and at its end ``after_training``.
    Hooks act in the order of their list at every event, and events that a hook does not override cost nothing.

    A hook's name is a verb without a ``Hook`` suffix. Whatever it remembers from one event to another belongs
    into its ``state_dict``, so that a resumed training goes on exactly.
    """

    name: str
    """What the hook is called in messages and checkpoints: its class, or ``name:`` in the config."""

    training_only: ClassVar[bool] = False
    """Whether ``emloop-mtl eval`` leaves the hook out because it only makes sense in a training."""

    changes_modes: bool = False
    """Whether it may switch modules between training and evaluation; of hooks of one's own that is not asked."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """Arguments that emloop's hook of this name has: what each is called here, or how the error about it goes on."""

    keeps_state: bool = True
    """Whether a hook that overrides ``state_dict`` has a state; one that has none with some arguments says so."""

    config_path: KeyPath = ()
    """Where the hook stands in the config; empty for a hook built in Python."""

    _main_loop: MainLoop | None = None

    def __init__(self, **kwargs: Any) -> None:
        """Take what every hook may be handed and refuse the rest.

        :param kwargs: ``model``, ``dataset`` and ``output_dir`` are let through
        :raise ConfigError: for any other argument, naming the one that the hook has instead, or the nearest
        """
        for key in kwargs:
            if key not in HANDED_OVER:
                raise ConfigError(f"{type(self).__name__}: {self.unknown_argument(key)}", (key,))

    @classmethod
    def unknown_argument(cls, name: str) -> str:
        """Return what to say about an argument that the hook does not have."""
        import inspect

        hint = cls.renamed.get(name)
        if hint is not None:
            return f"the argument {name!r} " + (f"is called {hint!r} here" if hint.isidentifier() else hint)
        accepted: list[str] = []
        for base in cls.__mro__:
            if "__init__" not in base.__dict__:
                continue
            parameters = list(inspect.signature(base.__dict__["__init__"]).parameters.values())[1:]
            accepted += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):  # bases get what it hands on
                break
        return f"unknown argument {name!r}{nearest(name, accepted)}"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Get to know the main loop; called once, when the main loop is constructed."""
        self._main_loop = main_loop

    @property
    def main_loop(self) -> MainLoop:
        """The main loop that the hook is registered with."""
        assert self._main_loop is not None, f"{type(self).__name__} is not registered with a main loop"
        return self._main_loop

    def before_training(self) -> None:
        """Act before the first epoch of this process; a resumed training calls it too."""

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Act before an epoch; names appended to ``eval_streams`` are evaluated in it, each once.

        :param epoch_id: number of the epoch that begins; 0 is evaluation only
        """

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Act after a batch has been run.

        :param stream_name: name of its stream
        :param batch_data: its sources and the model's outputs; a step ends where ``batch_data.ends_step``
        """

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Act after an epoch.

        :param epoch_id: number of the epoch that has ended
        :param epoch_data: stream -> variable -> number or ``{aggregation: number}``; shared by all hooks, a
            variable may be written once
        """

    def after_epoch_profile(self, epoch_id: int, profile: TimeProfile, streams: list[str]) -> None:
        """Act when the time profile of an epoch is complete.

        :param profile: activity -> seconds: ``read_batch_<stream>``, ``eval_batch_<stream>``,
            ``after_batch_hooks_<stream>`` and ``after_epoch_hooks``, each an ``array`` of floats
        :param streams: names of the streams that were run
        """

    def after_training(self, success: bool) -> None:
        """Act after the training; ``main_loop.end`` tells ``finished``, ``interrupted`` and ``failed`` apart.

        :param success: False if an error ended the training
        """

    def try_batch(self, stream_name: str, batch_data: Batch, train: bool) -> None:
        """Raise what would be wrong with any batch like this one, and remember nothing.

        Called ahead of ``before_training``, with a batch that a stand-in of the model has evaluated.

        :param stream_name: name of its stream
        :param batch_data: its sources and the stand-in's outputs
        :param train: whether batches of this stream are only trained on, and not evaluated
        """

    def max_steps(self) -> int | None:
        """Return how many steps this hook lets the whole run have, None if it sets no such limit."""
        return None

    def requires(self) -> Collection[str | EpochNumber] | None:
        """Return what the hook reads: batch variables by name and epoch numbers; None if it does not say.

        A batch variable that nobody requires, such as ``<task>/prob``, is not computed.
        """
        return None

    def requires_in_training(self) -> Collection[str | EpochNumber] | None:
        """Return what the hook reads of batches that are trained on; the same as ``requires`` unless overridden."""
        return self.requires()

    def provides(self) -> Collection[str | EpochNumber] | None:
        """Return what the hook writes, batch variables by name and epoch numbers; None if it does not say."""
        return None

    def argument_of(self, number: EpochNumber) -> KeyPath:
        """Return which argument names a number that the hook requires: ``variables`` if it takes several.

        A hook that takes them otherwise says so here, for an error to be told at its place in the config.
        """
        import inspect

        constructors = [vars(kind)["__init__"] for kind in type(self).__mro__ if "__init__" in vars(kind)]
        takes = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
        return ("variables" if "variables" in takes else "variable",)

    def checkpoint_bytes(self) -> int:
        """Return how many bytes the tensors of ``state_dict`` will have, as far as known before the training."""
        return 0

    def state_dict(self) -> dict[str, State]:
        """Return all that the hook remembers, as plain data and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on from what ``state_dict`` returned."""
