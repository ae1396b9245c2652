"""Data sets of people's own: COCO key points and CSV tables, in a folder that is opened."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from cpm_repro.data import open_dataset, read_annotations
from cpm_repro.data.annotations import DataWarning, split_people
from cpm_repro.data.coco import read_coco
from cpm_repro.data.commands import lmdb_command
from cpm_repro.data.csv_table import read_csv
from cpm_repro.data.image_sizes import ImageSizes
from cpm_repro.data.record_set import read_record_set
from cpm_repro.data.skeleton_file import read_skeleton
from cpm_repro.errors import UserError
from cpm_repro.skeleton import skeleton_from_names


def coco(parts: list[str]) -> dict:
    rng = np.random.default_rng(0)
    people = []
    for index in range(20):
        flags = rng.integers(0, 3, len(parts))
        flags[0], flags[1] = 2, 1
        keypoints = np.column_stack([rng.integers(5, 60, (len(parts), 2)), flags]).ravel().tolist()
        people.append({"id": index, "image_id": index // 2, "keypoints": keypoints, "bbox": [1, 2, 30, 60]})
    return {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(10)],
        "annotations": people,
        "categories": [{"id": 1, "name": "dog", "keypoints": parts, "skeleton": [[1, 2]]}],
    }


def test_coco_with_another_number_of_parts(tmp_path):
    parts = ["nose", "left_ear", "right_ear", "tail"]
    content = coco(parts)
    content["annotations"][3]["keypoints"][2] = 7
    content["annotations"][4]["image_id"] = 99
    content["annotations"].append({**content["annotations"][5]})
    content["annotations"].append({"id": 50, "iscrowd": 1})
    (tmp_path / "dogs.json").write_text(json.dumps(content))
    for n in range(10):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.zeros((70, 80, 3), np.uint8))
    annotations = read_coco(tmp_path / "dogs.json")
    assert (annotations.read, len(annotations.problems)) == (21, 3)
    assert annotations.skeleton.flip_pairs == ((2, 1),)
    assert annotations.skeleton.limbs == ((0, 1),)
    flags = np.array(content["annotations"][0]["keypoints"]).reshape(4, 3)[:, 2]
    assert annotations.images[0].people[0].visible.tolist() == [[2, 0, 1][flag] for flag in flags]
    first = annotations.images[0].people[0]
    assert first.scale == 60 / 200
    assert first.box.tolist() == [1, 2, 31, 62]
    train, val = (open_dataset(str(tmp_path), split) for split in ("train", "val"))
    assert len(train.skeleton) == 4
    assert len(train) + len(val) == 18
    assert not {train[i].id.split("#")[0] for i in range(len(train))} & {
        val[i].id.split("#")[0] for i in range(len(val))
    }
    assert val[0].center == pytest.approx([16, 32])


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "categories": [{"name": "x", "keypoints": ["a", "b"], "skeleton": [[1, 2]]}],
    "annotations": [{"id": 1, "image_id": 1, "keypoints": [1, 2, 2, 3, 4, 1], "bbox": [0, 0, 9, 9]}],
}


@pytest.mark.parametrize(
    ("key", "item"),
    [
        ("images", 7), ("annotations", None), ("categories", "x"),
        ("images", {"id": [1], "file_name": "a.jpg"}),
        ("annotations", {"id": {}, "image_id": 1}), ("annotations", {"id": 2, "image_id": [1]}),
        ("categories", {"name": "x", "keypoints": [1, 2]}), ("categories", {"name": "x", "keypoints": "ab"}),
        ("categories", {"keypoints": ["a", "b"], "skeleton": [[2]]}),
        ("categories", {"keypoints": ["a", "b"], "skeleton": [[1, "2"]]}),
        ("categories", {"keypoints": ["a", "b"], "skeleton": 7}),
    ],
)  # fmt: skip
def test_a_coco_file_of_other_things_is_refused_in_one_line(tmp_path, key, item):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(COCO))
    assert read_coco(path).read == 1
    path.write_text(json.dumps(COCO | {key: [item]}))
    with pytest.raises(UserError, match=r"coco\.json: "):
        read_coco(path)


THREE = COCO | {
    "categories": [{"name": "x", "keypoints": ["wrist", "thumb", "tip"]}],
    "annotations": [{"id": 1, "image_id": 1, "keypoints": [1, 2, 2, 3, 4, 1, 5, 6, 2]}],
}


def test_parts_of_a_skeleton_file_are_found_by_their_names(tmp_path):
    """They were taken in the file's order: the wrist's place was called tip."""
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(THREE))
    for parts, joints in (
        (("tip", "thumb", "wrist"), [[5, 6], [3, 4], [1, 2]]),
        (("tip", "wrist"), [[5, 6], [1, 2]]),
        (("mine 1", "mine 2", "mine 3"), [[1, 2], [3, 4], [5, 6]]),
    ):
        annotations = read_coco(path, skeleton_from_names("hand", parts))
        (person,) = (person for _, person in annotations.people())
        assert annotations.skeleton.parts == parts
        assert person.joints.tolist() == joints
    for parts, absent in ((("tip", "thumb", "palm"), "palm"), (("a", "b"), "a")):
        with pytest.raises(UserError, match=f"has a part {absent}, the file's key points are wrist, thumb"):
            read_coco(path, skeleton_from_names("hand", parts))


def test_an_image_id_of_two_files_belongs_to_neither(tmp_path):
    """Two files put together, each of which counts from 1: everybody was put on the last one's pictures."""
    path = tmp_path / "coco.json"
    images = [{"id": 1, "file_name": name} for name in ("a.jpg", "b.jpg", "a.jpg")]
    path.write_text(json.dumps(THREE | {"images": images}))
    annotations = read_coco(path)
    assert (annotations.read, annotations.images) == (1, ())
    assert [str(problem) for problem in annotations.problems] == [
        "annotation 1: image_id 1 is a.jpg and b.jpg"
    ]
    path.write_text(json.dumps(THREE | {"images": images[::2]}))
    assert len(read_coco(path).images) == 1


