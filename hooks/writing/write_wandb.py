"""Write the numbers of a training for Weights & Biases."""

from __future__ import annotations

import logging
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from torch import nn

from emloop_mtl.errors import ConfigError
from emloop_mtl.types import Position, State
from emloop_mtl.utils.files import make_folder

from ..arguments import check_count, check_names, check_positive, check_word
from ..words import OnFailure, WandbMode
from .abstract_writer import AbstractWriter

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)

FOLDER = "wandb"
"""What W&B calls the folder that it makes."""

WATCH_FREQ = 1000
"""Gradients between two histograms where nothing else is said; W&B's own default."""

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What may call a run: its files are named by it."""


class WriteWandb(AbstractWriter):
    """Write all numbers of every epoch, by their flat names, to a run of Weights & Biases.

    W&B's step is the training step. Beside the numbers stand ``epoch``, ``samples`` and the learning rate, and the
    config of the training is that of the run. A training that is resumed goes on with the same run: what it had logged
    after its checkpoint stays there, and steps that come again change nothing, since they bring the same numbers. W&B's
    own messages are switched off; the log tells where the run is.

    :param project: name of the project; by default what W&B is set to
    :param run_name: name of the run; by default W&B makes one up
    :param entity: user or team that the project belongs to; by default what W&B is set to
    :param group: name that several runs are shown under together
    :param tags: words to find the run by
    :param mode: ``online``, or ``offline``, which needs neither network nor login: ``wandb sync FOLDER`` uploads the
        run later; by default what the variable ``WANDB_MODE`` says, or else ``online``
    :param watch: write histograms of the gradients of all parameters, too; the step that does so waits for the device
    :param watch_freq: after how many of its gradients a parameter has a histogram, 1000 by default
    :param timeout: seconds in which W&B must answer when the training begins
    :param folder: where W&B makes its folder ``wandb``, in the output folder
    :param steps: write the training losses after every n-th step too, each the mean since the last such record over the
        labelled samples, called ``train/loss`` and ``train/<task>/loss``, and the learning rate
    :param on_failure: what happens when writing fails in the middle of a training: ``error`` ends it, ``warn`` lets it
        go on, and tries again with the next numbers
    :raise ConfigError: for a wrong argument, and at the beginning of the training if W&B cannot be reached, nobody is
        logged in, or the folder cannot be written

    .. code-block:: yaml

        hooks:
          - ComputeStats: {variables: [loss]}
          - WriteWandb: {project: digits, run_name: first, mode: offline}
    """

    def __init__(
        self,
        project: str | None = None,
        run_name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: WandbMode | None = None,
        watch: bool = False,
        watch_freq: int | None = None,
        timeout: float = 30,
        folder: str = ".",
        steps: int | None = None,
        on_failure: OnFailure = "error",
        **kwargs: Any,
    ) -> None:
        if not isinstance(folder, str) or not folder.strip():
            raise ConfigError(f"{self.name}: folder must be a path, not {folder!r}", ("folder",))
        super().__init__("folder", str(Path(folder, FOLDER)), steps=steps, on_failure=on_failure, **kwargs)
        self._settings: dict[str, Any] = {}
        for name, value in (("project", project), ("run_name", run_name), ("entity", entity), ("group", group)):
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise ConfigError(f"{self.name}: {name} must be text, not {value!r}", (name,))
            self._settings["name" if name == "run_name" else name] = value
        self._settings["tags"] = check_names(self.name, "tags", tags) if tags != () else None
        if mode is not None:
            check_word(self.name, "mode", mode, WandbMode)
        self._settings["mode"] = mode
        if not isinstance(watch, bool):
            raise ConfigError(f"{self.name}: watch must be true or false, not {watch!r}", ("watch",))
        self._watch = watch
        if watch_freq is not None and not watch:
            text = f"{self.name}: watch_freq is for histograms, and watch asks for none: set 'watch: true'"
            raise ConfigError(text, ("watch_freq",))
        self._watch_freq = WATCH_FREQ if watch_freq is None else check_count(self.name, "watch_freq", watch_freq)
        self._timeout = check_positive(self.name, "timeout", timeout)
        self._id: str | None = None
        """What W&B knows the run by; None before the first training."""
        self._run: Any = None
        self._exit_code = 0

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the folder, and the network if it is to be watched.

        :raise ConfigError: if there is no network
        """
        super().register_mainloop(main_loop)
        if self._watch and self._network is None:
            text = (
                f"{self.name}: watch needs a model with a 'network' of torch; {type(main_loop.model).__name__} has none"
            )
            raise ConfigError(text, ("watch",))

    def open(self) -> None:
        """Begin the run, or go on with it.

        :raise ConfigError: if W&B cannot
        """
        import wandb  # takes a second

        if wandb.run is not None:
            text = f"{self.name}: a run of W&B is under way in this process already: finish it, or list one {self.name}"
            raise ConfigError(text)
        make_folder(self.path)
        try:
            with TemporaryFile(dir=self.path):  # W&B itself would go to another folder without a word
                pass
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._id = self._id or secrets.token_hex(4)
        try:
            self._run = wandb.init(
                **self._settings,
                id=self._id,
                resume="allow",
                dir=str(self.path.parent),
                config=dict(self.main_loop.config or {}),
                allow_val_change=True,
                force=True,
                settings=wandb.Settings(console="off", silent=True, init_timeout=self._timeout),
            )
        except (wandb.Error, ValueError, TimeoutError) as error:
            reason = " ".join(str(error).split()).removesuffix(".")
            text = f"{self.name}: W&B cannot begin the run: {reason}; 'mode: offline' needs neither network nor login"
            raise ConfigError(text) from error
        for path in self._folder.rglob("*"):
            # One leads to a log in the user's home, and a run that has links out of its folder is not trusted.
            if path.is_symlink() and not path.resolve().is_relative_to(self.path.resolve()):
                path.unlink()
        if self._watch:
            self._run.watch(self._network, log="gradients", log_freq=self._watch_freq, idx=0)
        if self._run.offline:
            log.info("%s: offline; upload the run later:  wandb sync %s", self.name, shlex.quote(str(self._folder)))
        else:
            log.info("%s: the run is %s", self.name, self._run.url or "not recorded: W&B is disabled")

    def write(self, position: Position, numbers: Mapping[str, float]) -> None:
        """Log the numbers of an epoch or a step."""
        self._run.log({**numbers, "epoch": position.epoch, "samples": position.samples}, step=position.step)

    def after_training(self, success: bool) -> None:
        """Write what is due, and end the run: as failed, unless the training has finished."""
        self._exit_code = 0 if success and self.main_loop.end == "finished" else 1
        super().after_training(success)

    def close(self) -> None:
        """End the run."""
        if self._run is None:
            return
        run, self._run = self._run, None
        if self._watch:
            run.unwatch(self._network)
        run.finish(exit_code=self._exit_code)

    def state_dict(self) -> dict[str, State]:
        """Return what W&B knows the run by."""
        return super().state_dict() | {"id": self._id}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the run."""
        super().load_state_dict(state)
        if state["id"] is not None and not ID.fullmatch(state["id"]):
            raise ValueError(f"{state['id']!r} calls no run of W&B")
        self._id = state["id"]

    @property
    def _folder(self) -> Path:
        return Path(self._run.dir).parent

    @property
    def _network(self) -> nn.Module | None:
        model = self.main_loop.model
        network = getattr(model, "network", model)
        return network if isinstance(network, nn.Module) else None
