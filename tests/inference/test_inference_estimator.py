"""The estimator: pixels in, people out, in the photograph's own coordinates."""

import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from random_networks import random_tiny
from safetensors.torch import save_file
from support import data_root

from cpm_repro import ops
from cpm_repro.cli import main
from cpm_repro.config import AugmentConfig, preset
from cpm_repro.data import SyntheticDataset, val_batches
from cpm_repro.data.augment import invert_matrix, place_matrix
from cpm_repro.errors import UserError
from cpm_repro.inference.decode import peaks, to_image
from cpm_repro.inference.detector import PersonDetector
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.images import as_bgr
from cpm_repro.inference.network_input import network_input
from cpm_repro.inference.places import TRIED_SHARES
from cpm_repro.inference.procedure import BenchmarkProcedure
from cpm_repro.inference.weights import BUNDLED, load, load_model
from cpm_repro.model import build
from cpm_repro.model.about import About, about_to_json
from cpm_repro.skeleton import CPM14


def test_network_input_is_exact():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.integers(0, 256, (2, 32, 40, 3), dtype=np.uint8))
    center = torch.tensor([[10.0, 12.0], [20.5, 3.25]])
    data = network_input(image, center)
    expected = (image.permute(0, 3, 1, 2).double() - 128) / 256
    assert torch.equal(data[:, :3].double(), expected)
    assert torch.equal(data[:, 3:], ops.center_map(center, size=(32, 40), sigma=21 * 40 / 368))


def test_encode_then_decode_comes_back_to_the_same_place():
    """One convention throughout: a joint drawn by our targets is found where it was, also off the grid."""
    rng = np.random.default_rng(1)
    joints = torch.from_numpy(rng.uniform(20, 108, (40, 1, 3, 2))).float()
    visible = torch.ones(40, 1, 3, dtype=torch.uint8)
    label = ops.belief_maps(joints, visible, grid=(16, 16), stride=8, sigma=7.0)
    xy, score = peaks(label[:, :4])
    error = (xy - joints[:, 0]).abs()
    # A whole-pixel answer costs up to half a pixel, cubic enlargement of a bump that is sampled every 8 px
    # skews it by a little less again. Measured per coordinate: mean 0.35 px, largest 0.92 px.
    assert error.mean() < 0.4
    assert error.amax() < 1.0
    assert score.min() > 0.92


def test_joints_beside_the_rim_of_the_crop_are_drawn_to_it_as_in_the_release():
    """Beyond the last cell both cubics have that cell again, so that their maximum is further out."""
    rng = np.random.default_rng(1)
    joints = torch.from_numpy(np.stack([rng.uniform(0, 8, 400), rng.uniform(20, 108, 400)], -1)).float()
    visible = torch.ones(400, 1, 1, dtype=torch.uint8)
    maps = ops.belief_maps(joints[:, None, None], visible, grid=(16, 16), stride=8, sigma=7.0)[:, :2]
    errors = {"ours": peaks(maps)[0][:, 0] - joints}
    one = torch.tensor([[0, 0, 0, 0]]), torch.tensor([[128, 128]])
    found = [ops.fuse_multiscale_peaks(own[None], *one, (128, 128))[0][0] for own in maps]
    errors["the release's"] = torch.stack(found) - joints
    assert 5 < errors["ours"].abs().amax() < 6  # measured 5.8
    assert 6.5 < errors["the release's"].abs().amax() < 7.5  # measured 7.0
    for error in errors.values():
        assert error[:, 1].abs().amax() < 1.6  # along the rim: as everywhere


def test_peaks_takes_the_first_maximum_and_leaves_the_background_out():
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 2] = 9.0
    xy, score = peaks(maps)
    assert xy.tolist() == [[[0, 0], [0, 0]]]
    assert score.max() == 0


def test_crop_to_image_and_back():
    matrix = place_matrix(np.array([100.0, 60.0]), 80.0, preset("tiny").augment)
    inverse = torch.from_numpy(invert_matrix(matrix)[None])
    middle = torch.tensor([[[63.5, 63.5]]])
    assert to_image(middle, inverse).numpy() == pytest.approx(np.array([[[100.0, 60.0]]]), abs=1e-9)


def test_estimator_answers_in_image_pixels_and_says_what_it_assumed(run_folder):
    estimator = PoseEstimator(run_folder)
    image = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    (person,) = estimator(image, keep_maps=True)
    assert person.keypoints.shape == (14, 2)
    assert person.names[0] == "head"
    assert "middle" in person.assumed
    assert person.center == (44.5, 59.5)
    assert len(person.belief_maps) == 3
    left, right = estimator(image, boxes=[(0, 0, 40, 80), (40, 20, 89, 119)])
    assert left.assumed == ""
    assert left.center == (20, 40)
    assert right.extent == 99
    assert person.scale in [pytest.approx(share * 120 / 200) for share in TRIED_SHARES]


