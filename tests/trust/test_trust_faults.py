"""kill -9 at random: nothing finished is lost, nothing half-written taken for whole, the next run ends.

Training has the same in ``tests/training/test_training_stopping.py``.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import data_root

from cpm_repro.data.lmdb_store import LmdbDataset
from cpm_repro.data.record import PersonRecord
from cpm_repro.data.record_json import write_records
from cpm_repro.errors import UserError

KILLS = 20
PEOPLE = 2500
"""In the data set that is converted: some seconds of work."""


def start(arguments: list[str], folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "cpm_repro", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet)


def finished(folder: Path) -> dict[str, Any]:
    """What a reader takes for finished below ``folder``, by name; a file that is not whole is refused."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.suffix in (".tmp", ".part") or path.name == "lock.mdb":
            continue
        if path.suffix == ".mdb":
            found |= {f"{name}:{key}": value for key, value in records_of(path.parent).items()}
            with contextlib.suppress(UserError):
                found[name] = len(LmdbDataset(path.parent))
        else:
            found[name] = READ[path.suffix](path.read_bytes())
    return found


def records_of(folder: Path) -> dict[str, bytes]:
    lmdb = pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    with lmdb.open(str(folder), readonly=True, lock=False) as store, store.begin() as transaction:
        return {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}


def pixels(raw: bytes) -> bytes:
    image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image.tobytes()


def arrays(raw: bytes) -> dict[str, bytes]:
    with np.load(io.BytesIO(raw)) as content:
        return {name: content[name].tobytes() for name in content.files}


READ: dict[str, Callable[[bytes], Any]] = {
    ".json": json.loads,
    ".png": pixels,
    ".npz": arrays,
    ".csv": lambda raw: list(csv.reader(raw.decode().splitlines())),
    ".md": bytes.decode,
    ".svg": lambda raw: raw.decode().rstrip().endswith("</svg>"),  # it holds its date
}


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
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        noise = np.random.default_rng(index).integers(0, 256, (96, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    return folder


@pytest.fixture
def people(tmp_path: Path, pictures: Path) -> None:
    """Records of many people on the same few photographs, and a data set of one's own of them."""
    draw, records = np.random.default_rng(0), []
    rows = ["image,a_x,a_y,b_x,b_y,split"]
    for index in range(PEOPLE):
        joints = draw.integers(5, 70, (16, 3)).astype(float)
        joints[:, 2] = 1
        of = {"dataset": "MPI", "img_path": f"{index % 12}.png", "img_width": 80, "img_height": 96}
        of |= {"scale": 0.4, "is_validation": index % 5 == 0}
        of |= {"annolist_index": index % 12 + 1, "people_index": index // 12 + 1}
        nobody = (np.zeros((0, 16, 3)), np.zeros(0), np.zeros((0, 2)))
        others = dict(zip(("joint_others", "scale_other", "objpos_other"), nobody, strict=True))
        records.append(PersonRecord(joint_self=joints, objpos=joints[0, :2], **of, **others))
        rows.append(f"{index % 12}.png,{','.join(map(str, joints[:2, :2].ravel()))},train")
    write_records(tmp_path / "records.json", records)
    own = shutil.copytree(pictures, tmp_path / "own")
    (own / "annotations.csv").write_text("\n".join(rows) + "\n")
    skeleton = 'name = "h"\nparts = ["a", "b"]\nflip_pairs = [["a", "b"]]\nlimbs = [["a", "b"]]\n'
    (own / "skeleton.toml").write_text(skeleton)


CONVERSIONS = {
    "json": ["data", "json", "own"],
    "lmdb": ["data", "lmdb", "records.json", "--images", "pictures"],
    "lmdb --compact": ["data", "lmdb", "records.json", "--images", "pictures", "--compact"],
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("kind", CONVERSIONS)
def test_data_conversion_killed_at_random_moments(tmp_path, kind):
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
