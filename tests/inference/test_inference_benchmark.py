"""``cpm eval --procedure release``: whole data sets, their files, and going on where it was cut off."""

import json
import shutil

import cv2
import numpy as np
import pytest
import scipy.io
from safetensors.torch import save_file
from support import data_root
from test_inference_procedure import random_net

from cpm_repro.cli import main
from cpm_repro.config import AugmentConfig
from cpm_repro.data.lsp import read_lspet_joints
from cpm_repro.data.lsp_scale import lsp_scales
from cpm_repro.data.mpii_test import read_mpii_test
from cpm_repro.evaluation import read_predictions
from cpm_repro.inference import benchmark
from cpm_repro.inference.procedure import BenchmarkProcedure, person_scale
from cpm_repro.inference.subjects import open_subjects
from cpm_repro.inference.weights import bundled_weights
from cpm_repro.skeleton import CPM14, FLIC9, LSP14

LSP_ORDER = [14, 13, 9, 8, 7, 10, 11, 12, 3, 2, 1, 4, 5, 6]  # spec `data.md`: 1-based target of our parts
MPII_ORDER = [8, 7, 11, 10, 9, 12, 13, 14, 3, 2, 1, 4, 5, 6]


def struct(**fields):
    array = np.empty((1, 1), dtype=[(name, object) for name in fields])
    for name, value in fields.items():
        array[name][0, 0] = value
    return array


def structs(items):
    names = list(dict.fromkeys(name for item in items for name in item))
    array = np.empty((1, len(items)), dtype=[(name, object) for name in names])
    for index, item in enumerate(items):
        for name in names:
            array[name][0, index] = item.get(name, np.zeros((0, 0)))
    return array


def random_tiny(seed):
    """A narrow network of 14 parts, as the weight file's shapes tell."""
    return random_net("tiny", seed, parts=14, stages=2, width=1 / 16)


def noise(path, height, width, seed):
    """A picture of large random blots."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return cv2.imread(str(path))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A random narrow network of 14 parts."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(random_tiny(1).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def lsp(tmp_path_factory):
    """LSP's layout with four test people."""
    folder = tmp_path_factory.mktemp("lsp")
    joints = np.random.default_rng(0).uniform(5, 60, (3, 14, 1004))
    joints[2] = 0
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    images = [
        noise(folder / "images" / f"im{1001 + index}.jpg", 70 + 9 * index, 64, index) for index in range(4)
    ]
    return folder, images


def run(*arguments):
    return main(["eval", *map(str, arguments), "--procedure", "release"])


def test_lsp_comes_out_as_the_release_writes_it(weights, lsp, tmp_path, capsys):
    folder, images = lsp
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert "4 people of lsp (val), the release's test procedure" in text
    assert "lsp-pck" in text or "PCK@0.2" in text
    stored = scipy.io.loadmat(tmp_path / "predictions.mat")["prediction_all"]
    assert stored.shape == (14, 2, 4)
    net = random_tiny(1)
    procedure = BenchmarkProcedure(net, box=128)
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        found = procedure(image, (width / 2 - 1, height / 2 - 1), 0.8 / (height / 368))
        for ours, target in enumerate(LSP_ORDER):
            assert np.array_equal(stored[target - 1, :, index], found.keypoints[ours] + 1)


def test_every_file_says_the_same_and_scores_the_same(weights, lsp, tmp_path, capsys):
    folder, _ = lsp
    run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path)
    own = json.loads((tmp_path / "scores.json").read_text())["total"]
    archive, matlab = (read_predictions(tmp_path / f"predictions.{kind}") for kind in ("npz", "mat"))
    order = [archive.parts.index(part) for part in LSP14.parts]
    assert np.array_equal(archive.positions[:, order], matlab.positions)
    listed = json.loads((tmp_path / "predictions.json").read_text())
    assert np.array_equal(np.array([p["keypoints"] for p in listed["people"]])[..., :2], archive.positions)
    assert listed["people"][0]["image"] == "im1001.jpg"
    capsys.readouterr()
    scored = tmp_path / "scored"
    assert main(["eval", "--predictions", str(tmp_path / "predictions.npz"), "--protocol", "lsp-pck",
                 "--out", str(scored)]) == 0  # fmt: skip
    again = json.loads(next(scored.glob("*.json")).read_text())
    again = again[0] if isinstance(again, list) else again
    assert again["total"] == own


def test_going_on_after_an_interruption(weights, lsp, tmp_path, capsys, monkeypatch):
    folder, _ = lsp
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", whole)
    calls = []
    once = BenchmarkProcedure.__call__

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return once(self, *arguments)

    monkeypatch.setattr(BenchmarkProcedure, "__call__", interrupted)
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", cut) == 130
    assert "2 of 4 people are kept" in capsys.readouterr().err
    with (cut / benchmark.JOURNAL).open("a") as file:
        file.write('{"index": 2, "keypo')  # as a killed process leaves it
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", cut) == 0
    assert "2 of 4 people are done" in capsys.readouterr().out
    assert len(calls) == 3 + 2
    for name in ("predictions.json", "scores.json", benchmark.JOURNAL):
        assert (cut / name).read_text() == (whole / name).read_text()


