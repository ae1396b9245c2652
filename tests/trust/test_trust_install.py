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
import zipfile
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


def tracked_files() -> list[str]:
    """Names of what is under version control; skips the test in a copy without it, such as a ZIP."""
    git = shutil.which("git")
    done = git and subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if not done or done.returncode:
        pytest.skip("this is no git checkout, or git does not run here")
    return [name for name in done.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The unpacked source distribution of the tracked files."""
    names = tracked_files()
    folder = tmp_path_factory.mktemp("sdist")
    tracked = folder / "tracked"
    for name in names:
        (tracked / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tracked / name)
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    command([sys.executable, "-c", build], tracked)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    shutil.rmtree(tracked)
    return folder / archive.name.removesuffix(".tar.gz")


def build_wheel(sources: Path, folder: Path, **environment: str) -> Path:
    """A wheel of the sources, in ``folder``."""
    folder.mkdir(exist_ok=True)
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
    return wheel


def install(sources: Path, folder: Path, **environment: str) -> Path:
    """Build a wheel, install it into a new environment below ``folder``; the environment's programs."""
    wheel = build_wheel(sources, folder, **environment)
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
    missing = {name for name in set(tracked_files()) - here if not name.startswith(".")}
    assert not missing


def test_a_wheel_holds_the_package_and_nothing_of_an_earlier_build(sources, tmp_path):
    """Modules that are gone, and a library of other sources, stay behind in the folder ``build``."""
    checkout = tmp_path / "a checkout"
    shutil.copytree(sources, checkout)
    (checkout / "cpm_repro" / "gone.py").touch()
    nothing = {"CXX": "no-such-compiler", "CPM_CUDA": "0"}
    build_wheel(checkout, tmp_path / "first", **nothing)
    (checkout / "cpm_repro" / "gone.py").unlink()
    (built,) = checkout.glob("build/lib*/cpm_repro")
    (built / "_C.abi3.so").touch()
    wheel = build_wheel(checkout, tmp_path / "second", **nothing)
    assert "-cp310-abi3-" in wheel.name  # the library is of the stable ABI
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {name for name in tracked_files() if name.startswith("cpm_repro/")}
    kernels = {
        f"cpm_repro/{name}" for name in tracked_files() if name.startswith(("csrc/math/", "csrc/cuda/"))
    }
    assert names == package | kernels


def build_extension(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "CPM_"))}
    program = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    return subprocess.run(
        program, cwd=checkout, env=clean | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ("auto", 0, "warning: no extension built"),
        ("0", 0, "warning: no extension built"),
        ("1", 1, "cpm_repro: "),
        ("yes", 1, "cpm_repro: CPM_CUDA must be auto, 0 or 1, got 'yes'"),
    ],
)
def test_without_a_compiler_only_cuda_that_was_asked_for_is_an_error(asked, code, said, sources):
    done = build_extension(sources, CXX="no-such-compiler", CPM_CUDA=asked)
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert said in line


def test_make_takes_an_environment_without_pip(tmp_path):
    """As uv makes them; what is installed here is nothing."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("# nothing\n")
    venv.create(tmp_path / ".venv", with_pip=False)
    command(["make", ".venv/.installed"], tmp_path)
    assert (tmp_path / ".venv" / ".installed").exists()
