"""Which commit made a run or a report."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from cpm_repro import environment


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    done = subprocess.run(
        ["git", "-C", str(folder), *author, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "own.py").touch()
    git(tmp_path, "add", "own.py")
    git(tmp_path, "commit", "--quiet", "-m", "somebody's project")
    return tmp_path


def copied_to(folder: Path) -> ModuleType:
    """The module as it runs from a package in ``folder``."""
    folder.mkdir()
    path = shutil.copy(environment.__file__, folder / "environment.py")
    spec = importlib.util.spec_from_file_location("environment_copy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_copy_within_another_repository_has_no_commit(repository):
    assert copied_to(repository / "site-packages").commit() is None


def test_a_checkout_has_its_commit_and_a_plus_when_files_differ(repository):
    copy = copied_to(repository / "cpm_repro")
    git(repository, "add", "cpm_repro/environment.py")
    git(repository, "commit", "--quiet", "-m", "the package")
    name = git(repository, "rev-parse", "--short=10", "HEAD")
    assert copy.commit() == name
    (repository / "own.py").write_text("x = 1\n")
    assert copy.commit() == f"{name}+"
