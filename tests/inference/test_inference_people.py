"""Many people: where they are, from boxes, centres or the person network, and their poses in image pixels."""

import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import data_root
from videos import make_video

from cpm_repro import build
from cpm_repro.caffe.convert import convert
from cpm_repro.cli import main
from cpm_repro.errors import UserError
from cpm_repro.inference.crop_beliefs import CropBeliefs
from cpm_repro.inference.detector import PersonDetector, local_peaks
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.places import places_from_boxes, places_from_centers, tried_places, whole_image
from cpm_repro.inference.predict import PredictOptions, predict
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


def test_the_detector_sees_what_the_release_shows_its_network():
    """Height 368, cubic, padded right and bottom with 128 to a multiple of 8, maps enlarged eight times."""
    net = build("person_4stage", stages=2, width=0.05).eval()
    initialise(net, "kaiming", torch.Generator().manual_seed(3))
    with torch.no_grad():
        net.layer(net.output_layers[-1]).weight *= 1000.0
    image = cv2.imread(str(data_root("samples", "frame0181.png")))
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


def test_boxes_and_centres_say_the_same():
    (box,) = places_from_boxes([(10, 20, 50, 100)], (120, 90))
    (center,) = places_from_centers([(30, 60)], [80], (120, 90))
    assert box == center
    (assumed,) = places_from_centers([(30, 60)], None, (120, 90))
    assert assumed.extent == 96
    assert "80%" in assumed.assumed
    assert whole_image((120, 90)).center == (44.5, 59.5)


@pytest.mark.parametrize(("size", "count"), [((120, 90), 3), ((120, 149), 3), ((120, 150), 7), ((1, 1), 1)])
def test_places_of_one_person_of_whom_nothing_is_said(size, count):
    places = tried_places(size)
    assert places[0] == whole_image(size)
    assert len({(place.center, place.extent) for place in places}) == len(places) == count
    if count == 7:  # beside the middle, the same on either side
        assert sum(x for (x, _), *_ in [(p.center,) for p in places]) == pytest.approx(7 * 74.5)
        assert {place.extent for place in places[3:]} == {0.6 * 150, 0.45 * 150}


def paste(left, width=480, height=320):
    """A grey picture with a photograph of one person, 193 pixels high, at ``left``."""
    person = cv2.imread(str(data_root("samples", "im1630.jpg")))
    image = np.full((height, width, 3), 128, np.uint8)
    image[60 : 60 + person.shape[0], left : left + person.shape[1]] = person
    return image


@pytest.mark.parametrize(("left", "words"), [(100, "left of the middle"), (300, "right of the middle")])
def test_a_person_beside_the_middle_of_a_wide_picture_is_found(left, words):
    """The place that is kept is the one with the highest sum of scores, and the result says which it was."""
    image, estimator = paste(left), PoseEstimator(BUNDLED)
    (person,) = estimator(image)
    assert words in person.assumed
    assert "45% of the image's longer side" in person.assumed or "60%" in person.assumed
    assert abs(person.keypoints.mean(axis=0)[0] - (left + 38)) < 30
    places = tried_places(image.shape[:2])
    every = estimator(image, centers=[p.center for p in places], heights=[p.extent for p in places])
    assert person.scores.sum() == pytest.approx(max(one.scores.sum() for one in every), abs=1e-4)


@pytest.mark.parametrize(
    ("lefts", "words"),
    [((100,), "assumed: one person left of the middle"), ((100, 300), "every result says where")],
)
def test_what_was_assumed_is_said_of_all(tmp_path, capsys, lefts, words):
    for left in lefts:
        cv2.imwrite(str(tmp_path / f"{left}.png"), paste(left))
    assert predict(PredictOptions([tmp_path], tmp_path / "out", pictures=False, grids=False)) == len(lefts)
    assert words in capsys.readouterr().out


