"""`cpm data json` and `cpm data lmdb`: what goes in comes out or is reported."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from data_fakes import lspet_joints, write_lspet
from matlab_fakes import flic_example, person, structs, write_mpii
from support import data_root, golden

from cpm_repro.cli import main
from cpm_repro.data.commands import json_command, lmdb_command
from cpm_repro.data.image_sizes import ImageSizes, noted_sizes
from cpm_repro.data.record_json import read_records
from cpm_repro.data.record_set import read_record_set
from cpm_repro.errors import UserError

GREY = np.full((200, 300, 3), 90, np.uint8)


@pytest.fixture
def mpii(tmp_path):
    folder = tmp_path / "mpii"
    (folder / "images").mkdir(parents=True)
    people = [
        ("a.jpg", [person(), person(scale=0.0), person(scale=1.25)]),
        ("gone.jpg", [person(), person()]),
        ("page.jpg", [person()]),
        ("folder.jpg", [person()]),
        ("../secret.jpg", [person()]),
        ("b.jpg", [person(scale=2.0)]),
    ]
    write_mpii(folder / "mpii_human_pose_v1_u12_1.mat", people, [1] * len(people))
    scipy.io.savemat(
        folder / "detections.mat",
        {"RELEASE_img_index": np.array([[6]]), "RELEASE_person_index": np.array([[1]])},
    )
    for name in ("images/a.jpg", "images/b.jpg", "secret.jpg"):
        cv2.imwrite(str(folder / name), GREY)
    (folder / "images" / "page.jpg").write_text("<html>404</html>")
    (folder / "images" / "folder.jpg").mkdir()
    return folder


def test_mpii_json_counts_and_reasons(mpii, tmp_path, capsys):
    assert main(["data", "json", str(mpii), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "MPI: 9 people read, 3 used, 0 left out by the split, 6 reported" in said
    files = ["got nothing there", "of another kind", "got a folder", "leaves it"]
    for reason in ["scale: expected a positive number, got 0", *files]:
        assert reason in said
    records = read_records(tmp_path / "out" / "MPI_annotations.json")
    assert [(r.img_path, r.annolist_index, r.people_index, r.is_validation) for r in records] == [
        ("a.jpg", 1, 1, False), ("a.jpg", 1, 3, False), ("b.jpg", 6, 1, True),
    ]  # fmt: skip
    assert records[0].scale_other == pytest.approx([1.25])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["MPI_annotations.json"]


def test_strict_stops_at_the_first(mpii, tmp_path):
    for command in (json_command, lambda path, out, strict: lmdb_command([path], out, strict=strict)):
        with pytest.raises(UserError, match="image 1 person 2: scale"):
            command(mpii, tmp_path / "out", strict=True)


def test_the_json_goes_into_an_lmdb_with_what_was_lost_since_reported(mpii, tmp_path):
    json_command(mpii, tmp_path / "out")
    cv2.imwrite(str(mpii / "images" / "b.jpg"), GREY[:100])
    file = tmp_path / "out" / "MPI_annotations.json"
    said = lmdb_command([file], tmp_path / "lmdb", [mpii / "images"])
    assert "3 people read, 2 used, 0 left out by the split, 1 reported" in said
    assert "b.jpg is 300 x 100, the record says 300 x 200" in said
    assert not (tmp_path / "lmdb" / "image_sizes.part").exists()


def test_bad_items_of_a_record_file(mpii, tmp_path):
    json_command(mpii, tmp_path / "out")
    file = tmp_path / "out" / "MPI_annotations.json"
    good = json.loads(file.read_text())["root"][0]
    bad = [
        3,
        {**good, "scale_provided": -1},
        {**good, "joint_self": [[float("nan"), 1, 1]] * 16},
        {**good, "joint_self": [[0, 0, 0]] * 16},
        {**good, "img_width": float("inf")},
        {**good, "numOtherPeople": 2},
        good,
    ]
    file.write_text(json.dumps({"root": [good, *bad]}))
    people = read_record_set(file, ImageSizes(), mpii / "images")
    assert (people.read, len(people.records), len(people.problems)) == (8, 1, 7)
    whats = " | ".join(str(problem) for problem in people.problems)
    for word in ("key", "scale", "NaN", "no labelled joint", "infinity", "numOtherPeople", "came before"):
        assert word in whats


def test_flic(tmp_path):
    examples = [flic_example(False), flic_example(True), flic_example(False, istrain=0.0, istest=1.0)]
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": structs(examples)})
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "f.jpg"), GREY)
    said = json_command(tmp_path, tmp_path / "out")
    assert "FLIC: 3 people read, 2 used, 1 left out by the split, 0 reported" in said
    records = read_records(tmp_path / "out" / "FLIC_annotations.json")
    assert [record.img_path for record in records] == ["images/f.jpg"] * 2
    assert "2 people of 1 images" in lmdb_command([tmp_path], tmp_path / "lmdb")


def test_lsp_and_its_extension(tmp_path):
    joints = lspet_joints(4)
    joints[:, 2] = 1
    joints[:, 2, 2] = 0  # person 3 has no label
    write_lspet(tmp_path / "lspet_dataset", joints)
    plain = np.random.default_rng(1).uniform(5, 90, (3, 14, 1002))
    plain[2] = 0
    folder = tmp_path / "lsp_dataset"
    (folder / "images").mkdir(parents=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": plain})
    cv2.imwrite(str(folder / "images" / "im0001.jpg"), GREY)
    people = read_record_set(tmp_path, ImageSizes())
    assert (people.dataset, people.read) == ("LEEDS", 1006)
    assert [str(file.relative_to(tmp_path)) for file in people.files] == [
        "lspet_dataset/images/im00001.jpg", "lspet_dataset/images/im00002.jpg",
        "lspet_dataset/images/im00004.jpg", "lsp_dataset/images/im0001.jpg",
    ]  # fmt: skip
    assert people.left_out == 2
    assert str(people.problems[0]) == "lspet_dataset/images/im00003.jpg: no labelled joint"
    alone = read_record_set(tmp_path / "lspet_dataset", ImageSizes())
    assert [record.img_path for record in alone.records] == [r.img_path for r in people.records[:3]]


def test_the_real_extension_has_the_scales_of_the_original():
    folder = data_root("lspet")
    wanted = np.load(golden("lspet_scale.npz"))["scale_provided"]
    people = read_record_set(folder, SizesOfNobody())
    assert len(people.records) == 9000
    assert np.array_equal([record.scale for record in people.records], np.round(wanted, 3))


class SizesOfNobody(ImageSizes):
    """Says that every image is huge, without a look at it."""

    def __call__(self, file):  # noqa: ARG002
        return 10_000, 10_000


def test_a_killed_json_does_not_look_at_images_again(mpii, tmp_path):
    out = tmp_path / "out"
    script = textwrap.dedent(f"""
        import os, signal
        from cpm_repro.data import image_sizes
        real = image_sizes._look
        image_sizes._FLUSH_EVERY = 1
        def look(file):
            if file.name == "folder.jpg":
                os.kill(os.getpid(), signal.SIGKILL)
            return real(file)
        image_sizes._look = look
        from cpm_repro.data.commands import json_command
        json_command({str(mpii)!r}, {str(out)!r})
    """)
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in out.iterdir()] == [".image_sizes.part"]
    noted = [json.loads(line) for line in (out / ".image_sizes.part").read_text().splitlines()]
    assert [line[0].rpartition("/")[2] for line in noted] == ["a.jpg", "gone.jpg", "page.jpg"]
    whole = json_command(mpii, tmp_path / "whole").splitlines()
    assert json_command(mpii, out).splitlines()[:-1] == whole[:-1]
    one, other = (folder / "MPI_annotations.json" for folder in (out, tmp_path / "whole"))
    assert one.read_bytes() == other.read_bytes()


def test_sizes_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    file = tmp_path / "x.png"
    cv2.imwrite(str(file), GREY)
    looks = []
    monkeypatch.setattr(
        "cpm_repro.data.image_sizes.read_image", lambda path: looks.append(path) or cv2.imread(str(path))
    )
    notes = tmp_path / "notes"
    with contextlib.suppress(ZeroDivisionError), noted_sizes(notes) as sizes:
        assert sizes(file) == (300, 200)
        raise ZeroDivisionError
    with open(notes, "a") as lines:
        lines.write('["cut off')
    with noted_sizes(notes) as sizes:
        assert sizes(file) == (300, 200)
        assert len(looks) == 1
        cv2.imwrite(str(file), GREY[:50])
        assert sizes(file) == (300, 50)
    assert not notes.exists()


def test_mistakes(mpii, tmp_path):
    with pytest.raises(UserError, match="nothing"):
        json_command(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="expected a folder"):
        json_command(mpii, tmp_path / "x.json")
    with pytest.raises(UserError, match="--images: expected one folder or 1, got 2"):
        lmdb_command([mpii], tmp_path / "out", [mpii, mpii])
    (tmp_path / "none.json").write_text('{"root": []}')
    with pytest.raises(UserError, match="nobody to write"):
        lmdb_command([tmp_path / "none.json"], tmp_path / "out")


@pytest.mark.parametrize("action", ["json", "lmdb"])
def test_a_data_set_in_which_nobody_can_be_used_is_refused_in_one_line(mpii, tmp_path, capsys, action):
    for image in filter(Path.is_file, (mpii / "images").iterdir()):
        image.write_bytes(b"<html>gone</html>")
    assert main(["data", action, str(mpii), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"MPI: \d+ people read, 0 used, .*: nobody to write$", line)
    left = [path.name for path in (tmp_path / "out").iterdir()] if (tmp_path / "out").exists() else []
    assert not [name for name in left if name.endswith((".json", ".mdb"))]
