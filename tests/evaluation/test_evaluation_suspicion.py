"""Shifted and mirrored predictions are noticed; honest ones are not accused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cpm_repro.evaluation import ScoreWarning, evaluate
from cpm_repro.skeleton import LSP14


def people(noise: float, bias: tuple[float, float] = (0.0, 0.0), count: int = 300, seed: int = 0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 300, (count, 14, 2))
    wild = rng.random((count, 14, 1)) < 0.1
    pred = truth + rng.normal(0, noise, truth.shape) + np.array(bias) + wild * rng.normal(0, 90, truth.shape)
    return pred, truth


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("bias", [(0.0, 0.0), (0.3, -0.3)])
def test_a_shift_of_one_pixel_is_named(sign, noise, bias):
    pred, truth = people(noise, bias)
    with pytest.warns(ScoreWarning, match="1-based predictions" if sign > 0 else "0-based predictions"):
        table = evaluate(pred + sign, truth)
    assert "Warning: predictions are shifted" in table.to_markdown()


@pytest.mark.parametrize("bias", [(0.0, 0.0), (0.5, -0.4), (0.3, 0.3), (1.0, -1.0), (4.0, 4.0), (1.0, 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_other_errors_are_not_taken_for_a_shift_or_a_mirror(bias, seed):
    pred, truth = people(3.0, bias, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(pred, truth)


def test_left_and_right_exchanged_is_named():
    pred, truth = people(3.0)
    with pytest.warns(ScoreWarning, match="when left and right are exchanged"):
        evaluate(pred[:, list(LSP14.flip_permutation)], truth)


def test_a_guess_is_not_called_mirrored():
    rng = np.random.default_rng(5)
    for _ in range(10):
        truth = rng.uniform(0, 60, (200, 14, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluate(rng.uniform(0, 60, truth.shape), truth)


def test_the_warning_can_be_left_out():
    pred, truth = people(0.0)
    assert evaluate(pred + 1, truth, suspicious=False).warnings == ()
