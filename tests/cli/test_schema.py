"""The command that writes the JSON Schema of configs."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Command, Program


def test_the_schema_is_printed(program: Program) -> None:
    done = program("schema")
    assert done.returncode == 0, done.stderr
    assert "digits.Digits" not in done.stdout
    assert json.loads(done.stdout)["required"] == ["dataset", "model"]


def test_the_schema_of_a_config_knows_its_classes(command: Command, folder: Path) -> None:
    (folder / "schemas").mkdir()
    done = command("schema", folder / "config.yaml", "-o", "schemas/digits.json")
    assert done.exit_code == 0
    assert done.stderr.endswith("# yaml-language-server: $schema=schemas/digits.json\n")  # as seen from the config
    known = json.loads((folder / "schemas/digits.json").read_text())
    assert "batch_size" in known["definitions"]["dataset.digits.Digits"]["properties"]


def test_the_place_is_told_as_seen_from_the_config(command: Command, folder: Path) -> None:
    (folder / "deep").mkdir()
    for name in ("config.yaml", "digits.py"):
        (folder / name).rename(folder / "deep" / name)
    done = command("schema", "deep/config.yaml", "-o", "deep/digits.json")
    assert done.stderr.endswith("# yaml-language-server: $schema=digits.json\n")


def test_what_cannot_be_done_is_one_line(command: Command, folder: Path) -> None:
    before = (folder / "config.yaml").read_text()
    (folder / "link.yaml").symlink_to("config.yaml")
    (folder / "broken.yaml").write_text(before.replace("class: digits.Digits", "class: digits.Digitts"))
    for words, said in {
        ("missing.yaml",): "missing.yaml",
        ("broken.yaml",): "broken.yaml:11:3: dataset.class: module 'digits' has no 'Digitts'",
        ("-o", "nowhere/schema.json"): "nowhere/schema.json: the schema cannot be written: No such file or directory",
        ("config.yaml", "-o", "link.yaml"): "link.yaml: the schema would be written over the config",
    }.items():
        done = command("schema", *words)
        assert done.exit_code == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert (folder / "config.yaml").read_text() == before
