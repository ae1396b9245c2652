"""Kills at random moments: nothing finished is lost, nothing half-written taken for whole, the next run ends.

Training and data conversion have theirs in their own rooms (``tests/training``, ``tests/data``).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import data_root

KILLS = 20


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "cpm_repro", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def whole_files(folder: Path) -> set[str]:
    """Names of the finished files below ``folder``; each must be whole."""
    names = set()
    for path in folder.rglob("*"):
        if not path.is_file() or path.suffix == ".tmp":
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix in (".png", ".jpg"):
            assert cv2.imread(str(path)) is not None, path
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                assert all(arrays[name].size for name in arrays.files)
        names.add(str(path.relative_to(folder)))
    return names


def killed_and_ended(arguments: list[str], folder: Path, out: Path, kills: int) -> None:
    """Run the command once whole; then kill it at random moments, and let it end again."""
    begun = time.perf_counter()
    assert start(arguments, folder).wait() == 0
    longest, wanted = time.perf_counter() - begun, whole_files(out)
    assert wanted
    draw = random.Random(0)
    for _ in range(kills):
        before = whole_files(out)
        process = start(arguments, folder)
        try:
            process.wait(draw.uniform(0.3, 1.0) * longest)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert before <= whole_files(out)
    assert start(arguments, folder).wait() == 0
    assert whole_files(out) == wanted


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        noise = np.random.default_rng(index).integers(0, 256, (96, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [KILLS])
def test_prediction_killed_at_random_moments(pictures, tmp_path, kills):
    options = ["predict", str(pictures), "--maps", "--no-grid", "--out", "out"]
    killed_and_ended(options, tmp_path, tmp_path / "out", kills)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [KILLS])
def test_evaluation_killed_at_random_moments(tmp_path, kills):
    file = data_root("published_predictions") / "flic_test.npz"
    options = ["eval", "--predictions", str(file), "--protocol", "flic-pck", "--out", "out"]
    killed_and_ended(options, tmp_path, tmp_path / "out", kills)


def test_a_folder_that_cannot_be_written_is_one_line(pictures, tmp_path):
    """A file where the folder should be: also the superuser, whom no permission stops, cannot write there."""
    (tmp_path / "out").write_text("")
    command = [sys.executable, "-m", "cpm_repro", "predict", str(pictures / "0.png"), "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "out" in line
