"""Several images, scales, mirror images, sub-pixel peaks, threads: an estimator beyond one crop."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from cpm_repro import build, ops
from cpm_repro.caffe.convert import convert
from cpm_repro.errors import UserError
from cpm_repro.inference import decode, tiled_fft
from cpm_repro.inference.crop_beliefs import CropBeliefs
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.export import export_weights
from cpm_repro.inference.fast_convolution import fast_convolutions
from cpm_repro.skeleton import CPM14


def picture(seed=0, height=90, width=80):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


class Bumps(torch.nn.Module):
    """Stands in for a network that knows left from right: finds the brightest pixel of each colour; of blue
    and green, the one further left is part 0."""

    stride, parts, stages, input_channels = 8, 3, 1, 4

    def forward(self, data, stages=None):  # noqa: ARG002
        count, size = len(data), data.shape[-1]
        index = data[:, :3].flatten(2).argmax(2)
        joints = torch.stack((index % size, index // size), -1)[:, None].float()
        swap = joints[:, :, 0, 0] > joints[:, :, 1, 0]
        joints = torch.where(swap[..., None, None], joints[:, :, [1, 0, 2]], joints)
        visible = torch.ones(count, 1, 3, dtype=torch.uint8)
        return [ops.belief_maps(joints, visible, grid=(size // 8, size // 8), stride=8, sigma=9.0)[:, :4]]


@pytest.fixture
def bumps(run_folder, monkeypatch):
    """Estimators around the stand-in, and a picture whose three brightest pixels they should find."""
    image = np.full((64, 64, 3), 40, np.uint8)
    places = {0: (20, 30), 1: (40, 33), 2: (28, 45)}
    for channel, (x, y) in places.items():
        image[y - 1 : y + 2, x - 1 : x + 2, channel] = 255

    def make(**options):
        estimator = PoseEstimator(run_folder, **options)
        monkeypatch.setattr(estimator, "net", Bumps())
        three = type(CPM14)("three", ("left_hand", "right_hand", "nose"), ((0, 1),), ())
        monkeypatch.setattr(estimator, "skeleton", three)
        return estimator

    return make, image, np.array(list(places.values()), float)


def test_several_images_are_as_each_alone_whatever_the_batch(run_folder, tmp_path):
    images = [picture(seed, 60 + 10 * seed) for seed in range(5)]
    cv2.imwrite(str(tmp_path / "x.png"), images[1])
    mixed = [images[0], tmp_path / "x.png", images[2], str(tmp_path / "x.png"), images[4]]
    alone = [PoseEstimator(run_folder)(image) for image in mixed]
    for batch in (1, 2, 8):
        estimator = PoseEstimator(run_folder, batch=batch)
        together = estimator(iter(mixed))
        assert [people.source for people in together] == ["", str(mixed[1]), "", str(mixed[3]), ""]
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_array_equal(a[0].keypoints, b[0].keypoints)
            np.testing.assert_allclose(a[0].scores, b[0].scores, atol=1e-6)
    stacked = PoseEstimator(run_folder)(np.stack([images[0], images[0]]))
    assert len(stacked) == 2


def test_boxes_of_several_images(run_folder):
    estimator = PoseEstimator(run_folder, batch=2)
    boxes = [[(0, 0, 40, 40), (10, 10, 79, 79)], None, []]
    people = estimator([picture(0), picture(1), picture(2)], boxes=boxes)
    assert [len(found) for found in people] == [2, 1, 0]
    np.testing.assert_array_equal(people[0][1].keypoints, estimator(picture(0), boxes=boxes[0])[1].keypoints)
    with pytest.raises(ValueError, match=r"one list per image, got fewer lists \(1\) than images"):
        estimator([picture(0), picture(1)], boxes=[None])
    with pytest.raises(ValueError, match=r"one list per image, got fewer images \(1\) than lists"):
        estimator([picture(0)], boxes=iter([None, None]))


def test_stream_reads_no_further_than_a_batch(run_folder):
    taken = []

    def images():
        for index in range(100):
            taken.append(index)
            yield picture()

    next(PoseEstimator(run_folder, batch=3).stream(images()))
    assert len(taken) == 3


def test_enlarging_a_zoomed_view_undoes_the_zoom():
    """Weights of zoom 1 are PyTorch's; a view at another zoom shows a smooth map at the same place."""
    maps = torch.rand(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    rows, columns = decode._weights(6, 8, 1.0), decode._weights(7, 8, 1.0)
    torch.testing.assert_close(rows @ maps @ columns.T, decode.enlarge(maps), rtol=0, atol=2e-6)
    for zoom in (0.8, 1.25):
        joint = torch.tensor([[[[50.0, 70.0], [64.0, 60.0]]]])
        seen = 63.5 + zoom * (joint - 63.5)
        visible = torch.ones(1, 1, 2, dtype=torch.uint8)
        label = ops.belief_maps(seen, visible, grid=(16, 16), stride=8, sigma=12.0)[:, :3]
        large = decode.average_views(label[:, None], (zoom,))
        assert large.shape == (1, 3, 128, 128)
        xy, score = decode.highest(large[:, :2])
        torch.testing.assert_close(xy, joint[0], rtol=0, atol=1.0)
        assert score.min() > 0.97


def test_what_a_view_does_not_show_is_background():
    maps = torch.full((1, 2, 3, 4, 4), 0.5)
    mean = decode.average_views(maps, (1.0, 2.0))
    assert mean[0, 0, 0, 0] == pytest.approx(0.25)  # only the first view reaches the corner
    assert mean[0, 2, 0, 0] == pytest.approx(0.75)
    assert mean[0, :, 16, 16].tolist() == pytest.approx([0.5] * 3)


def test_sub_pixel_peaks_find_a_gaussian_between_pixels():
    rng = np.random.default_rng(1)
    joints = torch.from_numpy(rng.uniform(20, 108, (100, 1, 3, 2))).float()
    visible = torch.ones(100, 1, 3, dtype=torch.uint8)
    label = ops.belief_maps(joints, visible, grid=(16, 16), stride=8, sigma=7.0)[:, :3]
    large = decode.enlarge(label)
    xy, _ = decode.highest(large)
    error = (decode.sub_pixel(large, xy) - joints[:, 0]).abs()
    assert error.max() < 0.1  # measured 0.056 on 1200 joints; 0.91 without
    assert (xy - joints[:, 0]).abs().max() > 0.7


def test_sub_pixel_peaks_stay_where_no_parabola_is():
    large = torch.zeros(1, 3, 32, 32)
    large[0, 0, 0, 31] = 1.0  # in the corner
    large[0, 1, 16, 16] = 1.0  # nothing around it
    large[0, 2] = 0.5  # flat
    xy, _ = decode.highest(large)
    assert torch.equal(decode.sub_pixel(large, xy), xy)


@pytest.mark.parametrize(
    "options",
    [{}, {"scales": (0.8, 1.0, 1.25)}, {"scales": (0.9,)}, {"flip_test": True},
     {"scales": (0.8, 1.2), "flip_test": True, "sub_pixel": True, "batch": 3}],
    ids=str,
)  # fmt: skip
def test_all_ways_of_looking_find_the_same_places(bumps, options):
    make, image, places = bumps
    (person,) = make(**options)(image, boxes=[(0, 0, 63, 63)], keep_maps=True)
    assert np.abs(person.keypoints - places).max() < 2.0
    assert person.scores.min() > 0.8
    assert person.crop is not None
    assert person.crop.shape == (64, 64, 3)
    assert person.belief_maps[0].shape == (4, *((8, 8) if not options else (64, 64)))


def test_the_mirror_image_trades_left_and_right(bumps):
    """A preference for one side cancels: what is said of one hand there is said of the other here."""
    make, image, places = bumps

    class Prefers(Bumps):
        def forward(self, data, stages=None):
            (maps,) = super().forward(data, stages)
            return [maps * torch.tensor([0.5, 1, 1, 1])[:, None, None]]

    plain, both = make(), make(flip_test=True)
    plain.net = both.net = Prefers()
    (one,), (mean,) = (estimator(image, boxes=[(0, 0, 63, 63)]) for estimator in (plain, both))
    assert one.scores[:2] == pytest.approx([0.5, 1.0], abs=0.05)
    assert mean.scores[:2] == pytest.approx([0.75, 0.75], abs=0.05)
    assert np.abs(mean.keypoints - places).max() < 2.0


def test_flipping_an_image_flips_the_answer_of_the_flip_test(run_folder):
    """With the flip test an estimator cannot tell an image from its mirror image."""
    estimator = PoseEstimator(run_folder, flip_test=True)
    image = picture()
    (a,), (b,) = estimator(image), estimator(np.ascontiguousarray(image[:, ::-1]))
    order = list(CPM14.flip_permutation)
    np.testing.assert_allclose(a.scores, b.scores[order], atol=1e-5)


def test_the_network_is_told_that_the_person_is_in_the_middle():
    """Between the two middle pixels: half a pixel beside, mirror images are not seen alike."""
    seen = []

    def forward(data):
        seen.append(data[:, 3])
        return [data[:, :2, ::8, ::8]]

    look = CropBeliefs(forward, torch.device("cpu"), torch.float32, batch=2, flip_order=(0, 1))
    look(np.zeros((3, 1, 64, 64, 3), np.uint8), last_only=True)
    assert [len(centre) for centre in seen] == [2, 1, 2, 1]
    for centre in seen:
        assert centre.max() > 0.9
        for axis in (1, 2):
            torch.testing.assert_close(centre.flip(axis), centre)


def test_no_more_crops_than_a_batch_are_made_at_once(run_folder, monkeypatch):
    """Whatever the scales and mirror images: a picture may have a hundred people."""
    estimator = PoseEstimator(run_folder, batch=8, scales=(0.9, 1.1), flip_test=True)
    made, beliefs = [], estimator._beliefs
    monkeypatch.setattr(
        estimator, "_beliefs", lambda crops, **given: made.append(crops.shape[:2]) or beliefs(crops, **given)
    )
    assert len(estimator(picture(), boxes=[(0, 0, 40, 40)] * 5)) == 5
    assert made == [(2, 2), (2, 2), (1, 2)]  # people, scales; as many mirrored


def test_an_export_takes_the_crop_that_the_weights_were_trained_on(run_folder, tmp_path):
    assert export_weights(run_folder, tmp_path / "x.pt2", stages=1).input_shape == (2, 4, 64, 64)


def test_calls_from_many_threads_do_not_meet(run_folder):
    estimator = PoseEstimator(run_folder, scales=(0.9, 1.1), batch=2)
    images = [picture(seed) for seed in range(16)]
    alone = [estimator(image)[0] for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: estimator(image)[0], images))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.keypoints, b.keypoints)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)


