"""Small numbers worked out by hand, at the borders where a sign, a factor or a comparison shows."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreWarning, bootstrap_interval, evaluate, paired_bootstrap, stage_table
from cpm_repro.evaluation.curves import pck_curve
from cpm_repro.evaluation.failures import failures
from cpm_repro.evaluation.suspicion import suspicions
from cpm_repro.skeleton import LSP14, MPII16


def heads(wrong: np.ndarray, head: float = 10.0, **more):
    """MPII table of joints that are 50 heads off where ``wrong``, exact elsewhere."""
    truth = np.zeros((len(wrong), 16, 2))
    return evaluate(
        truth + 50 * head * wrong[..., None], truth, "mpii-pckh",
        head_size=np.full(len(wrong), head), suspicious=False, **more,
    )  # fmt: skip


def test_intervals_of_rows_and_of_the_mean_are_those_of_a_plain_loop():
    wrong = np.random.default_rng(0).random((200, 16)) < np.linspace(0.1, 0.9, 16)
    table = heads(wrong)
    rng, ankles, means = np.random.default_rng(1), [], []
    ours = dict(table.rows)["Ank"]
    counting = table.counted.any(axis=0)
    for _ in range(2000):
        drawn = rng.integers(0, 200, 200)
        rates = 100 * table.correct[drawn].mean(axis=0)
        ankles.append(rates[list(ours)].mean())
        means.append(rates[counting].mean())
    intervals = bootstrap_interval(table, resamples=2000)
    for name, values in (("Ank", ankles), ("Mean", means)):
        got = (intervals[name].low, intervals[name].high)
        assert got == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=0.7), name


@pytest.mark.parametrize("resamples", [1, 15, 16, 17, 40])
def test_as_many_resamples_as_were_asked_for(resamples):
    interval = bootstrap_interval(heads(np.eye(20, 16) > 0), resamples=resamples)["Total"]
    assert interval.resamples == resamples


def test_the_p_value_of_a_run_that_is_better_in_every_resample():
    """No resample on the other side: the run itself is one of resamples + 1; two sides count."""
    better, worse = heads(np.zeros((30, 16), bool)), heads(np.ones((30, 16), bool))
    paired = paired_bootstrap(better, worse, resamples=99)
    assert paired.p_value == pytest.approx(2 / 100)
    assert (paired.difference, paired.low, paired.high) == pytest.approx((100, 100, 100))
    assert paired_bootstrap(better, better, resamples=99).p_value == 1


@pytest.mark.parametrize("differing", [1, 2, 5])
def test_few_people_who_differ_can_show_only_so_much(differing):
    """One of two runs is ahead at all k of them by chance in 2 of 2^k cases."""
    better, worse = np.zeros((differing, 16), bool), np.ones((differing, 16), bool)
    paired = paired_bootstrap(heads(better), heads(worse), resamples=999)
    assert paired.p_value == pytest.approx(2 / 2**differing)
    worse[1:] = False  # the others are alike
    assert paired_bootstrap(heads(better), heads(worse), resamples=999).p_value == 1


def test_runs_with_other_labels_of_as_many_people_cannot_be_paired():
    labelled = np.ones((30, 16), bool)
    labelled[3, 4] = False
    wrong = np.zeros((30, 16), bool)
    with pytest.raises(UserError, match="same people and labels"):
        paired_bootstrap(heads(wrong), heads(wrong, labelled=labelled))


def test_a_threshold_of_nothing_counts_exact_hits():
    table = heads(np.eye(1, 16) > 0, threshold=0.0)
    assert 0 < table.total < 100
    assert table.per_joint[MPII16.parts[0]] == 0


def test_normalisers_below_nothing_are_told_from_small_ones():
    truth = np.zeros((4, 16, 2))
    table = evaluate(truth, truth, "mpii-pckh", head_size=np.array([-1.0, 0.0, 0.5, 10.0]))
    assert table.excluded == {"zero-size normaliser": 1, "negative normaliser": 1}
    assert table.people == 2
    table = evaluate(truth, truth, "mpii-pckh", head_size=np.array([-np.inf, np.inf, np.nan, 1.0]))
    assert table.excluded == {"negative normaliser": 1, "normaliser not labelled": 2}
    assert table.people == 1


def test_the_warning_points_at_the_line_that_called():
    truth = np.random.default_rng(0).uniform(0, 300, (100, 14, 2))
    with pytest.warns(ScoreWarning) as caught:
        evaluate(truth + 1, truth)
    assert caught[0].filename == __file__


def test_failures_leave_out_what_does_not_count_and_hits_at_the_border():
    truth, labelled = np.zeros((1, 16, 2)), np.ones((1, 16), bool)
    pred = truth.copy()
    labelled[0, 0] = False
    pred[0, 0, 0] = 90.0  # far off, without a label
    pred[0, 1, 0] = 5.0  # exactly at half a head
    pred[0, 2, 0] = 6.0
    table = evaluate(pred, truth, "mpii-pckh", head_size=[10.0], labelled=labelled, suspicious=False)
    (worst,) = failures(table)
    assert worst.worst_parts == (MPII16.parts[2],)
    assert worst.mean_distance == pytest.approx((0.5 + 0.6) / worst.counted)


def test_tables_are_whole_markdown():
    table = heads(np.zeros((2, 16), bool))
    labels = [label for label, _ in table.rows]
    lines = table.to_markdown().splitlines()
    assert lines[0] == "| " + " | ".join([*labels, "Total", "Mean"]) + " |"
    assert lines[1] == "| " + " | ".join(["---:"] * (len(labels) + 2)) + " |"
    assert lines[2] == "| " + " | ".join(["100.00"] * (len(labels) + 2)) + " |"
    stages = stage_table([table]).splitlines()
    assert stages[1] == "| --- | " + " | ".join(["---:"] * (len(labels) + 1)) + " |"


@pytest.mark.parametrize("thresholds", [[], 0.5, [[0.1], [0.2]], [0.1, np.nan], [np.inf]])
def test_thresholds_of_a_curve_are_a_list_of_finite_numbers(thresholds):
    with pytest.raises(ValueError, match="wanted a list of finite numbers"):
        pck_curve(heads(np.zeros((2, 16), bool)), thresholds)


def said(errors: np.ndarray, threshold: float = 1.0, norm: float = 100.0) -> str:
    """What is suspected of ``errors`` (P, 2), one counted joint for each person."""
    truth = np.zeros((len(errors), 14, 2))
    counts = np.zeros((len(errors), 14), bool)
    counts[:, 13] = True  # head top: no left or right
    predicted = truth + errors[:, None, :]
    return " ".join(suspicions(predicted, truth, np.full(len(errors), norm), counts, threshold, LSP14))


@pytest.mark.parametrize(
    ("shift", "named"),
    [
        ((0.3, 1.0), True), ((0.2, 1.0), False), ((-0.3, -1.0), True), ((1.6, 1.6), False),
        ((0.25, 1.75), False), ((0.5, 0.5), False), ((0.75, 0.75), True), ((1.5, 1.5), False),
    ],
)  # fmt: skip
def test_a_shift_needs_a_quarter_of_a_pixel_in_both_and_one_on_average(shift, named):
    assert bool(said(np.tile(shift, (50, 1)))) == named


def test_a_shift_needs_twenty_joints():
    assert said(np.ones((20, 2)))
    assert not said(np.ones((19, 2)))


def test_a_shift_is_measured_on_joints_found_and_those_at_the_border_are():
    assert said(np.tile([0.75, 1.0], (20, 1)), threshold=0.125, norm=10.0)  # 1.25 px, exactly
    lost = np.concatenate([np.ones((60, 2)), np.full((40, 2), -20.0)])
    assert said(lost, threshold=1.0, norm=10.0)
    assert not said(lost, threshold=1.0, norm=100.0)  # counted as found, they make the median uncertain


def test_a_shift_must_be_certain_by_three_standard_errors():
    """Errors evenly from 1 - w to 1 + w: quartiles w apart; 3 x 1.25 w / 1.349 / sqrt(101) / sqrt(2) is half
    a pixel at w = 2.556."""
    for width, named in ((2.54, True), (2.57, False)):
        even = 1 + np.linspace(-width, width, 101)
        assert bool(said(np.stack([even, even], 1))) == named, width


def test_what_is_uncertain_counts_against_a_shift():
    """0.3 px, uncertain by 0.2, are not surely beyond a quarter of a pixel."""
    even = np.linspace(-0.723, 0.723, 101)
    assert not said(np.stack([0.3 + even, 1 + even], 1))
    assert said(np.stack([0.5 + even, 1 + even], 1))


def mirrored(gains: int, losses: int, people: int, joints: int) -> str:
    """Suspicion when ``gains`` people have one more hit when exchanged, ``losses`` one fewer; by 5 px."""
    right, left = LSP14.index("right_knee"), LSP14.index("left_knee")
    truth = np.zeros((people, 14, 2))
    truth[:, :, 0] = 1000.0 * np.arange(14)
    predicted = np.full_like(truth, -5000.0)
    predicted[:gains, left] = truth[:gains, right] + (3, 4)
    predicted[gains : gains + losses, right] = truth[gains : gains + losses, right] + (3, 4)
    counts = np.zeros((people, 14), bool)
    counts[:, right] = True
    counts[:, [part for part in range(14) if part != right][: joints - 1]] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return " ".join(suspicions(predicted, truth, np.full(people, 10.0), counts, 0.5, LSP14))


@pytest.mark.parametrize(
    ("gains", "losses", "people", "joints", "named"),
    [
        (9, 0, 100, 2, True),  # k > 9 (1 - k / n): three standard errors lie between 8 and 9
        (8, 0, 100, 2, False),
        (84, 0, 500, 14, True),  # 1.2 points
        (66, 0, 500, 14, False),  # 0.94 points
        (50, 50, 100, 2, False),
        (50, 20, 100, 2, True),
    ],
)
def test_an_exchange_must_gain_a_point_and_three_standard_errors(gains, losses, people, joints, named):
    assert bool(mirrored(gains, losses, people, joints)) == named


def test_both_scores_are_named():
    assert "rises from 0.00 to 4.50 when left and right are exchanged" in mirrored(9, 0, 100, 2)
    assert "rises from 10.00 to 25.00 when" in mirrored(50, 20, 100, 2)


def test_nothing_is_suspected_of_nobody():
    assert mirrored(0, 0, 3, 2) == ""
    truth = np.zeros((3, 14, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert suspicions(truth, truth, np.ones(3), np.zeros((3, 14), bool), 0.2, LSP14) == ()
