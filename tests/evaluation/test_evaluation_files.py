"""Files of predictions and truth, as other programs write them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io

from cpm_repro.errors import UserError
from cpm_repro.evaluation import ScoreWarning, failures, read_predictions, read_truth, score_file
from cpm_repro.evaluation.part_names import part_name, skeleton_arrays
from cpm_repro.skeleton import CPM14, FLIC9, LSP14, MPII16, Skeleton

RNG = np.random.default_rng(0)


def test_an_npz_with_its_own_truth(tmp_path):
    truth = RNG.uniform(0, 200, (5, 14, 2))
    np.savez(tmp_path / "p.npz", pred=truth, gt=truth, parts=np.array(CPM14.parts))
    scored = score_file(tmp_path / "p.npz")
    assert scored.table.protocol_name == "lspet-pck"
    assert scored.table.total == 100.0


def test_predictions_in_another_order_are_brought_into_that_of_the_truth(tmp_path):
    truth = RNG.uniform(0, 200, (5, 14, 2))
    to_lsp = [CPM14.index(part) for part in LSP14.parts]
    np.savez(tmp_path / "p.npz", pred=truth, order=np.array(CPM14.parts))
    np.savez(tmp_path / "t.npz", gt=truth[:, to_lsp], order=np.array(LSP14.parts))
    assert score_file(tmp_path / "p.npz", tmp_path / "t.npz", "lsp-pck").table.total == 100.0


@pytest.mark.parametrize("named", ["p", "t"])
def test_a_file_without_names_that_is_right_in_the_others_order_is_told(tmp_path, named):
    truth = RNG.uniform(0, 200, (40, 14, 2))
    np.savez(tmp_path / "p.npz", pred=truth, **({"parts": LSP14.parts} if named == "p" else {}))
    np.savez(tmp_path / "t.npz", gt=truth, **({"parts": LSP14.parts} if named == "t" else {}))
    nameless = "t" if named == "p" else "p"
    with pytest.warns(
        ScoreWarning, match=rf"{nameless}.npz names no joints .*cpm14.* to 100.00 in the order right_ankle"
    ):
        scored = score_file(tmp_path / "p.npz", tmp_path / "t.npz", "lspet-pck")
    assert scored.table.total < 50
    assert any("names no joints" in line for line in scored.table.warnings)


@pytest.mark.filterwarnings("error::cpm_repro.evaluation.ScoreWarning")
def test_a_file_without_names_that_is_right_as_it_was_read_is_not_suspected(tmp_path):
    truth = RNG.uniform(0, 200, (40, 14, 2))
    to_lsp = [CPM14.index(part) for part in LSP14.parts]
    np.savez(tmp_path / "p.npz", pred=truth)
    np.savez(tmp_path / "t.npz", gt=truth[:, to_lsp], parts=LSP14.parts)
    assert score_file(tmp_path / "p.npz", tmp_path / "t.npz", "lspet-pck").table.total == 100.0


def test_the_releases_predictions_with_lsps_own_file(tmp_path):
    joints = RNG.uniform(0, 200, (3, 14, 2000))
    joints[2] = 1.0  # occluded, yet counted
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    predicted = joints[:2, :, 1000:].transpose(1, 0, 2).copy()
    predicted[LSP14.index("head"), :, :250] += 1e4
    scipy.io.savemat(tmp_path / "p.mat", {"prediction_all": predicted})
    scored = score_file(tmp_path / "p.mat", tmp_path / "joints.mat", "lsp-pck")
    assert scored.table.people == 1000
    assert scored.table.per_joint["head"] == 75.0
    assert scored.table.per_row["Ank"] == 100.0
    assert scored.predicted[0, 0] == pytest.approx(joints[:2, 0, 1000] - 1), "1-based files become 0-based"


def test_lsp_extended_counts_every_18th_person_and_labels_only(tmp_path):
    joints = RNG.uniform(0, 200, (14, 3, 37))
    joints[:, 2] = 1
    joints[LSP14.index("left_knee"), 2, 18] = 0
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    truth = read_truth(tmp_path / "joints.mat", "lspet-pck")
    assert truth.positions.shape == (3, 14, 2)
    assert truth.positions[1] == pytest.approx(joints[:, :2, 18] - 1)
    assert truth.labelled.sum() == 3 * 14 - 1


def flic_file(path, people=3):
    """examples.mat with ``people`` test examples after one of training; true 0-based positions and boxes."""
    fields = ("coords", "istest", "torsobox", "filepath")
    examples = np.empty((1, people + 1), dtype=[(name, object) for name in fields])
    used = [0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16]
    positions, boxes = RNG.uniform(1, 300, (people, 11, 2)), RNG.uniform(10, 90, (people, 4))
    for index in range(people + 1):
        coords = np.full((2, 29), np.nan)
        coords[:, used] = positions[index - 1].T + 1 if index else 5.0
        row = (coords, float(index > 0), boxes[index - 1], f"frame{index}.jpg")
        for name, value in zip(fields, row, strict=True):
            examples[0, index][name] = value
    scipy.io.savemat(path, {"examples": examples})
    return positions, boxes


def test_flics_own_file(tmp_path):
    positions, boxes = flic_file(tmp_path / "examples.mat")
    truth = read_truth(tmp_path / "examples.mat", "flic-pck")
    assert truth.positions == pytest.approx(positions)
    assert truth.torso_box_wh == pytest.approx(boxes[:, 2:] - boxes[:, :2])
    assert truth.people == ("frame1.jpg", "frame2.jpg", "frame3.jpg")
    nine = positions[:, [0, 1, 2, 3, 4, 5, 6, 7, 10]]
    right, left = FLIC9.index("right_shoulder"), FLIC9.index("left_shoulder")
    turned = nine[:, right, 0] > nine[:, left, 0]
    nine[turned] = nine[turned][:, list(FLIC9.flip_permutation)]
    scipy.io.savemat(tmp_path / "p.mat", {"prediction_all": nine.transpose(1, 2, 0) + 1})
    assert score_file(tmp_path / "p.mat", tmp_path / "examples.mat", "flic-pck").table.total == 100.0


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("istest", 0.0, "got none with istest"),
        ("coords", np.zeros((2, 28)), "wanted coords as 2 x 29, got 2 x 28"),
        ("coords", "words", "wanted coords as 2 x 29"),
        ("coords", np.zeros((2, 29)), "columns of coords in use, got 29"),
        ("torsobox", [1.0, 2.0], "wanted torsobox as 4, got 2"),
    ],
)
def test_examples_that_are_not_flics(tmp_path, field, value, words):
    """One of two test examples, or both, is something else."""
    flic_file(tmp_path / "whole.mat", people=2)
    examples = scipy.io.loadmat(tmp_path / "whole.mat")["examples"]
    for index in (1, 2) if field == "istest" else (2,):
        examples[0, index][field] = value
    scipy.io.savemat(tmp_path / "examples.mat", {"examples": examples})
    with pytest.raises(UserError, match=words):
        read_truth(tmp_path / "examples.mat", "flic-pck")


def mpii_file(path, people=4):
    """gt_valid.mat in HRNet's layout; 0-based truth, labels and head sizes."""
    positions = RNG.uniform(0, 500, (people, 16, 2))
    missing = RNG.random((people, 16)) < 0.2
    boxes = np.zeros((2, 2, people))
    boxes[1] = np.array([[30.0], [40.0]])  # 30 wide, 40 high: diagonal 50
    content = {
        "pos_gt_src": positions.transpose(1, 2, 0) + 1,
        "jnt_missing": missing.T.astype(float),
        "headboxes_src": boxes,
    }
    scipy.io.savemat(path, content)
    return positions, ~missing


