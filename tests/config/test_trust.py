from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emloop_mtl.config.create import create_training
from emloop_mtl.config.located_error import LocatedError

Write = Callable[..., Path]

REFUSED = {
    "standard library": "subprocess.Popen",
    "built-in module": "posix.system",
    "built-in function": "builtins.exec",
    "function of torch": "torch.load",
    "class of torch outside nn": "torch.Tensor",
    "module of torch": "torch.hub.load",
    "module inside a trusted module": "torch.nn.functional.torch.hub.load",
    "function of torch.nn": "torch.nn.parallel.parallel_apply.parallel_apply",
    "method": "torch.nn.Linear.forward",
    "globals of a method": "torch.nn.Linear.__init__.__globals__.get",
    "function of the engine": "emloop_mtl.utils.files.make_folder",
    "training without asking": "emloop_mtl.config.create.create_training",
    "class that runs commands": "emloop_mtl.config.blueprint.Blueprint",
    "module that the engine imports": "emloop_mtl.checkpoint.shutil.rmtree",
    "class of the engine that the fakes import": "emloop_mtl.testing.MainLoop",
    "function beside the fakes": "emloop_mtl.testing.run_hook",
    "function that a source module imports": "parts.open_anything",
    "module that a source module imports": "parts.os.system",
    "module of the run folder": "planted.Planted",
    "module of the run folder by its path": "log.run.planted.Planted",
    "module elsewhere": "elsewhere.Elsewhere",
    "unknown module": "nowhere.Nothing",
    "main module": "__main__.main",
}


@pytest.fixture
def run(write: Write, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder inside a working folder, with a module planted in it and another one elsewhere on the path."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "elsewhere.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(elsewhere)
    monkeypatch.syspath_prepend(folder)
    with Path("parts.py").open("a") as file:
        file.write("\nimport os\nfrom shutil import rmtree as open_anything\n")
    Path("log/run").mkdir(parents=True)
    Path("log/run/planted.py").write_text("open('ran', 'w')\n")
    return Path("log/run")


def refusal(path: Path, source_folder: Path | str | None) -> str:
    with pytest.raises(LocatedError) as caught:
        create_training(path, trusted_only=True, source_folder=source_folder)
    return str(caught.value)


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_what_a_run_folder_must_not_name_is_refused_and_does_not_run(
    write: Write, run: Path, folder: Path, name: str
) -> None:
    arguments = "args: [[touch, ran]]"
    path = write(f"dataset: {{class: {name}, {arguments}}}\nmodel: {{class: parts.Line}}\n", "log/run/config.yaml")
    text = refusal(path, folder)
    assert text.startswith("log/run/config.yaml:1:11: dataset.class: ")
    assert "is not trusted: without --trust " in text
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "section",
    [
        "  layers: {a: {class: subprocess.Popen, args: [[touch, ran]]}}",
        "  parts: {a: {loss: os.system}}",
        "  parts: subprocess.getoutput",
        "  activation: os.system",
        "  optimizer: os.system",
        "  optimizer: {class: os.system}",
        "  optimizer: {class: adam, parameters: os.system}",
    ],
)
def test_nested_names_are_judged_as_well(write: Write, run: Path, folder: Path, section: str) -> None:
    path = write(f"dataset: {{class: parts.Numbers}}\nmodel:\n  class: parts.Line\n{section}\n", "log/run/config.yaml")
    assert "is not trusted: without --trust " in refusal(path, folder)
    assert not Path("ran").exists()


def test_hooks_are_judged_as_well(write: Write, run: Path, folder: Path) -> None:
    path = write(
        "dataset: {class: parts.Numbers}\nmodel: {class: parts.Line}\nhooks: [planted.Hook]\n", "log/run/config.yaml"
    )
    assert refusal(path, folder).startswith("log/run/config.yaml:3:9: hooks[0]: 'planted' is not trusted")


def test_the_source_folder_and_the_package_and_torch_are_trusted(write: Write, run: Path, folder: Path) -> None:
    text = """
        dataset: {class: parts.Numbers}
        model:
          class: parts.Line
          layers: {a: {class: torch.nn.Linear, in_features: 1, out_features: 1}, b: {class: RoundRobin}}
          activation: torch.nn.functional.relu
          optimizer: {class: adamw}
        hooks: [parts.Count, emloop_mtl.testing.RecordEvents, StopAfter: {epochs: 1}]
    """
    training = create_training(write(text, "log/run/config.yaml"), trusted_only=True, source_folder=folder)
    assert type(training.model.given["layers"]["a"]).__name__ == "Linear"
    assert str(folder / "log/run") not in sys.path


def test_a_source_folder_outside_the_working_folder_is_not_trusted(
    write: Write, run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("dataset: {class: parts.Numbers}\nmodel: {class: parts.Line}\n", "log/run/config.yaml").resolve()
    monkeypatch.chdir(run)
    assert "'parts' is not trusted" in refusal(path, folder)
    assert "'parts' is not trusted" in refusal(path, None)


@pytest.mark.parametrize("source_folder", [".", "log/run"])
def test_a_run_folder_cannot_make_itself_the_source_folder(write: Write, run: Path, source_folder: str) -> None:
    path = write("dataset: {class: planted.Planted}\nmodel: {class: parts.Line}\n", "log/run/config.yaml")
    assert "'planted' is not trusted" in refusal(path, source_folder)
    assert not Path("ran").exists()


def test_a_link_out_of_the_source_folder_is_not_trusted(
    write: Write, run: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "linked.py"
    outside.write_text("open('ran', 'w')\n")
    Path("linked.py").symlink_to(outside)
    path = write("dataset: {class: linked.Linked}\nmodel: {class: parts.Line}\n", "log/run/config.yaml")
    assert "'linked' is not trusted" in refusal(path, folder)
    assert not Path("ran").exists()
