"""Where the release's procedure looks for the people of FLIC, of LSP-extended and of one's own data."""

import json

import cv2
import numpy as np
import pytest
import scipy.io
from random_networks import random_net
from release_data import noise, run, structs, write_lspet
from safetensors.torch import save_file

from cpm_repro.config import AugmentConfig, preset
from cpm_repro.data.lsp import read_lspet_joints
from cpm_repro.data.lsp_scale import lsp_scales
from cpm_repro.errors import UserError
from cpm_repro.inference.procedure import BenchmarkProcedure, person_scale
from cpm_repro.inference.subjects import open_subjects
from cpm_repro.skeleton import CPM14, FLIC9


def test_flic_is_scored_by_its_rule(tmp_path, capsys):
    image = noise(tmp_path / "images" / "film.jpg", 90, 120, 3)
    coords = np.full((2, 29), np.nan)
    used = [0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16]
    coords[:, used] = np.random.default_rng(1).uniform(10, 80, (2, 11))
    box = np.array([[30.0, 20.0, 70.0, 75.0]])
    examples = structs(
        [{"filepath": "film.jpg", "coords": coords, "torsobox": box, "istest": 1.0, "istrain": 0.0}]
    )
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": examples})
    net = random_net("flic_4stage", 2, parts=9, width=1 / 32)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    out = tmp_path / "out"
    assert (
        run(
            "--weights", tmp_path / "w.safetensors", "--arch", "flic_4stage", "--data", tmp_path, "--out", out
        )
        == 0
    )
    assert "0.2" in capsys.readouterr().out
    stored = scipy.io.loadmat(out / "predictions.mat")["prediction_all"]
    center = (50 - 1, 0.7 * 20 + 0.3 * 75 - 1)
    found = BenchmarkProcedure(net)(image, center, person_scale(0.0110 * 55))
    assert np.array_equal(stored.reshape(9, 2), found.keypoints + 1)
    with np.load(out / "predictions.npz") as file:
        assert file["parts"].tolist() == list(FLIC9.parts)
        assert file["torso_box_wh"].tolist() == [[40, 55]]


def places(monkeypatch):
    """Collects what the procedure is asked: image shape, centre and scale0."""
    asked = []
    once = BenchmarkProcedure.__call__

    def remembered(self, image, center, scale0):
        asked.append((image.shape, *center, scale0))
        return once(self, image, center, scale0)

    monkeypatch.setattr(BenchmarkProcedure, "__call__", remembered)
    return asked


def test_lsp_extended_by_its_joints_for_networks_trained_so(weights, tmp_path, capsys, monkeypatch):
    data = write_lspet(tmp_path / "lspet", people=19)
    asked = places(monkeypatch)
    assert run("--weights", weights, "--arch", "tiny", "--data", data, "--out", tmp_path / "out") == 0
    assert "2 people of lspet (val)" in capsys.readouterr().out
    joints = scipy.io.loadmat(data / "joints.mat")["joints"][:, :2, 18] - 1
    low, high = joints.min(axis=0), joints.max(axis=0)
    scale0 = preset("tiny").augment.fill * 368 / (high - low).max()
    shape, *place = asked[1]
    assert shape == (70, 64, 3)
    assert place == pytest.approx([*(low + high) / 2, scale0], rel=1e-6)


def test_lsp_extended_by_its_scale_for_released_networks(tmp_path, monkeypatch):
    data = write_lspet(tmp_path / "lspet", people=19)
    asked = places(monkeypatch)
    path = tmp_path / "w.safetensors"
    save_file(random_net("mpii_vgg_6stage", 3, parts=14, width=1 / 16).state_dict(), path)
    assert run("--weights", path, "--arch", "mpii_vgg_6stage", "--data", data) == 0
    joints, labelled = read_lspet_joints(data / "joints.mat")
    assert asked[1][3] == pytest.approx(person_scale(lsp_scales(joints, labelled)[18]))