def test_annotations_without_an_id_are_not_one(tmp_path):
    path = tmp_path / "coco.json"
    item = THREE["annotations"][0]
    items = [{**item, "id": None}, {**item, "id": None}, item, {k: item[k] for k in item if k != "id"}]
    path.write_text(json.dumps(THREE | {"annotations": items}))
    assert not read_coco(path).problems


@pytest.mark.parametrize("bbox", ["x", [1, "x"], {"a": 1}, [[1], [2, 3]], [10**400, 0, 1, 1]])
def test_a_box_that_is_none_is_reported(tmp_path, bbox):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(COCO | {"annotations": [COCO["annotations"][0] | {"bbox": bbox}]}))
    assert len(read_coco(path).problems) == 1


def test_csv_with_a_skeleton_file(tmp_path):
    (tmp_path / "skeleton.toml").write_text(
        'name = "hand"\nparts = ["root", "left_tip", "right_tip"]\n'
        'flip_pairs = [["left_tip", "right_tip"]]\nlimbs = [["root", "left_tip"]]\n'
    )
    header = "image,right_tip_x,right_tip_y,root_x,root_y,left_tip_x,left_tip_y,left_tip_visible,split"
    rows = ["a.png,1,2,10,20,30.5,40,0,train", "b.png,,,11,21,31,41,1,val", "c.png,x,2,3,4,5,6,1,val"]
    (tmp_path / "hands.csv").write_text("\n".join([header, *rows]) + "\n")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 60, 3), np.uint8))
    skeleton = read_skeleton(tmp_path / "skeleton.toml")
    annotations = read_csv(tmp_path / "hands.csv", skeleton)
    assert [str(p) for p in annotations.problems] == ["line 4: right_tip_x: expected a number, got 'x'"]
    sample = open_dataset(str(tmp_path), "train")[0]
    assert sample.joints[0].tolist() == [[10, 20], [30.5, 40], [1, 2]]
    assert sample.visible[0].tolist() == [1, 0, 1]
    assert annotations.images[1].people[0].visible.tolist() == [1, 1, 2]
    assert len(open_dataset(str(tmp_path), "val")) == 1


