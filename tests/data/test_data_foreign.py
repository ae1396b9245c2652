"""Files that nobody vouches for: read, reported person by person, or refused in one line."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import scipy.io
from data_fakes import lspet_joints, write_lspet
from matlab_fakes import flic_example, structs

from cpm_repro.data import (
    check_data,
    open_dataset,
    read_coco,
    read_csv,
    read_mpii_json,
    read_skeleton,
    split_people,
)
from cpm_repro.data.annotations import DataWarning
from cpm_repro.data.commands import json_command, lmdb_command
from cpm_repro.data.compact_record import parse_compact
from cpm_repro.data.datum_record import decode_record, encode_record
from cpm_repro.data.flic import read_flic
from cpm_repro.data.image_sizes import ImageSizes, noted_sizes
from cpm_repro.data.lmdb_write import write_lmdb
from cpm_repro.data.mpii_test import write_mpii_release
from cpm_repro.data.record_json import format_record, read_records, record_of
from cpm_repro.data.record_set import read_record_set
from cpm_repro.errors import UserError
from cpm_repro.files import inside

RECORD = {
    "dataset": "MPI", "isValidation": 0, "img_paths": "a.png", "img_width": 100, "img_height": 120,
    "objpos": [50, 60], "joint_self": [[10 + i, 20 + i, 1] for i in range(16)], "scale_provided": 1,
    "joint_others": [], "scale_provided_other": [], "objpos_other": [], "annolist_index": 1,
    "people_index": 1, "numOtherPeople": 0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((120, 100, 3), np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"people_index": -1}, {"people_index": 10**30}, {"annolist_index": 10**30}, {"numOtherPeople": -1},
        {"dataset": "../../evil"}, {"dataset": "a\0b"}, {"dataset": "\udcff"}, {"dataset": 7},
        {"img_paths": "a\0.png"}, {"img_paths": "/etc/hostname"},
        {"objpos": [50, 1e300]}, {"objpos": [50, "1" * 50]}, {"scale_provided": 1e-300},
        {"joint_self": [[1e300, 1, 1], *RECORD["joint_self"][1:]]},
        {"joint_self": [[float("nan"), 1, 1], *RECORD["joint_self"][1:]]},
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_is_reported(folder, change):
    file = folder / "records.json"
    file.write_text(json.dumps({"root": [{**RECORD, "people_index": 2, **change}, RECORD]}))
    people = read_record_set(file, ImageSizes(), folder)
    assert (len(people.records), len(people.problems)) == (1, 1)
    json_command(file, folder / "out")
    assert [path.name for path in (folder / "out").iterdir()] == ["MPI_annotations.json"]
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    assert "1 people of 1 images" in lmdb_command([file], folder / "lmdb", [folder])


@pytest.mark.parametrize("dataset", ["HÄNDE", "", "x" * 64])
def test_a_name_that_the_annotation_plane_cannot_hold_is_reported(folder, dataset):
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    (folder / "r.json").write_text(json.dumps({"root": [{**RECORD, "dataset": dataset, "img_width": 60}]}))
    cv2.imwrite(str(folder / "a.png"), np.zeros((120, 60, 3), np.uint8))
    with pytest.raises(UserError, match=r"name in ASCII|rows of 65 bytes"):
        lmdb_command([folder / "r.json"], folder / "lmdb", [folder])
    assert "1 people of 1 images" in lmdb_command([folder / "r.json"], folder / "c", [folder], compact=True)


def test_another_number_of_joints_under_a_released_name_is_reported(folder):
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    (folder / "r.json").write_text(json.dumps({"root": [{**RECORD, "joint_self": [[10, 20, 1]] * 17}]}))
    with pytest.raises(UserError, match="expected 16 joints of MPI, got 17"):
        lmdb_command([folder / "r.json"], folder / "lmdb", [folder])


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e7])
@pytest.mark.parametrize("row", [3, 4, 5, 6])
def test_numbers_of_a_stored_record_that_make_no_sense(row, number):
    record = record_of(RECORD, "x")
    raw = bytearray(encode_record(np.zeros((120, 100, 3), np.uint8), record, 0, 1))
    decode_record(bytes(raw), "key 7")
    start = raw.index(b"MPI\0") + row * 100
    raw[start : start + 4] = np.float32(number).tobytes()
    with pytest.raises(UserError, match="key 7: "):
        decode_record(bytes(raw), "key 7")


def test_a_large_number_of_an_image_is_no_damage():
    record = record_of({**RECORD, "annolist_index": 1 << 30}, "x")
    raw = encode_record(np.zeros((120, 100, 3), np.uint8), record, 0, 1)
    assert decode_record(raw, "key 7")[1].annolist_index == 1 << 30


def test_numbers_of_a_compact_record_that_make_no_sense():
    text = format_record(record_of(RECORD, "x"))
    parse_compact(b"0000000" + text.encode(), "key 7")
    with pytest.raises(UserError, match="key 7: scale"):
        parse_compact(b"0000000" + text.replace('provided": 1.000', 'provided": NaN').encode(), "key 7")


COCO = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "categories": [{"id": 1, "name": "x", "keypoints": ["a", "b"]}, {"id": 2, "name": "y"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 30, 40, 1]}],
}


def test_coco_people_of_another_category_are_no_people(folder):
    other = {"id": 2, "image_id": 1, "category_id": 2, "keypoints": [3, 4, 2, 50, 60, 2]}
    path = folder / "coco.json"
    path.write_text(json.dumps(COCO | {"annotations": [*COCO["annotations"], other]}))
    annotations = read_coco(path)
    assert annotations.read == 1
    assert annotations.images[0].people[0].joints[0].tolist() == [1, 2]
    path.write_text(json.dumps(COCO | {"annotations": [{**other, "category_id": [2]}]}))
    with pytest.raises(UserError, match="plain ids"):
        read_coco(path)


def test_coco_categories_of_the_same_key_points_are_one(folder):
    """Of animals of 54 kinds, each of the same 17 key points, those of the first kind alone were read."""
    kinds = [{"id": n, "name": f"kind {n}", "keypoints": ["a", "b"]} for n in range(1, 4)]
    kinds.append({"id": 4, "name": "hand", "keypoints": ["a", "c"]})
    people = [{**COCO["annotations"][0], "id": n, "category_id": n} for n in range(1, 5)]
    path = folder / "coco.json"
    path.write_text(json.dumps(COCO | {"categories": kinds, "annotations": people}))
    assert (read_coco(path).read, read_coco(path).problems) == (3, ())


def test_coco_without_ids(folder):
    path = folder / "coco.json"
    plain = {}
    for key, items in COCO.items():
        plain[key] = [{k: v for k, v in item.items() if not k.endswith("id")} for item in items]
    path.write_text(json.dumps(plain))
    assert read_coco(path).read == 1


@pytest.mark.parametrize("key", ["joints", "joints_vis", "center", "scale", "image"])
def test_mpii_json_with_numbers_that_are_none(tmp_path, key):
    person = {"image": "a.png", "center": [9, 9], "scale": 1, "joints": [[i + 1, i + 2] for i in range(16)]}
    huge = {"joints": [[10**400, 1]] * 16, "joints_vis": [10**400] * 16, "center": [10**400, 1], "image": 7}
    (tmp_path / "x.json").write_text(json.dumps([person, {**person, key: huge.get(key, 10**400)}]))
    read = read_mpii_json(tmp_path / "x.json")
    assert (read.read, len(read.problems)) == (2, 1)


def test_a_split_of_another_name_is_reported(tmp_path):
    """Else the marks were passed over and every 18th image held out."""
    (tmp_path / "x.csv").write_text(
        "image,a_x,a_y,b_x,b_y,split\na.png,1,2,3,4,train\nb.png,1,2,3,4,validation\nc.png,1,2,3,4,\n"
    )
    (problem,) = read_csv(tmp_path / "x.csv").problems
    assert str(problem) == "line 3: split: expected train, val, test or nothing, got validation"


def test_own_data_that_bear_a_known_name_are_own_data(folder):
    for name in ("flic", "mpii", "lsp"):
        (folder / f"{name}.csv").write_text("image,a_x,a_y,b_x,b_y\na.png,1,2,30,40\n")
        assert "1 people read, 1 used" in check_data(folder / f"{name}.csv").summary
        assert open_dataset(str(folder / f"{name}.csv"), "val").name == f"own {name}"


@pytest.mark.parametrize("compact", [False, True])
def test_people_of_own_data_go_through_an_lmdb(tmp_path, compact):
    """The records do not say how many joints they have, and people are counted in their image."""
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    rows = ["image,a_x,a_y,b_x,b_y,c_x,c_y,center_x,center_y,scale"]
    for n in range(260):
        rows.append(f"{n // 2}.png,{n % 50},12,{n % 40 + 20},50,33,{n % 90},40,40,0.5")
        cv2.imwrite(str(tmp_path / f"{n // 2}.png"), np.zeros((100, 80, 3), np.uint8))
    (tmp_path / "own.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "lmdb"
    assert "260 people read, 260 used" in lmdb_command([tmp_path / "own.csv"], out, compact=compact)
    with pytest.raises(UserError, match=r"records of OWN are not the release's.*skeleton\.toml"):
        open_dataset(str(out), "train")
    (out / "skeleton.toml").write_text('parts = ["a", "b", "c"]\n')
    splits = [open_dataset(str(out), "train"), open_dataset(str(out), "val")]
    assert [(len(stored), len(stored.skeleton)) for stored in splits] == [(244, 3), (16, 3)]
    joints = sorted(stored[n].joints[0].ravel().tolist() for stored in splits for n in range(len(stored)))
    assert joints == sorted([n % 50, 12, n % 40 + 20, 50, 33, n % 90] for n in range(260))
    if compact:
        (out / "skeleton.toml").write_text('parts = ["a", "b", "c", "d"]\n')
        with pytest.raises(UserError, match="expected a record of 4 joints, got 3"):
            open_dataset(str(out), "train")[0]


@pytest.mark.parametrize("shape", [(3, 14, 2, 2), (14, 3, 2, 2), (3,), (14, 4)])
def test_joints_of_leeds_in_another_shape(tmp_path, shape):
    (tmp_path / "images").mkdir()
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.zeros(shape)})
    for read in (lambda path: open_dataset(path, "train"), lambda path: read_record_set(path, ImageSizes())):
        with pytest.raises(UserError, match=r"joints\.mat: expected"):
            read(tmp_path)


def test_the_path_may_name_lsp_extendeds_file(tmp_path):
    joints = lspet_joints(4)
    joints[:, 2] = 1
    file = write_lspet(tmp_path / "lspet", joints) / "joints.mat"
    assert len(open_dataset(str(file), "train")) == 3
    assert "4 people read, 4 used" in check_data(file).summary
    assert read_record_set(file, ImageSizes()).dataset == "LEEDS"


@pytest.mark.parametrize("array", range(8))
@pytest.mark.parametrize(("place", "value"), [(9, 0x08), (20, 0), (20, 1), (20, 4), (20, 7)])
def test_a_mat_file_whose_claims_scipy_believes(tmp_path, array, place, value):
    """Imaginary parts that are not there, and shapes of no or one axis, made SciPy end the process."""
    file = tmp_path / "examples.mat"
    scipy.io.savemat(file, {"examples": structs([flic_example(False), flic_example(True)])})
    raw = bytearray(file.read_bytes())
    flags = bytes([6, 0, 0, 0, 8, 0, 0, 0, 6, 0, 0, 0])  # of an array of doubles; its shape follows
    start = [at for at in range(len(raw)) if raw.startswith(flags, at)][array]
    raw[start + place] = value
    file.write_bytes(raw)
    with pytest.raises(UserError, match=r"examples\.mat: wanted a whole MATLAB file"):
        read_flic(file)


@pytest.mark.parametrize("release", [7.0, "x", {"annolist": 3.0}, {"annolist": {"image": 1.0}}])
def test_predictions_do_not_go_into_another_file(tmp_path, release):
    scipy.io.savemat(tmp_path / "x.mat", {"RELEASE": release})
    with pytest.raises(UserError, match=r"x\.mat: expected RELEASE"):
        write_mpii_release(tmp_path / "x.mat", tmp_path / "y.mat", {(1, 1): np.zeros((16, 2))}, range(16))
    assert not (tmp_path / "y.mat").exists()


@pytest.mark.parametrize(
    "line", [b"\xff\xfe{", b'["p", [1, 2], {}]', b'["p", [1], [Infinity, 1]]', b"[[], 1, 2]"]
)
def test_notes_that_are_none_are_passed_over(folder, line):
    (folder / "notes").write_bytes(line + b"\n")
    with noted_sizes(folder / "notes") as sizes:
        assert sizes(folder / "a.png") == (100, 120)


@pytest.mark.parametrize(
    "text", ["parts = " + "[" * 5000 + "]" * 5000, "x = " + "9" * 5000, "name = 3\nparts = ['a']"]
)
def test_skeletons_in_toml_that_are_none(tmp_path, text):
    (tmp_path / "skeleton.toml").write_text(text)
    with pytest.raises(UserError, match=r"skeleton\.toml: "):
        read_skeleton(tmp_path / "skeleton.toml")


@pytest.mark.parametrize(
    "text",
    [
        'name: !!int ""', 'name: !!float ""', 'name: !!bool "x"', 'name: !!timestamp "x"',
        "parts: 1" + ":1" * 400 + ":0.5", "parts: [a, b]\nlimbs: [[[a], b]]",
    ],
)  # fmt: skip
def test_skeletons_in_yaml_that_are_none(tmp_path, text):
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    (tmp_path / "skeleton.yaml").write_text(text)
    with pytest.raises(UserError, match=r"skeleton\.yaml: "):
        read_skeleton(tmp_path / "skeleton.yaml")


def test_a_small_yaml_file_that_would_be_a_long_text(tmp_path):
    """Nine lists of ten aliases each: a gigabyte once written out."""
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    lists = ["&a0 [x]", *(f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]
    bomb = "[" + ", ".join(lists) + "]"
    for text in (f"name: {bomb}\nparts: [a, b]", f"limbs: [[{bomb}, a]]\nparts: [a, b]"):
        (tmp_path / "skeleton.yaml").write_text(text)
        with pytest.raises(UserError, match=r"name to be a text|pairs of part names"):
            read_skeleton(tmp_path / "skeleton.yaml")


def test_paths_that_lead_nowhere(tmp_path):
    for relative in ("a\0b", "../x", "/x"):
        with pytest.raises(UserError, match="expected a path inside"):
            inside(tmp_path, relative)
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "x.csv").write_text("image,a_x,a_y,b_x,b_y,split\nround,1,2,3,4,train\nq.png,1,2,3,4,val\n")
    with pytest.raises(UserError, match="round: "):
        open_dataset(str(tmp_path), "train")[0]


def test_coordinates_out_of_this_world_are_reported(tmp_path):
    (tmp_path / "x.csv").write_text(
        "image,a_x,a_y,b_x,b_y,center_x,center_y,scale\n"
        "a,1e300,2,3,4,,,\nb,1,2,3,4,1e30,2,\nc,1,2,3,4,,,1e-30\nd,1,2,3,4,5,6,1\n"
    )
    with pytest.warns(DataWarning, match="4 people read, 1 used, 3 reported"):
        open_dataset(str(tmp_path), "val")
    (tmp_path / "r.json").write_text(json.dumps({"root": [{**RECORD, "annolist_index": 1e10}]}))
    with pytest.raises(UserError, match="is no count"):
        read_records(tmp_path / "r.json")


def test_people_without_a_mark_train_where_others_are_held_out(tmp_path):
    rows = [f"{n}.png,1,2,30,40,{mark}" for n, mark in enumerate(["", "val", "train", "", "test"])]
    (tmp_path / "x.csv").write_text("\n".join(["image,a_x,a_y,b_x,b_y,split", *rows]) + "\n")
    annotations = read_csv(tmp_path / "x.csv")
    assert split_people(annotations, "train") == [0, 2, 3]
    assert split_people(annotations, "val") == [1]


def test_a_box_of_three_numbers_is_reported(tmp_path):
    (tmp_path / "x.json").write_text(
        json.dumps(COCO | {"annotations": [{**COCO["annotations"][0], "bbox": [1, 2, 3]}]})
    )
    assert "bbox: four, or none" in str(read_coco(tmp_path / "x.json").problems[0])


@pytest.mark.parametrize("spec", ["synthetic+", "+synthetic", "synthetic+ "])
def test_a_mix_with_nothing(spec):
    """Else nothing was the folder that one is in."""
    with pytest.raises(UserError, match="on both sides"):
        open_dataset(spec, "train")


def test_an_image_that_is_gone_when_it_is_written(folder):
    pytest.importorskip("lmdb", reason="the lmdb package is not installed")
    record = record_of(RECORD, "x")
    for compact in (False, True):
        with pytest.raises(UserError, match=r"b\.png: (wanted an image file|cannot be read)"):
            write_lmdb([record], [folder / "b.png"], folder / f"lmdb{compact}", compact=compact)
