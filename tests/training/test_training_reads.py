"""How often an update or a batch of validation makes its host wait for the device: once."""

from functools import partial

import numpy as np
import pytest
import torch
from device_reads import Reads
from tf32_settings import tf32_allowed, tf32_flags

from cpm_repro.config import AugmentConfig, override, preset
from cpm_repro.data import Batch, TrainLoader, open_dataset, val_batches
from cpm_repro.device import float32_products, measured_convolutions
from cpm_repro.inference.decode import peaks, to_image
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import build
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.recipe import build_optimizers
from cpm_repro.training.schemes import phases_of
from cpm_repro.training.sharding import Cores
from cpm_repro.training.step import Step
from cpm_repro.training.validate import predict_dataset


def step_of(tmp_path, **solver):
    changes = {"network.width": 0.05, "augment.crop": 64, "solver.batch": 4, "solver.precision": "float32"}
    config = override(preset("tiny"), changes | {f"solver.{name}": value for name, value in solver.items()})
    net = build("tiny", width=0.05, stages=2).to(memory_format=torch.channels_last).train()
    optimizers = build_optimizers(net, config.solver)
    return Step(net, config, optimizers, Cores(1), Ranks(device=torch.device("cpu")), tmp_path)


def a_batch():
    return Batch(
        image=torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8),
        joints=64 * torch.rand(4, 1, 14, 2),
        visible=torch.ones(4, 1, 14, dtype=torch.uint8),
        center=64 * torch.rand(4, 2),
    )


def test_what_waits_is_noticed():
    value = torch.ones(2)
    with Reads() as reads:
        value.tolist()
        float(value[0])
        bool(value.isfinite().all())
        value.new_tensor([1.0])
        torch.tensor(1.0)
        torch.linalg.inv(torch.eye(2))
    assert reads.seen == [
        "Tensor.tolist", "Tensor.__float__", "Tensor.__bool__", "Tensor.new_tensor", "tensor", "linalg.inv",
    ]  # fmt: skip


def windows():
    """What the loader makes under ``augment.method=device``: the warp is left to the update."""
    people = open_dataset("synthetic", "train")
    with TrainLoader(people, AugmentConfig(crop=64, method="device"), 4, 0) as loader:
        return next(loader)


@pytest.mark.parametrize(
    ("solver", "make"),
    [
        ({"optimizer": "muon"}, a_batch),
        ({"optimizer": "adamw"}, a_batch),
        ({"optimizer": "caffe_sgd"}, a_batch),
        ({"accumulate": 2}, a_batch),
        ({"clip": 1e-3}, a_batch),
        ({}, windows),
    ],
    ids=str,
)
def test_an_update_waits_once(tmp_path, solver, make):
    step, batch = step_of(tmp_path, **solver), make()
    (phase,) = phases_of("end-to-end", 2)
    first = step(batch, 0, phase, 1.0)  # momentum and the weights of the losses are made and sent
    with Reads() as reads:
        done = step(batch, 1, phase, 1.0)
    assert reads.seen == ["Tensor.tolist"]
    assert len(done.losses) == len(first.losses) == 2
    norm = float(torch.nn.utils.get_total_norm([weight.grad for weight in step.net.parameters()]))
    assert norm == pytest.approx(solver.get("clip", done.gradient_norm), rel=1e-3)
    assert done.gradient_norm > 1e-2  # before it was clipped


def test_validation_waits_once_a_batch():
    """Three stages, five people, two at a time."""
    people, augment = open_dataset("synthetic", "val", size=5), AugmentConfig(crop=64)
    net = build("tiny", width=0.05, stages=3).eval()
    with Reads() as reads:
        found = predict_dataset(net, people, augment, Cores(1), batch=2)
    assert reads.seen.count("Tensor.cpu") == 3
    assert set(reads.seen) == {"Tensor.cpu", "Tensor.numpy"}  # of what came to the host
    items = list(val_batches(people, augment, 2))
    for stage in range(3):
        with torch.no_grad():
            inputs = [network_input(item.batch.image, item.batch.center) for item in items]
            maps = [net(data.contiguous(memory_format=torch.channels_last))[stage] for data in inputs]
        decoded = [peaks(part) for part in maps]
        pairs = zip(decoded, items, strict=True)
        moved = [to_image(xy, torch.from_numpy(item.inverse)) for (xy, _), item in pairs]
        assert np.array_equal(found.keypoints[stage], torch.cat(moved).numpy())
        assert np.array_equal(found.scores[stage], torch.cat([score for _, score in decoded]).numpy())