@pytest.mark.parametrize("method", ["box", "exact", "fast", "device"])
def test_a_person_has_the_size_that_the_network_was_trained_at(tmp_path, method):
    """By the release's methods the height is 200 target_dist pixels; `fill` of the crop was taken instead."""
    augment = AugmentConfig(crop=64, method=method, fill=0.8, target_dist=0.1)
    metadata = {"about": about_to_json(About(augment, "", None))}
    save_file(random_tiny(1).state_dict(), tmp_path / "w.safetensors", metadata=metadata)
    people = SyntheticDataset("val", seed=0, size=2)
    estimator = PoseEstimator(tmp_path / "w.safetensors")
    (batch,) = val_batches(people, augment, 2)
    for sample, trained in zip((people[0], people[1]), batch.inverse, strict=True):
        height = sample.extent if method == "box" else 200 * sample.scale
        (person,) = estimator(np.array(sample.image), centers=[tuple(sample.center)], heights=height)
        used = person.crop_to_image
        assert used[:, :2] == pytest.approx(trained[:, :2], rel=1e-5)
        # The release rounds the place of the crop's corner to whole pixels of the crop.
        assert np.abs(used[:, 2] - trained[:, 2]).max() <= used[0, 0]


def test_a_tiny_network_of_a_file_that_says_nothing_is_taken_for_the_preset_s(weights):
    assert load_model(weights, "tiny").augment == preset("tiny").augment


def test_moving_the_image_moves_the_answer(run_folder):
    """Equivariance: the same person elsewhere in a larger picture is found elsewhere, by the same amount."""
    estimator = PoseEstimator(run_folder)
    patch = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    small = np.full((140, 140, 3), 128, np.uint8)
    large = np.full((300, 300, 3), 128, np.uint8)
    small[40:104, 40:104] = patch
    large[140:204, 190:254] = patch
    (a,) = estimator(small, boxes=[(40, 40, 103, 103)])
    (b,) = estimator(large, boxes=[(190, 140, 253, 203)])
    assert b.keypoints - a.keypoints == pytest.approx(np.tile([150.0, 100.0], (14, 1)), abs=1e-6)
    assert b.scores == pytest.approx(a.scores, abs=1e-6)


def test_rgb_is_bgr_turned_round(run_folder):
    estimator = PoseEstimator(run_folder)
    image = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    (a,), (b,) = estimator(image), estimator(image[:, :, ::-1], rgb=True)
    assert np.array_equal(a.keypoints, b.keypoints)


def test_fewer_stages_are_the_first_ones(run_folder):
    image = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    (whole,) = PoseEstimator(run_folder)(image, boxes=[(8, 8, 71, 71)], keep_maps=True)
    (first,) = PoseEstimator(run_folder, stages=1)(image, boxes=[(8, 8, 71, 71)], keep_maps=True)
    assert len(first.belief_maps) == 1
    assert np.allclose(first.belief_maps[0], whole.belief_maps[0], atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_arrays_of_all_usual_kinds(shape):
    image = as_bgr(np.full(shape, 513, np.uint16))
    assert image.shape == (5, 7, 3)
    assert image.dtype == np.uint8
    assert (image == 2).all()


@pytest.mark.parametrize(
    ("array", "error"),
    [
        (np.zeros((4, 4, 3), np.float32), TypeError),
        (np.zeros((4, 4, 2), np.uint8), ValueError),
        (np.zeros((0, 4, 3), np.uint8), ValueError),
        ("photo.jpg", TypeError),
    ],
)
def test_arrays_that_are_no_images(array, error):
    with pytest.raises(error, match="image: wanted"):
        as_bgr(array)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((5, 5, 5, 9), "x0 < x1"),
        ((0, 0, float("nan"), 9), "four finite numbers"),
        ((500, 0, 600, 50), "outside the 90x120 image"),
    ],
)
def test_boxes_that_make_no_sense(run_folder, box, words):
    with pytest.raises(UserError, match=words):
        PoseEstimator(run_folder)(np.zeros((120, 90, 3), np.uint8), boxes=[box])


def test_no_boxes_no_people(run_folder):
    people = PoseEstimator(run_folder)(np.zeros((120, 90, 3), np.uint8), boxes=[])
    assert people == []
    assert people.draw().shape[2] == 3


