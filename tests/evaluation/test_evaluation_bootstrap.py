"""Intervals against a plain loop, and against what statistics says of a known case."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.evaluation import bootstrap_interval, evaluate, paired_bootstrap
from cpm_repro.skeleton import MPII16


def scored(seed: int, people: int = 400, noise: float = 8.0, labelled: np.ndarray | None = None):
    truth = np.random.default_rng(99).uniform(0, 200, (people, 16, 2))
    pred = truth + np.random.default_rng(seed).normal(0, noise, truth.shape)
    return evaluate(pred, truth, "mpii-pckh", head_size=np.full(people, 20.0), labelled=labelled)


def test_the_interval_is_that_of_a_plain_loop():
    labelled = np.random.default_rng(3).random((400, 16)) < 0.7
    table = scored(1, labelled=labelled)
    who = np.flatnonzero(table.counted.any(axis=1))
    rng = np.random.default_rng(7)
    totals = []
    for _ in range(2000):
        drawn = rng.choice(who, len(who))
        totals.append(100 * table.correct[drawn].sum() / table.counted[drawn].sum())
    low, high = np.percentile(totals, [2.5, 97.5])
    ours = bootstrap_interval(table, resamples=2000)["Total"]
    # Two sets of 2000 resamples; ends differ by chance, worst seen over 20 seeds 0.14 points
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.3)
    assert ours.low < table.total < ours.high


def test_people_who_do_not_count_are_not_drawn():
    """With them fewer of the others would be: the interval of these 40 would be that of any of 400."""
    labelled = np.zeros((400, 16), bool)
    labelled[::10] = True
    table, other = scored(1, labelled=labelled), scored(2, labelled=labelled)
    alone, other_alone = (replace(one, distances=one.distances[::10]) for one in (table, other))
    assert bootstrap_interval(table) == bootstrap_interval(alone)
    assert paired_bootstrap(table, other) == paired_bootstrap(alone, other_alone)


def test_the_interval_covers_a_binomial_as_statistics_says():
    # One joint per person counts: the total is a binomial share with a known standard error.
    labelled = np.zeros((400, 16), bool)
    labelled[:, 0] = True
    table = scored(2, labelled=labelled)
    share = table.total / 100
    error = 100 * np.sqrt(share * (1 - share) / 400)
    interval = bootstrap_interval(table, resamples=4000)["Total"]
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_the_same_seed_gives_the_same_interval():
    table = scored(1)
    assert bootstrap_interval(table, resamples=50, seed=4) == bootstrap_interval(table, resamples=50, seed=4)
    assert bootstrap_interval(table, resamples=50, seed=4) != bootstrap_interval(table, resamples=50, seed=5)


def test_a_paired_comparison_sees_what_intervals_cannot():
    truth = np.random.default_rng(0).uniform(0, 200, (300, 16, 2))
    hard = np.random.default_rng(1).uniform(2, 16, (300, 1, 1))  # people differ much, the runs little
    pred = truth + np.random.default_rng(2).normal(0, 1, truth.shape) * hard
    better = truth + (pred - truth) * 0.93
    a, b = (evaluate(p, truth, "mpii-pckh", head_size=np.full(300, 20.0)) for p in (better, pred))
    first, second = bootstrap_interval(a)["Total"], bootstrap_interval(b)["Total"]
    assert first.low < second.high, "the intervals overlap"
    paired = paired_bootstrap(a, b)
    assert paired.low > 0
    assert paired.p_value < 0.01
    assert paired.difference == pytest.approx(a.total - b.total)
    back = paired_bootstrap(b, a)
    assert (back.low, back.high) == pytest.approx((-paired.high, -paired.low))


def test_a_run_compared_with_itself_differs_by_nothing():
    table = scored(1)
    same = paired_bootstrap(table, table)
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_runs_on_other_people_cannot_be_paired():
    with pytest.raises(UserError, match="same people"):
        paired_bootstrap(scored(1), scored(1, people=300))
    truth = np.zeros((400, 16, 2))
    other = evaluate(truth, truth, "mpii-pckh", head_size=np.ones(400), threshold=0.1)
    with pytest.raises(UserError, match="one rule"):
        paired_bootstrap(scored(1), other)


def test_of_nobody_nothing_is_known():
    """No interval, and above all no small p-value."""
    nobody = scored(1, people=20, labelled=np.zeros((20, 16), bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval, paired = bootstrap_interval(nobody)["Total"], paired_bootstrap(nobody, nobody)
    assert np.isnan([interval.low, interval.high]).all()
    assert np.isnan([paired.difference, paired.low, paired.high, paired.p_value]).all()


def test_a_part_that_few_people_have_is_missing_from_some_resamples():
    labelled = np.ones((3, 16), bool)
    labelled[1:, [MPII16.index("right_wrist"), MPII16.index("left_wrist")]] = False
    table = scored(1, people=3, labelled=labelled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bootstrap_interval(table)["Wri"].low == table.per_row["Wri"]


@pytest.mark.parametrize("wrong", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        bootstrap_interval(scored(1, people=20), **wrong)


@pytest.mark.slow
def test_a_hundred_thousand_people_in_ten_seconds():
    rng = np.random.default_rng(0)
    truth = rng.random((100_000, 16, 2)) * 200
    pred = truth + rng.normal(0, 20, truth.shape)
    start = time.perf_counter()
    table = evaluate(pred, truth, "mpii-pckh", head_size=rng.random(100_000) * 40 + 40)
    bootstrap_interval(table, resamples=1000)
    assert time.perf_counter() - start < 10  # measured: 3.8 s on one core
