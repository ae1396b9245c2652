"""Scores of cases whose answer is known by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cpm_repro.errors import UserError
from cpm_repro.evaluation import auc, evaluate, pck_curve, stage_table
from cpm_repro.skeleton import CPM14, FLIC9, LSP14, MPII16, Skeleton


def standing(people: int = 1) -> np.ndarray:
    """LSP-order truth whose torso (left shoulder to right hip) is exactly 10 px: a 6-8-10 triangle."""
    truth = np.zeros((people, 14, 2))
    truth[:, :, 0] = np.arange(14) * 100.0
    truth[:, LSP14.index("right_hip")] = (0, 0)
    truth[:, LSP14.index("left_shoulder")] = (6, 8)
    return truth


def test_a_joint_exactly_at_the_threshold_is_right():
    truth = standing()
    pred = truth.copy()
    pred[0, 0, 0] += 2.0  # 0.2 * 10 px
    pred[0, 1, 0] += 2.0 + 1e-9
    table = evaluate(pred, truth, suspicious=False)
    assert table.per_joint["right_ankle"] == 100.0
    assert table.per_joint["right_knee"] == 0.0
    assert table.total == pytest.approx(100 * 13 / 14)


@pytest.mark.parametrize("percent", range(1, 51))
@pytest.mark.parametrize("head", [3, 7, 10, 29, 100])
def test_at_every_decimal_threshold_the_border_belongs_to_the_hits(percent, head):
    # percent/100 of the head size, worked out in whole numbers: distance = percent, head size = 100 (scaled).
    truth = np.zeros((1, 16, 2))
    pred = truth.copy()
    pred[0, 0, 0] = percent * head
    table = evaluate(pred, truth, "mpii-pckh", head_size=[100 * head], threshold=percent / 100)
    assert table.per_joint["right_ankle"] == 100.0


def test_missing_labels_do_not_count_in_any_total():
    truth = standing(2)
    labelled = np.ones((2, 14), bool)
    labelled[1, [0, 4]] = False
    pred = truth.copy()
    pred[:, 0] += 50  # right ankle wrong for both; only the first is labelled
    table = evaluate(pred, truth, labelled=labelled, suspicious=False)
    assert table.joints == 26
    assert table.total == pytest.approx(100 * 25 / 26)
    assert table.per_joint["right_ankle"] == 0.0
    assert table.mean_of_joints == pytest.approx(100 * 13 / 14)
    assert table.per_row["Ank"] == 50.0


def test_truth_that_is_not_a_number_is_unlabelled():
    truth = standing()
    truth[0, 5] = np.nan
    assert evaluate(standing(), truth).joints == 13


def test_predictions_that_are_not_numbers_are_misses_and_counted():
    truth = standing()
    pred = truth.copy()
    pred[0, 3, 1] = np.nan
    pred[0, 4, 0] = np.inf
    table = evaluate(pred, truth)
    assert (table.joints, table.nan_predictions) == (14, 2)
    assert table.total == pytest.approx(100 * 12 / 14)
    assert "2 predictions that are not numbers" in table.protocol
    assert pck_curve(table, [1e9]).total[0] == pytest.approx(100 * 12 / 14)


def test_positions_as_far_apart_as_numbers_go_are_misses():
    truth = standing()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert evaluate(truth + 1.7e308, -1.7e308 + 0 * truth, norm=[10.0]).total == 0.0


def test_zero_size_heads_are_reported_excluded_and_counted():
    truth = np.zeros((4, 16, 2))
    table = evaluate(truth, truth, "mpii-pckh", head_size=[10.0, 0.0, np.nan, -1.0])
    assert table.people == 1
    assert table.joints == 14  # without pelvis and thorax
    assert table.total == 100.0
    assert sum(table.excluded.values()) == 3
    assert "1 people left out: zero-size normaliser" in table.to_markdown()


def test_a_torso_of_no_length_excludes_the_person():
    truth = standing(2)
    truth[1, LSP14.index("left_shoulder")] = truth[1, LSP14.index("right_hip")]
    table = evaluate(truth, truth)
    assert (table.people, table.joints) == (1, 14)
    assert table.excluded == {"zero-size normaliser": 1}


def test_lspet_counts_only_people_with_both_torso_joints_and_only_labelled_joints():
    truth = np.random.default_rng(0).uniform(0, 100, (3, 14, 2))
    labelled = np.ones((3, 14), bool)
    labelled[0, CPM14.index("left_shoulder")] = False
    labelled[1, CPM14.index("left_knee")] = False
    table = evaluate(truth, truth, "lspet-pck", labelled=labelled)
    assert (table.people, table.joints) == (2, 27)
    # The networks' order, so the torso is parts 5 and 8: a miss by 0.3 of that is a miss.
    pred = truth.copy()
    torso = np.linalg.norm(truth[2, 5] - truth[2, 8])
    pred[2, 0, 0] += 0.3 * torso
    pred[2, 1, 0] += 0.1 * torso
    assert evaluate(pred, truth, "lspet-pck", labelled=labelled).correct[2].sum() == 13


def test_nobody_to_score_gives_no_number():
    truth = standing()
    table = evaluate(truth, truth, labelled=np.zeros((1, 14), bool))
    assert np.isnan(table.total)
    assert table.to_dict()["total"] is None
    assert "| - |" in table.to_markdown()
    assert evaluate(np.zeros((0, 14, 2)), np.zeros((0, 14, 2))).people == 0


def test_whoever_is_left_out_is_left_out_for_one_reason():
    """Somebody without any label has no torso either, and is one person left out, not two."""
    truth = standing(4)
    truth[1, LSP14.index("left_shoulder")] = truth[1, LSP14.index("right_hip")]
    labelled = np.ones((4, 14), bool)
    labelled[2, LSP14.index("right_hip")] = False
    labelled[3] = False
    table = evaluate(truth, truth, labelled=labelled)
    wanted = {"no labelled joint": 1, "zero-size normaliser": 1, "normaliser not labelled": 1}
    assert (table.excluded, table.people) == (wanted, 1)
    body = np.zeros((1, 16, 2))
    alone = np.arange(16)[None] == MPII16.index("pelvis")  # the one label is of a part that never counts
    table = evaluate(body, body, "mpii-pckh", head_size=[10.0], labelled=alone)
    assert (table.excluded, table.people) == ({"no labelled joint": 1}, 0)


def test_pelvis_and_thorax_are_left_out_and_head_is_the_head_top_alone():
    truth = np.zeros((1, 16, 2))
    pred = truth.copy()
    pred[0, [MPII16.index(part) for part in ("pelvis", "thorax", "neck")]] += 99
    table = evaluate(pred, truth, "mpii-pckh", head_size=[10.0])
    assert table.per_row["Head"] == 100.0
    assert table.total == pytest.approx(100 * 13 / 14)
    assert table.mean_of_joints == pytest.approx(100 * 13 / 14)


def flic_person(*, turned: bool) -> np.ndarray:
    """FLIC truth with every part at its own place; ``turned``: right shoulder on the picture's right."""
    truth = np.arange(18, dtype=float).reshape(1, 9, 2) * 40
    left, right = FLIC9.index("left_shoulder"), FLIC9.index("right_shoulder")
    truth[0, left, 0], truth[0, right, 0] = (0, 500) if turned else (500, 0)
    return truth


