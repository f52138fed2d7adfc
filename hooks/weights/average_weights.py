"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.types import EpochNumber, State

from ..arguments import check_count
from ..checkpointing.restore_best import RestoreBest
from .weight_average import WeightAverage

if TYPE_CHECKING:
    from emloop_mtl.data.batch import Batch
    from emloop_mtl.main_loop import MainLoop


class AverageWeights(AbstractHook):
    """Keep an exponential moving average of the weights, which is evaluated and saved in their place.

    It begins as a copy of the weights and then, after each update, becomes ``decay · average + (1 - decay) · weights``.
    All parameters that the model trains have one; buffers, such as the statistics of batch normalization, do not: the
    averaged model has those of the model. The training itself goes on with the weights, and so does a resumed one.

    :param decay: share of the old average in the new one, 0 to less than 1
    :param ramp: begin with a smaller one: after n averages it is ``min(decay, (1 + n) / (10 + n))``
    :param updates: average after every n-th update of the weights; with ``accumulate`` these are fewer than the steps
    :param runway: average nothing before this many training steps
    :param evaluate: whether streams are evaluated with the average; the stream that is trained on shows the weights
    :param save: whether checkpoints have the average as the model's weights, for ``eval``, ``predict``, ``RestoreBest``
        and ``Ensemble``; a finished training then leaves it in the model
    :raise ConfigError: for a value out of range, if nothing uses the average, or for a model without an update

    .. code-block:: yaml

        hooks:
          - Evaluate: {streams: [valid]}
          - AverageWeights: {decay: 0.999, ramp: true}
          - SaveLatest
    """

    training_only = True

    def __init__(
        self,
        decay: float = 0.999,
        ramp: bool = False,
        updates: int = 1,
        runway: int | None = None,
        evaluate: bool = True,
        save: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ConfigError(f"{self.name}: decay must be a number from 0 to less than 1, not {decay!r}", ("decay",))
        if not evaluate and not save:
            text = f"{self.name}: nothing uses the average; leave evaluate or save true, or the hook out"
            raise ConfigError(text, ("evaluate",))
        self._decay = decay
        self._ramp = ramp
        self._updates = check_count(self.name, "updates", updates)
        self._runway = 0 if runway is None else check_count(self.name, "runway", runway)
        self._evaluate = evaluate
        self._save = save
        self._seen = 0
        """Updates so far."""
        self._added = 0
        """How often weights were averaged."""

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Have the average in the place of the weights where it is asked for."""
        super().register_mainloop(main_loop)
        if not isinstance(main_loop.model, MultiTaskModel):
            text = f"{self.name} needs a MultiTaskModel or a model that is one, such as BackboneHeadsModel"
            raise ConfigError(f"{text}; {type(main_loop.model).__name__} has weights of its own")
        hooks = list(main_loop.hooks)
        if self._save and any(isinstance(hook, RestoreBest) for hook in hooks[: hooks.index(self)]):
            text = f"{self.name} would put the average of the end in the place of the best weights"
            raise ConfigError(f"{text}: list it before RestoreBest")
        self._model = main_loop.model
        self._average = WeightAverage(main_loop.model, self._save)
        if self._evaluate:
            main_loop.evaluate_under(self._average.in_place)
        if self._save:
            main_loop.save_weights_as(self._average.exchange)

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Take up what was restored."""
        self._average.take_up()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        """Average the weights if they were just updated."""
        if not batch_data.ends_step or not self.main_loop.is_training or self._model.update.is_window_open:
            return
        self._seen += 1
        if self._seen % self._updates == 0 and self.main_loop.position.step >= self._runway:
            ramped = (1 + self._added) / (10 + self._added) if self._ramp else 1.0
            self._average.add(1 - min(self._decay, ramped))
            self._added += 1

    def after_training(self, success: bool) -> None:
        """Leave the average in the model once the end of a finished training is saved."""
        if self._save and self.main_loop.end == "finished":
            self.main_loop.when_saved(self._average.leave_in_place)

    def checkpoint_bytes(self) -> int:
        """Return the bytes of the averages."""
        return sum(each.nbytes for each in self._model.network.parameters() if each.requires_grad)

    def state_dict(self) -> dict[str, State]:
        """Return the average; where that is saved as the model's weights, those that are trained."""
        return {"updates": self._seen, "averages": self._added, **self._average.state_dict()}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on averaging."""
        self._seen, self._added = state["updates"], state["averages"]
        self._average.load_state_dict(state)
