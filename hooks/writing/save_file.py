"""Keep copies of files with the run."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from filecmp import cmp
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emloop_mtl.abstract_hook import AbstractHook
from emloop_mtl.errors import ConfigError
from emloop_mtl.types import EpochNumber
from emloop_mtl.utils.files import make_folder

from ..arguments import check_names
from .output_path import OutputPath, check_output_path, check_writable, refuse_shared_paths

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop

log = logging.getLogger(__name__)

TEMPORARY = ".tmp-"
"""What the name of a copy begins with while it is written, so that a kill leaves nothing that looks whole."""


class SaveFile(AbstractHook):
    """Copy files into the folder of the run before the training.

    A run that is resumed keeps the copies that it began with; the log tells which files have changed since then.
    Nothing is written once the training has begun, so what cannot be copied is always an error at its start.

    :param files: paths of the files; each copy has the name of its file
    :param output_dir: the folder; by default that of the main loop
    :raise ConfigError: for a file that there is not, for two of one name or one that the run itself writes, without a
        folder, and where they cannot be copied

    .. code-block:: yaml

        hooks:
          - SaveFile: {files: [README.md]}
    """

    training_only = True

    def __init__(self, files: Sequence[str], output_dir: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._files: dict[str, Path] = {}
        for index, file in enumerate(check_names(self.name, "files", files)):
            path = Path(file)
            try:
                if not path.is_file():
                    state = "is no file" if path.exists() else "there is no such file"
                    raise ConfigError(f"{self.name}: {file}: {state}")
                check_output_path(self.name, "files", path.name)
                if path.name in self._files:
                    raise ConfigError(f"{self.name}: two files are called {path.name!r}, and each keeps its name")
            except ConfigError as error:
                raise ConfigError(str(error), ("files", index)) from error
            self._files[path.name] = path
        self._output_dir = output_dir

    def register_mainloop(self, main_loop: MainLoop) -> None:
        """Find the folder.

        :raise ConfigError: if the run has none
        """
        super().register_mainloop(main_loop)
        self._output_dir = main_loop.output_dir if self._output_dir is None else self._output_dir
        if self._output_dir is None:
            raise ConfigError(f"{self.name} needs a folder to copy files to: give the main loop an output_dir")
        refuse_shared_paths(self, "files")

    def output_paths(self) -> Sequence[OutputPath]:
        """Return where the copies are."""
        copies = [Path(self._output_dir or "", name) for name in self._files]
        return [OutputPath.of([str(copy)], copy) for copy in copies]

    def requires(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def provides(self) -> Collection[str | EpochNumber]:
        """Return nothing."""
        return ()

    def before_training(self) -> None:
        """Copy the files that have not been copied yet.

        :raise ConfigError: naming the file that cannot be copied
        """
        assert self._output_dir is not None
        check_writable(self.name, "output_dir", self._output_dir)
        for index, (name, path) in enumerate(self._files.items()):
            copy = Path(self._output_dir, name)
            if not copy.exists():
                try:
                    self._copy(path, copy)
                except OSError as error:
                    text = f"{self.name}: cannot copy {path} to {copy}: {error.strerror or error}"
                    raise ConfigError(text, ("files", index)) from error
            elif not path.is_file() or not cmp(path, copy, shallow=False):
                log.warning("%s: %s is not what it was when the run began; the copy of then stays", self.name, path)

    @staticmethod
    def _copy(path: Path, copy: Path) -> None:
        make_folder(copy.parent)
        written = copy.with_name(TEMPORARY + copy.name)
        try:
            shutil.copy(path, written)
            written.rename(copy)
        except BaseException:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            raise