def test_flic_turns_people_seen_from_behind_to_the_observers_sides():
    truth = flic_person(turned=True)
    observed = truth[:, [3, 4, 5, 0, 1, 2, 7, 6, 8]]
    assert evaluate(observed, truth, "flic-pck").total == 100.0
    person_centric = evaluate(observed, truth, "flic-pck", swap_to_observer=False, suspicious=False)
    assert person_centric.total == pytest.approx(100 * 3 / 9), "only nose and the two hips, 57 px apart, fit"
    assert evaluate(observed, observed, "flic-pck").total == 100.0, "turning twice changes nothing"
    facing = flic_person(turned=False)
    assert evaluate(facing, facing, "flic-pck").total == 100.0


def test_flics_normalisers_have_names():
    truth = flic_person(turned=False)
    pred = truth.copy()
    pred[0, FLIC9.index("left_elbow"), 0] += 10
    pred[0, FLIC9.index("right_hip")] += 30
    box = [[30.0, 40.0]]

    def elbow_right(norm, threshold):
        table = evaluate(
            pred, truth, "flic-pck", norm=norm, torso_box_wh=box, threshold=threshold, suspicious=False
        )
        return table.per_joint["left_elbow"] == 100.0

    true_torso = np.linalg.norm(truth[0, 0] - truth[0, 7])
    predicted_torso = np.linalg.norm(pred[0, 0] - pred[0, 7])
    cases = {
        "true-torso": true_torso,
        "predicted-torso": predicted_torso,
        "box-diagonal": 50,
        "box-height": 40,
    }
    for norm, length in cases.items():
        assert elbow_right(norm, 10 / length + 1e-9), norm
        assert not elbow_right(norm, 10 / length - 1e-9), norm
    assert elbow_right([20.0], 0.5)


@pytest.mark.parametrize("lost", [np.nan, 0.0])
def test_predictions_without_a_torso_are_misses_and_not_left_out(lost):
    """Whoever is divided by the prediction's own torso must not gain by predicting none."""
    truth = np.repeat(flic_person(turned=False), 2, axis=0)
    pred = truth.copy()
    pred[1] = lost * pred[1] - 5000
    table = evaluate(pred, truth, "flic-pck", norm="predicted-torso", suspicious=False)
    assert (table.people, table.joints, table.total) == (2, 18, 50.0)
    assert pck_curve(table, [1e9]).total[0] == 50.0