def test_predict_writes_all_and_goes_on_after_a_bad_file(run_folder, tmp_path, capsys):
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    cv2.imwrite(str(good), np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))
    bad.write_text("<html>not an image</html>")
    out = tmp_path / "out"
    code = main(["predict", "--weights", str(run_folder), "--out", str(out), str(bad), str(good)])
    error = capsys.readouterr().err
    assert code == 2
    assert "bad.jpg" in error
    assert "Traceback" not in error
    written = json.loads((out / "predictions" / "good.json").read_text())
    assert (written["width"], written["height"]) == (70, 90)
    assert len(written["people"][0]["keypoints"]) == 14
    for name in ("good.png", "good_beliefs.png"):
        assert cv2.imread(str(out / "visualizations" / name)) is not None


def test_images_of_one_name_do_not_overwrite_each_other(run_folder, tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(str(tmp_path / folder / "x.png"))
        cv2.imwrite(paths[-1], np.zeros((40, 40, 3), np.uint8))
    main(["predict", "--weights", str(run_folder), "--out", str(tmp_path / "out"), *paths])
    assert {p.name for p in (tmp_path / "out" / "predictions").iterdir()} == {"x.json", "x-2.json"}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_converted_weights_keep_crop_and_skeleton_and_lose_the_folder(run_folder, tmp_path, suffix):
    from cpm_repro.caffe.convert import convert

    model = load_model(run_folder)
    target = tmp_path / f"small{suffix}"
    convert(run_folder / "checkpoints" / "last.pt", target)
    converted = load_model(target)
    assert converted.augment == model.augment
    assert converted.skeleton == model.skeleton == CPM14
    assert converted.trained_on == "synthetic"
    assert all(
        torch.equal(a, b) for a, b in zip(converted.net.parameters(), model.net.parameters(), strict=True)
    )


def test_a_file_that_tells_nonsense_of_its_training_is_one_line(tmp_path):
    from safetensors.torch import save_file

    target = tmp_path / "small.safetensors"
    save_file({"a.weight": torch.zeros(1)}, target, {"about": '{"augment": {"crop": -4}}'})
    with pytest.raises(UserError, match=r"small.safetensors: what it says of its training cannot be used"):
        load_model(target)


def test_what_is_assumed_of_weights_that_do_not_say_how_they_were_trained(tmp_path):
    main(["convert", str(BUNDLED), str(tmp_path / "w.caffemodel")])
    assert PoseEstimator().assumed == ""
    assumed = PoseEstimator(tmp_path / "w.caffemodel").assumed
    assert assumed.endswith("taken for tiny of 3 stages and 14 parts, with crops of 128 pixels")


def test_load_takes_a_run_folder_a_checkpoint_and_converted_weights(run_folder, tmp_path, capsys):
    main(["convert", str(run_folder), str(tmp_path / "w.caffemodel")])
    assert "no place for the parts' names, limbs and crop" in capsys.readouterr().out
    data = torch.rand(1, 4, 64, 64) - 0.5
    with torch.no_grad():
        expected = load(run_folder / "checkpoints" / "last.pt")(data)[-1]
        assert torch.equal(load(run_folder)(data)[-1], expected)
        caffe = load(tmp_path / "w.caffemodel", arch="tiny", width=0.05)
        # Memory from another reader is aligned otherwise, and sums may then be taken in another order.
        torch.testing.assert_close(caffe(data)[-1], expected, rtol=0, atol=1e-6)
    for name, weight in load(run_folder).state_dict().items():
        assert torch.equal(caffe.state_dict()[name], weight), name
    assert load_model(run_folder).augment.crop == 64


@pytest.mark.parametrize("name", ["empty", "missing.pt", "text.pt"])
def test_weights_that_are_none(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("nothing")
    with pytest.raises(UserError, match=name):
        load(tmp_path / name)


@pytest.mark.parametrize("arch", ["flic_4stage", "tiny"])
def test_a_state_dict_of_other_numbers_needs_no_more_than_its_architecture(arch, tmp_path):
    """Of 0.1 times 128, 512 and 32 channels the rounded first alone tells another width."""
    net = build(arch, stages=2, parts=5, width=0.1)
    torch.save(net.state_dict(), tmp_path / "x.pt")
    again = load(tmp_path / "x.pt", arch)
    assert (again.arch, again.stages, again.parts, again.width) == (arch, 2, 5, 0.1)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in net.state_dict().items())


def test_weights_of_another_network_list_what_does_not_fit(run_folder):
    with pytest.raises(UserError, match=r"conv1_1\.weight: wanted \[64"):
        load(run_folder, arch="mpii_vgg_6stage", stages=3, width=1.0)


def test_without_weights_the_bundled_network_runs_and_says_so(tmp_path, capsys):
    photograph = np.full((90, 60, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), photograph)
    assert main(["predict", str(tmp_path / "x.png"), "--out", str(tmp_path / "out")]) == 0
    assert "no --weights: this is tiny-lspet" in capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "predictions" / "x.json").read_text())
    assert values["skeleton"] == "cpm14"
    assert len(values["people"][0]["keypoints"]) == 14


