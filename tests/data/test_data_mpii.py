"""MPII's annotations, as .mat and as .json, and their release records."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import scipy.io
from matlab_fakes import person, points, struct, structs, write_mpii
from support import data_root

from cpm_repro.data import open_dataset
from cpm_repro.data.annotations import PeopleDataset, split_people
from cpm_repro.data.mpii import mark_validation, read_mpii_json, read_mpii_mat, read_val_pairs
from cpm_repro.data.release_records import annotation_records
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, MPII16, Visibility


@pytest.fixture
def mpii(tmp_path):
    no_points = {"scale": 1.0, "objpos": struct(x=5.0, y=6.0)}
    no_scale = {"annopoints": points(range(16))}
    write_mpii(
        tmp_path / "mpii_human_pose_v1_u12_1.mat",
        [
            ("a.jpg", [person(), person(ids=[0, 9, 15], visible=["0", 1.0, None])]),
            ("test.jpg", [no_scale]),
            ("b.jpg", [no_points, person(scale=1.5)]),
            ("c.jpg", [no_scale]),
            ("d.jpg", []),
        ],
        [1, 0, 1, 1, 1],
    )
    return tmp_path


def test_mpii_with_its_gaps(mpii):
    annotations = read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat")
    assert annotations.read == 5
    assert [str(p) for p in annotations.problems] == [
        "image 3 person 1: no points (annopoints)",
        "image 4 person 1: no objpos or no scale",
    ]
    assert [(image.path, image.number, len(image.people)) for image in annotations.images] == [
        ("a.jpg", 1, 2),
        ("b.jpg", 3, 1),
    ]
    whole, part = annotations.images[0].people
    assert whole.joints[4] == pytest.approx([111, 77.5])  # 100 + 3 * 4 - 1, 50.5 + 7 * 4 - 1
    assert (whole.visible == Visibility.VISIBLE).all()
    assert whole.center == pytest.approx([119, 89])
    assert whole.scale == 2.5
    assert whole.box.tolist() == [79, 39, 94, 59]
    assert annotations.images[1].people[0].number == 2
    wanted = np.full(16, Visibility.CROPPED)
    wanted[[0, 9, 15]] = [Visibility.OCCLUDED, Visibility.VISIBLE, Visibility.VISIBLE]
    assert np.array_equal(part.visible, wanted)


def test_mpii_splits(mpii):
    annotations = read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat")
    release = mark_validation(annotations, [(1, 2)])
    assert [p.split for _, p in release.people()] == ["train", "val", "train"]
    strict = mark_validation(annotations, [(1, 2)], drop_others=True)
    assert [p.split for _, p in strict.people()] == ["unused", "val", "train"]
    assert split_people(strict, "train") == [2]
    assert split_people(strict, "val") == [1]


def test_the_released_validation_pairs():
    pairs = read_val_pairs(data_root("mpii_val_pairs.npz"))
    assert len(pairs) == 2958


def test_validation_pairs_as_released(tmp_path):
    scipy.io.savemat(
        tmp_path / "detections.mat",
        {"RELEASE_img_index": np.array([[7, 7, 9]]), "RELEASE_person_index": np.array([[1, 2, 1]])},
    )
    assert read_val_pairs(tmp_path / "detections.mat") == {(7, 1), (7, 2), (9, 1)}


def test_mpii_records(mpii):
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(mpii / name), np.zeros((200, 300, 3), np.uint8))
    annotations = mark_validation(read_mpii_mat(mpii / "mpii_human_pose_v1_u12_1.mat"), [(3, 2)])
    first, second, third = annotation_records(annotations, "MPI", lambda _: (300, 200))
    assert (first.dataset, first.img_width, first.img_height, first.others) == ("MPI", 300, 200, 1)
    assert first.objpos == pytest.approx([120, 90])
    assert first.joint_self[4] == pytest.approx([112, 78.5, 1])
    assert second.joint_self[[0, 1, 9]] == pytest.approx(
        np.array([[100, 50.5, 0], [0, 0, 0], [127, 113.5, 1]])
    )
    assert second.joint_others[0] == pytest.approx(first.joint_self)
    assert (third.is_validation, third.annolist_index, third.people_index, third.others) == (True, 3, 2, 0)


def test_mpii_samples_are_in_the_nets_order(mpii):
    cv2.imwrite(str(mpii / "a.jpg"), np.zeros((200, 300, 3), np.uint8))
    cv2.imwrite(str(mpii / "b.jpg"), np.zeros((200, 300, 3), np.uint8))
    sample = open_dataset(str(mpii), "val")[0]
    assert sample.joints.shape == (2, 14, 2)
    head = MPII16.index("head")
    assert sample.joints[0, 0] == pytest.approx([99 + 3 * head, 49.5 + 7 * head])
    assert sample.scale == 2.5


@pytest.mark.parametrize(
    "content", [{}, {"RELEASE": np.zeros(3)}, {"RELEASE": struct(annolist=structs([{}]))}]
)
def test_not_mpii(tmp_path, content):
    scipy.io.savemat(tmp_path / "x.mat", content)
    with pytest.raises(UserError, match=r"x\.mat: expected"):
        read_mpii_mat(tmp_path / "x.mat")


def test_truncated_mat(mpii):
    path = mpii / "mpii_human_pose_v1_u12_1.mat"
    whole = path.read_bytes()
    for keep in (0, 60, 300, len(whole) // 2):
        path.write_bytes(whole[:keep])
        with pytest.raises(UserError, match=r"1\.mat: wanted a whole MATLAB file"):
            read_mpii_mat(path)


@pytest.mark.parametrize(("scale", "what"), [(0.0, "scale"), (-2.0, "scale"), (np.nan, "scale")])
def test_bad_people_are_reported_and_strict_stops(tmp_path, scale, what):
    write_mpii(tmp_path / "x.mat", [("a.jpg", [person(scale=scale), person()])], [1])
    annotations = read_mpii_mat(tmp_path / "x.mat")
    assert annotations.read == 2 == 1 + len(annotations.problems)
    assert what in annotations.problems[0].what
    assert annotations.problems[0].id == "image 1 person 1"
    with pytest.raises(UserError, match="image 1 person 1"):
        read_mpii_mat(tmp_path / "x.mat", strict=True)


def test_flags_of_mpii_that_are_no_numbers_are_no_training_images(tmp_path):
    """Found by `make fuzz`: an array where 0 or 1 is due was a traceback."""
    annolist = structs(
        [{"image": struct(name=f"{n}.jpg"), "annorect": structs([person()])} for n in range(4)]
    )
    flags = np.empty((1, 4), object)
    flags[0] = [1.0, "x", structs([{"a": 1.0}, {"a": 2.0}]), np.zeros((0, 0))]
    scipy.io.savemat(tmp_path / "m.mat", {"RELEASE": struct(annolist=annolist, img_train=flags)})
    assert [image.path for image in read_mpii_mat(tmp_path / "m.mat").images] == ["0.jpg"]


@pytest.mark.slow
def test_a_file_of_mpiis_size_is_read_in_a_minute_and_2_gb(tmp_path):
    """25,000 images with about 37,000 people of 16 points; writing them takes scipy longer."""
    people = [[person(visible=[1.0] * 16)] * (1 + k % 2) for k in range(25_000)]
    images = [(f"{k:09d}.jpg", group) for k, group in enumerate(people)]
    write_mpii(tmp_path / "mpii.mat", images, [1] * len(images))
    code = (
        "import resource, sys, time; from cpm_repro.data import read_mpii_mat; start = time.perf_counter(); "
        "read = read_mpii_mat(sys.argv[1]).read; "
        "print(read, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "mpii.mat")]
    read, seconds, kilobytes = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(read) == 37_500
    assert float(seconds) < 60
    assert int(kilobytes) < 2_000_000


def test_the_real_mpii_json():
    folder = data_root("mpii_sample")
    annotations = read_mpii_json(folder / "annotations.json")
    assert (annotations.read, len(annotations.problems)) == (5, 0)
    image, first = next(annotations.people())
    assert image.path == "005808361.jpg"
    assert first.joints[0] == pytest.approx([803, 710])
    assert first.center == pytest.approx([965, 339])
    dataset = PeopleDataset(annotations, folder / "images", CPM14)
    sample = dataset[0]
    height, width = sample.image.shape[:2]
    drawn = sample.joints[0][sample.visible[0] != Visibility.CROPPED]
    assert (drawn >= 0).all()
    assert (drawn < [width, height]).all()


def test_a_joint_beyond_one_side_of_the_picture_is_not_a_missing_one(tmp_path):
    joints = [[i + 1, 2 * i + 1] for i in range(16)]
    joints[3:6] = [-7, 40], [40, 0], [-1, 0]
    person = {"image": "a.jpg", "center": [10, 20], "scale": 1.0, "joints": joints}
    (tmp_path / "x.json").write_text(json.dumps([person]))
    ((_, read),) = read_mpii_json(tmp_path / "x.json").people()
    assert np.flatnonzero(read.visible == Visibility.CROPPED).tolist() == [5]
    assert read.joints[3] == pytest.approx([-8, 39])


def test_mpii_json_problems(tmp_path):
    good = {
        "image": "a.jpg",
        "center": [10, 20],
        "scale": 1.0,
        "joints": [[i + 1, 2 * i + 1] for i in range(16)],
    }
    bad = [
        {**good, "joints": [[1, 2]]},
        {**good, "scale": 0},
        {"image": "b.jpg"},
        {**good, "joints": [[-1, -1]] * 16},
    ]
    bad.append({**good, "joints": [[np.nan, 3.0]] * 16})
    (tmp_path / "x.json").write_text(json.dumps([good, *bad]))
    annotations = read_mpii_json(tmp_path / "x.json")
    assert (annotations.read, len(annotations.problems)) == (6, 5)
    whats = " | ".join(problem.what for problem in annotations.problems)
    for word in ("16 joints", "scale", "image", "no labelled joint", "NaN"):
        assert word in whats


def test_flags_that_are_empty_count_as_visible(tmp_path):
    """As the .mat's do; they were taken for hidden ones."""
    item = {
        "image": "a.jpg",
        "center": [50, 60],
        "scale": 1.0,
        "joints": [[0, 0] if i == 3 else [10 + i, 20 + i] for i in range(16)],
        "joints_vis": [0, 1, None] + [1] * 13,
    }
    (tmp_path / "x.json").write_text(json.dumps([item]))
    (person,) = (person for _, person in read_mpii_json(tmp_path / "x.json").people())
    wanted = [Visibility.OCCLUDED, Visibility.VISIBLE, Visibility.VISIBLE, Visibility.CROPPED]
    assert person.visible[:4].tolist() == wanted
