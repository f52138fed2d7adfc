"""Builds the distributions, installs the wheel into an empty environment and trains with it, away from the checkout.

Not collected by pytest, since it installs torch: ``make wheel-test``. Needs a minute or two and 2 GB in the folder
for temporary files, which it gives back. ``--no-train`` stops after comparing the distributions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/01_digits"

PROBE = """
import importlib.util, pathlib, sys
import emloop_mtl
package = pathlib.Path(emloop_mtl.__file__).parent
assert package.is_relative_to(sys.prefix), f"imported from {package}, not from the installed wheel"
assert importlib.util.find_spec("hooks") is None, "the wheel installs a top-level package 'hooks'"
hooks = package / "hooks"
assert hooks.is_dir() and not hooks.is_symlink(), "the hooks are not real files of the package"
import emloop_mtl.hooks
assert pathlib.Path(emloop_mtl.hooks.__file__).parent == hooks
print(emloop_mtl.__version__)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-train", action="store_true", help="stop after comparing the distributions")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="emloop_mtl-wheel-") as folder:
        place = Path(folder).resolve()
        wheel = build(place)
        if not arguments.no_train:
            train(wheel, place)
    print("wheel test passed")


def build(place: Path) -> Path:
    """Build in a clean copy, so that neither old build products nor ignored files get in."""
    copy = place / "copy"
    for name in project_files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "from-sdist", cwd=copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", place / "direct", cwd=copy)

    (sdist,) = (place / "from-sdist").glob("*.tar.gz")
    (wheel,) = (place / "from-sdist").glob("*.whl")
    (direct,) = (place / "direct").glob("*.whl")
    held = zip_contents(wheel)
    check(held == zip_contents(direct), "the wheel from the source distribution differs from the one from the checkout")

    package = {name: content for name, content in held.items() if name.parts[0] == "emloop_mtl"}
    expected = {PurePosixPath("emloop_mtl/py.typed"): b""}
    for path in (copy / "emloop_mtl/cli/project").iterdir():  # what `emloop-mtl new` writes
        expected[PurePosixPath("emloop_mtl/cli/project") / path.name] = path.read_bytes()
    for root, prefix in ((copy / "emloop_mtl", "emloop_mtl"), (copy / "hooks", "emloop_mtl/hooks")):
        for path in root.rglob("*.py"):
            if not path.is_relative_to(copy / "emloop_mtl/hooks"):
                expected[prefix / PurePosixPath(path.relative_to(root))] = path.read_bytes()
    check(package == expected, f"the wheel does not hold the package: {difference(package, expected)}")
    others = {name.parts[0] for name in held} - {"emloop_mtl"}
    check(all(name.endswith(".dist-info") for name in others), f"the wheel holds more than the package: {others}")
    with tarfile.open(sdist) as archive:
        links = [member.name for member in archive if not (member.isfile() or member.isdir())]
        files = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    check(not links, f"the source distribution holds links: {links}")
    strangers = {name.parts[0] for name in files if name.parts} & {"tests", "examples", "hooks", "docs", "benchmarks"}
    check(not strangers, f"the source distribution holds {strangers}")
    print(f"{wheel.name}: {len(package)} files, {len(zip_hooks(package))} of them hooks; {sdist.name}: the same")
    return wheel


def train(wheel: Path, place: Path) -> None:
    """Install the wheel alone and use it as a reader of the manual would."""
    environment = place / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt")
    run(*pip, "pip", "setuptools")
    run(*pip, wheel)

    away = place / "away"
    shutil.copytree(ROOT / EXAMPLE, away / "digits", ignore=shutil.ignore_patterns("__pycache__", "log"))
    version = output(python, "-c", PROBE, cwd=away)
    check(f"emloop_mtl-{version}-" in wheel.name, f"the wheel calls itself {wheel.name}, the package {version}")
    command = environment / "bin" / "emloop-mtl"
    check(version in output(command, "--version", cwd=away), "--version prints another version")

    run(command, "train", "digits/config.yaml", "hooks.StopAfter.epochs=1", cwd=away)
    log = away / "log"
    check(log.is_dir(), f"training wrote no folder {log}")
    (trained,) = (path for path in log.iterdir() if path.is_dir())
    check(epochs_done(trained) == 1, "one epoch was asked for, and another number was saved")
    run(command, "resume", trained, "hooks.StopAfter.epochs=2", cwd=away)
    check(epochs_done(trained) == 2, "resuming for a second epoch did not save one")
    run(command, "eval", "valid", trained, cwd=away)


def epochs_done(run_folder: Path) -> int:
    newest = max((run_folder / "checkpoints").glob("latest-*/manifest.json"), key=lambda path: path.parent.name)
    return int(json.loads(newest.read_text(encoding="utf-8"))["position"]["epoch"])


def project_files() -> list[str]:
    """Name the files that belong to the project: those git tracks or would track, or all but build products."""
    if (ROOT / ".git").exists():
        names = output("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT).split("\0")
        return [name for name in names if name and os.path.lexists(ROOT / name)]
    parts = ("emloop_mtl", "hooks", *(path.name for path in ROOT.iterdir() if path.is_file()))
    found = [ROOT / "emloop_mtl" / "hooks"]
    for part in parts:
        path = ROOT / part
        found += [path] if path.is_file() else [each for each in path.rglob("*") if each.suffix in (".py", ".typed")]
    linked = ROOT / "emloop_mtl" / "hooks"
    return [str(path.relative_to(ROOT)) for path in found if path == linked or linked not in path.parents]


def zip_contents(path: Path) -> dict[PurePosixPath, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {PurePosixPath(name): archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}


def zip_hooks(package: dict[PurePosixPath, bytes]) -> list[PurePosixPath]:
    hooks = [name for name in package if name.parts[:2] == ("emloop_mtl", "hooks")]
    check(bool(hooks), "the wheel holds no hooks")
    return hooks


def difference(held: dict[PurePosixPath, bytes], expected: dict[PurePosixPath, bytes]) -> str:
    missing = sorted(map(str, expected.keys() - held.keys()))
    extra = sorted(map(str, held.keys() - expected.keys()))
    changed = sorted(str(name) for name in held.keys() & expected.keys() if held[name] != expected[name])
    return f"missing {missing}, unexpected {extra}, different {changed}"


def environment_without_checkout() -> dict[str, str]:
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in hidden} | {
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
    }


def run(*command: str | Path, cwd: Path | None = None) -> None:
    print("$", " ".join(map(str, command)), flush=True)
    subprocess.run([str(part) for part in command], cwd=cwd, env=environment_without_checkout(), check=True)


def output(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment_without_checkout(),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return result.stdout.strip("\n")


def check(fact: bool, complaint: str) -> None:
    if not fact:
        sys.exit(f"wheel test failed: {complaint}")


if __name__ == "__main__":
    main()
