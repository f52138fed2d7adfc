"""The shape of the code base: who imports whom, what stands in which file, and which names are public."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import emloop_mtl

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "emloop_mtl"
HOOKS = ROOT / "hooks"

LAYERS = (
    ("__init__", "__main__"),
    ("testing",),
    ("cli",),
    ("config",),
    ("main_loop",),
    (
        "hook_list",
        "checkpoint",
        "snapshot",
        "epoch_book",
        "streams",
        "batch_gate",
        "batch_trial",
        "loop_arguments",
        "loop_state",
        "saver",
        "hooks",
    ),
    ("abstract_hook", "hook_times", "slow_streams"),
    ("models",),
    ("tasks", "optim", "weighting"),
    ("data",),
    ("schedulers",),
    ("distributed", "utils"),
    ("types", "constants", "errors"),
)
"""Modules and packages of emloop_mtl from top to bottom; each may import what stands in its own layer or lower."""

RANKS = {unit: rank for rank, layer in enumerate(reversed(LAYERS)) for unit in layer}

SLOW_TO_IMPORT = ("matplotlib", "optuna", "pyarrow", "rich", "scipy", "sklearn", "torchdata", "torchjd", "wandb")
"""Imported inside the functions that need them, since most runs need none of them or only one."""

EXCEPTIONS: dict[str, tuple[set[str], str]] = {
    "emloop_mtl/errors.py": (
        {"EmloopError", "ConfigError", "DataError", "NotFiniteError", "CheckpointError", "TrainingTerminated"},
        "the errors are a few lines each and are read together",
    ),
    "emloop_mtl/types.py": ({"Stateful", "Position", "EpochNumber"}, "the words of the protocols, a few lines each"),
    "emloop_mtl/testing.py": (
        {"FakeModel", "FakeDataset", "RecordEvents", "SaveAndFail"},
        "small fakes that are used together",
    ),
    "emloop_mtl/schedulers/abstract_task_scheduler.py": (
        {"Loader", "AbstractTaskScheduler"},
        "what a scheduler needs to know of a loader",
    ),
}
"""Files that define other public classes than the one they are named after: which ones, and why."""

PUBLIC_NAMES = [
    "AbstractDataset",
    "AbstractHook",
    "AbstractModel",
    "Action",
    "Annealed",
    "BackboneHeadsModel",
    "BaseDataset",
    "Batch",
    "CheckpointError",
    "ColumnDataset",
    "ConfigError",
    "DataError",
    "Dynamic",
    "Ensemble",
    "EpochData",
    "FileColumns",
    "FileDataset",
    "Head",
    "Interleaved",
    "JointLearning",
    "LinearHeads",
    "MainLoop",
    "Mixed",
    "MultiTaskDataset",
    "MultiTaskModel",
    "Proportional",
    "RoundRobin",
    "Scorer",
    "Sequence",
    "Sequential",
    "SlicingFunction",
    "Stream",
    "StreamWrapper",
    "Task",
    "TaskLoader",
    "Temperature",
    "TimeProfile",
    "TrainingTerminated",
    "Uniform",
    "Weighted",
    "add_slice_labels",
    "create_training",
    "load_config",
    "open_run",
    "slice_tasks",
    "slicing_function",
]
"""The public interface. To change it is a decision: it goes into the changelog."""

FOREIGN = {
    "a path of some machine": r"(?<![\w.$~-])/(?:root|home|tmp|Users)/",
    "a package index": r"--(?:extra-)?index-url|--trusted-host|index-url\s*=",
}
"""What no file of the project mentions: it has to make sense wherever it is cloned."""


class Import(NamedTuple):
    """One imported module, as ``importer`` states it in ``line``."""

    importer: str
    line: int
    module: str
    typing_only: bool
    at_top: bool

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.module}"


def lines(things: Iterable[object]) -> str:
    return "\n".join(map(str, things))


def python_files() -> list[Path]:
    inside = (path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "hooks"))
    return sorted([*inside, *HOOKS.rglob("*.py")])


def module_name(path: Path) -> str:
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return f"emloop_mtl.{name}" if name.split(".")[0] == "hooks" else name


def unit(module: str) -> str:
    """Return the layer's unit that ``module`` belongs to: ``emloop_mtl.data.batch`` -> ``data``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def statements(node: ast.AST, typing_only: bool = False, at_top: bool = True) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """Yield every import statement below ``node`` with whether it is for annotations only and runs on import."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, typing_only, at_top
        elif isinstance(child, ast.If) and is_type_checking(child.test):
            for part in child.body:
                yield from statements(ast.Module([part], []), True, at_top)
            for part in child.orelse:
                yield from statements(ast.Module([part], []), typing_only, at_top)
        else:
            inner = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from statements(child, typing_only, at_top and not inner)


