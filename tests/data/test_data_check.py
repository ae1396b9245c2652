from __future__ import annotations

import json
import struct

import cv2
import numpy as np
import pytest
import scipy.io
from data_fakes import lspet_joints, write_lspet
from matlab_fakes import flic_example, structs

from cpm_repro.cli import main
from cpm_repro.config import preset
from cpm_repro.data import SyntheticDataset, open_dataset
from cpm_repro.data.annotations import DataWarning
from cpm_repro.data.check import check_data
from cpm_repro.data.sample import seen_in_image
from cpm_repro.data.show import show_samples
from cpm_repro.errors import UserError
from cpm_repro.skeleton import MPII16, Visibility


def upright(**moved) -> list[list[float]]:
    joints = [[50.0 + (8 if p.startswith("left") else -8), 10.0 + 3 * i] for i, p in enumerate(MPII16.parts)]
    for part, place in moved.items():
        joints[MPII16.index(part)] = place
    return joints


def entry(image: str, joints, **changes) -> dict:
    return {
        "image": image,
        "center": [50, 40],
        "scale": 0.5,
        "joints": joints,
        "joints_vis": [1] * 16,
        **changes,
    }


@pytest.fixture
def folder(tmp_path):
    for name in ("good.png", "twice.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((100, 110, 3), np.uint8))
    (tmp_path / "page.png").write_text("<html>not found</html>")
    (tmp_path / "dir.png").mkdir()
    swapped = upright(left_shoulder=[30, 40], right_shoulder=[70, 40])
    people = [
        entry("good.png", upright()),
        entry("good.png", swapped),
        entry("good.png", upright(head=[400, 5])),
        entry("twice.png", upright()),
        entry("twice.png", [[x + 1, y] for x, y in upright()]),
        entry("page.png", upright()),
        entry("dir.png", upright()),
        entry("none.png", upright()),
        entry("good.png", upright(), scale=-1),
    ]
    (tmp_path / "people.json").write_text(json.dumps(people))
    return tmp_path


def kinds(report) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in report.findings:
        found.setdefault(finding.kind, []).append(str(finding.problem))
    return found


def test_everything_is_found_and_counted(folder):
    report = check_data(folder)
    assert "9 people read, 5 used, 4 reported" in report.summary
    found = kinds(report)
    assert len(found["unusable"]) == 1
    assert len(found["image"]) == 3
    assert any("page.png" in line for line in found["image"])
    assert any("got a folder" in line for line in found["image"])
    assert len(found["swapped"]) == 1
    assert len(found["outside"]) == 1
    assert "1 labelled joints outside of the 110 x 100 image" in found["outside"][0]
    assert any("twice.png" in line for line in found["duplicate"])
    assert "image: 3" in report.to_text()


def test_strict_stops_at_the_first(folder):
    with pytest.raises(UserError, match="scale"):
        check_data(folder, strict=True)


def test_flics_swapped_people(tmp_path):
    examples = [flic_example(False), flic_example(True)]
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": structs(examples)})
    cv2.imwrite(str(tmp_path / "f.jpg"), np.zeros((150, 120, 3), np.uint8))
    assert len(kinds(check_data(tmp_path))["swapped"]) == 1


def test_lspet(tmp_path):
    joints = lspet_joints(3)
    joints[:, 2] = 1
    joints[0, :2, 1] = 300
    report = check_data(write_lspet(tmp_path / "lspet", joints))
    assert "3 people read, 3 used" in report.summary
    assert len(kinds(report)["outside"]) == 1


def test_a_sheet_of_samples(tmp_path):
    show_samples(SyntheticDataset("train", size=4), tmp_path / "sheet.png", count=4)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 256, 3 * 512, 3)
    assert sheet[:256, :512].std() > 10
    assert (sheet[256:, 512:] == 0).all()