def test_people_left_out_are_named_when_a_data_set_is_opened(tmp_path):
    (tmp_path / "x.csv").write_text(
        "image,a_x,a_y,b_x,b_y,split\na.png,1,2,3,4,train\na.png,,,,,train\nq.png,1,2,3,4,val\n"
    )
    with pytest.warns(DataWarning, match="3 people read, 2 used, 1 reported: line 3: no labelled joint"):
        open_dataset(str(tmp_path), "train")


def test_a_path_that_leaves_the_data_folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((60, 60, 3), np.uint8))
    (folder / "x.csv").write_text(
        "image,a_x,a_y,b_x,b_y,split\n../secret.png,1,2,3,4,train\nq.png,1,2,3,4,val\n"
    )
    dataset = open_dataset(str(folder), "train")
    with pytest.raises(UserError, match="leaves it"):
        dataset[0]


def test_two_annotation_files(tmp_path):
    for name in ("a.json", "b.csv"):
        (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=r"a\.json, b\.csv"):
        open_dataset(str(tmp_path), "train")


@pytest.mark.parametrize(
    ("column", "other"), [("tip_x", "tip_y"), ("tip_y", "tip_x"), ("center_x", "center_y")]
)
def test_half_a_point_is_refused(tmp_path, column, other):
    """The part was left out without a word."""
    (tmp_path / "x.csv").write_text(f"image,root_x,root_y,{column}\na.png,1,2,3\n")
    with pytest.raises(UserError, match=f"expected a column {other} beside {column}"):
        read_csv(tmp_path / "x.csv")


def test_a_line_that_is_not_the_headers_is_reported_by_its_number(tmp_path):
    """A comma too many, of a decimal say, moved every number behind it; a cut line lost its last points."""
    lines = [
        "image, left_tip_x, left_tip_y, right_tip_x, right_tip_y, right_tip_visible",
        "a.png, 10, 20, 30, 40, 0",
        "",
        "b.png,10,5,20,30,40,1",
        "c.png,10,20,30",
        "d.png,10,20,30,40,1,,",
        "e.png,10,20,30,40,2",
        "f.png,10,20, ,,",
        "g.png,10,20,30,4O,1",
    ]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    annotations = read_csv(tmp_path / "x.csv")
    assert annotations.skeleton.parts == ("left_tip", "right_tip")
    assert annotations.skeleton.flip_pairs == ((1, 0),)
    assert [str(problem) for problem in annotations.problems] == [
        "line 4: expected 6 cells as in the header, got 7",
        "line 5: expected 6 cells as in the header, got 4",
        "line 7: right_tip_visible: expected 1, 0 (hidden) or nothing, got 2",
        "line 8: the box of the labelled joints has no size",
        "line 9: right_tip_y: expected a number, got '4O'",
    ]
    assert [image.path for image in annotations.images] == ["a.png", "d.png"]
    assert annotations.images[0].people[0].visible.tolist() == [1, 0]


def test_blanks_before_a_cell_do_not_count(tmp_path):
    (tmp_path / "x.csv").write_text('a_x, a_y, b_x, b_y, image\n1, 2, 3, 4, "in, out.png"\n')
    assert [image.path for image in read_csv(tmp_path / "x.csv").images] == ["in, out.png"]


def test_a_column_that_comes_twice_is_refused(tmp_path):
    """The last one counted."""
    (tmp_path / "x.csv").write_text("image,a_x,a_y,b_x,b_y,b_x\na.png,1,2,3,4,50\n")
    with pytest.raises(UserError, match="expected one column b_x, got several"):
        read_csv(tmp_path / "x.csv", skeleton_from_names("mine", ("a", "b")))


def test_a_part_cannot_be_called_center(tmp_path):
    """Of a table of one part called so it was said that it wanted columns center_x and center_y."""
    (tmp_path / "x.csv").write_text("image,center_x,center_y\na.png,1,2\n")
    for skeleton in (None, skeleton_from_names("ball", ("center",))):
        with pytest.raises(UserError, match="center_x and center_y are somebody's place and no part"):
            read_csv(tmp_path / "x.csv", skeleton)


def test_half_a_centre_is_reported(tmp_path):
    """The box of the joints stood in without a word."""
    (tmp_path / "x.csv").write_text("image,a_x,a_y,b_x,b_y,center_x,center_y\na.png,1,2,3,4,5,\n")
    assert "one of them" in str(read_csv(tmp_path / "x.csv").problems[0])


