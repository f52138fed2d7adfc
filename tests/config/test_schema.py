"""The JSON Schema of configs, held against a validator and against what ``check_config`` says."""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from emloop_mtl import ConfigError, MultiTaskModel, hooks, schedulers
from emloop_mtl.cli.project_files import project_files
from emloop_mtl.config.check import check_config
from emloop_mtl.config.load import load_config
from emloop_mtl.config.reflect import own_modules_first
from emloop_mtl.config.schema import config_schema
from emloop_mtl.config.schema.calls import call_schema
from emloop_mtl.config.yaml_text import read_yaml
from emloop_mtl.optim.optimizers import optimizer_classes
from emloop_mtl.optim.schedules.by_name import SCHEDULES
from emloop_mtl.tasks.loss import LOSS_NAMES
from emloop_mtl.tasks.metrics import METRICS

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*/config.yaml"))
DIGITS = ROOT / "examples/01_digits/config.yaml"
YAML = re.compile(r"\.\. code-block:: yaml\n\n((?: {4,}.*\n?|\n)+)")
NO_HOOKS = {"AbstractHook", "AbstractWriter", "RecordFile", "TrainingTerminated", "WatchedNumber"}

MISTAKES = {
    "hooks.SaveBest.varible=x": "hooks[11].SaveBest",
    "hooks.SaveBest.mode=mni": "hooks[11].SaveBest.mode",
    "hooks.SaveBest.also={loss: least}": "hooks[11].SaveBest.also.loss",
    "hooks.LRSchedule.unit=epoch": "hooks[5].LRSchedule.unit",
    "hooks.LRSchedule.schedule={class: cyclic, mode: triangle}": "hooks[5].LRSchedule.schedule.mode",
    "hooks=[WriteCSV: {on_failure: ignore}]": "hooks[0].WriteCSV.on_failure",
    "hooks.Evaluate.streams=valid": "hooks[1].Evaluate.streams",
    "hooks.LRSchedule.schedule=cosine": "hooks[5].LRSchedule.schedule",
    "hooks.LRSchedule.schedule={class: step, stepsize: 4}": "hooks[5].LRSchedule.schedule",
    "hooks=[SavBest]": "hooks[0]",
    "hooks=[StopAfter: {epoch: 2}]": "hooks[0].StopAfter",
    "hooks=[Evaluate]": "hooks[0]",
    "hooks=[WriteJSON: {output_dir: elsewhere}]": "hooks[0].WriteJSON",
    "hooks=[WriteCSV: {model: elsewhere}]": "hooks[0].WriteCSV",
    "seeds=1": "",
    "seed=-1": "seed",
    "main_loop={bufer: 3}": "main_loop",
    "main_loop={on_empty_batch: eror}": "main_loop.on_empty_batch",
    "model.class=MultiTaskModle": "model.class",
    "model.optimzer={}": "model",
    "model.dataset=3": "model",
    "model.optimizer.lrr=1": "model.optimizer",
    "model.optimizer.class=adamww": "model.optimizer.class",
    "model.modules.ink_head.in_featuers=3": "model.modules.ink_head",
    "model.modules.ink_head.class=torch.nn.Linaer": "model.modules.ink_head.class",
    "model.tasks.ink.lable=x": "model.tasks.ink",
    "model.tasks.ink.metrics=[{class: f1, posi: 2}]": "model.tasks.ink.metrics[0]",
    "dataset.streams={train: {scheduler: {class: RoundRobn}}}": "dataset.streams.train.scheduler.class",
    "dataset.streams={train: {scheduler: {class: RoundRobin, filup: true}}}": "dataset.streams.train.scheduler",
    "eval={valid: {hook: []}}": "eval.valid",
    "eval={valid: {hooks: [SavBest]}}": "eval.valid.hooks[0]",
    "search={trials: 0, ranges: {seed: [1]}}": "search.trials",
    "search={trials: 3, ranges: {seed: {low: 1, hihg: 2}}}": "search.ranges.seed",
    "search={trials: 3, ranges: {seed: [1]}, watch: {mode: less}}": "search.watch.mode",
}
"""What a check of the config refuses, and where the schema sees it."""

BUILT_MISTAKES = {
    "model.precision=fp8": "model.precision",
    "model.update={clip: 1}": "model.update",
    "model.tasks.ink.loss=cross": "model.tasks.ink.loss",
    "model.tasks.ink.metrics=[acuracy]": "model.tasks.ink.metrics[0]",
    "model.tasks.ink.flow.1.modul=x": "model.tasks.ink.flow[1]",
}
"""What is refused only when the model is built."""