def test_cudnn_measures_both_passes_of_an_update(tmp_path, monkeypatch):
    """Forward and backward; the device is told that it is a GPU, and what is seen is cuDNN's setting."""
    made, seen = step_of(tmp_path), []
    layer = next(layer for layer in made.net.modules() if isinstance(layer, torch.nn.Conv2d))
    layer.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    layer.weight.register_hook(lambda _: seen.append(torch.backends.cudnn.benchmark))
    as_on_a_gpu = partial(measured_convolutions, torch.device("cuda"))
    monkeypatch.setattr("cpm_repro.training.step.measured_convolutions", lambda _: as_on_a_gpu())
    (phase,) = phases_of("end-to-end", 2)
    made(a_batch(), 0, phase, 1.0)
    assert seen == [True, True]
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("precision", "tf32"), [("float32", False), ("tf32", True), ("auto", False), ("bf16", False)]
)
def test_tf32_is_off_in_a_whole_update_unless_it_is_asked_for(tmp_path, monkeypatch, precision, tf32):
    """Forward, backward and the optimiser; the device is told that it is a GPU."""
    made, seen = step_of(tmp_path, precision=precision), []

    def look(*_, **__):
        seen.append(tf32_flags())

    layer = next(layer for layer in made.net.modules() if isinstance(layer, torch.nn.Conv2d))
    layer.register_forward_hook(look)
    layer.weight.register_hook(look)
    made.optimizers.members[0].register_step_pre_hook(look)
    as_on_a_gpu = partial(float32_products, torch.device("cuda"))
    monkeypatch.setattr("cpm_repro.training.step.float32_products", lambda _, tf32: as_on_a_gpu(tf32=tf32))
    (phase,) = phases_of("end-to-end", 2)
    with tf32_allowed(not tf32, not tf32):
        made(a_batch(), 0, phase, 1.0)
        assert seen == 3 * [(tf32, tf32)]
        assert tf32_flags() == (not tf32, not tf32)


@pytest.mark.parametrize("clip", [1e-3, 1e9])
def test_clipping_is_torchs(tmp_path, clip):
    step = step_of(tmp_path, clip=clip)
    for weight in step.net.parameters():
        weight.grad = torch.randn_like(weight)
    norm = float(step._unscaled_norm())
    wanted = [weight.detach().clone() for weight in step.net.parameters()]
    for other, weight in zip(wanted, step.net.parameters(), strict=True):
        other.grad = weight.grad.clone()
    torch.nn.utils.clip_grad_norm_(wanted, clip)
    step._clip(norm)
    for other, weight in zip(wanted, step.net.parameters(), strict=True):
        assert torch.allclose(weight.grad, other.grad, rtol=1e-5, atol=0)


def test_the_losses_weights_follow_the_phase_and_the_scale(tmp_path):
    """They are sent when they change, and only then."""
    step, batch = step_of(tmp_path), a_batch()
    (every,), (last,) = phases_of("end-to-end", 2), phases_of("last-stage-loss", 2)
    assert step._weights(every).tolist() == [1.0, 1.0]
    assert step._weights(every) is step._weights(every)
    assert step._weights(last).tolist() == [0.0, 1.0]
    step.scale.value = 8.0
    assert step._weights(every).tolist() == [8.0, 8.0]
    step(batch, 0, last, 0.0)
    assert step.weights.tolist() == [0.0, 8.0]
