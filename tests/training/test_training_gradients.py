"""The recorder of gradient magnitudes: against numpy on known values, and through a resumed run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cpm_repro.config import NetworkConfig, preset
from cpm_repro.errors import UserError
from cpm_repro.training import train
from cpm_repro.training.gradients import EDGES, measure, read_gradients


def test_statistics_of_known_values():
    found = measure(torch.tensor([[0.0, -2.0], [1e-3, 0.5]]))
    assert found.mean == pytest.approx(np.mean([0, 2, 1e-3, 0.5]))
    assert found.variance == pytest.approx(np.var([0, -2, 1e-3, 0.5]))
    assert found.zero == 0.25
    filled = {float(EDGES[index]): count for index, count in enumerate(found.histogram) if count}
    assert filled == {-3.0: 1, -0.5: 1, 0.25: 1}


def test_what_is_off_the_scale_is_counted_at_its_ends():
    found = measure(torch.tensor([1e-30, 1e30], dtype=torch.float64))
    assert (found.histogram[0], found.histogram[-1], sum(found.histogram)) == (1, 1, 2)
    with pytest.raises(ValueError, match="at least one"):
        measure(torch.zeros(0))


def test_a_resumed_run_records_what_the_whole_one_would_have(tmp_path):
    config = preset("tiny")
    config = replace(
        config, minutes=None, iterations=4, record_gradients=2, validate_people=4, validate_every=1.0,
        checkpoint_iterations=3, network=NetworkConfig(stages=2, width=0.03),
        solver=replace(config.solver, batch=2), augment=replace(config.augment, crop=64),
    )  # fmt: skip
    train(config, tmp_path / "whole")
    train(replace(config, iterations=3), tmp_path / "cut")
    (tmp_path / "cut" / "gradients.jsonl").open("a").write('{"iteration": 3, "lay')
    train(config, tmp_path / "cut", resume=True)
    whole = read_gradients(tmp_path / "whole" / "gradients.jsonl")
    assert whole.iterations.tolist() == [0, 2]
    assert whole.layers[0] == "conv1_1"
    assert whole.layers[-1] == "Mconv7_stage2"
    assert (whole.mean > 0).all()
    assert whole.histogram.shape == (2, len(whole.layers), len(EDGES) - 1)
    cut = read_gradients(tmp_path / "cut" / "gradients.jsonl")
    assert cut.iterations.tolist() == [0, 2]
    assert cut.mean[0] == pytest.approx(whole.mean[0], rel=1e-6)


def test_a_run_without_the_setting_says_which_it_is(tmp_path):
    with pytest.raises(UserError, match="record_gradients"):
        read_gradients(tmp_path / "gradients.jsonl")
