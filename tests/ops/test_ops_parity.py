"""The command that prints how far every back end is from the golden arrays."""

import subprocess
import sys
from pathlib import Path

from support import golden

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "parity.py"


def test_every_back_end_holds_every_limit(tmp_path):
    folder = golden("multiscale_fusion.npz").parent
    out = tmp_path / "parity.md"
    command = [sys.executable, str(SCRIPT), "--golden", str(folder), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in out.read_text().splitlines() if line.startswith("| reference |")]
    assert len(rows) == 10
    assert "passed" not in out.read_text()


def test_absent_arrays_are_named(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--golden", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "cpmdata.npz, multiscale_fusion.npz, matlab_imresize.npz not there" in done.stdout
