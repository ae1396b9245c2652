"""Where people are said to be, or taken to be where nobody says."""

import cv2
import numpy as np
import pytest
import torch
from support import data_root
from videos import make_video

from cpm_repro.errors import UserError
from cpm_repro.inference.crop_beliefs import CropBeliefs
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.places import places_from_boxes, places_from_centers, tried_places, whole_image
from cpm_repro.inference.predict import PredictOptions, predict
from cpm_repro.inference.weights import BUNDLED


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
    cv2.imwrite(str(path), np.zeros((50, 60, 3), np.uint8))
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
    image = np.zeros((80, 200, 3), np.uint8)
    people = [estimator(image, whole_image=True), *estimator([image, image], whole_image=True)]
    for (person,) in people:
        assert (person.center, person.extent) == ((99.5, 39.5), 160.0)
        assert person.assumed == whole_image((80, 200)).assumed
    for other in ({"boxes": []}, {"centers": []}):
        with pytest.raises(ValueError, match="whole_image takes one person"):
            estimator(image, whole_image=True, **other)


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
        PoseEstimator(BUNDLED)(np.zeros((50, 60, 3), np.uint8), **where)


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