def test_in_a_video_the_person_is_looked_for_once_a_second(tmp_path, monkeypatch):
    """Between two searches the person stays where the last one found him: that costs one crop a frame."""
    writer = cv2.VideoWriter(str(tmp_path / "x.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (480, 320))
    for index in range(28):
        writer.write(paste(100 if index < 10 else 300))
    writer.release()
    estimator, crops, run = PoseEstimator(BUNDLED, batch=2), [], CropBeliefs._run
    monkeypatch.setattr(CropBeliefs, "_run", lambda self, x, **k: crops.append(len(x)) or run(self, x, **k))
    places = [people[0].assumed.split(",")[0] for people in estimator.video(tmp_path / "x.avi")]
    assert places == 25 * ["one person left of the middle"] + 3 * ["one person right of the middle"]
    assert sum(crops) == 28 + 2 * 7


@pytest.mark.parametrize("where", ["boxes", "centers"])
def test_a_generator_of_places_is_every_frame_s(tmp_path, where):
    """It gave nobody from the second frame on."""
    make_video(tmp_path / "x.avi", count=5)
    places = {"boxes": [(5, 5, 60, 60)], "centers": [(40, 30)]}[where]
    frames = PoseEstimator(BUNDLED, batch=2).video(tmp_path / "x.avi", **{where: iter(places)})
    assert [len(people) for people in frames] == 5 * [1]


def test_a_box_may_reach_over_the_border():
    (place,) = places_from_boxes([(-50, -20, 40, 80)], (120, 90))
    assert place.center == (-5, 30)


def test_a_box_has_a_largest_size():
    with pytest.raises(UserError, match="box: wanted at most 1000000 pixels along a side"):
        places_from_boxes([(0, 0, 1e25, 1e25)], (120, 90))


def test_kept_maps_are_those_of_the_place_that_is_told(monkeypatch):
    """Of all the places that are tried they would take seven times the memory."""
    image = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    estimator, kept, people = PoseEstimator(BUNDLED), [], PoseEstimator._people
    monkeypatch.setattr(
        PoseEstimator,
        "_people",
        lambda self, jobs, keep_maps: (
            kept.extend([keep_maps] * len(jobs)) or people(self, jobs, keep_maps=keep_maps)
        ),
    )
    (mapped,), (plain,) = estimator(image, keep_maps=True), estimator(image)
    assert mapped.assumed == plain.assumed
    np.testing.assert_array_equal(mapped.keypoints, plain.keypoints)
    assert kept == [False] * 7 + [True] + [False] * 7


@pytest.mark.parametrize(
    ("center", "height", "words"),
    [
        ((30, 60), 0, "height: wanted a positive number of pixels up to 1000000, got 0"),
        ((30, 60), -5, "got -5"),
        ((30, 60), float("nan"), "got nan"),
        ((30, 60), 1e25, "up to 1000000, got 1e\\+25"),
        ((30, 60), [50, 60], r"one per centre \(1\)"),
        ((90, 60), 50, "outside the 90x120 image"),
        ((30, -1), 50, "outside the 90x120 image"),
        ((float("inf"), 60), 50, "two finite numbers"),
    ],
)
def test_centres_that_make_no_sense(center, height, words):
    with pytest.raises(UserError, match=words):
        places_from_centers([center], height, (120, 90))


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


def test_a_strip_of_an_image_is_refused_before_it_fills_the_memory():
    with pytest.raises(UserError, match="at most 16 times as wide as high"):
        PersonDetector(brightness_net())(np.zeros((10, 5000, 3), np.uint8))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            {"centers": [(5, 5)], "heights": 0},
            "height: wanted a positive number of pixels up to 1000000, got 0",
        ),
        ({"centers": [(5, 5)], "heights": [1, 2]}, r"heights: wanted one per centre \(1\)"),
        ({"centers": [(float("nan"), 5)]}, "center: wanted two finite numbers"),
        ({"boxes": [(0, 0, float("nan"), 9)]}, "box: wanted four finite numbers"),
        ({"boxes": [(900, 0, 950, 9)]}, r"box: .* lies outside the 60x50 image"),
    ],
    ids=str,
)
def test_places_that_cannot_be_are_said_of_the_file(tmp_path, where, words):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), lit_image([(30, 20)], size=(50, 60)))
    estimator = PoseEstimator(BUNDLED)
    with pytest.raises(UserError, match=f"^{path}: {words}"):
        estimator(path, **where)
    with pytest.raises(UserError, match=f"^{words}"):  # an array has no name
        estimator(cv2.imread(str(path)), **where)
    clip = make_video(tmp_path / "clip.avi", 2)
    with pytest.raises(UserError, match=f"^{clip}: "):
        next(estimator.video(clip, **where))


