"""The person detector's own target, and that it trains."""

from dataclasses import replace

import numpy as np
import torch

from cpm_repro.config import TargetConfig, override, preset
from cpm_repro.data import open_dataset
from cpm_repro.model import build
from cpm_repro.training import stage_losses, train
from cpm_repro.training.person import PersonCentres
from cpm_repro.training.run_folder import RunFolder


def test_everybody_is_one_point():
    plain = open_dataset("synthetic", "train", seed=1, size=20)
    people = PersonCentres(plain)
    assert len(people) == 20
    several = 0
    for index in range(20):
        sample, original = people[index], plain[index]
        assert sample.joints.shape == (len(original.joints), 1, 2)
        assert np.array_equal(sample.joints[0, 0], original.center)
        for joints, visible, centre in zip(
            original.joints[1:], original.visible[1:], sample.joints[1:], strict=True
        ):
            shown = joints[visible != 2]
            if len(shown):
                middle = (shown.min(axis=0) + shown.max(axis=0)) / 2
                assert np.abs(middle - centre[0]).max() < 1e-3
                several += 1
    assert several  # the data set has pictures of more than one


def test_every_stage_is_held_against_everybody():
    joints = torch.tensor([[[[3.5, 3.5]], [[11.5, 11.5]]]])  # two people on cell centres
    visible = torch.ones(1, 2, 1, dtype=torch.uint8)
    maps = [torch.zeros(1, 1, 2, 2) for _ in range(2)]
    first, second = stage_losses(maps, joints, visible, TargetConfig(sigma=7.0, stride=8)).tolist()
    near, far = np.exp(-64 / 98), np.exp(-128 / 98)
    target = np.array([1, 2 * near, 2 * near, 1 + far]).clip(max=1)
    target[0] = target[3] = 1
    assert first == second
    assert abs(first - np.sum(target**2) / 2) < 1e-6


def test_the_detector_trains_and_is_scored(tmp_path):
    config = replace(preset("person_4stage"), iterations=8, validate_every=1.0)
    changes = {"network.width": 0.04, "network.stages": 2, "augment.crop": 64, "solver.batch": 4,
               "validate_people": 6, "solver.initialisation": "kaiming", "solver.optimizer": "adamw",
               "solver.lr": 0.003}  # fmt: skip
    result = train(override(config, changes), tmp_path / "run")
    made = [r["loss"] for r in RunFolder(tmp_path / "run").records() if r["kind"] == "train"]
    assert np.mean(made[-2:]) < np.mean(made[:2])
    assert result.net.maps == build("person_4stage", width=0.04).maps == 1
    assert 0 <= result.tables[-1].total <= 100