def test_results_of_another_network_are_not_mixed_in(weights, lsp, tmp_path, capsys):
    folder, _ = lsp
    run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path, "--first", "1")
    other = tmp_path / "other.safetensors"
    save_file(random_tiny(2).state_dict(), other)
    assert run("--weights", other, "--arch", "tiny", "--data", folder, "--out", tmp_path, "--first", "1") == 2
    assert "holds results for another weights" in capsys.readouterr().err
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path) == 2
    assert "another people (1, now 4)" in capsys.readouterr().err
    (tmp_path / benchmark.JOURNAL).write_text("nonsense\n")
    assert run("--weights", weights, "--arch", "tiny", "--data", folder, "--out", tmp_path) == 2
    assert "wanted the results of an earlier run" in capsys.readouterr().err


def test_a_journal_of_other_results_is_refused(weights, lsp, tmp_path, capsys):
    """As a damaged disk or another program leaves it: no traceback, and nothing of it taken for a result."""
    known = ["--weights", weights, "--arch", "tiny", "--data", lsp[0], "--first", "1", "--out", tmp_path]
    assert run(*known) == 0
    journal = tmp_path / benchmark.JOURNAL
    head, line = journal.read_text().splitlines()
    row = json.loads(line)
    wrong = [
        {"index": 0},
        {**row, "keypoints": row["keypoints"][:1]},  # would be everybody's: one broadcasts
        {**row, "scores": "x"},
        {**row, "scores": [None] * 14},
        {**row, "index": 1},
        {**row, "index": -1},
    ]
    for text in [f"{head}\n{json.dumps(other)}\n" for other in wrong] + [f"[]\n{line}\n", f"3\n{line}\n"]:
        journal.write_text(text)
        assert run(*known) == 2, text
        assert f"{journal}: wanted the results of an earlier run" in capsys.readouterr().err


def test_a_broken_photograph_is_a_miss_and_the_others_go_on(weights, lsp, tmp_path, capsys):
    folder, _ = lsp
    copy = tmp_path / "lsp"
    (copy / "images").mkdir(parents=True)
    for path in [folder / "joints.mat", *(folder / "images").iterdir()]:
        (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    (copy / "images" / "im1002.jpg").write_text("<html>")
    out = tmp_path / "out"
    assert run("--weights", weights, "--arch", "tiny", "--data", copy, "--out", out) == 2
    error = capsys.readouterr().err
    assert "1 of 4 people count as misses: im1002.jpg#1" in error
    assert "Traceback" not in error
    people = json.loads((out / "predictions.json").read_text())["people"]
    assert [person["keypoints"] is None for person in people] == [False, True, False, False]
    good = (folder / "images" / "im1002.jpg").read_bytes()
    (copy / "images" / "im1002.jpg").write_bytes(good)
    assert run("--weights", weights, "--arch", "tiny", "--data", copy, "--out", out) == 0


def test_results_of_other_people_are_not_mixed_in(weights, lsp, tmp_path, capsys):
    """As many people of a data set of the same name: their joints, or where MPII says they are, differ."""
    folder, _ = lsp
    other = tmp_path / "lsp"
    shutil.copytree(folder, other)
    joints = scipy.io.loadmat(folder / "joints.mat")["joints"]
    scipy.io.savemat(other / "joints.mat", {"joints": joints + [[[1.0]], [[0.0]], [[0.0]]]})
    known = ["--weights", weights, "--arch", "tiny", "--first", "1", "--out", tmp_path / "out"]
    assert run(*known, "--data", folder) == 0
    assert run(*known, "--data", folder) == 0
    capsys.readouterr()
    assert run(*known, "--data", other) == 2
    assert "holds results for another set of people" in capsys.readouterr().err


def test_people_whose_joints_are_secret_are_told_by_their_places(mpii):
    file = mpii / "mpii_human_pose_v1_u12_1.mat"
    subjects = open_subjects(str(mpii), "test-all", AugmentConfig())
    before = benchmark.people_digest(subjects, 3)
    assert before != benchmark.people_digest(subjects, 2)
    release = scipy.io.loadmat(file)["RELEASE"]
    release["annolist"][0, 0]["annorect"][0, 1]["scale"][0, 0][:] = 0.41
    scipy.io.savemat(file, {"RELEASE": release})
    assert before != benchmark.people_digest(open_subjects(str(mpii), "test-all", AugmentConfig()), 3)


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


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (CPM14.parts[::-1], "has its parts in another order than"),
        (tuple(f"finger_{index}" for index in range(14)), "was trained for other parts than"),
    ],
)
def test_other_parts_than_the_networks_are_not_scored(lsp, tmp_path, capsys, parts, words):
    """As without the procedure: a name would have another part's score."""
    _, images = lsp
    cv2.imwrite(str(tmp_path / "a.png"), images[0])
    points = np.column_stack([np.random.default_rng(0).uniform(5, 60, (14, 2)), np.full(14, 2)])
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points.ravel().tolist()}
    category = {"id": 1, "name": "person", "keypoints": list(parts), "skeleton": []}
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 70}
    data = tmp_path / "own.json"
    data.write_text(json.dumps({"images": [image], "categories": [category], "annotations": [person]}))
    assert run("--weights", bundled_weights(), "--data", data, "--split", "all") == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("method", ["box", "exact"])