def test_a_broken_photograph_of_lspet_is_a_miss_and_the_others_go_on(weights, tmp_path, capsys):
    data = write_lspet(tmp_path / "lspet", people=19)
    (data / "images" / "im00001.jpg").write_text("<html>")
    out = tmp_path / "out"
    assert run("--weights", weights, "--arch", "tiny", "--data", data, "--out", out) == 2
    assert "1 of 2 people count as misses: lspet/im00001.jpg: " in capsys.readouterr().err
    people = json.loads((out / "predictions.json").read_text())["people"]
    assert [person["keypoints"] is None for person in people] == [True, False]
    with np.load(out / "predictions.npz") as file:
        assert file["labelled"].any(axis=1).all()


def test_a_broken_first_photograph_of_lspet_does_not_keep_the_others_from_their_places(tmp_path):
    """Whether the data state scales was asked of it, for networks that were trained by the release's crop."""
    data = write_lspet(tmp_path / "lspet", people=19)
    (data / "images" / "im00001.jpg").write_text("<html>")
    subjects = open_subjects(str(data), "val", AugmentConfig(method="exact"))
    with pytest.raises(UserError, match="im00001"):
        subjects.subject(0)
    assert subjects.subject(1).scale0 > 0


@pytest.mark.parametrize("method", ["box", "exact"])
def test_people_of_ones_own_data_are_placed_as_the_network_s_were(tmp_path, method):
    """At the file's centre; by the box around it that holds the joints, or by the file's scale.

    The box's middle and size were taken of a network that was trained at the file's centre.
    """
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((70, 64, 3), np.uint8))
    points = np.column_stack([np.linspace(10, 50, 14), np.linspace(60, 5, 14), np.full(14, 2)])
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points.ravel().tolist()}
    person["bbox"] = [0, 0, 60, 40]  # which COCO's reader takes a centre and a scale from
    category = {"id": 1, "name": "person", "keypoints": list(CPM14.parts), "skeleton": []}
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 70}
    data = tmp_path / "own.json"
    data.write_text(json.dumps({"images": [image], "categories": [category], "annotations": [person]}))
    augment = AugmentConfig(crop=128, method=method, fill=0.6, target_dist=0.3)
    subjects = open_subjects(str(data), "all", augment)
    subject, truth = subjects.subject(0), subjects.truth(0)
    x, y, scale = truth.stated
    assert truth.stated == (pytest.approx(30), pytest.approx(20), pytest.approx(40 / 200))
    if method == "box":
        assert subject.center == (pytest.approx(30), pytest.approx(20))
        assert subject.scale0 == pytest.approx(0.6 * 368 / 80)  # 40 pixels below the centre
    else:
        assert subject.center == (x, y)
        assert subject.scale0 * 128 / 368 == pytest.approx(0.3 / scale)  # as in training's crop of 128
        assert subjects.placed.endswith("scale0 = 0.8625 / scale")
        released = AugmentConfig(crop=368, method=method)
        assert open_subjects(str(data), "all", released).subject(0).scale0 == 41 / 35 / scale


def test_ones_own_mpii_style_json_is_not_mpii(tmp_path):
    """It was placed by its scale, whatever the network was trained on, and called mpii."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((70, 64, 3), np.uint8))
    person = {"image": "a.png", "center": [31, 21], "scale": 0.5, "joints": [[11, 11], [41, 51]]}
    (tmp_path / "hands.json").write_text(json.dumps([person]))
    (tmp_path / "skeleton.toml").write_text('name = "hand"\nparts = ["wrist", "index"]\n')
    subjects = open_subjects(str(tmp_path), "all", AugmentConfig(method="box", fill=0.6))
    assert (subjects.name, subjects.file_parts) == ("hands", ("wrist", "index"))
    assert subjects.subject(0).scale0 == pytest.approx(0.6 * 368 / 60)  # 30 pixels below the centre
