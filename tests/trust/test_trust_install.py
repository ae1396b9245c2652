"""Clean installs: wheel and source distribution, with and without compilers, into an empty environment.

The environments see the third-party packages of the one that runs the tests, and nothing of this checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest
from support import data_root

ROOT = Path(__file__).resolve().parents[2]
THIRD_PARTY = sysconfig.get_paths()["purelib"]


def command(arguments: list[str], folder: Path, **environment: str) -> str:
    """Output of a command that must succeed, run without this checkout on its path."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "CPM_"))}
    done = subprocess.run(arguments, cwd=folder, env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The unpacked source distribution of the tracked files."""
    folder = tmp_path_factory.mktemp("sdist")
    tracked = folder / "tracked"
    names = command(["git", "ls-files", "-z"], ROOT).split("\0")
    for name in filter(None, names):
        (tracked / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tracked / name)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    command([sys.executable, "-c", build], tracked)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    shutil.rmtree(tracked)
    return folder / archive.name.removesuffix(".tar.gz")


def install(sources: Path, folder: Path, **environment: str) -> Path:
    """Build a wheel, install it into a new environment below ``folder``; the environment's programs."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        str(sources),
    ]
    command([*build, "-w", str(folder)], folder, **environment)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    programs = folder / "venv" / "bin"
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (packages / "third_party.pth").write_text(THIRD_PARTY + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(programs / "python")]
    command([*pip, "install", "--no-deps", "--no-index", "--force-reinstall", str(wheel)], folder)
    return programs


def without_compilers(folder: Path) -> str:
    """A PATH with no compiler on it."""
    folder.mkdir()
    for name in ("sh", "env", "uname", "git"):
        (folder / name).symlink_to(shutil.which(name))
    return str(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("compilers", ["none", "c++"])
def test_an_installed_wheel_works(compilers, sources, tmp_path):
    """Doctor, a prediction, a short training; then the tests of the operations and of the networks."""
    bare = {"PATH": without_compilers(tmp_path / "bin")}
    environment = bare if compilers == "none" else {"CPM_CUDA": "0"}
    programs = install(sources, tmp_path, **environment)
    work = tmp_path / "work"
    work.mkdir()
    text = command([str(programs / "cpm"), "doctor"], work, **environment)
    (line,) = (line for line in text.splitlines() if line.startswith("back ends"))
    assert ("cpu" in line.split(None, 2)[2]) == (compilers == "c++")
    command([str(programs / "cpm"), "predict", str(data_root("samples") / "roger.png")], work, **environment)
    assert list(work.glob("predictions/**/*.json"))
    options = ["--data", "synthetic", "--iterations", "2", "--batch", "2", "--out", "run"]
    command([str(programs / "cpm"), "train", *options], work, **environment)
    shutil.copytree(sources, tmp_path / "source", ignore=shutil.ignore_patterns("cpm_repro"))
    tests = ["tests/ops", "tests/model", "tests/inference", "tests/evaluation", "tests/checklist"]
    command([str(programs / "python"), "-m", "pytest", "-x", *tests], tmp_path / "source", CPM_CUDA="0")


def test_the_source_distribution_holds_what_is_built_and_tested(sources):
    """Nothing that is tracked is missing but what only a checkout needs."""
    here = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    tracked = set(filter(None, command(["git", "ls-files", "-z"], ROOT).split("\0")))
    missing = {name for name in tracked - here if not name.startswith(".")}
    assert not missing
