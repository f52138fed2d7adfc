"""Write down when a training ran, how far it got, and how it ended."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.constants import TRACE_FILE
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochData, EpochNumber, State
from emloop_mtl.utils.files import make_folder, write_atomically

from ..words import OnFailure
from ..writing.failure_guard import FailureGuard
from ..writing.output_path import OutputPath, refuse_shared_paths

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


class TrainingTrace(AbstractHook):
    """Write ``trace.yaml`` into the output folder at the beginning, after each epoch and at the end of a training.

    The keys are ``train_begin``, ``train_end``, ``resumed`` (a list), all of them times in UTC, ``epochs_done``,
    ``steps_done``, ``exit_status`` (0, or 1 after an error) and ``end`` (``finished``, ``interrupted`` or
    ``failed``). What is not known yet is null, and stays null in a training that is killed. A training that is
    resumed goes on with its file.

    :param output_dir: the folder; by default that of the main loop
    :param on_failure: what happens when the file cannot be written in the middle of a training: ``error`` ends it,
        ``warn`` lets it go on, and tries again after the next epoch
    :raise ConfigError: if there is no such folder, or the file cannot be written

    .. code-block:: yaml

        hooks:
          - TrainingTrace
    """

    training_only = True

    def __init__(self, output_dir: str | None = None, on_failure: OnFailure = "error", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._guard = FailureGuard(self, on_failure, "entries")
        self._output_dir = output_dir
        self._path = Path(TRACE_FILE)
        self._begin: str | None = None
        self._resumed: list[str] = []
        self._is_writable = False

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the folder."""
        super().register_mainloop(main_loop)
        folder = self._output_dir if self._output_dir is not None else main_loop.output_dir
        if folder is None:
            raise ConfigError(f"{self.name} needs a folder for {TRACE_FILE}: give the main loop an output_dir")
        self._path = Path(folder, TRACE_FILE)
        refuse_shared_paths(self, "output_dir")

    def output_paths(self) -> list[OutputPath]:
        """Return where the trace is."""
        return [OutputPath.of([str(self._path)], self._path)]

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Write down the beginning, or that the training was resumed."""
        now = _now()
        if self._begin is None:
            self._begin = now
        else:
            self._resumed = [*self._resumed_before(), now]
        try:
            make_folder(self._path.parent)
            self._write()
        except OSError as error:
            raise ConfigError(f"{self.name}: cannot write {self._path}: {error.strerror}") from error
        self._is_writable = True

    def after_epoch(self, epoch_id: int, epoch_data: EpochData) -> None:
        """Write down how far the training is."""
        with self._guard.writing(self._path):
            self._write()
            self._guard.works(self._path)

    def after_training(self, success: bool) -> None:
        """Write down the end."""
        if self._is_writable:
            with self._guard.writing(self._path):
                self._write(train_end=_time(_now()), exit_status=0 if success else 1, end=self.main_loop.end)

    def state_dict(self) -> dict[str, State]:
        """Return when the training began and was resumed."""
        return {"train_begin": self._begin, "resumed": list(self._resumed)}

    def load_state_dict(self, state: dict[str, State]) -> None:
        """Go on with the trace of the training that is resumed."""
        self._begin, self._resumed = state["train_begin"], list(state["resumed"])

    def _write(self, **end: Any) -> None:
        from ruamel.yaml import YAML

        epoch, step, _, _ = self.main_loop.position
        trace = {
            "train_begin": _time(self._begin),
            "train_end": None,
            "exit_status": None,
            "end": None,
            "epochs_done": epoch,
            "steps_done": step,
            "resumed": [_time(each) for each in self._resumed],
        }
        text = StringIO()
        YAML().dump(trace | end, text)
        write_atomically(self._path, text.getvalue())

    def _resumed_before(self) -> list[str]:
        """Return the resumes so far; the file also knows those that came after the checkpoint was written."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            trace = YAML(typ="safe", pure=True).load(self._path.read_text(encoding="utf-8"))
            if _text(trace["train_begin"]) == self._begin:
                return [_text(time) for time in trace["resumed"]]
        except (OSError, ValueError, YAMLError, KeyError, TypeError, AttributeError):
            pass  # lost or changed by hand: a trace is no reason to refuse a training
        return self._resumed


def _now() -> str:
    return _text(datetime.now(UTC))


def _text(time: datetime) -> str:
    return time.replace(microsecond=0, tzinfo=UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
