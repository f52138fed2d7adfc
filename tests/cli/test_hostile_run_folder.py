"""A run folder from a stranger: without ``--trust`` nothing of it runs, and nothing outside of it is touched."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emloop_mtl.config.yaml_text import write_yaml

from .conftest import Command

CONFIG = """
dataset: {class: digits.Digits, max_rows: 64}
model:
  class: MultiTaskModel
  modules: {head: {class: torch.nn.LazyLinear, out_features: 1}}
  tasks:
    ink: {flow: [{name: ink_value, module: head, inputs: image}], label: ink, loss: mse_loss}
hooks:
  - StopAfter: {steps: 1}
"""

TOUCH = "open({!r}, 'w').close()\n"


@pytest.fixture
def ran(folder: Path) -> Path:
    """The file that a payload would make."""
    return folder / "ran"


@pytest.fixture
def plant(folder: Path) -> Callable[..., Path]:
    """Makes a run folder with a config and modules from elsewhere in the working folder."""

    def make(config: str = CONFIG, source: str | None = None, **files: str) -> Path:
        run = folder / "log" / "run"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(config)
        record = {"config": "config.yaml", "source_folder": source or str(folder), "working_folder": str(folder)}
        (run / "run.yaml").write_text(write_yaml(record))
        for name, text in files.items():
            (run / f"{name}.py").write_text(text)
        return Path("log/run")

    return make


def refused(command: Command, run: Path, *words: str, name: str = "resume") -> str:
    done = command(name, *(("test",) if name != "resume" else ()), run, *words)
    assert done.exit_code == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "--trust" in done.stderr
    assert done.stdout == ""
    return str(done.stderr)


@pytest.mark.parametrize(
    ("hook", "says"),
    [
        ("WriteJSON: {path: ../../../escaped}", "'../../../escaped' leads out of the run folder; --trust lets it"),
        ("WriteJSON: {path: {0}/escaped}", "leads out of the run folder"),
        ("WriteCSV: {args: [{0}/escaped]}", "leads out of the run folder"),
        ("WritePredictions: {path: '../{stream}'}", "leads out of the run folder"),
        ("WriteTensorBoard: {folder: '..'}", "leads out of the run folder"),
        ("WriteWandb: {entity: stranger}", "'stranger' would get the numbers; --trust lets it"),
        ("WriteWandb: {folder: {0}, mode: offline}", "leads out of the run folder"),
        ("TrainingTrace: {output_dir: {0}}", "leads out of the run folder"),
        ("subprocess.Popen: {args: [[touch, ran]]}", "'subprocess' is not trusted"),
        ("emloop_mtl.hooks.writing.record_file.RecordFile: {}", "is not trusted"),
    ],
)
def test_hooks_write_nowhere_else(
    hook: str, says: str, plant: Callable[..., Path], folder: Path, command: Command, ran: Path
) -> None:
    run = plant(CONFIG + f"  - {hook.replace('{0}', str(folder))}\n")
    before = {path.name for path in folder.iterdir()}
    text = refused(command, run)
    assert text.startswith("log/run/config.yaml:10:")
    assert says in text
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == before


@pytest.mark.parametrize(
    "name",
    [
        *(
            "os.system",
            "builtins.eval",
            "builtins.exec",
            "torch.hub.load",
            "torch.utils.cpp_extension.load",
            "torch.load",
        ),
        *("torch.nn.modules.module.warnings.warn", "torch.nn.utils.vector_to_parameters", "torch.jit.load"),
        *("emloop_mtl.utils.hashing_writer.HashingWriter", "emloop_mtl.utils.files.write_atomically"),
        *("emloop_mtl.saver.Saver", "emloop_mtl.checkpoint.shutil.rmtree", "emloop_mtl.cli.run_folder.RunFolder"),
        *("emloop_mtl.models.weights_file.save_weights", "digits.torch.load"),
    ],
)
def test_nothing_but_parts_of_a_training_is_built(
    name: str, plant: Callable[..., Path], command: Command, ran: Path
) -> None:
    planted = f"{{class: {name}, args: [{write_yaml(str(ran)).strip()}]}}"
    run = plant(CONFIG.replace("{class: torch.nn.LazyLinear, out_features: 1}", planted))
    assert "is not trusted" in refused(command, run)
    assert not ran.exists()


def test_options_of_the_compiler_name_no_program(plant: Callable[..., Path], command: Command) -> None:
    config = CONFIG.replace("  modules:", "  compile: {options: {cpp.cxx: [null, ./evil]}}\n  modules:")
    assert ": model.compile.options: " in refused(command, plant(config))


@pytest.mark.parametrize("source", [".", "./log/run", "./log/run/src"])
def test_modules_of_the_run_folder_do_not_shadow_installed_ones(
    source: str, plant: Callable[..., Path], folder: Path, command: Command, ran: Path
) -> None:
    names = ("digits", "rich", "sklearn", "tensorboardX", "wandb", "yaml", "numpy", "sitecustomize", "evil")
    files = dict.fromkeys(names, TOUCH.format(str(ran)))
    run = plant(CONFIG.replace("digits.Digits", "evil.Digits"), source, **files)
    (run / "src").mkdir()
    for name in names:
        (run / "src" / f"{name}.py").write_text(files[name])
    refused(command, run)
    assert not ran.exists()
    assert not {str(folder / "log" / "run"), str(folder / "log" / "run" / "src")} & set(sys.path)


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "checkpoints", "config.yaml", "trace.yaml", "sub/link"])
@pytest.mark.parametrize("verb", ["resume", "eval", "predict"])
def test_a_link_out_of_the_run_folder_is_not_followed(
    verb: str, name: str, plant: Callable[..., Path], folder: Path, command: Command
) -> None:
    run = plant()
    outside = folder / "outside"
    outside.mkdir()
    target = outside / "target"
    target.write_text(CONFIG)
    link = run / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside if name == "checkpoints" else target)
    text = refused(command, run, name=verb)
    assert text == f"{link}: is a link that leads out of the run folder; --trust follows it\n"
    assert target.read_text() == CONFIG
    assert list(outside.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.yaml", "x-a: " + "[" * 50_000, "nested more than 100 deep"),
        ("config.yaml", "x-a: " + "9" * 900_000, "an integer of 900000 digits is too long"),
        ("config.yaml", "#" * 2**21, "is longer than the 1048576 bytes that a config may have"),
        ("run.yaml", "- a", "a config is a mapping of sections, not a list"),
        ("run.yaml", "source_folder: 1", "must name source_folder and working_folder"),
        ("run.yaml", "\0", "is not allowed in YAML"),
    ],
    ids=["deep", "digits", "large", "list", "number", "control"],
)
def test_bombs_in_its_yaml_are_refused(
    name: str, content: str, says: str, plant: Callable[..., Path], command: Command
) -> None:
    run = plant()
    (run / name).write_text(content)
    done = command("resume", run)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"log/run/{name}:")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a":' * 100_000, "9" * 100_000, "{}", '{"format": 1, "files": {"../../../ran": {}}}', "\0"],
    ids=["lists", "mappings", "digits", "empty", "path", "control"],
)
def test_bombs_in_a_manifest_are_refused(content: str, plant: Callable[..., Path], command: Command, ran: Path) -> None:
    run = plant()
    checkpoint = run / "checkpoints" / "latest-00000001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text(content)
    for name in ("model.safetensors", "state.pt"):
        (checkpoint / name).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    done = command("eval", "test", run)
    assert done.exit_code == 1
    assert "has no valid checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.dumps(str(checkpoint))[1:-1].rpartition("/")[2] in done.stderr
    assert not ran.exists()
