"""Augmentations beyond the release's: off by default, each alone changes what its name says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from data_fakes import DotDataset, skeleton_of

from cpm_repro.config import TrainConfig, check, override, preset
from cpm_repro.data import AugmentConfig, PoseSample, TrainLoader
from cpm_repro.data.augment import Crop
from cpm_repro.data.beyond import half_body, occluded, relit
from cpm_repro.errors import UserError
from cpm_repro.skeleton import CPM14, Visibility


class Grey(DotDataset):
    """Pictures that light can change."""

    def __getitem__(self, index: int) -> PoseSample:
        sample = super().__getitem__(index)
        sample.image[:] = 60
        return sample


def batches(**settings) -> list:
    with TrainLoader(Grey(), AugmentConfig(crop=64, **settings), 10, 1, workers=2) as loader:
        return [next(loader) for _ in range(4)]


def test_they_are_off_in_every_preset():
    for name in ("tiny", "mpii_6stage", "lsp_6stage_modern"):
        augment = preset(name).augment
        assert (augment.half_body, augment.occlusion, augment.photometric, augment.shift) == (0, 0, 0, 0)


def test_photometric_changes_pixels_alone():
    for plain, lit in zip(batches(), batches(photometric=0.4), strict=True):
        for name in ("joints", "visible", "center"):
            assert torch.equal(getattr(plain, name), getattr(lit, name))
        assert (plain.image != lit.image).any(dim=3).float().mean() > 0.5


def test_occlusion_covers_a_part_and_says_so():
    covered = 0
    for plain, hidden in zip(batches(), batches(occlusion=0.5), strict=True):
        assert torch.equal(plain.joints, hidden.joints)
        for row in range(10):
            changed = (plain.image[row] != hidden.image[row]).any(dim=2)
            covered += bool(changed.any())
            flags = hidden.visible[row][plain.visible[row] != hidden.visible[row]]
            assert (flags == Visibility.OCCLUDED).all()
            assert changed.float().mean() < 0.4 * 0.4 + 0.02
    assert 10 <= covered <= 30


def test_joints_under_the_occluder_become_occluded():
    grid = np.stack(np.meshgrid(np.arange(50.0), np.arange(60.0)), axis=-1).reshape(1, -1, 2)
    visible = np.ones(grid.shape[:2], np.uint8)
    visible[:, ::7] = Visibility.CROPPED
    crop = Crop(np.full((60, 50, 3), 77, np.uint8), grid.astype(np.float32), visible, np.zeros(2, np.float32))
    out = occluded(crop, np.random.default_rng(3))
    changed = (out.image != 77).any(axis=2).ravel()
    assert 0.01 < changed.mean() < 0.17
    assert (out.visible[0] == Visibility.OCCLUDED).sum() > 20
    assert np.array_equal(out.visible == Visibility.CROPPED, visible == Visibility.CROPPED)
    box = (out.visible[0] == Visibility.OCCLUDED) & ~changed  # noise may hit the old colour
    assert box.mean() < 0.01
    assert (crop.image == 77).all()


def test_half_a_body_fills_the_crop():
    sample = replace(DotDataset()[1], scale=1.5)
    sample.joints[0, :, 1] = 40 + 5 * np.arange(14)  # the order is head to ankle per side, not by height
    legs = [k for k, part in enumerate(CPM14.parts) if part.endswith(("hip", "knee", "ankle"))]
    arms = [k for k in range(14) if k not in legs or CPM14.parts[k].endswith("hip")]
    for upper, group in ((True, arms), (False, legs)):
        half = half_body(sample, CPM14, upper=upper)
        points = sample.joints[0, group]
        assert half.center == pytest.approx((points.min(axis=0) + points.max(axis=0)) / 2, abs=1e-3)
        assert half.extent == pytest.approx(np.ptp(points, axis=0).max(), abs=1e-3)
        assert half.scale / sample.scale == pytest.approx(half.extent / sample.extent)
        assert np.array_equal(half.joints, sample.joints)


def test_bodies_without_halves_stay_whole():
    sample = DotDataset()[1]
    assert half_body(sample, skeleton_of(14), upper=True) is sample
    few = replace(sample, visible=sample.visible.copy())
    few.visible[0, 2:] = Visibility.CROPPED
    assert half_body(few, CPM14, upper=False) is few
    for side in (sample.extent, 0.1 * sample.extent):  # legs as large as the body, or next to nothing
        legs = replace(sample, joints=sample.joints.copy())
        legs.joints[0] = legs.joints[0].min(axis=0)
        legs.joints[0, CPM14.index("right_hip")] += side
        legs.joints[0, 0] += sample.extent
        legs = replace(legs, extent=sample.extent)
        assert half_body(legs, CPM14, upper=False) is legs
    pairs = zip(batches(), batches(half_body=1.0), strict=True)
    assert any(not torch.equal(a.joints, b.joints) for a, b in pairs)


def test_light_changes_within_its_strength():
    image = np.full((8, 8, 3), 128, np.uint8)
    seen = [relit(image, 0.4, np.random.default_rng(k))[0, 0].mean() for k in range(200)]
    assert 128 * 0.5 < min(seen) < 100
    assert 150 < max(seen) < 128 * 1.6
    assert np.array_equal(relit(image, 0.0, np.random.default_rng(0)), image)


def test_centre_perturbation():
    plain, moved = batches(), batches(shift=0.2)
    apart = torch.cat([(a.center - b.center) for a, b in zip(plain, moved, strict=True)])
    assert apart.abs().max() > 0.1 * 64
    assert apart.abs().max() <= 0.2 * 64 + 1e-3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augment.half_body": 2.0}, "half_body"),
        ({"augment.occlusion": -0.1}, "occlusion"),
        ({"augment.photometric": 1.0}, "photometric"),
        ({"augment.method": "device", "augment.photometric": 0.2}, "does not go with"),
        ({"augment.method": "fats"}, "did you mean fast"),
        ({"augment.target_dist": 0.0}, "target_dist"),
        ({"augment.shift": 1.0}, "shift"),
    ],
)
def test_settings_that_no_run_can_work_with(changes, words):
    with pytest.raises(UserError, match=words):
        check(override(TrainConfig(iterations=1), changes))
