"""Measurements of the networks: numbers of their descriptions, and of modules that are really run."""

from __future__ import annotations

import math

import numpy as np
import torch

from cpm_repro.bench.case import largest
from cpm_repro.checklist.context import Context
from cpm_repro.errors import UserError
from cpm_repro.model import (
    Layer,
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


def maps(_: Context, arch: str) -> float | list[float]:
    """Channels of every stage's output of a network that is run: one number if they agree."""
    return _alike([float(stage.shape[1]) for stage in _run_narrow(arch, 96, 96)])


def grid(_: Context, archs: list[str], height: int, width: int) -> list[float]:
    """Height and width of the belief maps of networks that are run on an input of that size, each once."""
    sizes = dict.fromkeys(tuple(_run_narrow(arch, height, width)[-1].shape[2:]) for arch in archs)
    return [float(side) for size in sizes for side in size]


def parameters(_: Context, arch: str) -> float:
    """Millions of weights and biases, counted on the module."""
    with torch.device("meta"):
        net = build(arch)
    return sum(parameter.numel() for parameter in net.parameters()) / 1e6


def multiply_adds(_: Context, arch: str) -> float:
    """Thousands of millions of multiply-adds at the released input size."""
    return multiply_accumulates(describe(arch)) / 1e9


def accepted_sizes(_: Context, archs: list[str]) -> list[float]:
    """Which square inputs of 96..111 px go through networks: each once, if all agree."""
    accepted = dict.fromkeys(
        tuple(float(size) for size in range(96, 112) if _accepts(arch, size)) for arch in archs
    )
    return [size for sizes in accepted for size in sizes]


def inputs_of(_: Context, arch: str, layers: list[str]) -> list[str]:
    """Names of the blobs that layers read, in order, each once."""
    net = describe(arch)
    return list(dict.fromkeys(blob for layer in layers for blob in net.layer(layer).bottom))


def theoretical_field(_: Context, arch: str, layers: list[str], pool: int | None = None) -> list[float]:
    """Receptive fields by the formula, px; ``pool`` changes the kernel of the max pools."""
    fields = receptive_field(describe(arch), pool)
    return [fields[layer] for layer in layers]


def refinement_field(_: Context, arch: str, stages: list[int]) -> float | list[float]:
    """Receptive field of refinement stages on their own grid, cells: one number if they agree."""
    fields = []
    for stage in stages:
        kernels = [
            layer.kernel_size or 1 for layer in _convolutions(arch, stage) if layer.name.startswith("Mconv")
        ]
        fields.append(1.0 + sum(kernel - 1 for kernel in kernels))
    return _alike(fields)


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
    golden = context.golden_file(file)
    blobs = golden.words("belief_blobs", net.stages)
    _fill(net, int(golden.array("seed")))
    differences = []
    for case in (0, 1):
        data = golden.array(f"case{case}_input", "images", net.input_channels, "rows", "columns")
        try:
            with torch.no_grad():
                stages = net(torch.from_numpy(data))
        except ValueError as error:  # a size that this network does not take
            raise UserError(f"{golden.path}: case{case}_input is not {arch}'s: {error}") from error
        for stage, blob in zip(stages, blobs, strict=True):
            wanted = golden.array(f"case{case}_belief_{blob}", *stage.shape)
            differences.append(float(np.abs(stage.numpy() - wanted).max()))
    return largest(differences)


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


def filler(_: Context, archs: list[str]) -> list[float]:
    """Standard deviations of the Gaussians of convolutions' initial weights; NaN for any other beginning."""
    fillers = {layer.weight_filler for arch in archs for layer in describe(arch).convolutions}
    gaussian = [filler.std for filler in fillers if filler is not None and filler.type == "gaussian"]
    return [float(std) if std is not None else math.nan for std in gaussian] + [math.nan] * (
        len(fillers) - len(gaussian)
    )


def multipliers(_: Context, arch: str, stages: list[int]) -> list[float]:
    """lr_mult of weight and bias, decay_mult of weight and bias: of all convolutions of stages, each once."""
    found = dict.fromkeys(
        (*(layer.lr_mult or ()), *(layer.decay_mult or ()))
        for stage in stages
        for layer in _convolutions(arch, stage)
    )
    return [number for numbers in found for number in numbers]


def _accepts(arch: str, size: int) -> bool:
    """Whether a square input of so many px goes through."""
    try:
        output_sizes(describe(arch), size, size)
    except ValueError:
        return False
    return True


def _alike(values: list[float]) -> float | list[float]:
    """The value that all agree on, else all of them, which no claim of one value is met by."""
    return values[0] if len(set(values)) == 1 else values


def _convolutions(arch: str, stage: int) -> list[Layer]:
    """Convolutions of a stage, by their names; those that name none are stage 1's, the VGG features too."""
    return [
        layer for layer in describe(arch).convolutions if int(layer.name.partition("_stage")[2] or 1) == stage
    ]


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