def targets(statement: ast.stmt, importer: str, is_package: bool, known: frozenset[str]) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    assert isinstance(statement, ast.ImportFrom)
    base = statement.module or ""
    if statement.level:
        parents = importer.split(".")
        parents = parents[: len(parents) - statement.level + is_package]
        base = ".".join([*parents, *([base] if base else [])])
    for alias in statement.names:
        inner = f"{base}.{alias.name}"
        yield inner if inner in known else base


def imports_of(tree: ast.Module, importer: str, is_package: bool, known: frozenset[str]) -> Iterator[Import]:
    for statement, typing_only, at_top in statements(tree):
        for module in targets(statement, importer, is_package, known):
            yield Import(importer, statement.lineno, module, typing_only, at_top)


@cache
def all_imports() -> tuple[Import, ...]:
    modules = {path: module_name(path).removesuffix(".__init__") for path in python_files()}
    known = frozenset(modules.values())
    return tuple(
        found
        for path, name in modules.items()
        for found in imports_of(parsed(path), name, path.name == "__init__.py", known)
    )


def upward(found: Import) -> bool:
    if found.typing_only or found.module.split(".")[0] != "emloop_mtl":
        return False
    return RANKS[unit(found.module)] > RANKS[unit(found.importer)]


def test_every_module_has_a_layer() -> None:
    units = {unit(module_name(path)) for path in python_files()}
    assert units - set(RANKS) == set(), "give these a place in LAYERS"


def test_imports_run_downward() -> None:
    wrong = [found for found in all_imports() if upward(found)]
    assert not wrong, lines(wrong)


def test_neighbours_in_a_layer_do_not_import_each_other_in_a_circle() -> None:
    arrows = {
        (unit(found.importer), unit(found.module))
        for found in all_imports()
        if not found.typing_only and found.module.startswith("emloop_mtl.")
    }
    reachable = {source: {target for start, target in arrows if start == source} for source, _ in arrows}
    for _ in RANKS:
        for source, found in reachable.items():
            reachable[source] = found.union(*(reachable.get(target, set()) for target in found if target != source))
    circles = {
        tuple(sorted((source, target)))
        for source, found in reachable.items()
        for target in found
        if target != source and source in reachable.get(target, set())
    }
    assert circles == set()


def test_the_package_never_imports_hooks() -> None:
    found = [
        found
        for found in all_imports()
        if unit(found.importer) != "hooks" and (found.module + ".").startswith(("hooks.", "emloop_mtl.hooks."))
    ]
    assert not found, lines(["hooks are found by name, at run time:", *found])


def test_hooks_import_the_core_by_its_absolute_name() -> None:
    wrong = [found for found in all_imports() if found.module.split(".")[0] == "hooks"]
    assert not wrong, lines(["a hook imported as hooks.… exists twice; write emloop_mtl.hooks.…:", *wrong])
    for path in HOOKS.rglob("*.py"):
        depth = len(path.relative_to(ROOT).parts) - 1
        levels = [node.level for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom)]
        assert max(levels, default=0) <= depth, f"{path}: a relative import leaves hooks/"


def test_slow_packages_are_imported_where_they_are_needed() -> None:
    wrong = [
        found
        for found in all_imports()
        if found.at_top and not found.typing_only and found.module.split(".")[0] in SLOW_TO_IMPORT
    ]
    assert not wrong, lines(wrong)


def imports_in(source: str, importer: str = "emloop_mtl.data.batch") -> list[Import]:
    known = frozenset({"emloop_mtl.main_loop", "emloop_mtl.models", "emloop_mtl.errors"})
    return list(imports_of(ast.parse(source), importer, False, known))


@pytest.mark.parametrize(
    "source",
    [
        "from ..main_loop import MainLoop",
        "from .. import main_loop",
        "import emloop_mtl.main_loop as loop",
        "from emloop_mtl.models import MultiTaskModel",
        "from emloop_mtl import MainLoop",
        "def f():\n    from ..main_loop import MainLoop",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from ..main_loop import MainLoop",
        "try:\n    from ..models import x\nexcept ImportError:\n    pass",
    ],
)
def test_an_upward_import_is_seen(source: str) -> None:
    assert [upward(found) for found in imports_in(source)] == [True]


