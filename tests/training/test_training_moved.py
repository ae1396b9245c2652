"""Runs that go on with data at another place."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cpm_repro.cli import main
from cpm_repro.training import load_checkpoint
from cpm_repro.training.run_folder import RunFolder

PARTS = ("wrist", "thumb", "index")


def write_hands(folder: Path, people: int = 20, parts: tuple[str, ...] = PARTS) -> Path:
    """A table of ``people`` hands and their pictures of noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = [",".join(["image", *(f"{part}_{axis}" for part in parts for axis in "xy")])]
    for n in range(people):
        cv2.imwrite(str(folder / f"im{n}.png"), rng.integers(0, 255, (100, 100, 3), np.uint8))
        lines.append(",".join([f"im{n}.png", *map(str, rng.integers(20, 80, 2 * len(parts)))]))
    (folder / "hands.csv").write_text("\n".join(lines) + "\n")
    body = {"name": "hand", "parts": list(parts), "torso": list(parts[:2])}
    (folder / "skeleton.toml").write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in body.items())
    )
    return folder


def begin(data, run):
    small = ["--set=network.width=0.05", "--set=augment.crop=64", "--batch=2", "--parts=3"]
    assert main(["train", "--iterations=1", "--data", str(data), "--out", str(run), *small]) == 0


@pytest.fixture
def begun(tmp_path):
    """A folder with a run of one update and the data it was started with."""
    begin(write_hands(tmp_path / "before"), tmp_path / "run")
    return tmp_path


def go_on(run, *options):
    return main(["train", "--resume", "--iterations=2", "--out", str(run), *map(str, options)])


def losses(run):
    return [record["loss"] for record in RunFolder(run).records() if record["kind"] == "train"]


def test_a_run_goes_on_with_its_data_at_another_place(begun, capsys):
    shutil.copytree(begun / "run", begun / "twin")
    assert go_on(begun / "run") == 0
    (begun / "before").rename(begun / "after")
    capsys.readouterr()
    assert go_on(begun / "twin", "--data", begun / "after") == 0
    said = f"note: the data were {begun / 'before'} and are {begun / 'after'}, taken for the same"
    assert said in capsys.readouterr().out
    assert losses(begun / "twin") == losses(begun / "run")
    twin = RunFolder(begun / "twin")
    assert json.loads(twin.config.read_text())["data"] == str(begun / "after")
    assert load_checkpoint(twin.last).config.data == str(begun / "after")


def test_a_path_with_a_plus_in_it_is_no_mix(tmp_path, capsys):
    """The look for mixes refused it when it was written otherwise, as another run's data."""
    (tmp_path / "left+right").mkdir()
    data = write_hands(tmp_path / "left+right" / "hands")
    begin(data, tmp_path / "run")
    assert "| data | hands |" in (tmp_path / "run" / "report.md").read_text()
    other = data / ".." / "hands"
    assert go_on(tmp_path / "run", "--data", other) == 0
    assert f"note: the data were {data} and are {other}, taken for the same" in capsys.readouterr().out


def test_data_that_are_gone_are_asked_for(begun, capsys):
    (begun / "before").rename(begun / "after")
    assert go_on(begun / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"{begun / 'before'}: the run of {RunFolder(begun / 'run').last} was started with these data" in line
    )
    assert line.endswith("give --data with their new place")


@pytest.mark.parametrize(
    ("people", "parts", "words"),
    [
        (22, PARTS, r"wanted 18 people to train on, got 20 people to train on"),
        (
            20,
            ("wrist", "palm", "index"),
            r"wanted ['wrist', 'thumb', 'index'], got ['wrist', 'palm', 'index']",
        ),
    ],
)
def test_other_data_are_refused(begun, capsys, people, parts, words):
    write_hands(begun / "others", people, parts)
    before = RunFolder(begun / "run").config.read_bytes()
    assert go_on(begun / "run", "--data", begun / "others") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert RunFolder(begun / "run").config.read_bytes() == before


def test_a_run_of_mixed_data_goes_on_with_the_same_mix_alone(tmp_path, capsys):
    """As many people in another order are others at every update."""
    one, other = write_hands(tmp_path / "one"), write_hands(tmp_path / "other")
    begin(f"{one}+{other}", tmp_path / "run")
    assert go_on(tmp_path / "run") == 0
    assert len(losses(tmp_path / "run")) == 2
    capsys.readouterr()
    assert go_on(tmp_path / "run", "--data", f"{other}+{one}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"belongs to another run: wanted data = {one}+{other}, got {other}+{one}" in line


def test_photographs_are_not_taken_for_synthetic_people(begun, capsys):
    capsys.readouterr()
    assert go_on(begun / "run", "--data", "synthetic") == 2
    assert f"wanted data = {begun / 'before'}, got synthetic" in capsys.readouterr().err
