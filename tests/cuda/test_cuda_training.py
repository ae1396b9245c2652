"""Training on a real GPU: the CPU's losses, one wait an update, and runs that go on."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from cpm_repro.config import override, preset
from cpm_repro.data import Batch
from cpm_repro.model import build
from cpm_repro.training import load_checkpoint, train
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.recipe import build_optimizers
from cpm_repro.training.run_folder import RunFolder
from cpm_repro.training.schemes import phases_of
from cpm_repro.training.sharding import Cores
from cpm_repro.training.step import Step

pytestmark = pytest.mark.gpu

SMALL = {
    "network.width": 0.05,
    "augment.crop": 64,
    "solver.batch": 4,
    "solver.precision": "float32",
    "workers": 1,
    "validate_people": 20,
}


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    yield "cuda"
    torch.cuda.set_sync_debug_mode("default")


def small(iterations: int, **changes):
    config = replace(preset("tiny"), name="small", minutes=None, iterations=iterations, validate_every=1.0)
    return override(config, SMALL | changes)


def losses(folder) -> np.ndarray:
    return np.array([line["loss"] for line in RunFolder(folder).records() if line["kind"] == "train"])


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"solver.optimizer": "caffe_sgd", "solver.lr": 1e-5}, 1e-4),
        ({"solver.optimizer": "adamw"}, 1e-2),  # weights whose gradient is rounding alone go either way
        ({}, 1e-2),
        ({"solver.average": 0.9, "solver.accumulate": 2, "solver.recompute": True}, 1e-2),
        ({"augment.method": "device"}, 3e-2),  # the warp's pixels are a level off here and there
        ({"solver.precision": "bf16"}, 5e-2),
        ({"solver.precision": "fp16"}, 5e-2),
    ],
    ids=str,
)
def test_a_run_has_the_cpus_losses(cuda, tmp_path, changes, allowed):
    exact = {name: value for name, value in changes.items() if name != "solver.precision"}
    train(small(6, **exact), tmp_path / "host", device="cpu")
    train(small(6, **changes), tmp_path / "device", device=cuda)
    expected, made = losses(tmp_path / "host"), losses(tmp_path / "device")
    assert expected.shape == made.shape == (6, 3)
    assert np.abs(made / expected - 1).max() < allowed


def test_stopped_and_resumed_equals_never_stopped(cuda, tmp_path):
    """To rounding: cuDNN's sums need not come in one order."""
    settings = {
        "solver.schedule": "step",
        "solver.average": 0.9,
        "solver.optimizer": "caffe_sgd",
        "solver.lr": 1e-5,
    }
    train(small(8, **settings), tmp_path / "whole", device=cuda)
    train(small(3, **settings), tmp_path / "parts", device=cuda)
    train(small(8, **settings), tmp_path / "parts", resume=True, device=cuda)
    assert np.abs(losses(tmp_path / "parts") / losses(tmp_path / "whole") - 1).max() < 1e-5
    a, b = (load_checkpoint(tmp_path / name / "checkpoints" / "last.pt").model for name in ("whole", "parts"))
    for name, weight in a.items():
        assert torch.allclose(weight, b[name], rtol=1e-4, atol=1e-6 * float(weight.abs().max()))


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "caffe_sgd"])
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_an_update_waits_for_the_device_once(cuda, tmp_path, optimizer, precision):
    changes = {"solver.optimizer": optimizer, "solver.precision": precision, "solver.lr": 1e-5}
    config = override(preset("tiny"), SMALL | changes)
    net = build("tiny", width=0.05, stages=2).to(cuda, memory_format=torch.channels_last).train()
    optimizers = build_optimizers(net, config.solver)
    step = Step(net, config, optimizers, Cores(1), Ranks(device=torch.device(cuda)), tmp_path)
    batch = Batch(
        image=torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, device=cuda),
        joints=64 * torch.rand(4, 1, 14, 2, device=cuda),
        visible=torch.ones(4, 1, 14, dtype=torch.uint8, device=cuda),
        center=64 * torch.rand(4, 2, device=cuda),
    )
    (phase,) = phases_of("end-to-end", 2)
    for iteration in range(2):  # cuDNN measures, momentum is made, the losses' weights are sent
        step(batch, iteration, phase, 1.0)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        step(batch, 2, phase, 1.0)
    waits = [str(warning.message) for warning in seen if "synchroniz" in str(warning.message)]
    assert len(waits) == 1, waits