@pytest.mark.parametrize("split", [False, True])
def test_an_lmdb_holds_the_same_people_out_as_the_table(tmp_path, split):
    """A table without a split made an LMDB of nobody to validate on, with which no training begins."""
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    folder = tmp_path / "pairs"
    folder.mkdir()
    lines = ["image,a_x,a_y,b_x,b_y,center_x,center_y,scale,split"]
    for n in range(20):
        cv2.imwrite(str(folder / f"{n}.png"), np.zeros((70, 80, 3), np.uint8))
        mark = ("train", "val", "test", "")[n % 4] if split else ""
        lines += [f"{n}.png,{n + 1},20,40,50,30,40,0.3,{mark}"] * 2
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    (folder / "skeleton.toml").write_text('parts = ["a", "b"]\n')
    said = lmdb_command([folder], tmp_path / "lmdb")
    assert ("30 used, 10 left out" if split else "40 used, 0 left out") in said
    (tmp_path / "lmdb" / "skeleton.toml").write_text('parts = ["a", "b"]\n')
    for part in ("train", "val"):
        table, lmdb = (open_dataset(str(tmp_path / name), part) for name in ("pairs", "lmdb"))
        places = [sorted(s[i].joints[0, 0, 0] for i in range(len(s))) for s in (table, lmdb)]
        assert places[0] == places[1]
        assert (
            len(places[0])
            == {("train", False): 36, ("val", False): 4, ("train", True): 20, ("val", True): 10}[part, split]
        )


def test_suffixes_in_capitals_are_read_too(tmp_path):
    """As Windows and cameras write them."""
    (tmp_path / "X.CSV").write_text("image,a_x,a_y,b_x,b_y,split\na.PNG,1,2,3,4,train\nb.PNG,1,2,3,4,val\n")
    for path in (tmp_path, tmp_path / "X.CSV"):
        assert len(open_dataset(str(path), "train")) == 1
    (tmp_path / "X.CSV").rename(tmp_path / "X.txt")
    (tmp_path / "C.JSON").write_text(json.dumps(COCO))
    assert read_annotations(tmp_path)[0].read == 1


@pytest.mark.parametrize(
    ("marks", "train", "val"),
    [("train val test", "0 3", "1"), ("train test test", "0 3", "1 2"), ("val val val", "3", "0 1 2")],
)
def test_a_split_that_the_table_says_is_believed(tmp_path, marks, train, val):
    """Who bears no mark trains; "test" stands in where nobody is "val", and else is in neither."""
    rows = [f"{n}.png,1,2,3,4,{mark}" for n, mark in enumerate([*marks.split(), ""])]
    (tmp_path / "x.csv").write_text("\n".join(["image,a_x,a_y,b_x,b_y,split", *rows]) + "\n")
    annotations = read_csv(tmp_path / "x.csv")
    for split, people in (("train", train), ("val", val)):
        assert split_people(annotations, split) == [int(n) for n in people.split()]


def test_others_without_a_scale_are_not_in_the_records(tmp_path):
    """Their numbers would be NaN, which no record holds."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((70, 80, 3), np.uint8))
    header = "image,a_x,a_y,b_x,b_y,center_x,center_y,scale"
    (tmp_path / "x.csv").write_text(f"{header}\na.png,1,2,30,40,15,20,.3\na.png,5,6,50,60,30,30,\n")
    people = read_record_set(tmp_path / "x.csv", ImageSizes())
    assert [record.others for record in people.records] == [0]
    assert "no centre or no scale" in str(people.problems[0])


@pytest.mark.parametrize(
    ("files", "words"), [(2, "0.json, 1.json"), (500, "0.json, 1.json, 10.json, 100.json or another of 500")]
)
def test_a_folder_of_many_tables_is_told_of_a_few(tmp_path, files, words):
    """One JSON per picture, as labelling programs and `cpm predict` write: the line named all of them."""
    for number in range(files):
        (tmp_path / f"{number}.json").write_text("{}")
    with pytest.raises(UserError, match=rf"which one holds the annotations, {words}\? Give the file's path"):
        open_dataset(str(tmp_path), "train")
