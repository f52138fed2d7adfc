"""Freeze parts of the model for some epochs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.models.frozen_part import FrozenPart
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.types import EpochNumber

from ..arguments import check_count, check_names, names_as_texts
from ..of_tasks import multi_task_model_of

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)


class Freeze(AbstractHook):
    """Freeze modules, or parameters by patterns of their names, for some epochs or for the whole training.

    What is frozen stays as it is, to the bit: it gets no gradient, so no step, no momentum and no weight decay moves
    it, and nothing is computed backward for it alone. What the optimizer remembers of it waits. Gradients that an open
    accumulation window has of it are dropped. Several of these hooks unfreeze a model bit by bit; what several of them
    name is frozen as long as one of them says so. Parameters that the model has frozen by itself stay frozen.

    Modules of tasks that are added later are frozen with them, if their names are among those.

    :param modules: names of modules, such as ``trunk``, or ``trunk.0`` for a part of it; all of their parameters
    :param parameters: regular expressions; the parameters in whose names, such as ``trunk.0.bias``, one is found
    :param from_epoch: the first epoch in which they are frozen, by default the first of all
    :param until_epoch: the last epoch in which they are; by default they stay frozen
    :param eval_mode: whether the ``modules`` run as in evaluation meanwhile: without dropout, and batch normalization
        with the statistics that it has. By default they do not, as in torch
    :raise ConfigError: for a module or pattern that the model has not, for epochs that there are none of, if the model
        consists of no tasks, or if nothing is left to train

    .. code-block:: yaml

        hooks:
          - Freeze: {modules: [trunk], until_epoch: 1}
    """

    training_only = True

    def __init__(
        self,
        modules: Sequence[str | int] | None = None,
        parameters: Sequence[str] | None = None,
        from_epoch: int = 1,
        until_epoch: int | None = None,
        eval_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.changes_modes = eval_mode
        if modules is None and parameters is None:
            raise ConfigError(f"{self.name}: name what is frozen under 'modules' or 'parameters'")
        if not isinstance(eval_mode, bool):
            raise ConfigError(f"{self.name}: eval_mode must be true or false, not {eval_mode!r}", ("eval_mode",))
        if eval_mode and modules is None:
            text = "eval_mode is of modules: name them under 'modules', or leave it out"
            raise ConfigError(f"{self.name}: {text}", ("eval_mode",))
        self._from = check_count(self.name, "from_epoch", from_epoch)
        self._until = None if until_epoch is None else check_count(self.name, "until_epoch", until_epoch)
        if self._until is not None and self._until < self._from:
            text = f"until_epoch {self._until} comes before from_epoch {self._from}, so nothing is ever frozen"
            raise ConfigError(f"{self.name}: {text}", ("until_epoch",))
        named = [] if modules is None else check_names(self.name, "modules", names_as_texts(modules))
        patterns = [] if parameters is None else check_names(self.name, "parameters", parameters)
        try:
            self._part = FrozenPart(named, patterns, eval_mode)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}", error.path) from error.__cause__

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Check that the model has what is to be frozen, and that something is left to train."""
        super().register_mainloop(main_loop)
        model = self._model
        try:
            self._part.check(model.network)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}", error.path) from error
        if self._from > 1 and model.update.repeats:
            kind = type(model.optimizer).__name__
            text = f"optimizer {kind} moves all that it has ever trained; with it, freeze from epoch 1 on"
            raise ConfigError(f"{self.name}: {text}, or take another", ("from_epoch",))
        always = [hook for hook in main_loop.hooks if isinstance(hook, Freeze) and hook._is_endless]
        frozen = {id(p) for hook in always for p in hook._part.parameters_of(model.network)}
        if self._is_endless and all(id(p) in frozen for p in model.network.parameters() if p.requires_grad):
            raise ConfigError(f"{self.name}: all parameters are frozen in every epoch, so there is nothing to learn")

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Freeze what is frozen in the next epoch, or in the one that a resumed training goes on in."""
        self._enter(self.main_loop.position.epoch + 1)

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        """Freeze and unfreeze what changes with an epoch."""
        if train_streams:
            self._enter(epoch_id)

    def after_training(self, success: bool) -> None:
        """Leave the model as it was."""
        self._model.unfreeze(self._part)

    @property
    def _model(self) -> MultiTaskModel:
        return multi_task_model_of(self)

    @property
    def _is_endless(self) -> bool:
        return self._from == 1 and self._until is None

    def _enter(self, epoch: int) -> None:
        model = self._model
        if self._from <= epoch and (self._until is None or epoch <= self._until):
            if model.freeze(self._part):
                log.info("%s: frozen from epoch %i on", self.name, epoch)
        elif model.unfreeze(self._part):
            log.info("%s: trained from epoch %i on", self.name, epoch)
