"""Measurements of the networks: numbers of their descriptions, and of modules that are really run."""

from __future__ import annotations

import math

import numpy as np
import torch

from cpm_repro.checklist.context import Context
from cpm_repro.model import (
    PoseMachine,
    build,
    describe,
    describe_training,
    measured_receptive_field,
    multiply_accumulates,
    output_sizes,
    receptive_field,
)


def stages(_: Context, arch: str) -> float:
    """Stages of a network that is run: how many belief maps come out."""
    return len(_run_narrow(arch, 96, 96))


def maps(_: Context, arch: str) -> float:
    """Channels of the last stage's output of a network that is run."""
    return _run_narrow(arch, 96, 96)[-1].shape[1]


def grid(_: Context, arch: str, height: int, width: int) -> list[float]:
    """Height and width of the belief maps of a network that is run on an input of that size."""
    return list(_run_narrow(arch, height, width)[-1].shape[2:])


def parameters(_: Context, arch: str) -> float:
    """Millions of weights and biases, counted on the module."""
    with torch.device("meta"):
        net = build(arch)
    return sum(parameter.numel() for parameter in net.parameters()) / 1e6


def multiply_adds(_: Context, arch: str) -> float:
    """Thousands of millions of multiply-adds at the released input size."""
    return multiply_accumulates(describe(arch)) / 1e9


def accepted_sizes(_: Context, arch: str) -> list[float]:
    """Which square inputs of 96..111 px go through."""
    accepted = []
    for size in range(96, 112):
        try:
            output_sizes(describe(arch), size, size)
        except ValueError:
            continue
        accepted.append(float(size))
    return accepted


def inputs_of(_: Context, arch: str, layer: str) -> list[str]:
    """Names of the blobs a layer reads, in order."""
    return list(describe(arch).layer(layer).bottom)


def theoretical_field(_: Context, arch: str, layers: list[str], pool: int | None = None) -> list[float]:
    """Receptive fields by the formula, px; ``pool`` changes the kernel of the max pools."""
    fields = receptive_field(describe(arch), pool)
    return [fields[layer] for layer in layers]


def refinement_field(_: Context, arch: str, stage: int) -> float:
    """Receptive field of one refinement stage on its own grid, cells."""
    prefix, suffix = "Mconv", f"_stage{stage}"
    kernels = [
        layer.kernel_size or 1
        for layer in describe(arch).convolutions
        if layer.name.startswith(prefix) and layer.name.endswith(suffix)
    ]
    return 1 + sum(kernel - 1 for kernel in kernels)


def measured_field(_: Context, arch: str, layers: list[str], pool: int | None = None) -> list[float]:
    """Receptive fields as the support of one cell's gradient on the image, px; ``pool`` as above."""
    fields = measured_receptive_field(arch, layers, stages=2, max_pool_kernel=pool)
    heights = [float(fields[layer][0]) for layer in layers]
    if heights != [fields[layer][1] for layer in layers]:
        raise ArithmeticError(f"{arch}: the measured fields are not square: {fields}")
    return heights


def forward_difference(context: Context, arch: str, file: str) -> float:
    """Largest difference of any stage's maps from the original Caffe's, on its golden inputs and weights."""
    net = build(arch).eval()
    with np.load(context.path(f"golden/{file}"), allow_pickle=False) as golden:
        _fill(net, int(golden["seed"]))
        worst = 0.0
        for case in (0, 1):
            with torch.no_grad():
                stages = net(torch.from_numpy(golden[f"case{case}_input"]))
            for stage, blob in zip(stages, golden["belief_blobs"], strict=True):
                wanted = golden[f"case{case}_belief_{blob}"]
                worst = max(worst, float(np.abs(stage.numpy() - wanted).max()))
    return worst


def dropout(_: Context, arch: str) -> list[str]:
    """Which blobs the training network drops out, and by how much."""
    return [
        f"{layer.bottom[0]} {layer.dropout_ratio:g}"
        for layer in describe_training(arch)
        if layer.type == "Dropout"
    ]


def losses(_: Context, arch: str) -> list[str]:
    """What each stage's loss compares with."""
    return [layer.bottom[1] for layer in describe_training(arch) if layer.type == "EuclideanLoss"]


def filler(_: Context, arch: str) -> list[float]:
    """Standard deviations in use for convolutions' initial weights."""
    found = {layer.weight_filler.std for layer in describe(arch).convolutions if layer.weight_filler}
    return sorted(float(std) for std in found if std is not None)


def multipliers(_: Context, arch: str, layer: str) -> list[float]:
    """lr_mult of weight and bias, decay_mult of weight and bias."""
    described = describe(arch).layer(layer)
    return [*(described.lr_mult or ()), *(described.decay_mult or ())]


def _run_narrow(arch: str, height: int, width: int) -> list[torch.Tensor]:
    """Belief maps of a network one channel wide: its structure at little cost."""
    net = build(arch, width=1e-6).eval()
    with torch.no_grad():
        return list(net(torch.zeros(1, net.input_channels, height, width)))


def _fill(net: PoseMachine, seed: int) -> None:
    """The golden files' own rule for weights, layer by layer in prototxt order."""
    for index, layer in enumerate(net.description.convolutions):
        module = net.layer(layer.name)
        rng = np.random.RandomState(1000 + index + seed * 100000)  # the legacy generator is the rule
        shape = tuple(module.weight.shape)
        weight = rng.randn(*shape) * math.sqrt(2 / math.prod(shape[1:]))
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
            module.bias.copy_(torch.from_numpy((rng.randn(shape[0]) * 0.05).astype(np.float32)))