RIGHT = [
    "hooks=[]",
    "hooks=[{Evaluate: {streams: [valid], every: 2}}, {ScoreTasks: null}, 'StopAfter': {epochs: 2}]",
    "hooks=[SaveBest: {stream: valid, variable: x, name: Other}]",
    "hooks=[SaveFile: {files: [config.yaml], output_dir: elsewhere}]",
    "hooks.LRSchedule.schedule={class: torch.optim.lr_scheduler.PolynomialLR, total_iters: 100}",
    "model.optimizer=adamw",
    "model.optimizer=null",
    "model.optimizer={class: rms_prop, lr: 0.1}",
    "model.optimizer={class: torch.optim.AdamW, lr: 1}",
    "model.modules.ink_head={class: torch.nn.Linear, args: [64, 1]}",
    "model.tasks.digit.loss={class: torch.nn.CrossEntropyLoss}",
    "model.tasks.digit.metrics=[accuracy@3, {class: f1, average: macro}, sklearn.metrics.accuracy_score]",
    "model.compile={mode: default}",
    "model.update={clip_norm: 1, accumulate: 2, on_nan: skip}",
    "main_loop={fixed_epoch_size: {passes: 0.5}, buffer: 2}",
    "main_loop={bufer: 5, on_incorrect_config: ignore}",
    "dataset.streams={train: {scheduler: {class: RoundRobin, fillup: true}}, all: {splits: [valid, test]}}",
    "eval={valid: {dataset: {batch_size: 3}}, test: null}",
    "search={trials: 3, ranges: {seed: [1, 2], lr: {low: 0.1, high: 1, log: true, keys: [model.optimizer.lr]}}}",
    "search={trials: 3, ranges: {seed: {low: 1, high: 9, step: 2}}, sampler: TPESampler, watch: {stream: valid}}",
    "x-anchors={a: 1}",
    "model={class: emloop_mtl.models.multi_task_model.MultiTaskModel, tasks: {}, optimizer: {class: adamw}}",
]


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return config_schema()


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> Draft7Validator:
    return Draft7Validator(schema)


def faults(validator: Draft7Validator, data: Any) -> list[str]:
    """Return where the data does not fit the schema, as it comes out of JSON; of alternatives, the nearest counts."""
    found = (best_match([error]) for error in validator.iter_errors(json.loads(json.dumps(data))))
    return sorted({error.json_path.removeprefix("$").removeprefix(".") for error in found})


def test_it_is_a_schema(schema: dict[str, Any]) -> None:
    assert faults(Draft7Validator(Draft7Validator.META_SCHEMA), schema) == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_fits(example: str, validator: Draft7Validator) -> None:
    config = load_config(ROOT / example)
    assert faults(validator, config.data) == []
    with own_modules_first():
        assert faults(Draft7Validator(config_schema(config)), config.data) == []


def test_the_project_to_begin_with_fits(validator: Draft7Validator) -> None:
    text = project_files()["config.yaml"]
    assert faults(validator, read_yaml(text, lambda line, column: f"config.yaml:{line}:{column}")[0]) == []


def test_what_the_docs_of_hooks_show_fits(validator: Draft7Validator) -> None:
    base = load_config(DIGITS).data
    shown = 0
    for name in hooks.__all__:
        for match in YAML.finditer(inspect.getdoc(getattr(hooks, name)) or ""):
            data = read_yaml(textwrap.dedent(match[1]), lambda line, column: f"{line}:{column}")[0]
            assert faults(validator, {**base, "hooks": data["hooks"]}) == [], name
            shown += 1
    assert shown > len(hooks.__all__) / 2  # bases and AbstractHook have none, others more than one


@pytest.mark.parametrize(("override", "place"), {**MISTAKES, **BUILT_MISTAKES}.items())
def test_a_mistake_is_seen_in_its_place(override: str, place: str, validator: Draft7Validator) -> None:
    config = load_config(DIGITS, [override])
    assert faults(validator, config.data) == [place]
    if override in MISTAKES:
        with own_modules_first(), pytest.raises(ConfigError):
            check_config(config)


@pytest.mark.parametrize("override", RIGHT)
def test_what_a_check_accepts_fits(override: str, validator: Draft7Validator) -> None:
    config = load_config(DIGITS, [override])
    with own_modules_first():
        check_config(config)
    assert faults(validator, config.data) == []


def test_classes_of_ones_own_are_open_unless_a_config_names_them(validator: Draft7Validator) -> None:
    config = load_config(DIGITS, ["dataset.batch_sise=3", "dataset.streams={train: {schedular: 1}}"])
    assert faults(validator, config.data) == []
    with own_modules_first():
        own = config_schema(config)
    assert faults(Draft7Validator(own), config.data) == ["dataset", "dataset.streams.train"]
    assert own["definitions"]["dataset.digits.Digits"]["properties"]["batch_size"]["default"] == 32