@pytest.mark.parametrize("lost", [np.nan, np.inf, 1e200])
def test_a_torso_without_a_length_does_not_save_the_other_joints(lost):
    """Of an infinite one the person was left out; joints on the very spot were right by any."""
    truth = np.repeat(flic_person(turned=False), 2, axis=0)
    pred = truth.copy()
    pred[1, FLIC9.index("left_shoulder"), 0] = lost
    table = evaluate(pred, truth, "flic-pck", norm="predicted-torso", suspicious=False)
    assert (table.people, table.joints, table.total) == (2, 18, 50.0)
    assert not table.excluded


def test_a_shoulder_without_a_label_turns_nobody():
    truth = flic_person(turned=True)
    labelled = np.ones((1, 9), bool)
    labelled[0, FLIC9.index("right_shoulder")] = False
    table = evaluate(truth, truth, "flic-pck", labelled=labelled, norm=[40.0], suspicious=False)
    assert (table.joints, table.total) == (8, 100.0)


def test_flics_eleven_annotated_parts_are_reduced_to_nine():
    nine = flic_person(turned=False)
    eleven = np.insert(nine, [8, 8], -999.0, axis=1)  # eyes before the nose
    assert evaluate(nine, eleven, "flic-pck", labelled=np.ones((1, 11))).total == 100.0


def test_a_body_of_ones_own_is_scored_with_ones_own_lengths():
    hand = Skeleton("hand", ("tip", "base"), (), ((0, 1),))
    truth = np.zeros((2, 2, 2))
    pred = truth + [[[1.0, 0.0]], [[3.0, 0.0]]]
    table = evaluate(pred, truth, "lsp-pck", skeleton=hand, norm=[10.0, 10.0], suspicious=False)
    assert table.per_row == {"tip": 50.0, "base": 50.0}
    with pytest.raises(UserError, match="names no torso"):
        evaluate(pred, truth, skeleton=hand)
    with pytest.raises(UserError, match="hand has no shoulders, by which sides are turned"):
        evaluate(pred, truth, "flic-pck", skeleton=hand, norm=[10.0, 10.0])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"pred": np.zeros((3, 14, 2))}, UserError, "3 predicted, 2 true"),
        ({"pred": np.zeros((2, 16, 2))}, UserError, "16 parts per person, the truth has 14"),
        (
            {"protocol": "lsp-pkc"},
            UserError,
            "did you mean lsp-pck.*known: lsp-pck, lspet-pck, flic-pck, mpii-pckh",
        ),
        ({"protocol": "mpii-pckh"}, UserError, "16 parts of mpii16"),
        ({"norm": "box-height"}, UserError, "true-torso, got 'box-height'"),
        ({"norm": [1.0]}, ValueError, r"norm: wanted shape \(2,\)"),
        ({"labelled": np.ones((2, 3))}, ValueError, r"labelled: wanted shape \(2, 14\)"),
        ({"labelled": np.full((2, 14), 2)}, UserError, r"got 2: of Visibility codes give visible != 2"),
        ({"labelled": np.full((2, 14), np.nan)}, UserError, "labelled: wanted True and False .*, got nan"),
        ({"labelled": np.full((2, 14), "False")}, UserError, "got 'False'"),
        ({"pred": np.zeros((2, 14))}, ValueError, r"pred: wanted shape \(people, parts, 2\)"),
        ({"threshold": float("nan")}, UserError, "threshold: wanted a number >= 0, got nan"),
        ({"threshold": float("inf")}, UserError, "threshold: wanted a number >= 0, got inf"),
        ({"threshold": -0.1}, UserError, "threshold: wanted a number >= 0, got -0.1"),
    ],
)
def test_arguments_that_cannot_be_scored(arguments, error, words):
    given = {"pred": standing(2), "gt": standing(2)} | arguments
    with pytest.raises(error, match=words):
        evaluate(**given)


@pytest.mark.parametrize("kind", [bool, int, float, object])
def test_labels_of_any_kind_are_true_or_false(kind):
    truth, labelled = standing(2), np.ones((2, 14), kind)
    labelled[1, 3] = 0
    assert evaluate(truth, truth, labelled=labelled.tolist()).joints == 27


def test_normalisers_that_are_not_given():
    with pytest.raises(UserError, match="wants head_size"):
        evaluate(np.zeros((1, 16, 2)), np.zeros((1, 16, 2)), "mpii-pckh")
    with pytest.raises(UserError, match="wants torso_box_wh"):
        evaluate(np.zeros((1, 9, 2)), np.zeros((1, 9, 2)), "flic-pck", norm="box-height")