def test_hrnets_predictions_with_mpiis_validation_file(tmp_path):
    positions, labelled = mpii_file(tmp_path / "gt_valid.mat")
    scipy.io.savemat(tmp_path / "pred.mat", {"preds": positions + 1 + [[[14.9, 0.0]]]})
    scored = score_file(tmp_path / "pred.mat", tmp_path / "gt_valid.mat")
    assert scored.table.protocol_name == "mpii-pckh"
    counted = [index for index, part in enumerate(MPII16.parts) if part not in ("pelvis", "thorax")]
    assert scored.table.joints == labelled[:, counted].sum()
    assert scored.table.total == 100.0  # 0.5 * 0.6 * 50 = 15 px
    assert score_file(tmp_path / "pred.mat", tmp_path / "gt_valid.mat", threshold=0.49).table.total == 0.0


def test_the_releases_14_mpii_joints_are_not_taken_for_lsps(tmp_path):
    positions, _ = mpii_file(tmp_path / "gt_valid.mat")
    kept = [index for index in range(16) if index not in (6, 7)]
    scipy.io.savemat(tmp_path / "p.mat", {"prediction_all": positions[:, kept].transpose(1, 2, 0) + 1})
    assert score_file(tmp_path / "p.mat", tmp_path / "gt_valid.mat").table.total == 100.0


