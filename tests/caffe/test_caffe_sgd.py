"""CaffeSGD against numbers the original Caffe made, and against the formula by hand."""

import json

import numpy as np
import pytest
import torch
from support import golden

from cpm_repro.caffe.sgd import CaffeSGD
from cpm_repro.model import build

RUNS = {
    "recipe": (8e-5, 6, 1, 5e-4),
    "larger": (2e-4, 6, 1, 5e-4),
    "itersize2": (1e-4, 4, 2, 5e-4),
    "decay": (8e-5, 4, 1, 1.0),
}


def by_hand(w, gradients, lrs, momentum, decay):
    """The three lines of the spec in float64, one parameter."""
    v = np.zeros_like(w)
    for g, lr in zip(gradients, lrs, strict=True):
        v = momentum * v + lr * (g + decay * w)
        w = w - v
    return w


def run(optimizer_of, gradients, lrs):
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = optimizer_of(weight)
    for g, lr in zip(gradients, lrs, strict=True):
        weight.grad = torch.tensor(g)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    return weight.detach().numpy()


GRADIENTS = [np.array([0.5, 1.0]), np.array([-0.25, 0.5]), np.array([1.0, 1.0])]


def test_formula_by_hand_with_a_falling_rate():
    lrs = [0.1, 0.1, 0.01]
    got = run(lambda w: CaffeSGD([w], lr=0.1, momentum=0.9, weight_decay=0.01), GRADIENTS, lrs)
    assert got == pytest.approx(by_hand(np.array([1.0, -2.0]), GRADIENTS, lrs, 0.9, 0.01), abs=1e-15)


def test_torchs_sgd_is_another_rule():
    """Equal while the rate stays, different after it falls: the buffer of torch holds no rate."""

    def torchs(weight):
        return torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.01)

    start = np.array([1.0, -2.0])
    assert run(torchs, GRADIENTS, [0.1] * 3) == pytest.approx(by_hand(start, GRADIENTS, [0.1] * 3, 0.9, 0.01))
    falling = [0.1, 0.1, 0.01]
    difference = np.abs(run(torchs, GRADIENTS, falling) - by_hand(start, GRADIENTS, falling, 0.9, 0.01))
    assert difference.min() > 1e-3  # nine orders above what the first comparison allows


def test_multipliers_iter_size_and_clipping_by_hand():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    weight.grad = torch.tensor([6.0, 8.0])  # norm 10, clipped to 5, then halved by iter_size
    group = {"params": [weight], "lr_mult": 2.0, "decay_mult": 3.0}
    CaffeSGD([group], lr=0.1, momentum=0.9, weight_decay=0.01, iter_size=2, clip_gradients=5.0).step()
    g = np.array([1.5, 2.0]) + 0.01 * 3 * np.array([1.0, -2.0])
    assert weight.detach().numpy() == pytest.approx(np.array([1.0, -2.0]) - 0.2 * g, rel=1e-6)


def test_iter_size_must_be_positive():
    with pytest.raises(ValueError, match="iter_size: wanted at least 1, got 0"):
        CaffeSGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, iter_size=0)


def golden_network(z):
    """The six-stage network with the golden rule's weights; no dropout, as the golden runs had none."""
    net = build("mpii_6stage")
    for index, layer in enumerate(net.description.convolutions):
        rng = np.random.RandomState(1000 + index + int(z["seed"]) * 100000)
        module = getattr(net, layer.name)
        shape = tuple(module.weight.shape)
        weight = rng.randn(*shape) * np.sqrt(2 / np.prod(shape[1:])) * float(z["gain"])
        module.weight.data = torch.from_numpy(weight.astype(np.float32))
        module.bias.data = torch.from_numpy((rng.randn(shape[0]) * 0.05).astype(np.float32))
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net


def golden_batch(z, k):
    rng = np.random.RandomState(int(z["seed"]) * 1000 + k)
    u = rng.randint(0, 256, size=(2, 4, 96, 96))
    offset = np.array([128, 128, 128, 0]).reshape(1, 4, 1, 1)
    data = ((u - offset) / 256).astype(np.float32)
    label = rng.random_sample((2, 30, 12, 12)).astype(np.float32)
    return torch.from_numpy(data), torch.from_numpy(label)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_golden_runs_of_caffe(name):
    """Every stored number of the run, within what 1e-7 noise on the weights does to Caffe itself."""
    base_lr, iterations, iter_size, decay = RUNS[name]
    z = np.load(golden("solver.npz"))
    net = golden_network(z)
    blobs = [str(blob) for blob in z["blob_names"]]
    assert json.loads(str(z["blob_shapes"]))  # the file is the one its README describes
    weights = dict(net.named_parameters())
    groups = [
        {
            "params": [weights[blob.replace("/", ".")]],
            "lr_mult": float(z["lr_decay_mult"][index, 0]),
            "decay_mult": float(z["lr_decay_mult"][index, 1]),
        }
        for index, blob in enumerate(blobs)
    ]
    optimizer = CaffeSGD(groups, lr=base_lr, momentum=0.9, weight_decay=decay, iter_size=iter_size)
    for t in range(iterations):
        lr = base_lr * float(z["gamma"]) ** (t // 2)
        assert lr == pytest.approx(z[f"{name}_lr"][t], rel=1e-6)
        optimizer.zero_grad()
        for part in range(iter_size):
            data, label = golden_batch(z, t * iter_size + part)
            maps = net(data)
            losses = [
                ((m - (label[:, 15:] if stage == 0 else label[:, :15])) ** 2).sum() / 4
                for stage, m in enumerate(maps)
            ]
            expected = z[f"{name}_loss"].reshape(iterations, iter_size, 6)[t, part]
            assert [loss.item() for loss in losses] == pytest.approx(expected, rel=1e-5)
            sum(losses).backward()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        norms = {
            "param": [weights[b.replace("/", ".")].detach().double().norm().item() for b in blobs],
            "hist": [
                float(optimizer.state[weights[b.replace("/", ".")]]["momentum_buffer"].double().norm())
                for b in blobs
            ],
        }
        for kind, values in norms.items():
            assert values == pytest.approx(z[f"{name}_{kind}_l2"][t], rel=3e-4), (kind, t)
    for layer in ("Mconv5_stage6", "Mconv5_stage2", "conv7_stage1"):
        expected = z[f"{name}_final_hist_weight_{layer}"]
        got = optimizer.state[weights[f"{layer}.weight"]]["momentum_buffer"].numpy()
        assert np.abs(got - expected).max() <= 5e-3 * np.abs(expected).max(), layer