def test_bf16_is_near(run_folder):
    (exact,) = PoseEstimator(run_folder)(picture(), keep_maps=True)
    (rough,) = PoseEstimator(run_folder, precision="bf16")(picture(), keep_maps=True)
    difference = np.abs(exact.belief_maps[-1] - rough.belief_maps[-1]).max()
    assert 0 < difference < 0.02 * np.abs(exact.belief_maps[-1]).max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scales": ()}, "scales: wanted one or more"),
        ({"scales": (1.0, float("nan"))}, "scales: wanted"),
        ({"precision": "bf-16"}, "bf16"),
        ({"scales": 1.0}, "scales: wanted .*, got no list of numbers: 1.0"),
        ({"scales": "1"}, "scales: wanted .*, got no list of numbers: '1'"),
        ({"detector": 5}, "detector: wanted weights of a person network or a PersonDetector, got int"),
        ({"detector": torch.nn.Identity()}, "detector: wanted .*, got Identity"),
        ({"precision": torch.bfloat16}, "unknown precision 'torch.bfloat16'"),
        ({"batch": 0}, "batch: wanted a whole number of at least 1, got 0"),
        ({"batch": 1.5}, "batch: wanted a whole number of at least 1, got 1.5"),
        ({"stages": "2"}, "stages: .* has 1 to 3, got '2'"),
        ({"stages": 4}, "stages: .* has 1 to 3, got 4"),
        ({"device": "cuda:77"}, "device cuda:77"),
        ({"device": "toaster"}, "device toaster"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense(run_folder, options, words):
    with pytest.raises(UserError, match=words) as refused:
        PoseEstimator(run_folder, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (2000, 2, 3), (2, 40_000, 3)])
def test_extreme_shapes(run_folder, shape):
    people = PoseEstimator(run_folder)(np.full(shape, 77, np.uint8))
    assert np.isfinite(people[0].keypoints).all()
    assert people.draw().size


def test_the_default_device_is_that_of_other_programs(run_folder, tmp_path):
    """torch.set_default_device moved tables of a network on the CPU elsewhere, where they were kept."""
    options = {"device": "cpu", "flip_test": True, "scales": (0.93, 1.07), "sub_pixel": True}
    decode._weights.cache_clear()
    tiled_fft._matrices.cache_clear()
    with torch.device("meta"):
        (inside,) = PoseEstimator(run_folder, **options)(picture(), whole_image=True)
        net = build("mpii_6stage", stages=1, width=0.25).eval()
        (moved,) = fast_convolutions(net)(torch.zeros(1, 4, 184, 184, device="cpu"))
        convert(run_folder, tmp_path / "x.caffemodel", check=True)
    (outside,) = PoseEstimator(run_folder, **options)(picture(), whole_image=True)
    np.testing.assert_array_equal(inside.keypoints, outside.keypoints)
    assert moved.device.type == "cpu"