def test_hdf5_predictions(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    positions, _ = mpii_file(tmp_path / "gt_valid.mat")
    with h5py.File(tmp_path / "preds.h5", "w") as file:
        file["preds"] = positions + 1
    assert score_file(tmp_path / "preds.h5", tmp_path / "gt_valid.mat").table.total == 100.0


def test_arrays_of_other_files_and_absurd_sizes_in_h5_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["preds"] = np.zeros((2, 16, 2))
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["preds"] = h5py.ExternalLink("secret.h5", "/preds")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("preds", (1 << 40, 16, 2), "f8", chunks=(1, 16, 2))
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("preds")
    for name in ("linked", "group"):
        with pytest.raises(UserError, match=f"{name}.h5: wanted preds as an array in the file itself"):
            read_predictions(tmp_path / f"{name}.h5")
    with pytest.raises(UserError, match="preds claims 281474976710656 bytes"):
        read_predictions(tmp_path / "huge.h5")


@pytest.mark.parametrize("name", ["preds.h5", "preds.mat"])
def test_predictions_alone_want_their_truth(tmp_path, name):
    """An .h5 was called a MATLAB 7.3 file that should be named .h5."""
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match=rf"{name}: predictions alone: wanted their truth too \(--truth\)"):
        score_file(tmp_path / name)


