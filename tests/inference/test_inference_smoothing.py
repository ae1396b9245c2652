"""The one-euro filter: against its definition, on a joint at rest and on one that moves."""

import math

import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.inference.estimator import PoseEstimator
from cpm_repro.inference.result import Person
from cpm_repro.inference.smoothing import OneEuro, PoseSmoother, as_smoother

RATE = 30.0


def person(keypoints, scores=None, extent=100.0):
    keypoints = np.asarray(keypoints, float).reshape(-1, 2)
    scores = np.ones(len(keypoints), np.float32) if scores is None else np.asarray(scores, np.float32)
    names = tuple(f"part_{index}" for index in range(len(keypoints)))
    return Person(keypoints, scores, names, (0.0, 0.0), extent)


def by_the_paper(values, rate, cutoff, beta, speed_cutoff=1.0):
    """Scalar loop of the CHI 2012 paper: exponential smoothing whose alpha follows the smoothed speed."""

    def alpha(frequency):
        tau = 1 / (2 * math.pi * frequency)
        return 1 / (1 + tau * rate)

    out, speed = [values[0]], 0.0
    for value in values[1:]:
        raw = (value - out[-1]) * rate
        speed = alpha(speed_cutoff) * raw + (1 - alpha(speed_cutoff)) * speed
        a = alpha(cutoff + beta * abs(speed))
        out.append(a * value + (1 - a) * out[-1])
    return np.array(out)


def test_the_filter_is_the_papers():
    values = np.random.default_rng(0).normal(0, 3, 50).cumsum()
    smooth = OneEuro(cutoff=0.7, beta=0.03)
    got = np.array([smooth(np.array(value), 1 / RATE) for value in values])
    np.testing.assert_allclose(got, by_the_paper(values, RATE, 0.7, 0.03), rtol=1e-12)


def run(positions, **options):
    smooth = PoseSmoother(**options)
    return np.array([smooth([person(p)], index / RATE)[0].keypoints[0] for index, p in enumerate(positions)])


def test_a_joint_at_rest_trembles_less_and_one_that_moves_follows():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1.0, (300, 2))
    still = run(50 + noise)[60:]
    assert still.std() < 0.45 * noise.std()
    assert np.abs(still.mean(axis=0) - 50).max() < 0.3
    moving = np.stack([100 * np.arange(300) / RATE, np.zeros(300)], axis=1)  # an extent a second
    lag = (moving - run(moving))[60:, 0]
    assert lag.max() < 0.12 * 100
    assert np.abs(run(np.full((50, 2), 7.0)) - 7).max() < 1e-12


def test_size_does_not_matter():
    positions = np.random.default_rng(1).normal(0, 4, (40, 2)).cumsum(0)
    small, large = PoseSmoother(), PoseSmoother()
    for index, position in enumerate(positions):
        (a,) = small([person(position)], index / RATE)
        (b,) = large([person(5 * position, extent=500.0)], index / RATE)
        np.testing.assert_allclose(5 * a.keypoints, b.keypoints, rtol=1e-12)


def test_people_who_change_places_in_the_list_keep_their_own_filters():
    smooth = PoseSmoother()
    for index in range(20):
        a, b = person([[0.0, index % 2], [5.0, 5.0]]), person([[500.0, 300.0], [505.0, 300.0]])
        order = [a, b] if index % 3 else [b, a]
        got = smooth(order, index / RATE)
        assert [round(found.keypoints[1, 0]) for found in got] == [
            round(given.keypoints[1, 0]) for given in order
        ]
    assert 0 < got[0 if index % 3 else 1].keypoints[0, 1] < 1
    (stranger,) = smooth([person([[9000.0, 9000.0], [9000.0, 9010.0]])], 1.0)
    assert stranger.keypoints[0].tolist() == [9000.0, 9000.0]


def test_parts_out_of_the_image_are_left_alone_and_begin_anew():
    smooth = PoseSmoother()
    smooth([person([[0.0, 0.0], [1, 1]])], 0)
    (lost,) = smooth([person([[40.0, 40.0], [1, 1]], scores=[0.1, 1])], 1 / RATE)
    assert lost.keypoints[0].tolist() == [40.0, 40.0]
    (back,) = smooth([person([[10.0, 0.0], [1, 1]])], 2 / RATE)
    assert back.keypoints[0].tolist() == [10.0, 0.0]
    (after,) = smooth([person([[20.0, 0.0], [1, 1]])], 3 / RATE)
    assert 10 < after.keypoints[0, 0] < 20


@pytest.mark.parametrize("numbers", [(0, 1), (-1, 1), (1, -1), (math.nan, 1), (1, math.inf)])
def test_numbers_that_make_no_filter(numbers):
    with pytest.raises(ValueError, match="one-euro"):
        PoseSmoother(*numbers)


def test_what_smooths():
    smoother = PoseSmoother()
    assert as_smoother(smoother) is smoother
    assert as_smoother(False) is as_smoother(None) is None
    assert isinstance(as_smoother(np.True_), PoseSmoother)


@pytest.mark.parametrize("given", [0.5, 1, "true", PoseSmoother])
def test_what_smooths_nothing_is_refused_before_a_video_is_opened(given):
    """A cut-off alone was called as a function after the first frames."""
    with pytest.raises(UserError, match="smooth: wanted True, False or a PoseSmoother"):
        next(PoseEstimator(device="cpu").video("nowhere.mp4", smooth=given))
