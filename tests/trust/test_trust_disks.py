"""A disk that is full or not to be written: one line, and nothing half-written taken for whole.

Both are file systems in memory, for no permission stops the superuser; where none can be mounted, it is said.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from finished_files import finished
from people_files import write_lspet, write_record_file

from cpm_repro.cli import main

FULL = 48 << 10
"""Bytes of the small disk: enough to begin with, for no command enough to end."""
COMMANDS = {
    "data json": ["data", "json", "lspet_dataset"],
    "data lmdb": ["data", "lmdb", "records.json", "--images", "pictures"],
    "data lmdb --compact": ["data", "lmdb", "records.json", "--images", "pictures", "--compact"],
    "eval": ["eval", "--predictions", "predictions.npz", "--protocol", "lsp-pck"],
    "predict": ["predict", "pictures", "--maps", "--no-grid"],
    "train": ["train", "--data", "synthetic", "--iterations", "1", "--batch", "1", "--set=network.width=0.05",
              "--set=augment.crop=64", "--set=validate_people=1"],
}  # fmt: skip


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the commands read, in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_record_file(tmp_path, 60)
    write_lspet(tmp_path, 40)
    draw = np.random.default_rng(0)
    truth = draw.uniform(20, 80, (9, 14, 2))
    np.savez(tmp_path / "predictions.npz", pred=truth + draw.normal(0, 3, truth.shape), gt=truth)
    return tmp_path


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of FULL bytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("no mount here")
    command = [mount, "-t", "tmpfs", "-o", f"size={FULL}", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def one_line(said: str, name: str) -> None:
    """One line with ``error``, which names ``name``."""
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert name in line


@pytest.mark.usefixtures("things")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_is_not_to_be_written(disk, capsys, name):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert main([*COMMANDS[name], "--out", "disk/out"]) == 1
    one_line(capsys.readouterr().err, "Read-only file system")
    assert list(disk.iterdir()) == []


# Training has its own tests of full disks, in tests/training.
@pytest.mark.usefixtures("things")
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
def test_a_disk_that_is_full(disk, capsys, name):
    if name == "data json":
        (disk / "much").write_bytes(bytes(FULL - (12 << 10)))  # its file is a small one
    command = COMMANDS[name]
    assert main([*command, "--out", "disk/out"]) == 1
    one_line(capsys.readouterr().err, "cannot write")
    left = finished(disk / "out")
    assert main([*command, "--out", "whole"]) == 0
    assert left.items() < finished(Path("whole")).items(), "something half-written is taken for whole"
    assert not list(disk.rglob("*.tmp")), "what could not be finished only fills the disk further"
