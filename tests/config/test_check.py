# ruff: noqa: E501
# An answer to a mistake is one line, however long.

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from emloop_mtl.config.check import check_config
from emloop_mtl.config.evaluation import evaluation_config
from emloop_mtl.config.load import load_config
from emloop_mtl.config.located_error import LocatedError

Write = Callable[..., Path]

HEAD = "dataset: {class: parts.Numbers}\nmodel: {class: parts.Line}\n"
"""Two lines; what a test adds begins in line 3."""

MODEL = "dataset: {class: parts.Numbers}\nmodel:\n  class: parts.Line\n"
"""Three lines; what a test adds are arguments of the model from line 4 on."""

BROKEN = {
    # sections
    "unknown section": (HEAD + "hook: []\n", "3:1: unknown section 'hook'; did you mean 'hooks'?"),
    "unlike any section": (
        HEAD + "zzz: []\n",
        "3:1: unknown section 'zzz'; known are: dataset, eval, hooks, main_loop, model, search, seed, and 'x-…' for your own anchors",
    ),
    "no model": ("dataset: {class: parts.Numbers}\n", "1:1: missing section 'model'"),
    "no dataset": ("model: {class: parts.Line}\n", "1:1: missing section 'dataset'"),
    "dataset is text": ("dataset: parts.Numbers\nmodel: {}\n", "1:1: dataset: expected a mapping with 'class', got 'parts.Numbers'"),
    "no class": ("dataset:\n  size: 3\nmodel: {}\n", "1:1: dataset: missing 'class'"),
    "misspelt class": ("dataset:\n  clas: parts.Numbers\nmodel: {}\n", "1:1: dataset: missing 'class'; did you mean 'clas'?"),
    "seed is text": (HEAD + "seed: seven\n", "3:1: seed: expected an integer from 0 to 2**63 - 1, got 'seven'"),
    "seed is negative": (HEAD + "seed: -1\n", "3:1: seed: expected an integer from 0 to 2**63 - 1, got -1"),
    # classes
    "unknown module": ("dataset: {class: part.Numbers}\nmodel: {}\n", "1:11: dataset.class: there is no module 'part' for 'part.Numbers'; did you mean 'parts'?"),
    "unknown attribute": ("dataset: {class: parts.Number}\nmodel: {}\n", "1:11: dataset.class: module 'parts' has no 'Number'; did you mean 'Numbers'?"),
    "unknown submodule": (MODEL + "  layers: {a: {class: torch.optm.Adam}}\n", "4:16: model.layers.a.class: module 'torch' has no 'optm'; did you mean 'optim'?"),
    "class is a number": ("dataset: {class: 3}\nmodel: {}\n", "1:11: dataset.class: a class is named by text such as 'module.Class', got 3"),
    "class is a module": ("dataset: {class: emloop_mtl.data}\nmodel: {}\n", "1:11: dataset.class: 'emloop_mtl.data' is not a class or function but a module"),
    "class is no path": ("dataset: {class: parts.Num bers}\nmodel: {}\n", "1:11: dataset.class: 'parts.Num bers' is no dotted path such as 'module.Class'"),
    "unknown short name": (
        "dataset: {class: ColumDataset}\nmodel: {}\n",
        "1:11: dataset.class: unknown dataset 'ColumDataset'; did you mean 'ColumnDataset'?",
    ),
    "unknown scheduler": (
        MODEL + "  layers: {a: {class: RoundRobbin}}\n",
        "4:16: model.layers.a.class: unknown class 'RoundRobbin'; did you mean 'RoundRobin'?",
    ),
    "module that fails": ("dataset: {class: failing.Numbers}\nmodel: {}\n", "1:11: dataset.class: module 'failing' cannot be imported: NameError: name 'oops' is not defined"),
    "module that lacks another": ("dataset: {class: lacking.Numbers}\nmodel: {}\n", "1:11: dataset.class: module 'lacking' cannot be imported: ModuleNotFoundError: No module named 'absent_module'"),
    "no model at all": ("dataset: {class: parts.Numbers}\nmodel: {class: parts.NoModel}\n", "2:9: model.class: 'parts.NoModel' is not a model: it has no method 'run'"),
    # arguments
    "unknown argument": ("dataset:\n  class: parts.Numbers\n  sise: 3\nmodel: {}\n", "3:3: dataset: parts.Numbers: unknown argument 'sise'; did you mean 'size'?"),
    "text for int": ("dataset: {class: parts.Numbers, size: big}\nmodel: {}\n", "1:33: dataset.size: expected int, got 'big'"),
    "bool for int": ("dataset: {class: parts.Numbers, size: true}\nmodel: {}\n", "1:33: dataset.size: expected int, got true"),
    "float for int": ("dataset: {class: parts.Numbers, size: 1e1}\nmodel: {}\n", "1:33: dataset.size: expected int, got 10.0; write 10"),
    "null for int": ("dataset: {class: parts.Numbers, size: }\nmodel: {}\n", "1:33: dataset.size: expected int, got null"),
    "list for float": ("dataset: {class: parts.Numbers, scale: [1]}\nmodel: {}\n", "1:33: dataset.scale: expected float, got a list of 1"),
    "object for float": (
        "dataset: {class: parts.Numbers, scale: {class: parts.NoModel}}\nmodel: {}\n",
        "1:33: dataset.scale: expected float, got an object of class parts.NoModel",
    ),
    "wrong choice": (MODEL + "  mode: fasst\n", "4:3: model.mode: expected one of 'fast', 'exact', got 'fasst'; did you mean 'fast'?"),
    "text for list": (MODEL + "  sizes: 3\n", "4:3: model.sizes: expected list of int, got 3"),
    "wrong item": (MODEL + "  sizes: [1, x]\n", "4:14: model.sizes[1]: expected int, got 'x'"),
    "handed over": (MODEL + "  dataset: mine\n", "4:3: model: argument 'dataset' is handed over by the engine and cannot be set"),
    "missing argument": (MODEL + "  layers: {a: {class: parts.Layer}}\n", "4:12: model.layers.a: parts.Layer: missing argument 'width'"),
    "args is no list": (MODEL + "  layers: {a: {class: parts.Layer, args: 3}}\n", "4:36: model.layers.a.args: expected a list of arguments by position, got 3"),
    "args of wrong type": (MODEL + "  layers: {a: {class: parts.Layer, args: [x]}}\n", "4:43: model.layers.a.args[0]: expected int, got 'x'"),
    "given twice": (MODEL + "  layers: {a: {class: parts.Layer, args: [1], width: 2}}\n", "4:47: model.layers.a: parts.Layer: argument 'width' is given twice, by name and in 'args'"),
    "too many args": (MODEL + "  layers: {a: {class: parts.Numbers, args: [1, 1, 1, '', 5]}}\n", "4:38: model.layers.a.args: parts.Numbers: takes at most 4 arguments by position, got 5"),
    "unknown optimizer": (MODEL + "  optimizer: {class: adamv}\n", "4:15: model.optimizer.class: unknown class 'adamv'; did you mean 'adam'?"),
    "optimizer is something else": (MODEL + "  optimizer: {class: parts.Layer}\n", "4:15: model.optimizer.class: Layer is no optimizer of torch"),
    "unknown optimizer, in short": (MODEL + "  optimizer: adamv\n", "4:3: model.optimizer: unknown class 'adamv'; did you mean 'adam'?"),
    "optimizer is a number": (MODEL + "  optimizer: 3\n", "4:3: model.optimizer: expected a name, or a mapping such as {class: adamw, lr: 0.001}, got 3"),
    "option of an optimizer is text": (MODEL + "  optimizer: {class: sgd, lr: fast}\n", "4:27: model.optimizer.lr: SGD: lr must be a number, not 'fast'"),
    "betas are a number": (MODEL + "  optimizer: {class: adam, betas: 0.9}\n", "4:28: model.optimizer.betas: Adam: betas must be a list of 2 numbers, not 0.9"),
    "betas are three": (MODEL + "  optimizer: {class: bert_adam, betas: [0.9, 0.9, 0.9]}\n", "4:33: model.optimizer.betas: BertAdam: betas must be a list of 2 numbers, not [0.9, 0.9, 0.9]"),
    "option that is none by default": (MODEL + "  optimizer: {class: lbfgs, max_eval: many}\n", "4:29: model.optimizer.max_eval: expected int, got 'many'"),
    "line search of lbfgs": (MODEL + "  optimizer: {class: lbfgs, line_search_fn: wolfe}\n", "4:29: model.optimizer.line_search_fn: LBFGS: line_search_fn must be one of null, strong_wolfe, not 'wolfe'"),
    "groups by a short name": (MODEL + "  optimizer: {class: adam, parameters: groups}\n", "4:28: model.optimizer.parameters: 'groups' is no dotted path such as 'module.groups'"),
    "groups of an unknown function": (MODEL + "  optimizer: {class: adam, parameters: parts.doubel}\n", "4:28: model.optimizer.parameters: module 'parts' has no 'doubel'; did you mean 'double'?"),
    "unknown optimizer by path": (MODEL + "  optimizer: parts.Lines\n", "4:3: model.optimizer: module 'parts' has no 'Lines'; did you mean 'Line'?"),
    "part is text": (MODEL + "  parts: {a: b}\n", "4:11: model.parts.a: expected the arguments of Part as a mapping, got 'b'"),
    "parts is a number": (MODEL + "  parts: 3\n", "4:3: model.parts: expected a mapping of names to the arguments of Part, got 3"),
    "unknown argument of a part": (MODEL + "  parts: {a: {los: mse}}\n", "4:15: model.parts.a: Part: unknown argument 'los'; did you mean 'loss'?"),
    "misspelt class of parts": (MODEL + "  parts: {clas: parts.make_parts}\n", "4:11: model.parts.clas: expected the arguments of Part as a mapping, got 'parts.make_parts'; did you mean 'class'?"),
    "unknown argument of a function": (MODEL + "  parts: {class: parts.make_parts, los: l1}\n", "4:36: model.parts: parts.make_parts: unknown argument 'los'; did you mean 'loss'?"),
    "unknown function": (MODEL + "  parts: parts.make_part\n", "4:3: model.parts: module 'parts' has no 'make_part'; did you mean 'make_parts'?"),
    "function without module": (MODEL + "  parts: make_parts\n", "4:3: model.parts: 'make_parts' is no dotted path such as 'module.make_parts'"),
    "unknown callable": (MODEL + "  parts: {a: {loss: parts.doubel}}\n", "4:15: model.parts.a.loss: module 'parts' has no 'doubel'; did you mean 'double'?"),
    # main loop
    "unknown setting": (
        HEAD + "main_loop:\n  fixed_epoch_sice: 5\n",
        "4:3: main_loop: unknown argument 'fixed_epoch_sice'; did you mean 'fixed_epoch_size'?; set main_loop.on_incorrect_config to 'warn' to go on all the same",
    ),
    "engine's own setting": (
        HEAD + "main_loop: {hooks: []}\n",
        "3:13: main_loop: unknown argument 'hooks'; known are: asynchronous_saving, buffer, extra_streams, fixed_batch_size, fixed_epoch_size, on_empty_batch, on_empty_stream, on_incorrect_config, on_unused_sources, skip_zeroth_epoch, train_stream_name, try_batches; set main_loop.on_incorrect_config to 'warn' to go on all the same",
    ),
    "wrong action": (HEAD + "main_loop: {on_empty_batch: warm}\n", "3:13: main_loop.on_empty_batch: expected one of 'ignore', 'warn', 'error', got 'warm'; did you mean 'warn'?"),
    "stream for streams": (HEAD + "main_loop: {extra_streams: valid}\n", "3:13: main_loop.extra_streams: expected list of str, got 'valid'; write [valid]"),
    "wrong size": (HEAD + "main_loop: {fixed_epoch_size: many}\n", "3:13: main_loop.fixed_epoch_size: expected int or mapping or null, got 'many'"),
    "main loop is a list": (HEAD + "main_loop: []\n", "3:1: main_loop: expected a mapping, got a list of 0"),
    # hooks
    "hooks is a mapping": (HEAD + "hooks: {StopAfter: {epochs: 2}}\n", "3:1: hooks: expected a list of hooks, got a mapping; write '- ' before each"),
    "unknown hook": (HEAD + "hooks:\n  - SaveBets\n", "4:5: hooks[0]: unknown hook 'SaveBets'; did you mean 'SaveBest'?"),
    "unknown argument of a hook": (
        HEAD + "hooks:\n  - StopAfter: {epochs: 1}\n  - SaveBest:\n      varible: loss\n",
        "6:7: hooks[1] SaveBest: unknown argument 'varible'; did you mean 'variable'?",
    ),
    "emloop's argument": (HEAD + "hooks:\n  - SaveBest: {condition: min}\n", "4:16: hooks[0] SaveBest: the argument 'condition' is called 'mode' here"),
    "argument of a wrong type": (HEAD + "hooks:\n  - StopAfter: {epochs: two}\n", "4:17: hooks[0] StopAfter.epochs: expected int, got 'two'"),
    "hook of one's own": (HEAD + "hooks:\n  - parts.Count: {evry: 2}\n", "4:19: hooks[0] parts.Count: unknown argument 'evry'; did you mean 'every'?"),
    "arguments not indented": (
        HEAD + "hooks:\n  - SaveBest:\n    variable: loss\n",
        "4:5: hooks[0]: expected one hook, got 'SaveBest', 'variable'; indent the arguments deeper than the hook's name",
    ),
    "arguments as a list": (HEAD + "hooks:\n  - StopAfter: [3]\n", "4:5: hooks[0] StopAfter: expected a mapping of arguments, got a list of 1"),
    "number as a hook": (HEAD + "hooks: [3]\n", "3:9: hooks[0]: expected a hook's name, or its name with arguments, got 3"),
    "not a hook": (HEAD + "hooks: [parts.Numbers]\n", "3:9: hooks[0]: 'parts.Numbers' is not a hook: it does not inherit from AbstractHook"),
    "name is a number": (HEAD + "hooks:\n  - StopAfter: {epochs: 1, name: 3}\n", "4:28: hooks[0] StopAfter.name: expected text, got 3"),
    "hook takes no model": (HEAD + "hooks:\n  - StopAfter: {model: x}\n", "4:17: hooks[0] StopAfter: argument 'model' is handed over by the engine and cannot be set"),
    # evaluation
    "evaluation is a list": (HEAD + "eval: [test]\n", "3:1: eval: expected a mapping of streams to what changes, got a list of 1"),
    "stream is a list": (HEAD + "eval: {test: [ScoreTasks]}\n", "3:8: eval.test: expected a mapping of sections, got a list of 1"),
    "unknown overridden section": (HEAD + "eval: {test: {hoks: []}}\n", "3:15: eval.test: unknown section 'hoks'; did you mean 'hooks'?"),
    "unknown hook in evaluation": (HEAD + "hooks: [parts.Count]\neval:\n  test:\n    hooks:\n      - parts.Cuont\n", "7:9: hooks[0]: module 'parts' has no 'Cuont'; did you mean 'Count'?"),
    "wrong argument in evaluation": (HEAD + "eval: {test: {dataset: {size: x}}}\n", "3:25: dataset.size: expected int, got 'x'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_mistake_is_one_line_with_its_position(write: Write, text: str, expected: str) -> None:
    Path("failing.py").write_text("oops\n")
    Path("lacking.py").write_text("import absent_module\n")
    with pytest.raises(LocatedError) as caught:
        check_config(load_config(write(text)))
    assert str(caught.value) == f"config.yaml:{expected}"


def test_nothing_is_built_to_check_a_config(write: Write) -> None:
    plan = check_config(load_config(write(HEAD + "hooks: [StopAfter: {epochs: 2}]\n")))
    assert plan.seed == 0
    assert plan.dataset.target.__module__ == "parts"
    assert __import__("parts").BUILT == []


def test_keys_for_anchors_are_free(write: Write) -> None:
    text = "x-size: &size 3\nx-hook: &hook {epochs: *size}\n" + HEAD + "hooks: [StopAfter: *hook]\n"
    [hook] = check_config(load_config(write(text))).hooks
    assert hook.blueprint.kwargs == {"epochs": 3}


def test_an_override_is_named_in_a_mistake(write: Write) -> None:
    config = load_config(write(HEAD), ["dataset.sise=3"])
    with pytest.raises(LocatedError) as caught:
        check_config(config)
    expected = "command line: dataset.sise=3: dataset: parts.Numbers: unknown argument 'sise'; did you mean 'size'?"
    assert str(caught.value) == expected


@pytest.mark.parametrize("action", ["warn", "ignore"])
def test_unknown_settings_of_the_main_loop_can_be_let_through(
    write: Write, caplog: pytest.LogCaptureFixture, action: str
) -> None:
    text = HEAD + f"main_loop:\n  on_incorrect_config: {action}\n  bufer: 3\n"
    with caplog.at_level(logging.WARNING):
        plan = check_config(load_config(write(text)))
    assert plan.main_loop == {"on_incorrect_config": action}
    expected = "config.yaml:5:3: main_loop: unknown argument 'bufer'; did you mean 'buffer'?"
    warned = [f"{expected}; set main_loop.on_incorrect_config to 'ignore' to hide this"]
    assert [record.getMessage() for record in caplog.records] == (warned if action == "warn" else [])


def test_the_whole_config_is_checked_before_a_constructor_can_complain(write: Write) -> None:
    text = "dataset: {class: parts.Numbers, size: -1}\nmodel: {class: parts.Line}\nhooks: [SaveBets]\n"
    with pytest.raises(LocatedError, match=r"config\.yaml:3:9: hooks\[0\]: unknown hook 'SaveBets'"):
        check_config(load_config(write(text)))


def test_an_evaluation_overrides_sections_key_by_key(write: Write) -> None:
    text = """
        dataset: {class: parts.Numbers, size: 8, scale: 2.0}
        model: {class: parts.Line, width: 3}
        main_loop: {buffer: 2}
        hooks: [StopAfter: {epochs: 1}, parts.Count]
        eval:
          test:
            dataset: {size: 4}
            model: {class: parts.Numbers}
            hooks: [parts.Count]
          valid:
    """
    config = load_config(write(text))
    test = evaluation_config(config, "test")
    assert test.data == {
        "dataset": {"class": "parts.Numbers", "size": 4, "scale": 2.0},
        "model": {"class": "parts.Numbers"},
        "main_loop": {"buffer": 2},
        "hooks": ["parts.Count"],
    }
    assert test.position(("dataset", "size")) == "config.yaml:7:15"
    assert test.position(("dataset", "scale")) == "config.yaml:1:42"
    assert test.position(("hooks", 0, "StopAfter", "epochs")) == "config.yaml:9:13"
    unchanged = {key: value for key, value in config.data.items() if key != "eval"}
    assert evaluation_config(config, "valid").data == unchanged
    assert evaluation_config(config, "other").data == unchanged
