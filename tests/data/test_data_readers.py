"""Readers of the original files, tried on small files of exactly their structures."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import scipy.io
from support import data_root

from cpm_repro.data import open_dataset
from cpm_repro.data.annotations import DataWarning, PeopleDataset, split_people
from cpm_repro.data.flic import read_flic
from cpm_repro.data.lsp import read_lsp
from cpm_repro.data.mpii import mark_validation, read_mpii_json, read_mpii_mat, read_val_pairs
from cpm_repro.data.own import read_coco, read_csv
from cpm_repro.data.record import record_joints
from cpm_repro.data.release_records import annotation_records, leeds_records
from cpm_repro.data.skeleton_file import read_skeleton
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, FLIC9, MPII16, Visibility


def struct(**fields) -> np.ndarray:
    """One MATLAB struct."""
    array = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        array[name][0, 0] = value
    return array


def structs(items: list[dict]) -> np.ndarray:
    """A 1 x n struct array; MATLAB gives all elements the union of fields, empty where unset."""
    names = list(dict.fromkeys(name for item in items for name in item)) or ["none"]
    array = np.empty((1, len(items)), dtype=[(name, object) for name in names])
    for index, item in enumerate(items):
        for name in names:
            array[name][0, index] = item.get(name, np.zeros((0, 0)))
    return array


def points(ids, visible=None) -> np.ndarray:
    rows = [{"x": 100.0 + 3 * i, "y": 50.5 + 7 * i, "id": float(i)} for i in ids]
    for row, flag in zip(rows, visible or [], strict=False):
        if flag is not None:
            row["is_visible"] = flag
    return struct(point=structs(rows))


def person(ids=range(16), visible=None, scale=2.5, **extra) -> dict:
    return {
        "annopoints": points(ids, visible),
        "scale": scale,
        "objpos": struct(x=120.0, y=90.0),
        "x1": 80.0,
        "y1": 40.0,
        "x2": 95.0,
        "y2": 60.0,
        **extra,
    }


def write_mpii(path, images: list[tuple[str, list[dict]]], train: list[int]) -> None:
    annolist = structs(
        [
            {"image": struct(name=name), "annorect": structs(people) if people else np.zeros((0, 0))}
            for name, people in images
        ]
    )
    release = struct(annolist=annolist, img_train=np.array([train], float), version="12")
    scipy.io.savemat(path, {"RELEASE": release})


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


def test_lsp(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.uniform(5, 100, (3, 14, 1002))
    values[2] = rng.random((14, 1002)) < 0.2
    (tmp_path / "images").mkdir()
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": values})
    annotations = read_lsp(tmp_path / "joints.mat")
    assert annotations.read == 1002
    assert [p.split for _, p in annotations.people()] == ["train"] * 1000 + ["test"] * 2
    image, own = list(annotations.people())[1000]
    assert image.path == "im1001.jpg"
    assert own.joints == pytest.approx(values[:2, :, 1000].T - 1)
    assert np.array_equal(own.visible == Visibility.OCCLUDED, values[2, :, 1000] == 1)
    cv2.imwrite(str(tmp_path / "images" / "im1001.jpg"), np.zeros((120, 110, 3), np.uint8))
    dataset = open_dataset(str(tmp_path), "val")
    assert len(dataset) == 2
    assert dataset.skeleton is CPM14
    assert dataset[0].joints[0, 0] == pytest.approx(values[:2, 13, 1000] - 1, abs=1e-4)


def test_leeds_records(tmp_path):
    rng = np.random.default_rng(1)
    extended = rng.uniform(5, 100, (14, 3, 4))
    extended[:, 2] = rng.random((14, 4)) < 0.8
    extended[12:, 2] = 1
    plain = rng.uniform(5, 100, (3, 14, 3))
    plain[2] = 0
    plain[2, 2, 0] = 1
    scipy.io.savemat(tmp_path / "e.mat", {"joints": extended})
    scipy.io.savemat(tmp_path / "p.mat", {"joints": plain})

    def size(_: str) -> tuple[int, int]:
        return (110, 130)

    records = list(leeds_records(tmp_path / "e.mat", size, tmp_path / "p.mat"))
    assert [r.img_path for r in records][3:5] == [
        "lspet_dataset/images/im00004.jpg",
        "lsp_dataset/images/im0001.jpg",
    ]
    first, lsp = records[0], records[4]
    assert first.joint_self[:6] == pytest.approx(extended[:6, :, 0])
    assert first.joint_self[6:8].tolist() == [[0, 0, 0]] * 2
    assert first.joint_self[8:10] == pytest.approx(extended[12:, :, 0])
    seen = extended[:, 2, 0] == 1
    box = extended[seen, :2, 0]
    assert first.objpos == pytest.approx((box.min(axis=0) + box.max(axis=0)) / 2)
    assert lsp.joint_self[6:8].tolist() == [[0, 0, 1]] * 2
    assert lsp.joint_self[2, 2] == 0
    assert lsp.objpos == pytest.approx([55, 65])
    _, visible, _ = record_joints(lsp, 14)
    assert visible.shape == (1, 14)
    _, all16, _ = record_joints(lsp, 16)
    assert (all16[0, 6:8] == Visibility.CROPPED).all()


def flic_example(swap: bool, **changes) -> dict:
    coords = np.full((2, 29), np.nan)
    xs = [60.0, 70, 75, 40, 30, 25, 55, 45, 52, 48, 50]
    if swap:
        xs = [40.0, 30, 25, 60, 70, 75, 45, 55, 48, 52, 50]
    for column, x, y in zip((0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16), xs, range(30, 41), strict=True):
        coords[:, column] = x, y
    return {
        "filepath": "f.jpg", "coords": coords, "torsobox": np.array([[35.0, 20, 65, 120]]),
        "istrain": 1.0, "istest": 0.0, **changes,
    }  # fmt: skip


def test_flic(tmp_path):
    none = flic_example(False, coords=np.full((2, 29), np.nan))
    flat = flic_example(False, torsobox=np.array([[35.0, 20, 65, 20]]))
    examples = [
        flic_example(False),
        flic_example(True),
        none,
        flat,
        flic_example(False, istrain=0.0, istest=1.0),
    ]
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": structs(examples)})
    annotations = read_flic(tmp_path / "examples.mat")
    assert annotations.read == 5
    assert [problem.id for problem in annotations.problems] == ["example 3", "example 4"]
    own, away, test = annotations.images[0].people
    assert own.joints[0] == pytest.approx([59, 29])
    assert own.joints[8] == pytest.approx([49, 39])  # the nose
    assert own.joints[7] == pytest.approx([44, 36])
    assert own.scale == pytest.approx(1.1)
    assert own.center == pytest.approx([49, 0.7 * 19 + 0.3 * 119])
    assert (own.split, test.split) == ("train", "test")
    left, right = FLIC9.index("left_shoulder"), FLIC9.index("right_shoulder")
    assert away.joints[left, 0] > away.joints[right, 0]
    as_annotated = read_flic(tmp_path / "examples.mat", observer_centric=False).images[0].people[1]
    assert as_annotated.joints[left, 0] < as_annotated.joints[right, 0]
    records = list(annotation_records(annotations, "FLIC", lambda _: (100, 150), "images/"))
    assert [record.people_index for record in records] == [1, 2]
    assert (records[0].img_path, records[0].others) == ("images/f.jpg", 2)
    assert records[0].joint_self.shape == (9, 3)
    assert (records[0].joint_self[:, 2] == 1).all()


@pytest.mark.parametrize("content", [{}, {"examples": np.zeros(3)}, {"examples": structs([{"other": 1.0}])}])
def test_not_flic(tmp_path, content):
    scipy.io.savemat(tmp_path / "examples.mat", content)
    with pytest.raises(UserError, match=r"examples\.mat: expected"):
        read_flic(tmp_path / "examples.mat")
    (tmp_path / "examples.mat").unlink()
    with pytest.raises(UserError, match="nothing there"):
        read_flic(tmp_path / "examples.mat")


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
    train, val = (open_dataset(str(tmp_path), split) for split in ("train", "val"))
    assert len(train.skeleton) == 4
    assert len(train) + len(val) == 18
    assert not {train[i].id.split("#")[0] for i in range(len(train))} & {
        val[i].id.split("#")[0] for i in range(len(val))
    }
    assert val[0].center == pytest.approx([16, 32])


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
    assert [str(p) for p in annotations.problems] == [
        "line 4: expected numbers: could not convert string to float: 'x'"
    ]
    sample = open_dataset(str(tmp_path), "train")[0]
    assert sample.joints[0].tolist() == [[10, 20], [30.5, 40], [1, 2]]
    assert sample.visible[0].tolist() == [1, 0, 1]
    assert annotations.images[1].people[0].visible.tolist() == [1, 1, 2]
    assert len(open_dataset(str(tmp_path), "val")) == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("parts = 3", "parts"),
        ('parts = ["a"]\nlimbs = [["a", "b"]]', "'b' is not among the parts"),
        ('parts = ["a"]\ncolour = 1', "unknown key colour"),
        ("parts = [", "expected TOML"),
        ('parts = ["a", "a"]', "unique"),
    ],
)
def test_bad_skeleton_files(tmp_path, text, what):
    (tmp_path / "skeleton.toml").write_text(text)
    with pytest.raises(UserError, match=what):
        read_skeleton(tmp_path / "skeleton.toml")


YAML = "name: hand\nparts: [root, left_tip, right_tip]\nflip_pairs: [[left_tip, right_tip]]\n"


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_a_skeleton_in_yaml(tmp_path, suffix):
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    (tmp_path / f"skeleton.{suffix}").write_text(
        YAML + "limbs:\n  - [root, left_tip]\ntorso: [root, right_tip]\n"
    )
    (tmp_path / "skeleton.toml").write_text(
        'name = "hand"\nparts = ["root", "left_tip", "right_tip"]\n'
        'flip_pairs = [["left_tip", "right_tip"]]\nlimbs = [["root", "left_tip"]]\n'
        'torso = ["root", "right_tip"]\n'
    )
    skeleton = read_skeleton(tmp_path / f"skeleton.{suffix}")
    assert skeleton == read_skeleton(tmp_path / "skeleton.toml")
    header = "image,root_x,root_y,left_tip_x,left_tip_y,right_tip_x,right_tip_y,split\n"
    (tmp_path / "hands.csv").write_text(header + "a.png,1,2,3,4,5,6,train\nb.png,1,2,3,4,5,6,val\n")
    with pytest.raises(UserError, match=r"which one is the skeleton, skeleton\.toml or skeleton\.y"):
        open_dataset(str(tmp_path), "train")
    (tmp_path / "skeleton.toml").unlink()
    assert open_dataset(str(tmp_path), "train").skeleton == skeleton


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("parts: 3", "expected parts"),
        ("- a\n- b", "expected a table"),
        ("parts: [a", "expected YAML"),
        ("parts: !!python/object/apply:os.system ['true']", "expected YAML"),
        ("parts: [a]\ncolour: 1", "unknown key colour"),
        ("1: 2", "expected a table"),
    ],
)
def test_bad_yaml_skeletons(tmp_path, text, what):
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    (tmp_path / "skeleton.yaml").write_text(text)
    with pytest.raises(UserError, match=what) as caught:
        read_skeleton(tmp_path / "skeleton.yaml")
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("field", ["coords", "torsobox"])
@pytest.mark.parametrize("value", ["text", structs([{"a": 1.0}]), np.array([["a", [1, 2]]], object), 1 + 2j])
def test_fields_of_flic_that_hold_no_numbers_are_reported(tmp_path, field, value):
    people = structs([flic_example(False), flic_example(False, **{field: value})])
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": people})
    read = read_flic(tmp_path / "examples.mat")
    assert (len(read.images), len(read.problems)) == (1, 1)


def test_flags_of_mpii_that_are_no_numbers_are_no_training_images(tmp_path):
    """Found by `make fuzz`: an array where 0 or 1 is due was a traceback."""
    annolist = structs(
        [{"image": struct(name=f"{n}.jpg"), "annorect": structs([person()])} for n in range(4)]
    )
    flags = np.empty((1, 4), object)
    flags[0] = [1.0, "x", structs([{"a": 1.0}, {"a": 2.0}]), np.zeros((0, 0))]
    scipy.io.savemat(tmp_path / "m.mat", {"RELEASE": struct(annolist=annolist, img_train=flags)})
    assert [image.path for image in read_mpii_mat(tmp_path / "m.mat").images] == ["0.jpg"]


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


@pytest.mark.parametrize("bbox", ["x", [1, "x"], {"a": 1}, [[1], [2, 3]], [10**400, 0, 1, 1]])
def test_a_box_that_is_none_is_reported(tmp_path, bbox):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(COCO | {"annotations": [COCO["annotations"][0] | {"bbox": bbox}]}))
    assert len(read_coco(path).problems) == 1