def test_a_truth_in_hdf5_is_refused_by_its_format(tmp_path):
    for name, words in (("t.h5", r"the truth comes as .npz or .mat, got '.h5'"), ("t.mat", "with -v7")):
        (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
        with pytest.raises(UserError, match=words):
            read_truth(tmp_path / name)


def test_suffixes_in_capitals(tmp_path):
    truth = RNG.uniform(0, 200, (5, 16, 2))
    np.savez(tmp_path / "t.npz", gt=truth, head_size=np.full(5, 20.0))
    (tmp_path / "t.npz").rename(tmp_path / "T.NPZ")
    scipy.io.savemat(tmp_path / "p.mat", {"pred": truth + 1})
    (tmp_path / "p.mat").rename(tmp_path / "P.MAT")
    assert score_file(tmp_path / "P.MAT", tmp_path / "T.NPZ").table.total == 100.0


def test_files_of_other_people_are_refused(tmp_path):
    truth = RNG.uniform(0, 200, (5, 14, 2))
    names = np.array(["a", "b", "c", "d", "e"])
    np.savez(tmp_path / "t.npz", gt=truth, image=names)
    np.savez(tmp_path / "short.npz", pred=truth[:4])
    with pytest.raises(UserError, match=r"predicts 4 people.*has 5"):
        score_file(tmp_path / "short.npz", tmp_path / "t.npz")
    np.savez(tmp_path / "shuffled.npz", pred=truth, image=names[[0, 2, 1, 3, 4]])
    with pytest.raises(UserError, match=r"another order.*person 1 is c, there b"):
        score_file(tmp_path / "shuffled.npz", tmp_path / "t.npz")
    numbered = np.array([f"{name}#1" for name in names])  # as the release's procedure calls them
    np.savez(tmp_path / "numbered.npz", pred=truth, image=numbered)
    assert score_file(tmp_path / "numbered.npz", tmp_path / "t.npz").table.total == 100
    np.savez(tmp_path / "plain.npz", pred=truth, image=names)
    np.savez(tmp_path / "numbered_truth.npz", gt=truth, image=numbered)
    assert score_file(tmp_path / "plain.npz", tmp_path / "numbered_truth.npz").table.total == 100
    np.savez(tmp_path / "inside.npz", pred=truth, image=np.array([f"data/{name}#1" for name in names]))
    for known in ("t.npz", "numbered_truth.npz"):  # samples of training have their data set's name before it
        assert score_file(tmp_path / "inside.npz", tmp_path / known).table.total == 100
    second = np.array([f"data/{name}#2" for name in names])
    np.savez(tmp_path / "second.npz", pred=truth, image=second)
    with pytest.raises(UserError, match=r"another order.*person 0 is data/a#2, there a#1"):
        score_file(tmp_path / "second.npz", tmp_path / "numbered_truth.npz")
    np.savez(tmp_path / "wrong.npz", pred=truth, image=numbered[[1, 0, 2, 3, 4]])
    with pytest.raises(UserError, match=r"another order.*person 0 is b#1, there a"):
        score_file(tmp_path / "wrong.npz", tmp_path / "t.npz")
    np.savez(tmp_path / "fewer.npz", pred=truth[:, :13], order=np.array(LSP14.parts[:13]))
    with pytest.raises(UserError, match="missing: head"):
        score_file(tmp_path / "fewer.npz", tmp_path / "t.npz")
    np.savez(tmp_path / "nameless.npz", pred=truth[:, :13])
    with pytest.raises(UserError, match="13 joints without names"):
        score_file(tmp_path / "nameless.npz", tmp_path / "t.npz")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"image": np.array(["a", "b"])}, "wanted image as 4 names, got 2 "),
        ({"image": np.array("a")}, "wanted image as 4 names, got a single value"),
        ({"parts": np.array("a")}, "wanted parts as 16 names, got a single value"),
        ({"gt": np.full((4, 16, 2), "a")}, "wanted gt as people x joints x 2, got 4 x 16 x 2 of <U1"),
        (
            {"gt": np.zeros((4, 16, 3))},
            r"the third number of each joint in gt\? Wanted .* 'labelled' \(4 x 16\)",
        ),
        ({"labelled": np.full((4, 16), "a")}, "wanted labelled as 4 x 16, got 4 x 16 of <U1"),
        ({"labelled": np.ones((4, 9))}, "wanted labelled as 4 x 16, got 4 x 9"),
        (
            {"labelled": np.full((4, 16), 2)},
            "p.npz: labelled: wanted True and False .*, got 2.0: of",
        ),
        ({"head_size": np.ones(3)}, "wanted head_size as 4, got 3 of float64"),
        ({"head_size": np.array(list("abcd"))}, "wanted head_size as 4, got 4 of <U1"),
        ({"torso_box_wh": np.ones((4, 4))}, "wanted torso_box_wh as 4 x 2, got 4 x 4"),
    ],
)
def test_arrays_of_an_npz_that_do_not_fit_together(tmp_path, changed, words):
    arrays = {"pred": np.zeros((4, 16, 2)), "gt": np.zeros((4, 16, 2)), "head_size": np.ones(4)}
    np.savez(tmp_path / "p.npz", **arrays | changed)
    with pytest.raises(UserError, match=words) as caught:
        score_file(tmp_path / "p.npz")
    assert "p.npz: " in str(caught.value)


