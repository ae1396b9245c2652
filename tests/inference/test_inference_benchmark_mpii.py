"""MPII by the release's procedure: test people without a truth, held-out people with one."""

import json

import cv2
import numpy as np
import pytest
import scipy.io
from random_networks import random_tiny
from release_data import noise, run, struct, structs
from support import data_root

from cpm_repro.config import AugmentConfig
from cpm_repro.data.mpii_test import read_mpii_test
from cpm_repro.inference import benchmark
from cpm_repro.inference.procedure import BenchmarkProcedure, person_scale
from cpm_repro.inference.subjects import open_subjects
from cpm_repro.skeleton import CPM14

MPII_ORDER = [8, 7, 11, 10, 9, 12, 13, 14, 3, 2, 1, 4, 5, 6]  # spec `data.md`: 1-based target of our parts


@pytest.fixture
def mpii(tmp_path):
    """MPII's file: one training image, two test images with two people each."""
    folder = tmp_path / "mpii"
    for index, name in enumerate(("train.jpg", "a.jpg", "b.jpg")):
        noise(folder / "images" / name, 90, 140, index)

    def place(x, y, scale):
        return {"scale": scale, "objpos": struct(x=x, y=y)}

    point = structs(
        [{"x": 10.0 + i, "y": 20.0 + 2 * i, "id": float(i), "is_visible": 1.0} for i in range(16)]
    )
    head = {"x1": 10.0, "y1": 10.0, "x2": 16.0, "y2": 18.0}
    labelled = {"annopoints": struct(point=point), **place(40.0, 45.0, 0.4), **head}
    pair = [place(40.0, 45.0, 0.4), place(99.0, 50.0, 0.3)]
    annolist = structs(
        [
            {"image": struct(name="train.jpg"), "annorect": structs([labelled])},
            {
                "image": struct(name="a.jpg"),
                "annorect": structs(pair),
            },
            {"image": struct(name="b.jpg"), "annorect": structs([{"scale": 0.5}, place(70.0, 40.0, 0.45)])},
        ]
    )
    apart = np.empty((3, 1), object)
    for index, ids in enumerate(([[1.0]], [[2.0]], [[1.0], [2.0]])):
        apart[index, 0] = np.array(ids)
    release = struct(
        annolist=annolist, img_train=np.array([[1.0, 0.0, 0.0]]), version="12", single_person=apart
    )
    scipy.io.savemat(folder / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    return folder


def test_people_whose_joints_are_secret_are_told_by_their_places(mpii):
    file = mpii / "mpii_human_pose_v1_u12_1.mat"
    subjects = open_subjects(str(mpii), "test-all", AugmentConfig())
    before = benchmark.people_digest(subjects, 3)
    assert before != benchmark.people_digest(subjects, 2)
    release = scipy.io.loadmat(file)["RELEASE"]
    release["annolist"][0, 0]["annorect"][0, 1]["scale"][0, 0][:] = 0.41
    scipy.io.savemat(file, {"RELEASE": release})
    assert before != benchmark.people_digest(open_subjects(str(mpii), "test-all", AugmentConfig()), 3)


def test_mpii_s_test_people(mpii):
    file = mpii / "mpii_human_pose_v1_u12_1.mat"
    alone = read_mpii_test(file)
    assert [(p.image, p.number, p.person, p.center, p.scale) for p in alone] == [
        ("a.jpg", 2, 2, (98.0, 49.0), 0.3),
        ("b.jpg", 3, 2, (69.0, 39.0), 0.45),
    ]
    assert [(p.number, p.person) for p in read_mpii_test(file, single=False)] == [(2, 1), (2, 2), (3, 2)]


def test_mpii_s_file_goes_back_with_predictions(weights, mpii, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        run("--weights", weights, "--arch", "tiny", "--data", mpii, "--split", "test-all", "--out", out) == 0
    )
    assert "truth is secret" in capsys.readouterr().out
    assert not (out / "scores.json").exists()
    release = scipy.io.loadmat(out / "mpii_release.mat", squeeze_me=True)["RELEASE"]
    images = release["annolist"].item()
    assert [str(image["name"]) for image in images["image"]] == ["train.jpg", "a.jpg", "b.jpg"]
    assert release["single_person"].item()[2].tolist() == [1, 2]
    first = images["annorect"][1][0]
    assert first["scale"] == 0.4
    points = first["annopoints"]["point"].item()
    assert [int(i) for i in points["id"]] == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15]
    net = random_tiny(1)
    image = cv2.imread(str(mpii / "images" / "a.jpg"))
    found = BenchmarkProcedure(net, box=128)(image, (39.0, 44.0), person_scale(0.4))
    for ours, target in enumerate(MPII_ORDER):
        assert (points["x"][target - 1], points["y"][target - 1]) == tuple(found.keypoints[ours] + 1)
    nobody = images["annorect"][2][0]["annopoints"]
    assert np.size(nobody) == 0
    labelled = images["annorect"][0]["annopoints"].item()["point"].item()
    assert len(labelled) == 16


def test_who_could_not_be_estimated_goes_back_without_points(weights, mpii, tmp_path):
    """The server would read coordinates that are not numbers."""
    (mpii / "images" / "b.jpg").write_text("<html>")
    out = tmp_path / "out"
    known = ("--weights", weights, "--arch", "tiny", "--data", mpii, "--split", "test-all", "--out", out)
    assert run(*known) == 2
    release = scipy.io.loadmat(out / "mpii_release.mat", squeeze_me=True)["RELEASE"]
    found, lost = (np.atleast_1d(rects)[-1] for rects in release["annolist"].item()["annorect"][1:])
    assert found["annopoints"]["point"].item().size == 14
    assert "annopoints" not in lost.dtype.names


def test_mpii_s_held_out_people_are_scored_by_head_size(weights, mpii, tmp_path):
    np.savez(mpii / "mpii_val_pairs.npz", image_index=[1], person_index=[1])
    out = tmp_path / "out"
    assert run("--weights", weights, "--arch", "tiny", "--data", mpii, "--out", out) == 0
    assert json.loads((out / "scores.json").read_text())["metric"] == "PCKh"
    with np.load(out / "predictions.npz") as file:
        assert file["head_size"] == pytest.approx([0.6 * 10])
        assert file["parts"].tolist() == list(CPM14.parts)
    assert scipy.io.loadmat(out / "predictions.mat")["prediction_all"].shape[:2] == (14, 2)
    subject = open_subjects(str(mpii), "val", AugmentConfig()).subject(0)
    assert (subject.center, subject.scale0) == ((39, 44), person_scale(0.4))


def test_the_json_form_of_mpii(weights, tmp_path, capsys):
    data = data_root("mpii_sample")
    assert (
        run("--weights", weights, "--arch", "tiny", "--data", data, "--split", "all", "--out", tmp_path) == 0
    )
    assert "people of mpii (all)" in capsys.readouterr().out
    assert np.isfinite(np.load(tmp_path / "predictions.npz")["pred"]).all()