def test_a_hook_of_ones_own_is_known_where_a_config_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from emloop_mtl import AbstractHook\n\n\nclass Wave(AbstractHook):\n"
    code += "    def __init__(self, hands: int, **kwargs):\n        super().__init__(**kwargs)\n"
    (tmp_path / "waving.py").write_text(code)
    text = "dataset: {class: waving.Wave}\nmodel: {class: waving.Wave}\nhooks:\n  - waving.Wave: {hands: two}\n"
    (tmp_path / "config.yaml").write_text(text)
    config = load_config(tmp_path / "config.yaml")
    with own_modules_first():
        assert "hooks[0]['waving.Wave'].hands" in faults(Draft7Validator(config_schema(config)), config.data)
    (tmp_path / "config.yaml").write_text(text.replace("waving.Wave: {", "waving.Wafe: {"))
    with own_modules_first(), pytest.raises(ConfigError, match=r"config.yaml:4:5: .*'Wafe'; did you mean 'Wave'"):
        config_schema(load_config(tmp_path / "config.yaml"))
    monkeypatch.delitem(sys.modules, "waving")


class Open(MultiTaskModel):
    """A model of one's own that takes more than its signature tells.

    :param size: how large it is
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        self.given = kwargs
        super().__init__(kwargs.pop("tasks", ()))


def test_a_model_that_takes_anything_reads_its_sections_as_its_base_does(validator: Draft7Validator) -> None:
    definitions = {**validator.schema["definitions"], "open": call_schema(Open)}
    own = Draft7Validator({"$ref": "#/definitions/open", "definitions": definitions})
    assert faults(own, {"size": 1, "optimizer": {"class": "adamw"}, "more": [1]}) == []
    assert faults(own, {"size": "big", "optimizer": {"class": "adamww"}}) == ["optimizer.class", "size"]
    assert definitions["open"]["properties"]["size"]["description"] == "how large it is"


def test_all_that_has_a_name_is_offered(schema: dict[str, Any]) -> None:
    text = json.dumps(schema)
    names = {*hooks.__all__} - NO_HOOKS | {*METRICS, *LOSS_NAMES, *SCHEDULES, *optimizer_classes()}
    names |= {name for name in schedulers.__all__ if name not in ("AbstractTaskScheduler", "DrawnScheduler", "Loader")}
    assert [name for name in sorted(names) if f'"{name}"' not in text] == []


WORDS: dict[str, dict[str, list[str]]] = {
    "ClassificationMetrics": {"f1_average": ["binary", "micro", "macro", "weighted", "samples"]},
    "ClearCheckpoints": {"what": ["intermediate", "all_but_best", "all"]},
    "LRSchedule": {"unit": ["step", "pass"], "mode": ["min", "max"]},
    "LogVariables": {"on_unknown_type": ["ignore", "warn", "error", "str"]},
    "OnPlateau": {"mode": ["min", "max"]},
    "SaveBest": {"mode": ["min", "max"], "also": ["min", "max"]},
    "SaveConfusionMatrix": {"figure_action": ["save", "store"]},
    "StopOnNaN": {"on_unknown_type": ["ignore", "warn", "error"]},
    "StopOnPlateau": {"mode": ["min", "max"]},
    "WriteCSV": {key: ["default", "warn", "error"] for key in ["on_unknown_type", "on_missing_variable"]},
    "WritePredictions": {"format": ["jsonl", "csv"]},
    "WriteWandb": {"mode": ["online", "offline"]},
}


def words(schema: Any) -> list[str]:
    """Return the words that a schema offers, wherever in it."""
    parts = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    own = schema.get("enum", []) if isinstance(schema, dict) else []
    return [*own, *(word for part in parts for word in words(part))]


def test_the_words_that_an_argument_takes_are_offered(schema: dict[str, Any]) -> None:
    entry = next(option for option in schema["definitions"]["hook"]["anyOf"] if option.get("properties"))
    offered = {
        hook: {name: words(each) for name, each in call["properties"].items() if words(each)}
        for hook, call in entry["properties"].items()
    }
    fails = {hook for hook, call in entry["properties"].items() if "on_failure" in call["properties"]}
    assert {"WriteCSV", "PlotLines", "TrainingTrace"} < fails
    expected = {hook: {**WORDS.get(hook, {}), "on_failure": ["error", "warn"]} for hook in fails}
    assert {hook: found for hook, found in offered.items() if found} == {**WORDS, **expected}
    definitions = schema["definitions"]
    assert words(definitions["model.Ensemble"]["properties"]["aggregation"]) == ["mean", "major_vote"]
    update = definitions["model.MultiTaskModel"]["properties"]["update"]
    assert words(update) == ["mean", "sum", "error", "skip", "warn"]


def test_arguments_have_what_is_said_of_them(schema: dict[str, Any]) -> None:
    entry = next(option for option in schema["definitions"]["hook"]["anyOf"] if option.get("properties"))
    best = entry["properties"]["SaveBest"]
    assert best["description"].startswith((hooks.SaveBest.__doc__ or "none").splitlines()[0])
    assert best["properties"]["stream"]["description"] == "the stream that the number is of"
    every = entry["properties"]["Evaluate"]["properties"]["every"]
    assert every["default"] == 1
    assert "description" in every
    undescribed = [
        f"{name}.{argument}"
        for name, hook in entry["properties"].items()
        for argument, said in hook["properties"].items()
        if "description" not in said
    ]
    assert undescribed == []
