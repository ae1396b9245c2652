"""The first training step of the full-size network against Caffe's: all losses and gradients."""

import numpy as np
import pytest
import torch
from model_helpers import fill_by_golden_rule, golden_input
from support import golden

from cpm_repro.model import build


@pytest.fixture(scope="module")
def step():
    """(stored numbers, network after one backward pass, its maps, the label); no dropout, batch 2."""
    stored = np.load(golden("solver_first_step.npz"))
    net = build("mpii_6stage").eval()
    fill_by_golden_rule(net, int(stored["seed"]), gain=float(stored["gain"]))
    seed = int(stored["seed"]) * 1000
    data = golden_input((2, 4, 96, 96), seed)
    rng = np.random.RandomState(seed)
    rng.randint(0, 256, size=tuple(data.shape))  # the label is drawn after the input
    label = torch.from_numpy(rng.random_sample((2, 30, 12, 12)).astype(np.float32))
    maps = net(data)
    sum(losses_of(maps, label)).backward()
    return stored, net, maps, label


def losses_of(maps, label):
    """Sum of squares / 2N per stage; stage 1 against the last 15 channels, others against the first 15."""
    targets = [label[:, 15:], *[label[:, :15]] * (len(maps) - 1)]
    return [((m - t) ** 2).sum() / (2 * len(m)) for m, t in zip(maps, targets, strict=True)]


def test_losses(step):
    stored, _, maps, label = step
    got = [loss.item() for loss in losses_of(maps, label)]
    np.testing.assert_allclose(
        got, stored["loss"], rtol=4e-6
    )  # measured 2e-7; a 1e-7 change of weights: 4e-7


def test_one_target_for_all_stages_is_found(step):
    """Another port compares every stage, the first too, with the annotated person alone."""
    stored, _, maps, label = step
    shared = ((maps[0] - label[:, :15]) ** 2).sum().item() / 4
    assert abs(shared / stored["loss"][0] - 1) > 1e-3


def test_gradients_and_multipliers(step):
    stored, net, _, _ = step
    names = [str(name).replace("/", ".") for name in stored["blob_names"]]
    parameters = dict(net.named_parameters())
    norms = np.array([parameters[name].grad.double().norm().item() for name in names])
    # measured 5.4e-5; a 1e-7 change of the weights moves norms by up to 1e-4 (pooling and ReLU switches flip)
    np.testing.assert_allclose(norms, stored["grad_l2"], rtol=5e-4)
    assert set(names) == set(parameters)
    table = [[net.lr_mult(name), net.decay_mult(name)] for name in names]
    np.testing.assert_array_equal(table, stored["lr_decay_mult"])
