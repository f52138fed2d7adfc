"""Ranges of a search: what they accept, and where their mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emloop_mtl import ConfigError
from emloop_mtl.config.check import check_config
from emloop_mtl.config.load import load_config
from emloop_mtl.config.search_range import SearchRange
from emloop_mtl.config.search_settings import SearchSettings
from emloop_mtl.config.searched_config import check_searched, load_searched, trial_config

DIGITS = Path(__file__).parents[2] / "examples/01_digits/config.yaml"
SECTION = "search={trials: 3, ranges: {model.optimizer.lr: {low: 0.1, high: 0.2}}}"

MISTAKES = {
    "search=3": "search: expected a mapping with 'trials' and 'ranges', got 3",
    "search={}": "search: missing 'trials'",
    "search={trials: 3}": "search: missing 'ranges'",
    "search.trails=3": "search: unknown argument 'trails'; did you mean 'trials'?",
    "search.trials=0": "search.trials: expected a positive whole number, got 0",
    "search.trials=true": "search.trials: expected a positive whole number, got true",
    "search.max_failures=.5": "search.max_failures: expected a positive whole number, got 0.5",
    "search.ranges=[]": (
        "search.ranges: expected a mapping of keys to values, such as {seed: [1, 2, 3]}, got a list of 0"
    ),
    "search.watch=loss": (
        "search.watch: expected a mapping such as {stream: valid, variable: loss, mode: min}, got 'loss'"
    ),
    "search.watch={strem: x}": "search.watch: unknown argument 'strem'; did you mean 'stream'?",
    "search.watch={mode: less}": "search.watch.mode: expected 'min' or 'max', got 'less'",
    "search.watch={stream: 3}": "search.watch.stream: expected text, got 3",
    "search.sampler=3": (
        "search.sampler: expected a name, or a mapping such as {class: optuna.samplers.TPESampler}, got 3"
    ),
    "search.pruner={n: 3}": (
        "search.pruner: expected a name, or a mapping such as {class: optuna.pruners.MedianPruner}, got a mapping"
    ),
    "search.ranges={seed: 3}": (
        "search.ranges.seed: expected a list of values, or {low: …, high: …} with 'step' or 'log: true', got 3"
    ),
    "search.ranges={seed: []}": "search.ranges.seed: expected a list of values, got an empty one",
    "search.ranges={seed: [1, 2, 1.0]}": "search.ranges.seed[2]: the choice 1.0 stands there twice",
    "search.ranges={seed: [[1], '[1]']}": "search.ranges.seed[1]: the choice '[1]' stands there twice",
    "search.ranges={seed: [.nan]}": "search.ranges.seed[0]: a number that is not finite cannot be a choice",
    "search.ranges={seed: {low: 1}}": (
        "search.ranges.seed: missing 'high': a range is a list of values, or has 'low' and 'high'"
    ),
    "search.ranges={seed: {low: 1, hihg: 2}}": "search.ranges.seed: unknown argument 'hihg'; did you mean 'high'?",
    "search.ranges={seed: {low: 1, high: [2]}}": "search.ranges.seed.high: expected a finite number, got a list of 1",
    "search.ranges={seed: {low: 1, high: .inf}}": "search.ranges.seed.high: expected a finite number, got inf",
    "search.ranges={seed: {low: 2, high: 2}}": (
        "search.ranges.seed.high: high must be more than low, but 2 is not more than 2"
    ),
    "search.ranges={seed: {low: 0, high: 2, log: true}}": (
        "search.ranges.seed.low: a range with 'log: true' must be above 0, but low is 0"
    ),
    "search.ranges={seed: {low: 1, high: 2, log: 1}}": "search.ranges.seed.log: expected true or false, got 1",
    "search.ranges={seed: {low: 1, high: 2, log: true, step: 1}}": (
        "search.ranges.seed.step: 'step' makes no sense beside 'log: true'"
    ),
    "search.ranges={seed: {low: 1, high: 2, step: 0}}": "search.ranges.seed.step: expected a number above 0, got 0",
    "search.ranges={seed: {low: 0, high: 1, step: 0.3}}": (
        "search.ranges.seed.high: high is not reached in steps of 0.3; the last one ends at 0.9"
    ),
    "search.ranges={seed: {low: -1.0e308, high: 1.0e308}}": (
        "search.ranges.seed.high: -1e+308 and 1e+308 are too far apart"
    ),
    "search.ranges={seed: {choices: [1], low: 1}}": "search.ranges.seed.low: 'low' makes no sense beside 'choices'",
    "search.ranges={s: {choices: [1], keys: seed}}": (
        "search.ranges.s.keys: expected a list of keys such as [dataset.batch_size], got 'seed'"
    ),
    "search.ranges={s: {choices: [1], keys: [seed, seed]}}": "search.ranges.s.keys[1]: lists 'seed' twice",
    "search.ranges={a.b: [1], s: {choices: [1], keys: [a]}}": "search.ranges.s: the key 'a' is set by 'a.b' as well",
}


@pytest.mark.parametrize(("override", "text"), MISTAKES.items())
def test_a_section_with_a_mistake_is_refused_by_every_command(override: str, text: str) -> None:
    config = load_config(DIGITS, [SECTION, override])
    with pytest.raises(ConfigError) as caught:
        check_config(config)
    assert str(caught.value) == f"command line: {override}: {text}"


BAD_VALUES = {
    "dataset.batch_size: [16, big]": ("[1]", "dataset.batch_size: expected int, got 'big'"),
    "dataset.batch_sise: [16]": (
        "[0]",
        "dataset: digits.Digits: unknown argument 'batch_sise'; did you mean 'batch_size'?",
    ),
    "model.optimiser.lr: [1]": ("key", "model has no 'optimiser'; did you mean 'optimizer'?"),
    "hooks.StopAftr.epochs: {low: 1, high: 2}": ("key", "no hook is called 'StopAftr'; did you mean 'StopAfter'?"),
    "dataset.batch_size: {low: 1.0, high: 2.0}": ("low", "dataset.batch_size: expected int, got 1.0; write 1"),
    "eval.valid.hooks: [[]]": ("key", "a trial has no section 'eval', so there is nothing to choose in it"),
    "seed: {low: -1, high: 1}": ("low", "seed: expected an integer from 0 to 2**63 - 1, got -1"),
}


@pytest.mark.parametrize(("entry", "told"), BAD_VALUES.items())
def test_a_value_that_the_config_cannot_have_is_told_in_its_place(
    entry: str, told: tuple[str, str], tmp_path: Path
) -> None:
    section = tmp_path / "search.yaml"
    section.write_text(f"trials: 3\nwatch: {{}}\nranges:\n  {entry}\n")
    place, text = told
    line = section.read_text().splitlines()[3]
    column = {"key": 3, "[0]": line.find("[") + 2, "[1]": line.find("big") + 1, "low": line.find("low") + 1}[place]
    with pytest.raises(ConfigError) as caught:
        check_searched(load_searched(DIGITS, [], section))
    assert str(caught.value) == f"{section}:4:{column}: {text}"


def test_a_config_without_the_section_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="missing section 'search', which says what to search for"):
        check_searched(load_searched(DIGITS, [], None))


def test_a_value_goes_to_all_keys_of_its_range_and_the_trial_has_no_section_of_the_search() -> None:
    ranges = (
        "{width: {low: 16, high: 64, step: 16, keys: [model.modules.trunk.args.0.out_features, seed]}, x-a: [[1, 2]]}"
    )
    config = load_searched(DIGITS, [f"search={{trials: 3, ranges: {ranges}}}"], None)
    settings = SearchSettings.of(config.data["search"])
    values: dict[str, Any] = {"width": 32, "x-a": [1, 2]}
    trial = trial_config(config, settings, values, 7)
    assert (trial.data["seed"], trial.data["x-a"]) == (32, [1, 2])
    assert trial.data["model"]["modules"]["trunk"]["args"][0]["out_features"] == 32
    assert not {"search", "eval"} & trial.data.keys()
    assert config.data["seed"] != 32  # the config of the search stays


def test_ends_that_are_integers_make_integers() -> None:
    assert SearchRange.of("a", {"low": 1, "high": 5, "step": 2}).is_whole
    assert not SearchRange.of("a", {"low": 1, "high": 2.0}).is_whole
    mixed = SearchRange.of("a", {"low": 0, "high": 1, "step": 0.25})
    assert (mixed.low, mixed.high, mixed.step, mixed.is_whole) == (0.0, 1.0, 0.25, False)


def test_choices_of_any_kind_come_back_as_they_are() -> None:
    choices = [None, "none", 2, 2.5, [1, 2], {"class": "adam", "lr": 0.1}]
    each = SearchRange.of("a", choices)
    assert [each.value(name) for name in each.names] == choices
    assert all(name is None or isinstance(name, str | int | float) for name in each.names)  # what a study can store
