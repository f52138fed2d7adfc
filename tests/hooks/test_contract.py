"""What every hook of the package must do, whatever it is for."""

from __future__ import annotations

import inspect
import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from emloop_mtl import hooks
from emloop_mtl.abstract_hook import EVENTS, AbstractHook
from emloop_mtl.checkpoint import list_checkpoints, newest_checkpoint
from emloop_mtl.config.config import Config
from emloop_mtl.config.create import create_hooks
from emloop_mtl.config.reflect import resolve_class
from emloop_mtl.data.batch import Batch
from emloop_mtl.data.multi_task_dataset import MultiTaskDataset
from emloop_mtl.errors import ConfigError
from emloop_mtl.main_loop import MainLoop
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.testing import SaveAndFail
from emloop_mtl.utils.flat_names import flatten
from emloop_mtl.utils.plain import check_plain

from ..cli.same_runs import what_differs

NOT_A_HOOK = {"AbstractHook", "AbstractWriter", "RecordFile", "TrainingTerminated", "WatchedNumber"}
HOOKS = sorted(set(hooks.__all__) - NOT_A_HOOK)

MakeLoop = Callable[..., MainLoop]


@pytest.fixture(autouse=True)
def own_modules(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Write the modules that examples bring along: the hooks of one's own that inherit from a base."""
    folder = tmp_path_factory.mktemp("modules")
    modules = []
    for code in (code for name in HOOKS for code in blocks_of(name, "python")):
        if match := re.match(r"# (\w+)\.py\n", code):
            (folder / f"{match[1]}.py").write_text(code, encoding="utf-8")
            modules.append(match[1])
    monkeypatch.syspath_prepend(folder)
    yield
    for module in modules:
        sys.modules.pop(module, None)


def blocks_of(name: str, language: str) -> list[str]:
    """Return the code in the docstring of a hook that is written in a language."""
    text = inspect.getdoc(getattr(hooks, name)) or ""
    pattern = rf"^\.\. code-block:: {language}\n((?:\n| {{4}}.*(?:\n|$))*)"
    return [textwrap.dedent(match[1]).strip("\n") for match in re.finditer(pattern, text, re.MULTILINE)]


def example_of(name: str) -> list[AbstractHook]:
    """Build the hooks that the example in the docstring of a hook lists, as a config does."""
    fake = {section: {"class": f"emloop_mtl.testing.Fake{section.capitalize()}"} for section in ("dataset", "model")}
    return create_hooks(Config({**fake, "hooks": entries_of(name)}), model=None, dataset=None)


def entries_of(name: str) -> list[Any]:
    """Return the entries of the example: names of hooks, or mappings of a name to its arguments."""
    blocks = blocks_of(name, "yaml")
    assert blocks, f"the docstring of {name} has no example"
    return list(YAML(typ="safe").load(blocks[0])["hooks"])


def listed_in_example(name: str) -> tuple[type[AbstractHook], dict[str, Any]]:
    """Return the class that the example lists, the hook or what inherits from it, and its arguments."""
    entries = [entry if isinstance(entry, dict) else {entry: {}} for entry in entries_of(name)]
    listed = [(resolve_class(key, "hook"), arguments) for entry in entries for key, arguments in entry.items()]
    ((kind, arguments),) = [pair for pair in listed if issubclass(pair[0], getattr(hooks, name))]  # type: ignore[arg-type]
    return kind, arguments  # type: ignore[return-value]


def hook_of(name: str, listed: list[AbstractHook]) -> AbstractHook:
    (hook,) = [hook for hook in listed if isinstance(hook, getattr(hooks, name))]
    return hook


class End(AbstractHook):
    """End the training after two epochs, or fail in a step; the last hook of every run."""

    def __init__(self, fail_in_step: int | None = None) -> None:
        super().__init__()
        self._fail_in_step = fail_in_step

    def max_steps(self) -> int:
        return 6

    def requires(self) -> tuple[str, ...]:
        return ()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        if self.main_loop.position.step == self._fail_in_step:
            raise RuntimeError("out of paper")

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        if epoch_id == 2:
            raise hooks.TrainingTerminated("two epochs are done")

    def after_training(self, success: bool) -> None:
        if success:
            self.main_loop.request_save("end")


class CheckState(AbstractHook):
    """Check at every event that the state of a hook can be saved, read and taken up by a twin of it."""

    def __init__(self, hook: AbstractHook, twin: AbstractHook) -> None:
        super().__init__()
        self._hook = hook
        self._twin = twin

    def requires(self) -> tuple[str, ...]:
        return ()

    def before_training(self) -> None:
        self._check()

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        self._check()

    def after_batch(self, stream_name: str, batch_data: Batch) -> None:
        self._check()

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, Any]) -> None:
        self._check()

    def after_epoch_profile(self, epoch_id: int, profile: dict[str, Any], streams: list[str]) -> None:
        self._check()

    def after_training(self, success: bool) -> None:
        self._check()

    def _check(self) -> None:
        state = self._hook.state_dict()
        if not state:
            return
        file = io.BytesIO()
        check_plain(state, self._hook.name)
        torch.save(state, file)
        file.seek(0)
        self._twin.load_state_dict(torch.load(file, weights_only=True))
        assert_same(self._twin.state_dict(), state)