@pytest.mark.parametrize(
    "source",
    [
        "from ..errors import ConfigError",
        "import torch",
        "from __future__ import annotations",
        "if TYPE_CHECKING:\n    from ..main_loop import MainLoop",
        "if typing.TYPE_CHECKING:\n    from ..main_loop import MainLoop",
    ],
)
def test_a_permitted_import_is_let_through(source: str) -> None:
    assert [upward(found) for found in imports_in(source)] == [False]


def public_classes(path: Path) -> list[str]:
    return [node.name for node in parsed(path).body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def test_a_file_defines_the_one_public_class_that_it_is_named_after() -> None:
    strays = []
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        classes = public_classes(path)
        fits = not classes or [each.lower() for each in classes] == [path.stem.replace("_", "")]
        if not fits and set(classes) != EXCEPTIONS.get(name, (set(), ""))[0]:
            strays.append(f"{name} defines {', '.join(classes)}")
        assert not (fits and name in EXCEPTIONS), f"{name} needs no exception any more"
    assert not strays, lines(strays)


def test_every_folder_of_python_files_is_a_package() -> None:
    folders = {path.parent for path in python_files()}
    bare = [folder.relative_to(ROOT) for folder in folders if not (folder / "__init__.py").exists()]
    assert not bare, lines(["no __init__.py in", *sorted(bare)])


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


def test_hooks_are_linked_into_the_package() -> None:
    assert (PACKAGE / "hooks").is_symlink()
    assert os.readlink(PACKAGE / "hooks") == "../hooks"  # noqa: PTH115 - Path.readlink turns separators around


@needs_git
def test_git_tracks_the_link() -> None:
    mode = "120000"  # what git calls a symbolic link
    assert git("ls-files", "--stage", "emloop_mtl/hooks").split()[:1] == [mode]


@needs_git
def test_no_file_speaks_of_where_it_was_written() -> None:
    found = []
    for name in git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0"):
        path = ROOT / name
        if not name or not path.is_file() or path.samefile(__file__):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # data, such as an image
        for what, pattern in FOREIGN.items():
            found += [f"{name}: {what}: {match.group()}" for match in re.finditer(pattern, text)]
    assert not found, lines(found)


def test_the_public_names_are_these() -> None:
    assert emloop_mtl.__all__ == PUBLIC_NAMES
    assert set(PUBLIC_NAMES) <= set(dir(emloop_mtl))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_is_the_same_for_a_type_checker_and_at_run_time(name: str) -> None:
    block = next(node for node in parsed(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    seen = {
        alias.name: f"emloop_mtl.{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert getattr(emloop_mtl, name) is getattr(import_module(seen[name]), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'MainLop'"):
        _ = emloop_mtl.MainLop


@pytest.mark.parametrize("folder", ["emloop_mtl", "emloop_mtl/hooks"])
def test_a_type_checker_does_not_see_what_imports_names_at_run_time(folder: str) -> None:
    # With a __getattr__ of the module in sight it would take an unknown name for anything.
    functions = [node.name for node in parsed(ROOT / folder / "__init__.py").body if isinstance(node, ast.FunctionDef)]
    assert functions == ["__dir__"]


def loaded_by(*arguments: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter imports, as it reports them itself."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if line.startswith("import time:")}


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "sklearn", "scipy", "wandb", "tensorboardX", "rich", "click", "ruamel.yaml"}
    loaded = loaded_by("-c", "import emloop_mtl")
    assert "emloop_mtl" in loaded
    assert loaded & heavy == set()
    assert "torch" in loaded_by("-c", "import torch"), "the report of imports would not show torch"


def test_the_public_names_and_the_hooks_load_nothing_that_only_some_runs_need() -> None:
    heavy = {"pyarrow", "sklearn", "scipy", "wandb", "tensorboardX", "rich", "click", "ruamel.yaml"}
    code = "from emloop_mtl import *; from emloop_mtl.hooks import *; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"emloop_mtl.main_loop", "emloop_mtl.hooks.writing.write_tensor_board"} <= loaded
    assert loaded & heavy == set()


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_the_command_line_prints_its_help_without_torch(arguments: list[str]) -> None:
    loaded = loaded_by("-m", "emloop_mtl", *arguments)
    assert "emloop_mtl.cli" in loaded
    assert loaded & {"torch", "numpy", "sklearn", "scipy", "wandb", "tensorboardX", "rich", "ruamel.yaml"} == set()
