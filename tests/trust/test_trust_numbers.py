"""Numbers nobody hopes for, through the whole chain: what comes out is finite, or says why not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cpm_repro as cpm
from cpm_repro.inference.weights import bundled_weights

TINY = torch.finfo(torch.float32).tiny


@pytest.fixture(scope="module")
def estimator():
    return cpm.PoseEstimator(bundled_weights(), device="cpu")


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (2, 3)])
def test_pictures_of_a_few_pixels(estimator, shape):
    (person,) = estimator(np.full((*shape, 3), 200, np.uint8))
    assert np.isfinite(person.keypoints).all()
    assert np.isfinite(person.scores).all()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_pictures_of_one_colour(estimator, level):
    (person,) = estimator(np.full((90, 70, 3), level, np.uint8))
    assert np.isfinite(person.keypoints).all()


def test_nobody_in_the_picture(estimator):
    assert estimator(np.zeros((50, 50, 3), np.uint8), boxes=[]) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.0, TINY / 8, 3e38])
def test_maps_of_one_value_fuse(value):
    """All-equal, denormal, huge and not finite maps: the first pixel wins, the score is the value itself."""
    maps = torch.full((1, 3, 8, 8), value)
    pads, sizes = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([[64, 64]])
    full = cpm.ops.fuse_multiscale(maps, pads, sizes, (64, 64))
    xy, score = cpm.ops.fuse_multiscale_peaks(maps, pads, sizes, (64, 64))
    assert full.shape == (3, 64, 64)
    best = full.transpose(1, 2).flatten(1)
    if np.isfinite(value):
        assert torch.equal(score, best.amax(1))
        assert ((xy >= 0) & (xy < 64)).all()
    else:
        assert not torch.isfinite(full).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, -1e30, TINY])
def test_joints_at_impossible_places(value):
    """A joint that is nowhere near the grid makes no bump, and the background stays 1."""
    joints = torch.full((1, 1, 2, 2), value)
    label = cpm.ops.belief_maps(
        joints, torch.ones(1, 1, 2, dtype=torch.uint8), grid=(8, 8), stride=8, sigma=7.0
    )
    assert torch.isfinite(label).all()
    if value != TINY:
        assert (label[:, [0, 1, 3, 4]] == 0).all()
        assert (label[:, [2, 5]] == 1).all()


def test_no_people_at_all():
    joints, visible = torch.zeros(0, 1, 14, 2), torch.zeros(0, 1, 14, dtype=torch.uint8)
    assert cpm.ops.belief_maps(joints, visible, grid=(46, 46), stride=8, sigma=7.0).shape == (0, 30, 46, 46)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_predictions_that_are_no_places_are_misses(value):
    truth = np.random.default_rng(0).uniform(0, 100, (3, 14, 2))
    predicted = truth.copy()
    predicted[0] = value
    with np.errstate(all="ignore"):
        table = cpm.evaluate(predicted, truth, protocol="lsp-pck")
    assert table.total == pytest.approx(100 * 2 / 3)


def test_truth_without_extent_is_reported():
    truth = np.zeros((2, 14, 2))
    table = cpm.evaluate(truth, truth, protocol="lsp-pck")
    assert table.to_dict()["total"] is None
    assert table.to_dict()["excluded"] == {"zero-size normaliser": 2}


def test_resizing_one_pixel():
    picture = np.full((1, 1, 3), 77, np.uint8)
    assert (cpm.imresize(picture, size=(5, 4)) == 77).all()
    assert cpm.imresize(picture, scale=0.1).shape == (1, 1, 3)