def assert_same(found: Any, expected: Any) -> None:
    """Compare states, tensors in them by value."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


@pytest.fixture
def make_loop(
    make_model: Callable[..., MultiTaskModel], make_dataset: Callable[..., MultiTaskDataset], tmp_path: Path
) -> MakeLoop:
    """Make a main loop on the two tasks, of three steps per epoch."""

    def make(listed: list[AbstractHook], fail_in_step: int | None = None, folder: Path = tmp_path) -> MainLoop:
        torch.manual_seed(0)
        return MainLoop(make_model(), make_dataset(), [*listed, End(fail_in_step)], output_dir=folder)

    return make


def test_the_names_are_those_of_the_classes() -> None:
    assert {*hooks._MODULES} == {*hooks.__all__}
    for name in HOOKS:
        hook = getattr(hooks, name)
        assert issubclass(hook, AbstractHook)
        assert (hook.__name__, hook.name) == (name, name)
        assert not name.endswith("Hook")


def test_every_module_of_a_hook_is_exported() -> None:
    folder = Path(hooks.__file__).parent
    written = {
        value.__name__
        for path in folder.glob("*/*.py")
        for value in vars(__import__(f"emloop_mtl.hooks.{path.parent.name}.{path.stem}", fromlist=["*"])).values()
        if inspect.isclass(value) and issubclass(value, AbstractHook) and not inspect.isabstract(value)
        if value.__module__.endswith(f".{path.stem}") and not value.__name__.startswith(("_", "Abstract"))
    }
    # ReportTrial is told by a function what to do: a search appends it, no config can list it.
    assert written - {"ReportTrial"} == set(HOOKS)


def test_importing_the_package_of_hooks_imports_no_hook() -> None:
    code = "import sys, emloop_mtl.hooks; print([m for m in sys.modules if m.startswith('emloop_mtl.hooks.')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert run.stdout.strip() == "[]"


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="Evaluat"):
        hooks.__getattr__("Evaluat")


@pytest.mark.parametrize("name", HOOKS)
def test_unknown_arguments_are_refused_and_what_is_handed_over_is_taken(name: str) -> None:
    hook, arguments = listed_in_example(name)
    with pytest.raises(ConfigError, match=f"{hook.name}: unknown argument 'colour'"):
        hook(**arguments, colour="red")
    hook(**arguments, model=None, dataset=None, output_dir=None)
    for old in hook.renamed:
        with pytest.raises(ConfigError, match=f"{hook.name}: the argument '{old}' is "):
            hook(**arguments, **{old: 1})


@pytest.mark.parametrize("name", HOOKS)
def test_events_have_the_arguments_of_the_protocol(name: str) -> None:
    hook = getattr(hooks, name)
    for event in EVENTS:
        assert list(inspect.signature(getattr(hook, event)).parameters) == list(
            inspect.signature(getattr(AbstractHook, event)).parameters
        )


@pytest.mark.parametrize("name", HOOKS)
def test_the_example_runs_and_its_state_can_be_restored_at_every_event(name: str, make_loop: MakeLoop) -> None:
    listed, twins = example_of(name), example_of(name)
    make_loop(twins)
    loop = make_loop([*listed, CheckState(hook_of(name, listed), hook_of(name, twins))])
    loop.run_training()
    assert loop.end == "finished"
    assert loop.position == (2, 6, 2, 24)


@pytest.mark.parametrize("name", HOOKS)
def test_a_training_that_breaks_off_anywhere_goes_on_with_the_hook_from_a_file(
    name: str, make_loop: MakeLoop, tmp_path: Path
) -> None:
    every = SaveAndFail(every=100)
    whole = make_loop([*example_of(name), every], folder=tmp_path / "whole")
    whole.run_training()
    saved = {path.name.rpartition("-")[0] for path in list_checkpoints(tmp_path / "whole" / "checkpoints")} - {"latest"}
    # Three moments of training, those of evaluation if the example has any, and the end: in the middle of the first
    # epoch, and later, where hooks have something to remember.
    for moment in (2, every.moments // 2 + 1, every.moments - 1):
        folder = tmp_path / str(moment)
        broken = make_loop([*example_of(name), SaveAndFail(every=moment - 1, fail_at=moment)], folder=folder)
        with pytest.raises(RuntimeError, match="failed at moment"):
            broken.run_training()
        resumed = make_loop([*example_of(name), SaveAndFail(every=100)], folder=folder)
        resumed.restore(newest_checkpoint(folder / "checkpoints", "latest"))
        resumed.run_training()
        assert resumed.position == whole.position == (2, 6, 2, 24)
        assert what_differs(folder, tmp_path / "whole", tags=sorted(saved)) == [], f"moment {moment}"
        assert str(flatten(resumed.epoch_data)) == str(flatten(whole.epoch_data)), f"moment {moment}"
        assert pictures(folder) == pictures(tmp_path / "whole"), f"moment {moment}"


def pictures(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("name", HOOKS)
def test_a_failure_is_passed_on_and_the_hook_adds_none(
    name: str, make_loop: MakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make_loop(example_of(name), fail_in_step=2)
    with pytest.raises(RuntimeError, match="out of paper"):
        loop.run_training()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert loop.end == "failed"


FAILURES = (("before_training", False), ("before_epoch", True), ("after_batch", True), ("after_epoch", False))
"""Event and whether the hook that fails is the first one: the others have not begun then, or not seen the event."""


class FailAt(AbstractHook):
    """Fail at an event, in a batch of an evaluation if it is one of batches."""

    def __init__(self, event: str) -> None:
        super().__init__()

        def fail(**arguments: Any) -> None:
            if arguments.get("epoch_id", 1) == 1:  # numbers of the zeroth epoch are there by then
                raise RuntimeError("out of ink")

        def fail_at_batch(stream_name: str, batch_data: Batch) -> None:
            fail(epoch_id=int(self.main_loop.position.step == 3))

        setattr(self, event, fail_at_batch if event == "after_batch" else fail)

    def requires(self) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize("name", HOOKS)
def test_a_failure_before_or_after_the_hook_acts_is_survived(
    name: str, make_loop: MakeLoop, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for event, is_first in FAILURES:
        listed = example_of(name)
        listed.insert(0 if is_first else len(listed), FailAt(event))
        loop = make_loop(listed, folder=tmp_path / event)
        with pytest.raises(RuntimeError, match="out of ink"):
            loop.run_training()
        assert loop.end == "failed"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_could_not_begin_is_told_of_the_end(
    name: str, make_loop: MakeLoop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConfigError("out of luck")

    listed = example_of(name)
    monkeypatch.setattr(hook_of(name, listed), "before_training", refuse)
    loop = make_loop(listed)
    with pytest.raises(ConfigError, match="out of luck"):
        loop.run_training()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("name", HOOKS)
def test_the_end_is_survived_without_any_epoch(name: str, make_loop: MakeLoop) -> None:
    class StopAtOnce(AbstractHook):
        def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
            raise hooks.TrainingTerminated("at once")

    loop = make_loop([*example_of(name), StopAtOnce()])
    loop.run_training()
    assert (loop.end, loop.position.step) == ("finished", 0)


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_that_sees_batches_says_what_it_reads(name: str, make_loop: MakeLoop) -> None:
    listed = example_of(name)
    make_loop(listed)
    assert hook_of(name, listed).requires() is not None or "after_batch" not in vars(getattr(hooks, name))
