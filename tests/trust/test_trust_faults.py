"""kill -9 at random: nothing finished is lost, nothing half-written taken for whole, the next run ends.

Training has the same in ``tests/training/test_training_stopping.py``.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from finished_files import finished
from people_files import write_lspet, write_noise, write_record_file
from support import data_root

KILLS = 20


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "cpm_repro", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def worked(process: subprocess.Popen) -> float:
    """Seconds of processor time so far: unlike the clock's, they do not depend on what else is running."""
    if process.returncode is not None:
        return float("inf")
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def touched(folder: Path) -> int:
    """When something below ``folder`` last changed, in nanoseconds; 0 when there is none."""
    times = []
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.stat().st_mtime_ns)
    return max(times, default=0)


def killed_and_ended(arguments: list[str], folder: Path, kills: int = KILLS) -> None:
    """Run the command whole into ``whole``; run it into ``out``, killed at random moments; compare.

    Three kills of four fall into the time from the first change of ``out`` on, the others anywhere. A run
    that ends before its kill does not count; when all is there it begins again from nothing.
    """
    process, wrote, ended = start([*arguments, "--out", "whole"], folder), 0.0, 0.0
    while process.poll() is None:
        ended = worked(process)
        wrote = wrote if (folder / "whole").exists() else ended
        time.sleep(0.005)
    assert process.returncode == 0
    whole, out = finished(folder / "whole"), folder / "out"
    assert whole
    chance, partly, killed, runs = random.Random(0), 0, 0, 0
    while killed < kills:
        before, runs = finished(out), runs + 1
        assert runs <= 4 * kills, "the runs end before they are killed"
        if before == whole:
            shutil.rmtree(out)
            before = {}
        unchanged = touched(out)
        process = start([*arguments, "--out", "out"], folder)
        if runs % 4:
            while process.poll() is None and touched(out) == unchanged:
                time.sleep(0.002)
        begun = worked(process) if runs % 4 else 0.0
        moment = begun + chance.uniform(0, ended - wrote if runs % 4 else ended)
        while process.poll() is None and worked(process) < moment:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        after = finished(out)
        assert before.keys() <= after.keys(), "something finished is lost"
        assert after.items() <= whole.items(), "something half-written is taken for whole"
        partly += 0 < len(after) < len(whole)
    print(f"{killed} kills in {runs} runs, {partly} times a part of the files or records was there")
    assert start([*arguments, "--out", "out"], folder).wait() == 0
    assert finished(out) == whole


@pytest.fixture
def pictures(tmp_path: Path) -> None:
    for index in range(12):
        write_noise(tmp_path / "pictures" / f"{index}.png", index)


CONVERSIONS = {
    "json": ["data", "json", "lspet_dataset"],
    "lmdb": ["data", "lmdb", "records.json", "--images", "pictures"],
    "lmdb --compact": ["data", "lmdb", "records.json", "--images", "pictures", "--compact"],
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", CONVERSIONS)
def test_data_conversion_killed_at_random_moments(tmp_path, kind):
    write_record_file(tmp_path, 1500)
    write_lspet(tmp_path, 1500)
    killed_and_ended(CONVERSIONS[kind], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("pictures")
def test_prediction_killed_at_random_moments(tmp_path):
    killed_and_ended(["predict", "pictures", "--maps", "--no-grid"], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_evaluation_killed_at_random_moments(tmp_path):
    file = data_root("published_predictions") / "flic_test.npz"
    killed_and_ended(["eval", "--predictions", str(file), "--protocol", "flic-pck"], tmp_path)
