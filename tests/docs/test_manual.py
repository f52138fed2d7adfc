"""Every snippet of the manual is run, page by page, from top to bottom.

* A snippet that begins with ``# name.py`` or ``# name.yaml`` is a file; the files of the README are there already.
* Python runs in one namespace per page. A ``text`` snippet after it is exactly what it printed.
* YAML with ``dataset`` and ``model`` is a whole config and is trained. Other sections are put over the README's config,
  which is then trained for an epoch. A mapping with ``class`` is built. Anything else is read.
* Lines of ``sh`` that begin with ``emloop-mtl`` are run; RUN is the run that was begun last.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from emloop_mtl import create_training, load_config
from emloop_mtl.cli import main
from emloop_mtl.config.build import build
from emloop_mtl.config.load import Config
from emloop_mtl.config.yaml_text import read_yaml
from emloop_mtl.hooks import __all__ as all_hooks

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
SNIPPET = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")
NO_HOOKS = {"AbstractHook", "AbstractWriter", "RecordFile", "TrainingTerminated", "WatchedNumber"}
SECTIONS = {"seed", "dataset", "model", "main_loop", "hooks", "eval", "search"}


class Snippet(NamedTuple):
    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        match = FILE.match(self.text) if self.language in ("python", "yaml") else None
        return match[1] if match else None


def snippets(path: Path) -> list[Snippet]:
    page = path.read_text(encoding="utf-8")
    return [
        Snippet(match[2], textwrap.dedent(match[3]), page.count("\n", 0, match.start()) + 1)
        for match in SNIPPET.finditer(page)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder of a page, with the files of the README; modules from it are forgotten afterwards."""
    for snippet in snippets(ROOT / "README.md"):
        if snippet.file:
            (tmp_path / snippet.file).write_text(snippet.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    levels = {name: logging.getLogger(name).level for name in ("", "emloop_mtl")}
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.long if page == "commands.md" else ()) for page in PAGES]
)
def test_every_snippet_of_the_page_runs(page: str, folder: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "manual"}
    printed = ""
    for number, snippet in enumerate(snippets(ROOT / "docs" / page)):
        where = f"docs/{page}, line {snippet.line}"
        if snippet.file:
            (folder / snippet.file).write_text(snippet.text, encoding="utf-8")
        elif snippet.language == "python":
            printed = run_python(snippet, where, namespace)
        elif snippet.language == "yaml":
            run_yaml(snippet, where, folder / f"run_{number}")
        elif snippet.language == "sh":
            printed = run_commands(snippet, where, folder)
        elif snippet.language == "text":
            assert printed.strip() == snippet.text.strip(), where
        else:
            pytest.fail(f"{where}: nobody runs {snippet.language!r}")


def test_every_hook_and_section_is_in_the_manual() -> None:
    hooks = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
    missing = [name for name in all_hooks if name not in NO_HOOKS and f"| `{name}` |" not in hooks]
    assert not missing, missing
    config = (ROOT / "docs/config.md").read_text(encoding="utf-8")
    assert not [name for name in SECTIONS if f"| `{name}` |" not in config]


def run_python(snippet: Snippet, where: str, namespace: dict[str, Any]) -> str:
    output = io.StringIO()
    code = "\n" * snippet.line + snippet.text  # so that a traceback names the line of the page
    with contextlib.redirect_stdout(output):
        exec(compile(code, where.split(",")[0], "exec"), namespace)  # noqa: S102 - the manual is ours
    return output.getvalue()


def run_yaml(snippet: Snippet, where: str, output_dir: Path) -> None:
    data = read_yaml(snippet.text, lambda line, column: f"{where}, +{line}:{column}")[0]
    if not isinstance(data, Mapping) or not data.keys() & {*SECTIONS, "class"}:
        return
    if "class" in data:
        build(data)
        return
    if not {"dataset", "model"} <= data.keys():
        data = over(load_config("config.yaml").data, data)
        hooks = [hook for hook in data["hooks"] if "StopAfter" not in hook]
        data["hooks"] = [*hooks, {"StopAfter": {"epochs": 1}}]
    training = create_training(Config(data, "config.yaml"), output_dir)
    training.main_loop.run_training()
    assert training.main_loop.position.step > 0, where


def over(base: Any, changes: Any) -> Any:
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    if "class" in changes and changes["class"] != base.get("class"):  # another object, with arguments of its own
        return changes
    return {**base, **{key: over(base.get(key), value) for key, value in changes.items()}}


def run_commands(snippet: Snippet, where: str, folder: Path) -> str:
    printed = ""
    for line in snippet.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["emloop-mtl"]:
            continue
        runs = sorted(folder.glob("log/*"), key=lambda path: path.stat().st_mtime_ns)
        words = [str(runs[-1]) if word == "RUN" else word for word in words[1:]]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, f"{where}: {line}: {done.output}"
        printed = done.output
    return printed
