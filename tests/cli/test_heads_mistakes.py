"""Every mistake in a config of a backbone with heads is answered by one line with its position."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ROOT, Command
from .test_mistakes import Mistake, check_example

EXAMPLE = ROOT / "examples" / "03_two_digits"

HEAD = "      module: {class: torch.nn.Linear, in_features: 128, out_features: 10}\n      loss: cross_entropy\n"
METRICS = "      metrics: [accuracy]\n"

MISTAKES = [
    Mistake("  backbone:\n", "  bakbone:\n", "bakbone:", "unknown argument 'bakbone'; did you mean 'backbone'?"),
    Mistake(HEAD + METRICS, "      class: torch.nn.Linear\n      in_features: 128\n      out_features: 10\n",
            "left:", "head 'left': Linear computes no loss of its own, so the head learns nothing"),
    Mistake(HEAD, HEAD.replace("      loss: cross_entropy\n", ""), "left:", "so the head learns nothing; set 'loss'"),
    Mistake("      module: {", "      modul: {", "modul:", "Head: unknown argument 'modul'; did you mean 'module'?"),
    Mistake("loss: cross_entropy", "loss: cross_entrpy", "loss: cross_entrpy", "did you mean 'cross_entropy'?"),
    Mistake("[accuracy]", "[acuracy]", "acuracy", "unknown metric 'acuracy'; did you mean 'accuracy'?"),
    Mistake("      metrics:", "      metric:", "metric:", "unknown argument 'metric'; did you mean 'metrics'?"),
    Mistake("{left: 1.0,", "{lft: 1.0,", "lft: 1.0", "there is no head 'lft'; did you mean 'left'?"),
    Mistake("{left: 1.0,", "{left: high,", "left: high", "expected float, got 'high'"),
    Mistake("{image: input}", "{imag: input}", "imag: input", "is no source; did you mean 'image'?"),
    Mistake("{image: input}", "{image: inputs}", "image: inputs", "no argument 'inputs'; did you mean 'input'?"),
    Mistake("    backbone: {image", "    trunk: {image", "trunk: {image", "there is no head 'trunk'"),
    Mistake("    backbone: {image: input}\n", "    left: {}\n", "backbone:",
            "the backbone: no source is called like its argument 'input'"),
    Mistake("{image: input}", "{image: input, left: input}", "left: input",
            "'image' and 'left' both go to its argument 'input' in one batch"),
    Mistake("backbone: {image: input}\n", "backbone: {image: input}\n  allowed_arguments: {left: [inpt]}\n",
            "left: [inpt]", "head 'left' has no argument 'inpt'; did you mean 'input'?"),
    Mistake('"bias$", zeros', '"bais$", zeros', "\"bais$", "pattern 'bais$' is found in the name of no parameter"),
    Mistake('"bias$", zeros', '"bias$", zeroes', "zeroes", "torch.nn.init has no 'zeroes'; did you mean 'zeros'?"),
    Mistake("nonlinearity: relu", "nonlinerity: relu", "class: torch.nn.init.kaiming",
            "no argument 'nonlinerity'; did you mean 'nonlinearity'?"),
    Mistake("init.kaiming_normal_,", "init.kaming_normal_,", "class: torch.nn.init.kaming",
            "has no 'kaming_normal_'; did you mean 'kaiming_normal_'?"),
    Mistake("kaiming_normal_, nonlinearity: relu", "constant_", "class: torch.nn.init.const",
            "constant_ needs its argument 'val'"),
    Mistake("    right:\n", "    items:\n", "items:", "'items' cannot name a head"),
    Mistake("class: BackboneHeadsModel", "class: MultiTaskModel", "backbone:",
            "MultiTaskModel: unknown argument 'backbone'"),
    Mistake("class: BackboneHeadsModel", "class: Ensemble", "optimizer:", "Ensemble: unknown argument 'optimizer'"),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.says for mistake in MISTAKES])
def test_a_mistake_about_heads_is_answered_by_one_line(
    mistake: Mistake, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    monkeypatch.chdir(folder)
    check_example(mistake, EXAMPLE, "two_digits.py", folder, command)