def test_the_bundled_network_is_small_and_its_card_says_what_it_is():
    model = load_model(BUNDLED)
    assert BUNDLED.stat().st_size <= 5_000_000
    assert (model.augment.crop, model.augment.fill, model.trained_on) == (128, 0.8, "lspet")
    card = BUNDLED.with_suffix(".md").read_text()
    for word in ("Johnson and Everingham", "PCK@0.2 (lspet-pck)", '"optimizer": "muon"', "| commit |"):
        assert word in card


def test_the_card_of_the_bundled_network_tells_its_score(tmp_path):
    data = data_root("lspet")
    assert main(["eval", "--weights", str(BUNDLED), "--data", str(data), "--out", str(tmp_path)]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    _, written = BUNDLED.with_suffix(".md").read_text().split("\n| Stage | Head |")
    rows = written.splitlines()[2:]  # the title's end and the rule under it
    for stage, (row, table) in enumerate(zip(rows, scores, strict=False), start=1):
        assert row.startswith(f"| {stage} |")
        assert float(row.strip("| ").split("|")[-1]) == pytest.approx(table["total"], abs=0.15)


def test_one_estimator_serves_several_threads(run_folder):
    """Each thread gets what it would get alone, whatever sizes the others ask for at the same time."""
    estimator = PoseEstimator(run_folder, scales=(0.8, 1.0))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60 + 13 * i, 150 - 11 * i, 3), dtype=np.uint8) for i in range(8)]
    alone = [estimator(image)[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = [people[0] for people in pool.map(estimator, images * 3)]
    for got, wanted in zip(together, alone * 3, strict=True):
        assert np.array_equal(got.keypoints, wanted.keypoints)
        assert np.array_equal(got.scores, wanted.scores)


@pytest.mark.parametrize("keep_maps", [False, True])
def test_weights_that_overflow_are_refused_with_a_picture(tmp_path, keep_maps):
    """Finite, but as large as those of a run that diverges: their NaN is no number for any file."""
    net = load(BUNDLED, stages=1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(1e30)
    path, image = tmp_path / "large.safetensors", np.full((64, 64, 3), 200, np.uint8)
    save_file(net.state_dict(), path)
    words = "wanted weights whose beliefs are finite numbers, got an overflow"
    with pytest.raises(UserError, match=rf"large\.safetensors: {words}"):
        PoseEstimator(path, "tiny")(image, keep_maps=keep_maps)
    with pytest.raises(UserError, match=f"tiny: {words}"):
        BenchmarkProcedure(net, box=128)(image, (30, 30), 1.0)


def test_a_person_network_that_overflows_finds_nobody_with_a_reason():
    net = build("person_4stage", width=1 / 16, stages=1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(1e30)
    with pytest.raises(UserError, match="person_4stage: wanted weights whose beliefs are finite"):
        PersonDetector(net, height=64)(np.full((64, 64, 3), 200, np.uint8))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    net = build("tiny")
    with torch.no_grad():
        net.layer("conv1_1").bias[0] = float("nan")
    torch.save(net.state_dict(), tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt: wanted finite weights, got others in conv1_1\.bias"):
        PoseEstimator(tmp_path / "x.pt", arch="tiny")


@pytest.mark.parametrize("procedure", ["crop", "release"])
def test_weights_whose_data_are_elsewhere_ask_for_data(procedure, tmp_path, monkeypatch, capsys):
    """It said that a data set nobody had named was not there."""
    monkeypatch.chdir(tmp_path)
    assert main(["eval", "--weights", str(BUNDLED), "--procedure", procedure]) == 2
    said = capsys.readouterr().err
    assert said.endswith("tiny-lspet.safetensors was trained on lspet, which is not here: give --data\n")


def test_a_person_is_found_again_in_a_list(run_folder):
    """Compared by their arrays they were neither equal nor not: index and remove ended in an error."""
    people = PoseEstimator(run_folder)(
        np.full((90, 80, 3), 77, np.uint8), boxes=[(0, 0, 40, 40), (9, 9, 79, 79)]
    )
    assert people.index(people[1]) == 1
    assert len({*people, people[0]}) == 2
    people.remove(people[1])
    assert len(people) == 1
