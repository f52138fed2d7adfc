"""The config of a training, for writers to keep with its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from emloop_mtl.constants import CONFIG_FILE
from emloop_mtl.utils.files import write_atomically

if TYPE_CHECKING:
    from emloop_mtl.main_loop import MainLoop


def config_text(main_loop: MainLoop) -> str | None:
    """Return the config as JSON, which YAML readers understand as well; None where the training has none."""
    if main_loop.config is None:
        return None
    return json.dumps(main_loop.config, indent=2, ensure_ascii=False) + "\n"


def keep_config_beside(main_loop: MainLoop, records: Path) -> None:
    """Write the config next to a file of records, unless it lies in the folder of the run, which holds it anyway.

    ``metrics.jsonl`` gets ``metrics.config.json``; a device, which is no file that is kept, gets none.

    :raise OSError: if it cannot be written
    """
    config = config_text(main_loop)
    if config is None or not records.is_file():
        return
    run = main_loop.output_dir
    if run is not None and Path(run, CONFIG_FILE).is_file() and records.absolute().is_relative_to(Path(run).absolute()):
        return
    write_atomically(records.with_suffix(".config.json"), config)
