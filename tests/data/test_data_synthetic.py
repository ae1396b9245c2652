from __future__ import annotations

import time

import numpy as np
import pytest

from cpm_repro.data import SyntheticConfig, SyntheticDataset, open_dataset
from cpm_repro.skeleton import CPM14, Visibility


def test_sizes():
    assert len(open_dataset("synthetic", "train")) == 100_000
    assert len(open_dataset("synthetic", "val")) == 500
    assert len(open_dataset("synthetic", "val", size=7)) == 7


def test_a_sample_is_a_function_of_seed_split_and_index():
    first, again = (open_dataset("synthetic", "train", seed=5)[42] for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.joints, again.joints)
    others = [
        open_dataset("synthetic", "train", seed=5)[43],
        open_dataset("synthetic", "train", seed=6)[42],
        open_dataset("synthetic", "val", seed=5)[42],
    ]
    assert all(
        other.image.shape != first.image.shape or (other.image != first.image).any() for other in others
    )


def test_fields():
    dataset = SyntheticDataset("val", size=60)
    for sample in (dataset[i] for i in range(60)):
        height, width = sample.image.shape[:2]
        assert sample.image.dtype == np.uint8
        assert sample.joints.dtype == np.float32
        assert sample.joints.shape[1:] == (14, 2)
        assert sample.joints.shape[:2] == sample.visible.shape
        known = sample.visible != Visibility.CROPPED
        inside = ((sample.joints >= 0) & (sample.joints <= [width - 1, height - 1])).all(axis=2)
        assert np.array_equal(known, inside)
        assert known[0].sum() >= 12
        assert 60 < sample.extent < 176
    with pytest.raises(IndexError):
        dataset[60]


def test_there_are_other_people_occlusions_and_both_facings():
    samples = [SyntheticDataset("train", size=100)[i] for i in range(100)]
    assert {len(sample.joints) for sample in samples} == {1, 2, 3}
    assert any((sample.visible[0] == Visibility.OCCLUDED).any() for sample in samples)
    left, right = CPM14.index("left_shoulder"), CPM14.index("right_shoulder")
    facing = np.mean([sample.joints[0, left, 0] > sample.joints[0, right, 0] for sample in samples])
    assert 0.35 < facing < 0.75


def steepest_edge(patch: np.ndarray) -> int:
    """Largest step between neighbouring pixels of (h, w, 3): the empty scene is smooth, limbs are not."""
    levels = patch.astype(int)
    return max(abs(np.diff(levels, axis=0)).max(), abs(np.diff(levels, axis=1)).max())


def test_limbs_are_painted_where_the_joints_are():
    """An outline stands at the middle of every limb, and none in the corners of the picture."""
    config = SyntheticConfig(others=0, occluders=0, clutter=0, grain=0)
    limbs, corners = [], []
    for index in range(20):
        sample = SyntheticDataset("train", config=config)[index]
        corners += [steepest_edge(sample.image[:25, :25]), steepest_edge(sample.image[:25, -25:])]
        for a, b in CPM14.limbs:
            x, y = np.rint((sample.joints[0, a] + sample.joints[0, b]) / 2).astype(int)
            limbs.append(steepest_edge(sample.image[max(0, y - 12) : y + 13, max(0, x - 12) : x + 13]))
    assert np.mean(np.array(limbs) > 20) > 0.99
    assert np.mean(np.array(corners) > 20) < 0.05


def test_only_the_front_tells_the_side():
    """With ``front`` 0, one who faces the camera is painted like one facing away: hair, plain shirt."""
    plain = SyntheticConfig(front=0.0, grain=0)
    clear = SyntheticConfig(front=1.0, grain=0)
    changed = 0
    for index in range(20):
        a, b = (SyntheticDataset("train", config=c)[index] for c in (plain, clear))
        assert np.array_equal(a.joints, b.joints)
        different = (a.image != b.image).any(axis=2)
        changed += bool(different.any())
        ys, xs = np.nonzero(different)
        neck = a.joints[:, CPM14.index("neck")]
        far = np.hypot(xs[:, None] - neck[:, 0], ys[:, None] - neck[:, 1]).min(axis=1, initial=1e9)
        assert (far < 50).all()
    assert 5 <= changed <= 19


@pytest.mark.slow
def test_speed():
    dataset = SyntheticDataset("train")
    start = time.process_time()
    for index in range(200):
        dataset[index]
    assert (time.process_time() - start) / 200 < 0.003