def test_a_third_number_of_the_truth_is_not_read_where_labels_are(tmp_path):
    gt, labelled = np.zeros((4, 16, 3)), np.eye(4, 16)
    np.savez(tmp_path / "p.npz", pred=np.zeros((4, 16, 2)), gt=gt, labelled=labelled, head_size=np.ones(4))
    table = score_file(tmp_path / "p.npz").table
    assert table.joints == 4
    assert table.total == 100


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("absent.npz", None, "nothing there"),
        ("absent.mat", None, "nothing there"),
        ("text.npz", lambda path: path.write_text("no"), "not a whole .npz"),
        ("text.mat", lambda path: path.write_text("no"), "wanted a whole MATLAB file"),
        ("other.npz", lambda path: np.savez(path, xy=np.zeros(3)), "wanted an array 'pred', got xy"),
        ("flat.npz", lambda path: np.savez(path, pred=np.zeros((3, 4))), "people x joints x 2, got 3 x 4"),
        ("words.npz", lambda path: np.savez(path, pred=np.full((1, 2, 2), "a")), "wanted pred as"),
        ("pickle.npz", lambda path: np.savez(path, pred=np.array([{}], object)), "not a whole .npz"),
        ("other.mat", lambda path: scipy.io.savemat(path, {"x": 1.0}), "wanted one of the arrays"),
        (
            "turned.mat",
            lambda path: scipy.io.savemat(path, {"prediction_all": np.zeros((2, 14, 9))}),
            "joints x 2",
        ),
        ("table.csv", lambda path: path.write_text("x"), "npz, .mat or .h5"),
    ],
)
def test_prediction_files_that_cannot_be_used(tmp_path, name, write, words):
    if write:
        write(tmp_path / name)
    with pytest.raises(UserError, match=words) as caught:
        read_predictions(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"joints": np.zeros((2, 2, 2))}, "3 x 14 x N or 14 x 3 x N"),
        ({"joints": "words"}, "3 x 14 x N or 14 x 3 x N"),
        ({"joints": np.full((3, 14, 2), {}, object)}, "3 x 14 x N or 14 x 3 x N"),
        ({"examples": np.zeros(3)}, "examples with the fields"),
        ({"pos_gt_src": np.zeros((16, 2, 3))}, "missing: jnt_missing, headboxes_src"),
        ({"other": 1.0}, "got other"),
    ],
)
def test_truth_files_that_cannot_be_used(tmp_path, content, words):
    scipy.io.savemat(tmp_path / "t.mat", content)
    with pytest.raises(UserError, match=words):
        read_truth(tmp_path / "t.mat")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Rsho", "right_shoulder"),
        ("l_ank", "left_ankle"),
        ("right_hip", "right_hip"),
        ("nose", "nose"),
        ("neck", "neck"),
    ],
)
def test_spellings(name, part):
    assert part_name(name) == part


def test_a_body_may_have_a_nose_and_a_head(tmp_path):
    """Both were called head, and the file was refused; a nose alone is a head where one is wanted."""
    parts = np.array(["nose", "head_top", "Lsho", "Rhip"])
    truth = RNG.uniform(0, 200, (5, 4, 2))
    pred = truth.copy()
    pred[:, 0] += 1e4
    np.savez(tmp_path / "p.npz", pred=pred, gt=truth, parts=parts)
    table = score_file(tmp_path / "p.npz").table
    assert table.per_joint == {"nose": 0, "head_top": 100, "left_shoulder": 100, "right_hip": 100}
    shown = [*LSP14.parts[:-1], "head_top", "nose"]
    gt = RNG.uniform(0, 200, (5, 15, 2))
    pred = gt.copy()
    pred[:, -1] += 1e4
    np.savez(tmp_path / "p.npz", pred=pred, gt=gt, parts=np.array(shown))
    assert score_file(tmp_path / "p.npz", protocol="lsp-pck").table.total == 100
    np.savez(tmp_path / "p.npz", pred=pred[:, 1:], gt=gt[:, 1:], parts=np.array(shown[1:]))
    assert "nose" in score_file(tmp_path / "p.npz").table.per_joint
    shown = ["nose" if part == "head" else part for part in FLIC9.parts]
    np.savez(tmp_path / "p.npz", pred=gt[:, :9], gt=gt[:, :9], parts=np.array(shown))
    assert score_file(tmp_path / "p.npz", protocol="flic-pck").table.per_joint["head"] == 100


