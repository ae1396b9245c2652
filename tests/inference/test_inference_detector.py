"""Finding people: the person network, its peaks, and everybody's pose after it."""

import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import data_root

from cpm_repro import build
from cpm_repro.caffe.convert import convert
from cpm_repro.cli import main
from cpm_repro.errors import UserError
from cpm_repro.inference.detector import PersonDetector, local_peaks
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.weights import BUNDLED
from cpm_repro.model import initialise


def brightness_net():
    """A person network whose one map is how bright the image is: channel 0 passes through, smoothed."""
    net = build("person_4stage", stages=1, width=0.05)
    smooth = torch.tensor([1.0, 2.0, 1.0]) / 4
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
        for layer in net.description.convolutions:
            kernel = net.layer(layer.name).weight[0, 0]
            coarse = layer.kernel_size == 3 and layer.name.startswith(
                ("conv4", "conv5")
            )  # behind the poolings
            kernel[:] = torch.outer(smooth, smooth) if coarse else 0.0
            kernel[layer.kernel_size // 2, layer.kernel_size // 2] += 0.0 if coarse else 1.0
        net.layer(net.output_layers[0]).weight *= 6.0
    return net


def lit_image(centers, size=(200, 300), sigma=12):
    """Dark with bright bumps."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    bumps = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / sigma**2) for x, y in centers]
    return np.repeat((100 + 155 * np.max(bumps, axis=0)).astype(np.uint8)[..., None], 3, axis=2)


def test_the_detector_finds_people_where_they_are():
    centers = [(60, 80), (220, 110), (140, 40)]
    places = PersonDetector(brightness_net())(lit_image(centers))
    assert len(places) == 3
    for center in centers:
        nearest = min(np.hypot(*np.subtract(place.center, center)) for place in places)
        assert nearest < 5  # a cell is 8 px of an image enlarged 1.84 times
    for place in places:
        assert place.extent == pytest.approx(0.8 * 200)
        assert "80% of the image's" in place.assumed
        assert place.detection > 0.9


@pytest.mark.parametrize("cut", [0, 20])
def test_the_detector_sees_what_the_release_shows_its_network(cut):
    """Height 368, cubic, padded right and bottom with 128 to a multiple of 8, maps enlarged eight times."""
    net = build("person_4stage", stages=2, width=0.05).eval()
    initialise(net, "kaiming", torch.Generator().manual_seed(3))
    with torch.no_grad():
        net.layer(net.output_layers[-1]).weight *= 1000.0
    image = cv2.imread(str(data_root("samples", "frame0181.png")))
    image = image[:, cut:]
    height, width = image.shape[:2]
    scaled = cv2.resize(image, (round(width * 368 / height), 368), interpolation=cv2.INTER_CUBIC)
    padded = np.full((368, -(-scaled.shape[1] // 8) * 8, 3), 128, np.uint8)
    padded[:, : scaled.shape[1]] = scaled
    data = torch.from_numpy(padded.astype(np.float32) / 256 - 0.5).permute(2, 0, 1)[None]
    with torch.no_grad():
        belief = net(data)[-1][0, 0].numpy()
    expected = cv2.resize(belief, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)[:, : scaled.shape[1]]
    found = PersonDetector(net).belief_map(image)
    assert found.belief.shape == expected.shape
    assert np.abs(found.belief - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.ptp(expected) > 0.5


def test_people_found_in_pictures_of_any_size_come_in_image_pixels():
    """The same scene, enlarged: the same people, in the larger picture's pixels."""
    small = lit_image([(60, 80), (220, 110)])
    large = cv2.resize(small, (900, 600), interpolation=cv2.INTER_CUBIC)
    detector = PersonDetector(brightness_net())
    for a, b in zip(detector(small), detector(large), strict=True):
        assert (np.array(a.center) + 0.5) * 3 - 0.5 == pytest.approx(np.array(b.center), abs=3)
        assert b.extent == 3 * a.extent


def test_local_peaks():
    belief = np.zeros((6, 9), np.float32)
    belief[1, 1] = 0.6
    belief[4, 6:8] = 0.9  # a flat top is one person, at its first pixel
    belief[0, 8] = 0.5  # not above the threshold
    belief[5, 0] = 0.7  # in the corner
    belief[2, 2] = 0.55  # the neighbour of a higher one
    assert local_peaks(belief) == [
        (6, 4, pytest.approx(0.9)),
        (0, 5, pytest.approx(0.7)),
        (1, 1, pytest.approx(0.6)),
    ]
    assert [peak[:2] for peak in local_peaks(belief, 0.1)][-1] == (8, 0)
    assert local_peaks(np.zeros((3, 3), np.float32)) == []


def test_nobody_there_gives_nobody():
    image = np.full((50, 40, 3), 100, np.uint8)
    assert PersonDetector(brightness_net())(image) == []
    assert PoseEstimator(BUNDLED, detector=PersonDetector(brightness_net()))(image) == []


def test_two_phases_give_everybody_s_pose_in_one_batch():
    image = lit_image([(60, 80), (220, 110)])
    estimator = PoseEstimator(BUNDLED, detector=PersonDetector(brightness_net()))
    batches = []
    estimator.net.register_forward_pre_hook(lambda _, data: batches.append(len(data[0])))
    people = estimator(image)
    assert len(people) == 2
    assert batches == [2]
    for person in people:
        assert person.extent == pytest.approx(estimator.augment.fill * 200)  # a window of the image's height
        assert "detector" in person.assumed
        assert person.to_dict()["detection"] > 0.9
    same = estimator(image, centers=[p.center for p in people], heights=people[0].extent)
    for found, given in zip(people, same, strict=True):
        assert np.array_equal(found.keypoints, given.keypoints)
        assert given.assumed == ""
        assert given.detection is None


def test_centres_in_a_mirrored_picture_are_mirrored(monkeypatch):
    """Peaks are found in an enlarged or reduced picture, whose pixels have their middles elsewhere."""
    detector = PersonDetector(brightness_net(), height=64)
    belief = np.zeros((8, 4), np.float32)
    belief[2, 1], belief[2, 2], belief[3, 1] = 1.0, 0.7, 0.6  # one highest pixel, not a flat top
    for height in (32, 64, 192):
        image = np.zeros((height, height // 2, 3), np.uint8)
        places = []
        for seen in (belief, belief[::-1, ::-1].copy()):
            monkeypatch.setattr(detector, "_run", lambda _, seen=seen: seen)
            places += [place.center for place in detector(image)]
        (x0, y0), (x1, y1) = places
        assert (x0 + x1, y0 + y1) == pytest.approx((height // 2 - 1, height - 1))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"height": 0}, "height: wanted a whole number of pixels, at least 1, got 0"),
        ({"height": 184.5}, "height: wanted a whole number of pixels, at least 1, got 184.5"),
        ({"threshold": float("nan")}, "threshold: wanted a number, got nan"),
        ({"threshold": "0.5"}, "threshold: wanted a number, got '0.5'"),
    ],
    ids=str,
)
def test_settings_of_a_detector_that_make_no_sense(setting, words):
    with pytest.raises(UserError, match=words):
        PersonDetector(brightness_net(), **setting)


def test_a_pose_network_is_no_detector():
    with pytest.raises(UserError, match=r"tiny-lspet.safetensors: tiny finds parts, not people"):
        PersonDetector(BUNDLED)


def test_a_strip_of_an_image_is_refused_before_it_fills_the_memory():
    with pytest.raises(UserError, match="at most 16 times as wide as high"):
        PersonDetector(brightness_net())(np.zeros((10, 5000, 3), np.uint8))


def test_the_command_finds_people_with_a_detector(tmp_path, capsys):
    """Weights of a person network, as `--detector` takes them: two bright spots are two people."""
    plain, weights = tmp_path / "plain.safetensors", tmp_path / "people.pt"
    save_file(brightness_net().state_dict(), plain)
    convert(plain, weights, arch="person_4stage", stages=1, width=0.05)
    cv2.imwrite(str(tmp_path / "two.png"), lit_image([(60, 100), (240, 100)]))
    cv2.imwrite(str(tmp_path / "none.png"), np.full((200, 300, 3), 100, np.uint8))
    words = ["predict", str(tmp_path / "two.png"), str(tmp_path / "none.png"), "--no-grid"]
    assert main([*words, "--detector", str(weights), "--out", str(tmp_path / "out")]) == 0
    assert "as the detector finds centres alone" in capsys.readouterr().out
    two, nobody = (json.loads((tmp_path / "out" / "predictions" / f"{name}.json").read_text())["people"]
                   for name in ("two", "none"))  # fmt: skip
    assert nobody == []
    assert sorted(round(person["center"][0], -1) for person in two) == [60, 240]
    assert all(person["detection"] > 0.5 for person in two)
    assert main([*words, "--detector", str(BUNDLED), "--out", str(tmp_path / "out")]) == 2
    assert "tiny finds parts, not people: wanted a person network" in capsys.readouterr().err
