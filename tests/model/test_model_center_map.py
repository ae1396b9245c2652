"""The fourth input channel: another port's centre map has sigma 3 instead of 21 pixels."""

import math

import pytest
import torch
from model_helpers import fill_by_golden_rule

from cpm_repro import config
from cpm_repro.model import build

ops = pytest.importorskip("cpm_repro.ops")


def test_default_sigma_is_the_releases():
    """Spec `transform.md`: exp(-d^2 / 2 / 21^2) at the person's centre."""
    center = torch.tensor([[100.0, 60.0]])
    data = ops.center_map(center, size=(128, 192))
    for dx, dy in ((0, 0), (21, 0), (0, 21), (-21, 30), (5, -12)):
        wanted = math.exp(-(dx * dx + dy * dy) / 2 / 21**2)
        assert data[0, 0, 60 + dy, 100 + dx].item() == pytest.approx(wanted, abs=1e-6)
    assert config.center_sigma(368) == 21.0
    assert config.center_sigma(128) == 21.0 * 128 / 368


def test_the_network_notices_another_sigma():
    """With sigma 3 the pooled centre map almost vanishes; stage 2 gives other maps, stage 1 does not look."""
    net = build("mpii_6stage", stages=2, width=0.1).eval()
    fill_by_golden_rule(net, seed=1)
    image = torch.rand(1, 3, 136, 104, generator=torch.Generator().manual_seed(0)) - 0.5
    maps = []
    with torch.inference_mode():
        for sigma in (21.0, 3.0):
            center = ops.center_map(torch.tensor([[52.0, 68.0]]), size=(136, 104), sigma=sigma)
            maps.append(net(torch.cat([image, center], 1)))
    assert torch.equal(maps[0][0], maps[1][0])
    assert (maps[0][1] - maps[1][1]).abs().max() > 0.01 * maps[0][1].abs().max()
