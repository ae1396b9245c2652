from __future__ import annotations

import time

import numpy as np
from support import data_root, golden

from cpm_repro.data import center_and_extent, read_lspet_joints
from cpm_repro.data.lsp_scale import TARGET, limb_lengths, limb_ratios, lsp_scales
from cpm_repro.skeleton import LSP14, Visibility


def person(**moved: tuple[float, float]) -> np.ndarray:
    """An upright body; head to neck is 20 px."""
    points = {
        "head": (50, 10), "neck": (50, 30),
        "right_shoulder": (40, 32), "right_elbow": (35, 60), "right_wrist": (33, 85),
        "left_shoulder": (60, 32), "left_elbow": (65, 60), "left_wrist": (67, 85),
        "right_hip": (44, 85), "right_knee": (43, 125), "right_ankle": (42, 165),
        "left_hip": (56, 85), "left_knee": (57, 125), "left_ankle": (58, 165),
    }  # fmt: skip
    return np.array([{**points, **moved}[part] for part in LSP14.parts], float)


def test_against_the_original_on_all_9000_people():
    reference = np.load(golden("lspet_scale.npz"))
    joints, labelled = read_lspet_joints(data_root("lspet", "joints.mat"))
    start = time.process_time()
    scales = lsp_scales(joints, labelled)
    assert time.process_time() - start < 2  # 0.02 s measured
    assert np.abs(scales - reference["scale_provided"].ravel()).max() <= 1e-9  # measured 9e-16
    assert np.abs(limb_ratios(limb_lengths(joints, labelled)) - reference["limb_ratio"].ravel()).max() <= 1e-9
    for index in range(0, 9000, 100):
        visible = np.where(labelled[index], Visibility.VISIBLE, Visibility.CROPPED)
        center, _ = center_and_extent(joints[index], visible)
        assert np.abs(center + 1 - reference["objpos"][index]).max() < 2e-5  # float32 centre


def test_a_single_person_votes_with_one_voice():
    """All ratios are the person's own, so every limb says 24 px; 35 px is scale 1."""
    joints = person(head=(50, 6))[None]
    scale = lsp_scales(joints, np.ones((1, 14), bool))
    assert abs(scale[0] - 24 / 35) < 1e-12


def test_large_people_are_limited_by_their_box():
    joints = person()[None] * 4  # 620 px tall: 304 / 620 is less than 41 / 80
    scale = lsp_scales(joints, np.ones((1, 14), bool))
    assert abs(TARGET / scale[0] - 304 / 620) < 1e-12


def test_a_reference_limb_of_length_zero_counts_as_infinite():
    people = np.stack([person(), person(head=(50, 30)), person(head=(50, 30))])
    ratios = limb_ratios(limb_lengths(people, np.ones((3, 14), bool)))
    assert np.isinf(ratios[0])
    assert ratios[6] == 1.0  # 0 / 0 is dropped


def test_nothing_visible_gives_nan():
    visible = np.ones((2, 14), bool)
    visible[1] = False
    scales = lsp_scales(np.stack([person(), person()]), visible)
    assert np.isfinite(scales[0])
    assert np.isnan(scales[1])