def test_people_of_ones_own_data_are_placed_as_the_network_s_were(tmp_path, method):
    """By the box of their joints, of which 368 / fill is seen; or by the file's centre and scale."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((70, 64, 3), np.uint8))
    points = np.column_stack([np.linspace(10, 50, 14), np.linspace(60, 5, 14), np.full(14, 2)])
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": points.ravel().tolist()}
    person["bbox"] = [0, 0, 60, 40]  # which COCO's reader takes a centre and a scale from
    category = {"id": 1, "name": "person", "keypoints": list(CPM14.parts), "skeleton": []}
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 70}
    data = tmp_path / "own.json"
    data.write_text(json.dumps({"images": [image], "categories": [category], "annotations": [person]}))
    subjects = open_subjects(str(data), "all", AugmentConfig(method=method, fill=0.6))
    subject, truth = subjects.subject(0), subjects.truth(0)
    x, y, scale = truth.stated
    assert truth.stated == (pytest.approx(30), pytest.approx(20), pytest.approx(40 / 200))
    if method == "box":
        assert subject.center == (pytest.approx(30), pytest.approx(32.5))
        assert subject.scale0 == pytest.approx(0.6 * 368 / 55)
    else:
        assert subject.center == (x, y)
        assert subject.scale0 == pytest.approx(41 / 35 / scale)


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
    assert np.load(out / "predictions.npz")["parts"].tolist() == list(FLIC9.parts)


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


def test_mpii_s_held_out_people_are_scored_by_head_size(weights, mpii, tmp_path):
    np.savez(mpii / "mpii_val_pairs.npz", image_index=[1], person_index=[1])
    out = tmp_path / "out"
    assert run("--weights", weights, "--arch", "tiny", "--data", mpii, "--out", out) == 0
    assert json.loads((out / "scores.json").read_text())["metric"] == "PCKh"
    with np.load(out / "predictions.npz") as file:
        assert file["head_size"] == pytest.approx([0.6 * 10])
        assert file["parts"].tolist() == list(CPM14.parts)
    assert scipy.io.loadmat(out / "predictions.mat")["prediction_all"].shape[:2] == (14, 2)


def test_the_json_form_of_mpii(weights, tmp_path, capsys):
    data = data_root("mpii_sample")
    assert (
        run("--weights", weights, "--arch", "tiny", "--data", data, "--split", "all", "--out", tmp_path) == 0
    )
    assert "people of mpii (all)" in capsys.readouterr().out
    assert np.isfinite(np.load(tmp_path / "predictions.npz")["pred"]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--split", "half"], "half"),
        (["--first", "0"], "at least one person"),
        (["--split", "test"], "mpii_human_pose_v1_u12_1.mat"),
        (["--arch", "flic_4stage"], "random.safetensors"),
    ],
)
def test_what_cannot_be_asked_for(weights, lsp, capsys, arguments, words):
    folder, _ = lsp
    arch = [] if "--arch" in arguments else ["--arch", "tiny"]
    try:
        code = run("--weights", weights, "--data", folder, *arch, *arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_options_of_the_release_s_procedure_alone(weights, capsys):
    assert main(["eval", "--weights", str(weights), "--arch", "tiny", "--first", "3"]) == 2
    assert "--split and --first go with --weights and --procedure release" in capsys.readouterr().err


def test_a_person_network_is_scored_by_its_peaks(tmp_path, capsys):
    """As while it trains: one part, its highest belief in each person's crop."""
    save_file(random_net("person_4stage", 3, parts=1, width=1 / 16).state_dict(), tmp_path / "w.safetensors")
    known = ["--weights", str(tmp_path / "w.safetensors"), "--arch", "person_4stage"]
    data = write_lspet(tmp_path / "lspet", people=19)
    assert main(["eval", *known, "--data", str(data), "--out", str(tmp_path / "out")]) == 0
    assert "Person" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "predictions.npz") as file:
        assert file["pred"].shape == (2, 1, 2)
    assert run(*known, "--data", data) == 2
    assert "finds people, not parts: wanted a pose network" in capsys.readouterr().err


def write_lspet(folder, people):
    """LSP-extended's layout with random joints, all of them labelled."""
    joints = np.ones((14, 3, people))
    joints[:, :2] = np.random.default_rng(5).uniform(5, 60, (14, 2, people))
    for index in range(people):
        noise(folder / "images" / f"im{index + 1:05d}.jpg", 70, 64, index)
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    return folder


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
    scale0 = AugmentConfig().fill * 368 / (high - low).max()
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
