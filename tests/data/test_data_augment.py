from __future__ import annotations

import cv2
import numpy as np
import pytest
from data_fakes import DotDataset, blob, centroid

from cpm_repro.data import AugmentConfig, Draw, PoseSample, crop_matrix, draw, invert_matrix, warp
from cpm_repro.data.augment import apply_matrix, warp_image
from cpm_repro.skeleton import CPM14


def sample_with(image: np.ndarray, points: np.ndarray, extent: float = 90.0) -> PoseSample:
    joints = np.tile(points.astype(np.float32), (1, 14, 1))
    return PoseSample(
        image, joints, np.ones((1, 14), np.uint8), joints[0, 0] + np.float32(9.3), extent, "dot"
    )


@pytest.mark.parametrize("degrees", [0.0, 33.0, -90.0])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("scale", "extent"), [(1.0, 92.16), (0.7, 90.0), (1.3, 60.0), (1.0, 300.0), (1.0, 517.0)]
)
def test_a_dot_lands_where_its_coordinate_says(degrees, mirror, scale, extent):
    """Also when the crop shrinks the picture 3 to 6 times and averages blocks first."""
    at = np.array([203.3, 171.6])
    factor = 0.72 * 128 * scale / extent
    sigma = max(2.0, 2.0 / factor)
    sample = sample_with(blob((380, 401), at, sigma), at[None], extent)
    config = AugmentConfig()
    matrix = crop_matrix(sample, config, Draw(scale, degrees, mirror))
    crop = warp(sample, matrix, config, CPM14)
    x, y = np.unravel_index(crop.image[..., 0].argmax(), (128, 128))[::-1]
    near = np.hypot(*(np.mgrid[:128, :128] - np.array([y, x])[:, None, None])) < 15
    seen = centroid(np.where(near[..., None], crop.image, 0), floor=4)
    assert seen == pytest.approx(crop.joints[0, 0], abs=0.1)  # worst measured 0.013


def test_center_goes_to_the_middle_and_extent_to_fill():
    sample = DotDataset()[3]
    config = AugmentConfig(crop=96, fill=0.5)
    crop = warp(sample, crop_matrix(sample, config), config, CPM14)
    assert crop.center == pytest.approx([47.5, 47.5], abs=1e-4)
    size = (crop.joints[0].max(axis=0) - crop.joints[0].min(axis=0)).max()
    assert size == pytest.approx(48, abs=1e-3)
    assert crop.image.shape == (96, 96, 3)


def test_scale_multiplies_and_shift_moves():
    sample, config = DotDataset()[1], AugmentConfig()
    plain = crop_matrix(sample, config)
    moved = crop_matrix(sample, config, Draw(scale=1.2, shift=(0.25, -0.125)))
    assert np.linalg.det(moved[:, :2]) / np.linalg.det(plain[:, :2]) == pytest.approx(1.44)
    assert apply_matrix(moved, sample.center) == pytest.approx([63.5 + 32, 63.5 - 16], abs=1e-3)


def test_rotation_turns_counter_clockwise_on_the_screen():
    sample, config = DotDataset()[1], AugmentConfig()
    right_of = sample.center + np.float32([10, 0])
    turned = apply_matrix(crop_matrix(sample, config, Draw(degrees=90)), right_of)
    assert turned[1] < 63.5 - 1
    assert turned[0] == pytest.approx(63.5, abs=1e-3)


def test_mirror_swaps_left_and_right_with_their_visibility():
    sample, config = DotDataset()[2], AugmentConfig()
    sample.visible[0, CPM14.index("left_wrist")] = 2
    plain = warp(sample, crop_matrix(sample, config), config, CPM14)
    flipped = warp(sample, crop_matrix(sample, config, Draw(mirror=True)), config, CPM14)
    for part in CPM14.parts:
        other = part.replace("left_", "?").replace("right_", "left_").replace("?", "right_")
        here, there = CPM14.index(part), CPM14.index(other)
        assert flipped.joints[0, here, 0] == pytest.approx(127 - plain.joints[0, there, 0], abs=1e-3)
        assert flipped.joints[0, here, 1] == pytest.approx(plain.joints[0, there, 1], abs=1e-3)
        assert flipped.visible[0, here] == plain.visible[0, there]
    assert np.abs(flipped.image.astype(int) - plain.image[:, ::-1]).max() <= 2


