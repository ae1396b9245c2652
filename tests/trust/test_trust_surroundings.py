"""What goes wrong around the program: full disks, folders not writable, dead workers, a clock that jumps."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpm_repro.cli import main
from cpm_repro.config import override, preset
from cpm_repro.data import TrainLoader, open_dataset
from cpm_repro.training import train
from cpm_repro.training.run_folder import RunFolder

SMALL = {
    "network.width": 0.05,
    "augment.crop": 64,
    "solver.batch": 4,
    "solver.precision": "float32",
    "validate_people": 4,
    "minutes": None,
    "iterations": 4,
}
LIMITED = f"""
import resource, signal, sys
from cpm_repro.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), {resource.RLIM_INFINITY}))
sys.exit(main(sys.argv[2:]))
"""
"""``cpm`` whose files cannot grow beyond a size: a write fails midway, as on a full disk."""


def limited(size: int, words: list[str], folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", LIMITED, str(size), *words]
    # A measurement of coverage writes files too, which must not hit the limit.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def one_line(done: subprocess.CompletedProcess, name: str) -> None:
    """The command failed, in one line with ``error`` that names ``name``."""
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert name in line


@pytest.fixture
def own(tmp_path) -> Path:
    """A data set of one's own: a table and eight photographs."""
    folder = tmp_path / "own"
    folder.mkdir()
    lines = ["image,a_x,a_y,b_x,b_y,split"]
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (96, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
        lines.append(f"{number}.png,20,20,40,60,{'val' if number > 5 else 'train'}")
    (folder / "annotations.csv").write_text("\n".join(lines) + "\n")
    (folder / "skeleton.toml").write_text(
        'name = "h"\nparts = ["a", "b"]\nflip_pairs = [["a", "b"]]\nlimbs = [["a", "b"]]\n'
    )
    return folder


def test_a_disk_that_fills_up_during_prediction(own, tmp_path):
    words = ["predict", str(own / "0.png"), "--maps", "--no-grid", "--out", "out"]
    one_line(limited(2000, words, tmp_path), "cannot write")
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for path in left:
        assert path.suffix == ".json", "a picture or a map of 2,000 bytes is no whole one"
        json.loads(path.read_text())


COMMANDS = {
    "train": ["train", "--data", "synthetic", "--iterations", "1", "--batch", "1", "--out", "out"],
    "data json": ["data", "json", "own", "--out", "out"],
    "data lmdb": ["data", "lmdb", "own", "--out", "out"],
    "predict": ["predict", "own/0.png", "--out", "out"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("own")
def test_a_place_that_cannot_be_written_is_one_line(name, tmp_path):
    """A file where the folder should be: also the superuser, whom no permission stops, cannot write there."""
    (tmp_path / "out").write_text("")
    command = [sys.executable, "-m", "cpm_repro", *COMMANDS[name]]
    one_line(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True), "out")
    assert (tmp_path / "out").read_text() == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [("fast", "CPM_BACKEND must be one of"), ("cupy", "CPM_BACKEND=cupy needs cuda tensors")],
)
@pytest.mark.usefixtures("own")
def test_a_back_end_that_cannot_run_is_one_line_of_any_number_of_pictures(
    name, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPM_BACKEND", name)
    assert main(["predict", "own", "--out", "out"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"cpm predict: error: {said}")


@pytest.mark.parametrize(
    ("death", "said"),
    [
        (SystemExit(3), SystemExit),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError("no more"), RuntimeError),  # it names the sample
    ],
)
def test_a_worker_that_dies_ends_the_loader_and_hangs_nobody(death, said):
    dataset = open_dataset("synthetic", "train", size=8)

    class Deadly(type(dataset)):
        def __getitem__(self, index):
            raise death

    dataset.__class__ = Deadly
    config = override(preset("tiny"), SMALL)
    begun = time.monotonic()
    loader = TrainLoader(dataset, config.augment, batch=2, seed=0, workers=2)
    with loader, pytest.raises(said, match="" if said is not RuntimeError else r"sample .*no more"):
        next(loader)
    assert time.monotonic() - begun < 20


def test_a_clock_that_jumps_changes_neither_losses_nor_seconds(tmp_path, monkeypatch):
    config = override(preset("tiny"), SMALL)
    train(config, tmp_path / "steady")
    jumps = iter([1e9, -1e9, 0.0, 5e8, -5e8] * 100_000)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    result = train(config, tmp_path / "jumping")
    records = [
        [r for r in RunFolder(tmp_path / n).records() if r["kind"] == "train"] for n in ("steady", "jumping")
    ]
    assert [r["loss"] for r in records[0]] == [r["loss"] for r in records[1]]
    seconds = [r["seconds"] for r in records[1]]
    assert seconds == sorted(seconds)
    assert 0 < result.seconds < 600
