"""kill -9 at random: nothing finished is lost, nothing half-written taken for whole, the next run ends.

Training has the same in ``tests/training/test_training_stopping.py``.
"""

from __future__ import annotations

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
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def killed_and_ended(arguments: list[str], folder: Path, kills: int = KILLS) -> None:
    """Run the command whole into ``whole``; run it into ``out``, killed at random moments; compare.

    Three kills of four fall into the time in which the whole run wrote, the others anywhere.
    """
    process, wrote, ended = start([*arguments, "--out", "whole"], folder), 0.0, 0.0
    while process.poll() is None:
        ended = worked(process)
        wrote = wrote if (folder / "whole").exists() else ended
        time.sleep(0.005)
    assert process.returncode == 0
    whole = finished(folder / "whole")
    assert whole
    chance, partly, killed = random.Random(0), 0, 0
    for index in range(kills):
        before = finished(folder / "out")
        if before == whole:
            shutil.rmtree(folder / "out")
            before = {}
        moment = chance.uniform(wrote if index % 4 else 0, ended)
        process = start([*arguments, "--out", "out"], folder)
        while process.poll() is None and worked(process) < moment:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        after = finished(folder / "out")
        assert before.keys() <= after.keys(), "something finished is lost"
        assert after.items() <= whole.items(), "something half-written is taken for whole"
        partly += 0 < len(after) < len(whole)
    print(f"{killed} of {kills} runs were killed, {partly} times a part of the files or records was there")
    assert killed >= kills / 2, "the runs ended before they were killed"
    assert start([*arguments, "--out", "out"], folder).wait() == 0
    assert finished(folder / "out") == whole


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