def test_inverse_brings_predictions_back():
    sample, config = DotDataset()[4], AugmentConfig()
    matrix = crop_matrix(sample, config, Draw(0.8, 25, True, (0.1, 0.2)))
    back = apply_matrix(invert_matrix(matrix), apply_matrix(matrix, sample.joints))
    assert back == pytest.approx(sample.joints, abs=1e-3)


def test_outside_of_the_photograph_is_grey():
    image = np.full((40, 40, 3), 10, np.uint8)
    crop = warp_image(image, np.array([[1.0, 0, 44], [0, 1, 44]]), 128)
    assert (crop[:40] == 128).all()
    assert (crop[50:80, 50:80] == 10).all()


def test_shrinking_averages_instead_of_skipping():
    """Stripes of one pixel become grey; the warp alone would show moire between 0 and 255."""
    image = np.zeros((800, 800, 3), np.uint8)
    image[:, ::2] = 255
    factor = 128 / 800
    crop = warp_image(image, np.array([[factor, 0, 0.0], [0, factor, 0.0]]), 128)[4:-4, 4:-4]
    assert crop.min() >= 120
    assert crop.max() <= 135


@pytest.mark.parametrize("block", [2, 4, 8])
def test_cutting_before_the_reduction_changes_nothing(block):
    """The part is cut on block boundaries: same averages as reducing the whole photograph."""
    rng = np.random.default_rng(0)
    side = 60 * block
    image = cv2.GaussianBlur(rng.integers(0, 256, (side * 4, side * 4, 3), dtype=np.uint8), (0, 0), 1.0)
    factor = 1 / (block + 0.3)
    matrix = np.array(
        [[factor, 0, -0.5 * side * 4 * factor + 31], [0, factor, -0.5 * side * 4 * factor + 29]]
    )
    small = cv2.resize(image, (side * 4 // block,) * 2, interpolation=cv2.INTER_AREA)
    shifted = np.column_stack(
        [matrix[:, :2] * block, matrix[:, :2] @ np.full(2, block / 2 - 0.5) + matrix[:, 2]]
    )
    expected = cv2.warpAffine(small, shifted, (64, 64), flags=cv2.INTER_LINEAR, borderValue=(128,) * 3)
    assert np.abs(warp_image(image, matrix, 64).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("factor", [0.3, 0.9, 2.5])
def test_a_panorama_is_cut_as_its_part_is(factor):
    """OpenCV's warp refuses photographs of 32,767 pixels along a side, such as stitched ones."""
    rng = np.random.default_rng(0)
    part = cv2.GaussianBlur(rng.integers(0, 256, (60, 400, 3), dtype=np.uint8), (0, 0), 1.5)
    panorama = np.full((60, 33_000, 3), 128, np.uint8)
    panorama[:, 32_400:32_800] = part
    matrix = np.array([[factor, 0, 32 - 200 * factor], [0, factor, 32 - 30 * factor]])
    further = matrix + np.array([[0, 0, -32_400 * factor], [0, 0, 0]])
    difference = warp_image(panorama, further, 64).astype(int) - warp_image(part, matrix, 64)
    assert np.abs(difference).max() <= 1
    assert warp_image(part, matrix, 64).std() > 5


def test_draws_cover_their_ranges():
    config = AugmentConfig(shift=0.1)
    rng = np.random.default_rng(0)
    draws = [draw(config, rng) for _ in range(2000)]
    scales, degrees = np.array([d.scale for d in draws]), np.array([d.degrees for d in draws])
    assert 0.7 <= scales.min() < 0.71
    assert 1.29 < scales.max() <= 1.3
    assert -40 <= degrees.min() < -39.5
    assert 39.5 < degrees.max() <= 40
    assert 0.46 < np.mean([d.mirror for d in draws]) < 0.54
    assert 0.09 < np.max([d.shift for d in draws]) <= 0.1