def test_a_height_that_nobody_gave_is_not_refused():
    """In a picture of a few pixels it is a few pixels."""
    for height, extent in ((1, 1.0), (5, 4.0), (100, 80.0)):
        (place,) = places_from_centers([(0, 0)], None, (height, 40))
        assert place.extent == extent
        assert place.assumed == "a height of 80% of the image's"


def test_heights_may_be_numpys():
    for height in (np.int64(50), np.float32(50), 50, np.array(50), torch.tensor(50.0)):
        (place,) = places_from_centers([(30, 60)], height, (120, 90))
        assert (place.extent, type(place.extent)) == (50.0, float)


def test_one_person_may_be_said_to_fill_the_image():
    estimator = PoseEstimator(BUNDLED)
    image = lit_image([(60, 40)], size=(80, 200))
    people = [estimator(image, whole_image=True), *estimator([image, image], whole_image=True)]
    for (person,) in people:
        assert (person.center, person.extent) == ((99.5, 39.5), 160.0)
        assert person.assumed == whole_image((80, 200)).assumed
    for other in ({"boxes": []}, {"centers": []}):
        with pytest.raises(ValueError, match="whole_image takes one person"):
            estimator(image, whole_image=True, **other)


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


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ({"boxes": (0, 0, 40, 40)}, "box: wanted four finite numbers .*, got 0: one of them goes in a list"),
        ({"centers": (30, 20)}, "center: wanted two finite numbers x y, got 30: one of them goes in a list"),
        ({"boxes": [(0, 0, 40, None)]}, "box: wanted four finite numbers"),
        ({"boxes": 40}, "boxes: wanted a list with one entry per person, got 40"),
        ({"centers": "30"}, "centers: wanted a list with one entry per person, got '30'"),
        ({"centers": [(30, 20)], "heights": "50"}, "heights: wanted a list .*, got '50'"),
        ({"centers": [(30, 20)], "heights": [None]}, "height: wanted a positive number of pixels, got None"),
        ({"boxes": [(0.1, 0.1, 0.9, 0.9)]}, "box: wanted pixels, 8 or more along its longer side"),
        (
            {"centers": [(30, 20)], "heights": 1.5},
            "height: wanted pixels, 8 or more, got 1.5; MPII",
        ),
    ],
    ids=str,
)
def test_places_in_another_form_or_unit_than_wanted(where, words):
    with pytest.raises(UserError, match=words):
        PoseEstimator(BUNDLED)(lit_image([(30, 20)], size=(50, 60)), **where)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "NoneType, which cv2.imread gives for a file that it cannot read"),
        (torch.zeros(50, 60, 3, dtype=torch.uint8), "got Tensor"),
        (3, "got int"),
        (b"the bytes of a file", "got bytes"),
        ([None], "got NoneType"),
    ],
    ids=["none", "tensor", "number", "bytes", "list"],
)
def test_what_is_no_image_is_said(given, words):
    with pytest.raises(TypeError, match=f"image: wanted a path or a numpy array, .*{words}"):
        PoseEstimator(BUNDLED)(given)
