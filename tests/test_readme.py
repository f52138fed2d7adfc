import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
FILES = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\S+\.(?:py|yaml))\n", text))}


def snippets(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language and text not in FILES.values()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def emloop(line: str) -> list[str]:
    return [sys.executable, "-m", "emloop_mtl", *shlex.split(line, comments=True)[1:]]


def test_every_snippet_is_known_to_a_test() -> None:
    assert sorted(FILES) == ["config.yaml", "flowers.py", "patience.py"]
    assert {language for language, _ in BLOCKS} == {"sh", "yaml", "python"}
    assert [len(snippets(language)) for language in ("sh", "yaml", "python")] == [2, 1, 1]


def test_the_set_up_is_two_commands_that_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    commands = snippets("sh")[0].split("\n")[:-1]
    assert commands == ["make train", "make test"]
    for command in commands:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


@pytest.mark.long
def test_the_commands_run_one_after_the_other(folder: Path) -> None:
    lines = snippets("sh")[1].splitlines()
    check, train, shorter, resume, verify, ls, evaluate, predict = lines
    assert "area" in run(emloop(check), folder)
    run(emloop(train), folder)
    (first,) = folder.glob("log/flowers_*")
    trained = folder / "log" / "first"
    first.rename(trained)
    run(emloop(shorter), folder)
    (second,) = folder.glob("log/flowers_*")
    assert len((second / "metrics.jsonl").read_text().splitlines()) == 4
    assert "log/flowers_…" in resume
    run(emloop(resume.replace("log/flowers_…", str(trained))), folder)
    assert "resume takes latest-" in run(emloop(verify.replace("log/flowers_…", str(trained))), folder)
    assert [line.split()[0] for line in run(emloop(ls), folder).splitlines() if "Flowers" in line] == [
        "first",
        second.name,
    ]
    assert "accuracy" in run(emloop(evaluate.replace("log/flowers_…", str(trained))), folder)
    run(emloop(predict.replace("log/flowers_…", str(trained))), folder)
    rows = list(csv.DictReader((folder / "out.csv").read_text().splitlines()))
    assert len(rows) == 50 * 2  # samples and tasks


@pytest.mark.long
def test_the_hook_of_ones_own_stops_the_training(folder: Path) -> None:
    assert len(FILES["patience.py"].split("\n\n\n")[1].strip().splitlines()) <= 10
    (entry,) = re.findall(r"^  - (.*)$", snippets("yaml")[0], re.MULTILINE)
    config = FILES["config.yaml"].replace("  - StopAfter: {epochs: 10}", f"  - StopAfter: {{epochs: 200}}\n  - {entry}")
    (folder / "config.yaml").write_text(config)
    assert "kind/flowers/accuracy reached 0.95" in run(emloop("emloop-mtl train config.yaml"), folder)


@pytest.mark.long
def test_the_library_snippet_learns(folder: Path) -> None:
    (folder / "library.py").write_text(snippets("python")[0])
    scores = run([sys.executable, "library.py"], folder).splitlines()[-1]
    accuracy = re.search(r"'kind/flowers/valid/accuracy': (\S+),", scores)
    assert accuracy is not None
    # One class of three is never missed, so anything learnt is above this.
    assert float(accuracy[1]) > 0.6


def test_the_mistake_shown_is_answered_with_the_line_shown(folder: Path) -> None:
    (shown,) = re.findall(r"`(config\.yaml:14:7: [^`]*)`", README)
    hooks = "hooks:\n  - ScoreTasks\n  - SaveLatest\n  - SaveBest:\n      varible: x\n"
    config = FILES["config.yaml"].split("hooks:")[0]
    # Where the faulty line stands depends on the file; what is said about it does not.
    (folder / "config.yaml").write_text(config + hooks)
    done = subprocess.run(
        emloop("emloop-mtl train config.yaml"), cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert re.sub(r":\d+:\d+:", ":14:7:", done.stderr.strip()) == shown
