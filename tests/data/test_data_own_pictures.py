"""Which pictures and places the files of people's own data mean."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from data_fakes import lspet_joints, write_lspet

from cpm_repro.config import AugmentConfig
from cpm_repro.data import PersonAugment, Readable, open_dataset
from cpm_repro.data.annotations import DataWarning
from cpm_repro.data.check import check_data
from cpm_repro.data.commands import lmdb_command
from cpm_repro.data.image_sizes import ImageSizes
from cpm_repro.data.record_set import read_record_set
from cpm_repro.errors import UserError
from cpm_repro.skeleton import Visibility


def write_coco(folder, keypoints, size=(80, 100), said=(80, 100), parts=("eye", "ear", "foot"), bbox=True):
    """Twenty pictures of one somebody in the box (20, 10) to (60, 90)."""
    people = [{"id": n, "image_id": n, "keypoints": keypoints} for n in range(20)]
    if bbox:
        people = [{**person, "bbox": [20, 10, 40, 80]} for person in people]
    images = [{"id": n, "file_name": f"{n}.png", "width": said[0], "height": said[1]} for n in range(20)]
    category = {"id": 1, "name": "somebody", "keypoints": list(parts)}
    content = {"images": images, "annotations": people, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(content))
    for n in range(20):
        cv2.imwrite(str(folder / f"{n}.png"), np.full((size[1], size[0], 3), n, np.uint8))


def test_a_crop_around_the_files_centre_holds_the_labels(tmp_path):
    """Somebody of whom the face alone was labelled was as large as the face: the crop showed his belt."""
    write_coco(tmp_path, [34, 14, 2, 46, 14, 2, 0, 0, 0])
    dataset = open_dataset(str(tmp_path), "train")
    sample = dataset[0]
    assert sample.center.tolist() == [40, 50]
    assert sample.extent == pytest.approx(2 * 36)
    crop = PersonAugment(AugmentConfig(crop=128, fill=0.8)).place(sample, dataset.skeleton).crop
    labelled = crop.joints[0][crop.visible[0] != Visibility.CROPPED]
    assert labelled.shape == (2, 2)
    assert ((labelled >= 0) & (labelled <= 127)).all()


def test_without_a_centre_in_the_file_the_joints_box_counts(tmp_path):
    write_coco(tmp_path, [34, 14, 2, 46, 14, 2, 0, 0, 0], bbox=False)
    sample = open_dataset(str(tmp_path), "train")[0]
    assert sample.center.tolist() == [40, 14]
    assert sample.extent == pytest.approx(12)


def test_an_lmdb_has_the_same_places(tmp_path):
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    write_coco(tmp_path, [34, 14, 2, 46, 14, 2, 0, 0, 0])
    lmdb_command([tmp_path], tmp_path / "lmdb")
    (tmp_path / "lmdb" / "skeleton.toml").write_text('parts = ["eye", "ear", "foot"]\n')
    one, other = (open_dataset(str(path), "train")[0] for path in (tmp_path, tmp_path / "lmdb"))
    assert other.center == pytest.approx(one.center)
    assert other.extent == pytest.approx(one.extent)


def test_a_single_part_is_as_large_as_the_file_says(tmp_path):
    """Everybody was refused: the box of one joint has no size."""
    write_coco(tmp_path, [40, 50, 2], parts=("ball",))
    report = check_data(tmp_path)
    assert report.summary.endswith("20 people read, 20 used, 0 reported")
    assert "scores divide by: the object's size" in report.to_text()
    sample = open_dataset(str(tmp_path), "train")[0]
    assert (sample.center.tolist(), sample.extent) == ([40, 50], pytest.approx(80))
    write_coco(tmp_path, [40, 50, 2], parts=("ball",), bbox=False)
    assert "0 used, 20 reported" in check_data(tmp_path).summary


@pytest.mark.parametrize(("said", "used"), [((160, 200), 0), ((100, 80), 0), ((81, 99), 20)])
def test_pictures_of_another_size_than_the_file_says_are_not_used(tmp_path, said, used):
    """Made smaller or turned since, every point is elsewhere; it was trained on. One pixel is rounding."""
    write_coco(tmp_path, [34, 14, 2, 46, 14, 2, 40, 80, 2], said=said)
    report = check_data(tmp_path)
    assert report.summary.endswith(f"20 people read, {used} used, {20 - used} reported")
    assert len([finding for finding in report.findings if finding.kind == "size"]) == 20 - used
    records = read_record_set(tmp_path, ImageSizes())
    assert (len(records.records), len(records.problems)) == (used, 20 - used)
    readable = Readable(open_dataset(str(tmp_path), "train"))
    if used:
        assert readable.read(0) is not None
        return
    what = rf"1\.png: the annotations are of {said[0]} x {said[1]} pixels, the image has 80 x 100"
    with pytest.warns(DataWarning, match=what):
        assert readable.read(0) is None


@pytest.mark.parametrize("name", ["images/a.png", "a.png", "more/a.png"])
def test_paths_count_from_the_table_or_from_images(tmp_path, name):
    """`images/a.png` in a table beside `images` was looked for in `images/images`."""
    for folder in ("images", "more"):
        (tmp_path / folder).mkdir()
    place = tmp_path / ("images/a.png" if name == "a.png" else name)
    cv2.imwrite(str(place), np.zeros((60, 60, 3), np.uint8))
    rows = ["gone.png,1,2,3,4,train", f"{name},1,2,3,4,train", f"{name},1,2,3,4,val"]
    (tmp_path / "x.csv").write_text("\n".join(["image,a_x,a_y,b_x,b_y,split", *rows]) + "\n")
    assert open_dataset(str(tmp_path), "train")[1].image.shape == (60, 60, 3)


def test_a_path_out_of_the_tables_folder_is_refused_all_the_same(tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 60, 3), np.uint8))
    rows = "image,a_x,a_y,b_x,b_y,split\n../a.png,1,2,3,4,train\n../a.png,1,2,3,4,val\n"
    (tmp_path / "data" / "x.csv").write_text(rows)
    with pytest.raises(UserError, match="leaves it"):
        open_dataset(str(tmp_path / "data"), "train")[0]


def test_an_lmdb_that_holds_nobody_out_says_what_does(tmp_path):
    """The release marks nobody of LEEDS as validation, and neither do we."""
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    write_lspet(tmp_path / "lspet", lspet_joints(20))
    lmdb_command([tmp_path / "lspet"], tmp_path / "lmdb")
    assert len(open_dataset(str(tmp_path / "lmdb"), "train")) == 20
    with pytest.raises(UserError, match="got none: the release marks nobody of LEEDS and FLIC"):
        open_dataset(str(tmp_path / "lmdb"), "val")
