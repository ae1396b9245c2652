"""Scripts of benchmarks/ that read a data set end with a user's mistake in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("script", ["place_unknown", "bf16_pck"])
def test_data_that_are_not_there_are_told_in_one_line(script, tmp_path):
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--data", str(tmp_path / "nowhere")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{script}: error: ")
    assert "nowhere" in line