def test_a_body_of_ones_own_brings_its_torso(tmp_path):
    """What `cpm eval --weights` wrote of it could not be scored: no option names a torso."""
    hand = Skeleton("hand", ("wrist", "thumb", "index"), (), (), torso=(0, 2))
    truth = np.tile([[[0.0, 0.0], [30.0, 0.0], [0.0, 50.0]]], (4, 1, 1))
    pred = truth.copy()
    pred[0, 1, 0] += 10.0  # a fifth of the torso
    pred[1, 1, 0] += 10.5
    np.savez(tmp_path / "p.npz", pred=pred, gt=truth, **skeleton_arrays(hand, np.full(4, 9.0)))
    table = score_file(tmp_path / "p.npz").table
    assert table.per_joint == {"wrist": 100, "thumb": 75, "index": 100}
    assert "distance of wrist and index in the truth" in table.protocol
    for torso in (["wrist", "palm"], ["wrist"]):
        np.savez(tmp_path / "q.npz", pred=pred, gt=truth, parts=np.array(hand.parts), torso=np.array(torso))
        with pytest.raises(UserError, match="torso"):
            score_file(tmp_path / "q.npz")


def test_a_body_without_a_torso_brings_its_size(tmp_path):
    """What `cpm eval` wrote of an object of one part was refused: it "names no torso"."""
    ball = Skeleton("ball", ("middle",), (), ())
    truth = np.zeros((3, 1, 2))
    pred = truth + [[[8.0, 0.0]], [[8.5, 0.0]], [[8.5, 0.0]]]
    np.savez(tmp_path / "p.npz", pred=pred, gt=truth, **skeleton_arrays(ball, np.array([40.0, 40.0, 90.0])))
    table = score_file(tmp_path / "p.npz").table
    assert table.per_joint == {"middle": pytest.approx(200 / 3)}
    assert "threshold x length given for each person" in table.protocol
    np.savez(tmp_path / "q.npz", pred=pred, gt=truth, parts=np.array(ball.parts))
    with pytest.raises(UserError, match=r"names no torso.*or the people's sizes as `extent`"):
        score_file(tmp_path / "q.npz")
    np.savez(tmp_path / "q.npz", pred=pred, gt=truth, parts=np.array(ball.parts), extent=np.ones(2))
    with pytest.raises(UserError, match=r"q\.npz: wanted extent as 3, got 2"):
        score_file(tmp_path / "q.npz")


def test_the_worst_person_comes_first(tmp_path):
    truth = np.zeros((4, 14, 2))
    truth[:, LSP14.index("left_shoulder")] = (100, 0)  # torso 100 px: right within 20
    pred = truth.copy()
    pred[1, 3:6, 1] = 25.0  # three joints just missed
    pred[2, 3:6, 1] = 80.0  # three joints far off
    pred[3, 0, 1] = 1e9  # one joint lost altogether
    np.savez(tmp_path / "p.npz", pred=pred, gt=truth)
    worst = failures(score_file(tmp_path / "p.npz", protocol="lsp-pck").table)
    assert [failure.person for failure in worst] == [2, 1, 3]
    assert (worst[0].missed, worst[0].counted) == (3, 14)
    assert worst[2].worst_parts == ("right_ankle",)
    assert worst[2].mean_distance == pytest.approx(5 * 0.2 / 14), "capped at five thresholds"
    assert len(failures(score_file(tmp_path / "p.npz", protocol="lsp-pck").table, 1)) == 1


def test_an_lsp_file_of_another_number_of_people_is_all_test(tmp_path):
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": RNG.uniform(0, 200, (3, 14, 30))})
    assert len(read_truth(tmp_path / "joints.mat", "lsp-pck").positions) == 30


def test_names_of_parts_may_be_bytes(tmp_path):
    """As h5py gives them; they were parts called "b'rank'", whose file named no torso."""
    truth = RNG.uniform(0, 200, (5, 14, 2))
    order = np.array(["Rank", "Rkne", "Rhip", "Lhip", "Lkne", "Lank", "Rwri", "Relb", "Rsho", "Lsho",
                      "Lelb", "Lwri", "neck", "head"])  # fmt: skip
    np.savez(tmp_path / "p.npz", pred=truth[:, ::-1], gt=truth, order=order.astype(bytes),
             pred_order=order[::-1].astype(bytes))  # fmt: skip
    assert score_file(tmp_path / "p.npz").table.total == 100.0