def test_a_sheet_goes_on_after_an_image_that_cannot_be_read(tmp_path):
    folder = write_lspet(tmp_path / "lspet", lspet_joints(6))
    (folder / "images" / "im00003.jpg").write_text("<html>")
    dataset = open_dataset(folder, "train")
    with pytest.warns(DataWarning, match=r"im00003\.jpg: expected an image"):
        show_samples(dataset, tmp_path / "sheet.png", count=5)
    assert (tmp_path / "sheet.png").exists()
    for image in (folder / "images").iterdir():
        image.write_text("<html>")
    with pytest.warns(DataWarning), pytest.raises(UserError, match="lspet: wanted an image that can be read"):
        show_samples(open_dataset(folder, "train"), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_a_sheet_leaves_out_whom_training_leaves_out(tmp_path):
    """Two people of a table that says the scale of one: the release's crops want it."""
    head = "image,a_x,a_y,b_x,b_y,center_x,center_y,scale\n"
    for name in ("0.png", "1.png", "2.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((64, 64, 3), np.uint8))
    rows = "0.png,9,9,30,40,20,20,0.3\n1.png,9,9,30,40,20,20,\n2.png,9,9,30,40,20,20,0.3\n"
    (tmp_path / "people.csv").write_text(head + rows)
    dataset = open_dataset(str(tmp_path), "train")  # the first picture is held out
    with pytest.warns(DataWarning, match=r"1\.png#1: augment\.method exact expects a scale"):
        show_samples(dataset, tmp_path / "sheet.png", preset("lsp_6stage").augment, count=2)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (256, 512, 3)
    (tmp_path / "people.csv").write_text(head + rows.replace("0.3", "0.0001"))
    with pytest.warns(DataWarning), pytest.raises(UserError, match=r"nobody can be used: sample people/"):
        show_samples(
            open_dataset(str(tmp_path), "train"), tmp_path / "none.png", preset("lsp_6stage").augment
        )
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        show_samples(dataset, tmp_path / "none.png", count=0)


def test_a_sheet_is_what_a_presets_training_sees(tmp_path, capsys):
    """Of the same people, who are cut off in a crop that is too small for them; that is said."""
    out = str(tmp_path / "sheet.png")
    command = ["data", "show", "synthetic", "--count", "2", "--out", out]
    sheets = []
    for given, said in (
        ([], ""),
        (["--preset", "lsp_6stage"], ""),
        (["--preset", "lsp_6stage", "--set", "augment.crop=240"], "warning: people are cut off: "),
    ):
        assert main([*command, *given]) == 0
        printed = capsys.readouterr().out
        assert printed.endswith(f"{out}\n")
        assert printed.startswith(said or out)
        sheets.append(cv2.imread(out))
    assert sheets[0].shape[1] > 2 * 512  # the colours' names beside the samples
    assert sheets[0].shape == sheets[1].shape == sheets[2].shape
    assert not np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[1], sheets[2])


def test_a_sheet_that_cannot_be(tmp_path, capsys):
    for given, said in (
        (["--count", "0"], "--count: wanted a whole number of at least 1, got 0"),
        (["--seed", "-1"], "--seed: wanted a whole number of at least 0, got -1"),
        (["--count", "few"], "--count: invalid int value: 'few'"),
        (["--out", str(tmp_path / "sheet.txt")], "sheet.txt: wanted a file called *.png, *.jpg or *.jpeg"),
    ):
        try:
            code = main(["data", "show", "synthetic", *given])
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        assert said in capsys.readouterr().err
    with pytest.raises(UserError, match=r"sheet\.txt: wanted"):
        show_samples(SyntheticDataset("train", size=1), tmp_path / "sheet.txt")


def test_what_training_will_take_of_a_table_is_said_and_shares_are_no_pixels(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "cups.csv").write_text(
        "image,left_rim_x,left_rim_y,right_rim_x,right_rim_y,base_x,base_y\na.png,.1,.1,.9,.1,.5,.8\n"
    )
    report = check_data(tmp_path)
    assert "3 parts: left_rim, right_rim, base; mirrored: right_rim - left_rim;" in report.to_text()
    assert "scores divide by: nothing yet" in report.to_text()
    (line,) = kinds(report)["scale"]
    assert line == "a.png person 1: all joints within 0.8 pixels: are they shares of the image?"
    (tmp_path / "skeleton.toml").write_text(
        'parts = ["left_rim", "right_rim", "base"]\ntorso = ["left_rim", "base"]\n'
    )
    said = check_data(tmp_path).to_text()
    assert "mirrored: right_rim - left_rim; scores divide by: left_rim - base" in said


def photograph(orientation: int) -> bytes:
    """A JPEG of 60 x 40 pixels, brighter to the right and below, with an EXIF orientation."""
    picture = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    plain = cv2.imencode(".jpg", picture)[1].tobytes()
    tag = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tag
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + plain[2:]


def test_pictures_that_the_points_were_not_set_in_are_reported(tmp_path):
    """Of pictures resized later, or turned by viewers, every point was elsewhere in training."""
    for name, orientation in (("plain.jpg", 1), ("turned.jpg", 6), ("upside_down.jpg", 3)):
        (tmp_path / name).write_bytes(photograph(orientation))
    sizes = {"plain.jpg": (120, 80), "turned.jpg": (40, 60), "upside_down.jpg": (60, 40)}
    images = [{"id": name, "file_name": name, "width": w, "height": h} for name, (w, h) in sizes.items()]
    people = [{"id": name, "image_id": name, "keypoints": [3, 4, 2, 30, 20, 2]} for name in sizes]
    categories = [{"id": 1, "name": "x", "keypoints": ["a", "b"]}]
    (tmp_path / "x.json").write_text(
        json.dumps({"images": images, "annotations": people, "categories": categories})
    )
    found = kinds(check_data(tmp_path))
    assert found["size"] == [
        "plain.jpg: the annotations are of 120 x 80 pixels, the image has 60 x 40",
        "turned.jpg: the annotations are of 40 x 60 pixels, the image has 60 x 40",
    ]
    assert [line.split(";")[0] for line in found["turned"]] == [
        "turned.jpg: its EXIF data makes viewers turn it to 40 x 60",
        "upside_down.jpg: its EXIF data makes viewers turn it to 60 x 40",
    ]
    assert set(found) == {"size", "turned"}


def test_joints_outside_are_those_that_training_leaves_out(tmp_path):
    """The two had rules of their own at the borders."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "x.csv").write_text(
        "image,a_x,a_y,b_x,b_y,c_x,c_y,d_x,d_y,split\n"
        "a.png,-0.4,5,59.9,5,5,39.9,0,40,train\na.png,1,2,3,4,5,6,7,8,val\n"
    )
    (line,) = kinds(check_data(tmp_path))["outside"]
    assert line == "a.png person 1: 2 labelled joints outside of the 60 x 40 image"
    seen = seen_in_image(open_dataset(str(tmp_path), "train")[0])[0]
    assert (seen == Visibility.CROPPED).sum() == 2


def test_what_has_no_annotations_to_check_is_refused_by_what_it_is(tmp_path):
    (tmp_path / "lmdb").mkdir()
    (tmp_path / "lmdb" / "data.mdb").touch()
    (tmp_path / "lmdb" / "cpm_write_plan.json").write_text("{}")
    with pytest.raises(UserError, match="lmdb: an LMDB has no annotation file"):
        check_data(tmp_path / "lmdb")
    (tmp_path / "MPI_annotations.json").write_text('{"root": []}')
    with pytest.raises(UserError, match="a file of the release's records, which `cpm data lmdb` takes"):
        check_data(tmp_path / "MPI_annotations.json")


def test_a_little_is_neither_swapped_nor_another_unit(tmp_path):
    """Shoulders and hips in profile cross by a few pixels; points of a small thing lie close together."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((200, 200, 3), np.uint8))
    header = "image," + ",".join(
        f"{side}_{part}_{axis}" for part in ("shoulder", "hip") for side in ("left", "right") for axis in "xy"
    )
    (tmp_path / "x.csv").write_text(
        f"{header}\na.png,53,10,50,10,50,170,53,170\na.png,70,10,50,10,50,170,70,170\n"
        "a.png,5,5,6,5,5,6.9,6,6\na.png,5,25,6,25,5,27.1,6,26\n"
    )
    found = kinds(check_data(tmp_path))
    assert [line.split(":")[0] for line in found["swapped"]] == ["a.png person 2"]
    assert [line.split(":")[0] for line in found["scale"]] == ["a.png person 3"]