def test_the_curve_counts_as_the_table_does():
    rng = np.random.default_rng(1)
    truth = np.concatenate([standing(40)])
    pred = truth + rng.normal(0, 3, truth.shape)
    labelled = rng.random((40, 14)) < 0.8
    curve = pck_curve(evaluate(pred, truth, labelled=labelled, suspicious=False), [0.05, 0.1, 0.2, 0.5])
    for index, threshold in enumerate(curve.thresholds):
        table = evaluate(pred, truth, labelled=labelled, threshold=threshold, suspicious=False)
        assert curve.total[index] == pytest.approx(table.total, abs=1e-12)
        for row, value in table.per_row.items():
            assert curve.rows[row][index] == pytest.approx(value, abs=1e-12)


def test_the_area_under_the_curve_by_hand():
    # One joint per distance 0, 0.25 and 0.6 of the head: right at all 51, at 26, at none of the thresholds.
    truth = np.zeros((1, 3, 2))
    pred = truth.copy()
    pred[0, :, 0] = [0.0, 2.5, 6.0]
    three = Skeleton("three", ("a", "b", "c"), (), ())
    table = evaluate(pred, truth, "mpii-pckh", head_size=[10.0], skeleton=three)
    assert auc(table) == pytest.approx(100 * (51 + 26 + 0) / (3 * 51))


def test_tables_show_the_papers_rows_in_its_order():
    truth = standing()
    table = evaluate(truth, truth)
    assert table.to_markdown().startswith("| Head | Sho | Elb | Wri | Hip | Kne | Ank | Total |")
    text = stage_table([table, table])
    assert text.splitlines()[0] == "| Stage | Head | Sho | Elb | Wri | Hip | Kne | Ank | Total |"
    assert text.splitlines()[3].startswith("| 2 | 100.00 |")
    assert table.protocol.startswith("PCK@0.2 (lsp-pck)")
    with pytest.raises(ValueError, match="at least one"):
        stage_table([])


def test_the_rule_names_the_torso_of_the_skeleton():
    """Another body is divided by its own torso, and the table says so."""
    hand = Skeleton("hand", ("wrist", "thumb", "index"), (), (), torso=(0, 2))
    truth = np.array([[[0.0, 0.0], [5.0, 5.0], [10.0, 0.0]]])
    table = evaluate(truth, truth, protocol="lspet-pck", skeleton=hand)
    assert "distance of wrist and index in the truth" in table.rule
    body = np.random.default_rng(0).uniform(0, 99, (1, 14, 2))
    assert "left shoulder and right hip" in evaluate(body, body, protocol="lsp-pck").rule


def test_labels_turn_with_the_sides_of_people_seen_from_behind():
    truth = np.tile(10.0 * np.arange(9)[None, :, None], (1, 1, 2))
    left, right = FLIC9.index("left_wrist"), FLIC9.index("right_wrist")
    assert truth[0, FLIC9.index("right_shoulder"), 0] > truth[0, FLIC9.index("left_shoulder"), 0]
    labelled = np.ones((1, 9), bool)
    labelled[0, right] = False
    table = evaluate(truth, truth, "flic-pck", labelled=labelled, suspicious=False)
    assert not table.counted[0, left]
    assert table.counted[0, right]


@pytest.mark.parametrize("skeleton", ["lsp14", "", 14])
def test_the_name_of_a_skeleton_is_none(skeleton):
    with pytest.raises(TypeError, match=r"skeleton: wanted a Skeleton \(.*LSP14.*\), got"):
        evaluate(standing(), standing(), skeleton=skeleton)


def test_shoulders_one_above_the_other_turn_nobody():
    """Seen from behind is whose right shoulder lies right of the left one; neither does here."""
    truth = flic_person(turned=False)
    right, left = FLIC9.index("right_shoulder"), FLIC9.index("left_shoulder")
    truth[0, right, 0] = truth[0, left, 0]
    assert evaluate(truth, truth, "flic-pck", suspicious=False).total == 100.0


def test_a_truth_with_one_coordinate_is_no_label():
    truth = np.tile(flic_person(turned=False), (2, 1, 1))
    truth[0, FLIC9.index("left_elbow"), 1] = np.nan
    truth[1, FLIC9.index("left_elbow"), 0] = np.nan
    table = evaluate(np.nan_to_num(truth), truth, "flic-pck", suspicious=False)
    assert (table.joints, table.total) == (16, 100.0)


def test_a_curve_of_a_row_whose_one_side_nobody_has_is_that_of_the_other():
    truth = flic_person(turned=False)
    labelled = np.ones((1, 9), bool)
    labelled[0, FLIC9.index("left_elbow")] = False
    table = evaluate(truth, truth, "flic-pck", labelled=labelled, suspicious=False)
    assert pck_curve(table, [0.2]).rows["Elb"].tolist() == [100.0]
