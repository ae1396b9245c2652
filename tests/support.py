"""Where tests find golden arrays and data sets, and how they say that something is absent, or make it so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent


def golden(name: str) -> Path:
    """Path of a golden file in tests/golden or the folder CPM_GOLDEN; skips the test when neither has it."""
    folders = [_TESTS / "golden", Path(os.environ.get("CPM_GOLDEN", _TESTS.parents[1] / "shared" / "golden"))]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    pytest.skip(
        f"golden file {name} is not in tests/golden, and CPM_GOLDEN does not name a folder that has it"
    )


def data_root(*parts: str) -> Path:
    """Path inside the data folder CPM_DATA; skips the test when it is not there."""
    path = Path(os.environ.get("CPM_DATA", _TESTS.parents[1] / "shared" / "data")).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is absent: CPM_DATA does not name a folder that has it")
    return path


def without(*modules: str) -> str:
    """The beginning of a program to which these modules are not there."""
    return f"import sys\nfor name in {modules}:\n    sys.modules[name] = None\n"
