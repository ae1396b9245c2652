"""What the inference benchmarks share: a network with weights, its peers, and how far apart results are."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import cpm_repro as cpm
from cpm_repro.caffe.generate import deploy_text
from cpm_repro.device import float32_products
from cpm_repro.inference.fast_convolution import FastConv2d, fast_convolutions
from cpm_repro.inference.tile_cost import TileShape
from cpm_repro.model import PoseMachine

Forward = Callable[[Tensor], Tensor]
"""Input blob to the last stage's maps."""

INPUTS = 2
"""Different inputs of one shape, used in turn."""


def filled(arch: str, stages: int | None = None) -> PoseMachine:
    """A network whose weights keep every layer's outputs of order 1, so that an error anywhere shows."""
    net = cpm.build(arch, stages=stages).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for weight in net.parameters():
        std = (2 / weight[0].numel()) ** 0.5 if weight.dim() == 4 else 0.05
        nn.init.normal_(weight, std=std, generator=generator)
    return net


def blobs(shape: tuple[int, ...], device: str = "cpu") -> list[Tensor]:
    """Input blobs of order 1/2, as images are."""
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(shape, generator=generator) - 0.5).to(device) for _ in range(INPUTS)]


def ours(net: PoseMachine) -> PoseMachine:
    """A copy as the estimator runs it: channels last, large convolutions through tiles on a CPU."""
    return fast_convolutions(copy.deepcopy(net)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def last_stage(net: PoseMachine, layout: torch.memory_format, stages: int | None = None) -> Forward:
    """Its forward pass, layout conversion of the input included.

    Without gradients, and not in inference mode, which torch.compile cannot trace through.
    """

    @torch.no_grad()
    def forward(data: Tensor) -> Tensor:
        return net(data.contiguous(memory_format=layout), stages=stages)[-1]

    return forward


def opencv(net: PoseMachine) -> Forward:
    """OpenCV's dnn module on our prototxt and caffemodel of the network."""
    weights = {
        layer.name: [array.numpy() for array in net.layer(layer.name).parameters()]
        for layer in net.description.convolutions
    }
    with tempfile.TemporaryDirectory() as folder:
        deploy, model = Path(folder, "deploy.prototxt"), Path(folder, "x.caffemodel")
        deploy.write_text(deploy_text(net.description))
        cpm.caffe.write_caffemodel(model, weights)
        other = cv2.dnn.readNetFromCaffe(str(deploy), str(model))

    def forward(data: Tensor) -> Tensor:
        other.setInput(data.numpy())
        return torch.from_numpy(np.asarray(other.forward(net.output_layers[-1])))

    return forward


def apart(got: Tensor, want: Tensor) -> float:
    """Largest difference as a share of ``want``'s range."""
    return float((got.float() - want).abs().max() / (want.max() - want.min()))


def without_tf32(check: Callable[[], float], device: str) -> Callable[[], float]:
    """``check`` with TF32 off on a GPU.

    PyTorch allows it in convolutions, and the order in which products are summed then moves the maps of six
    stages by 7e-4 of their range (in rounding to TF32 on a CPU): nothing less could be told from a mistake.
    """

    def checked() -> float:
        with float32_products(torch.device(device), tf32=False):
            return check()

    return checked


def tf32_notes(device: str) -> tuple[str, ...]:
    """What a GPU's report says of it."""
    if device != "cuda":
        return ()
    return (
        "Results were compared with TF32 off; float32 was timed as PyTorch has it: convolutions in TF32.",
    )


def tiled_operations(net: PoseMachine, data: Tensor) -> tuple[float, list[str]]:
    """Operations of a forward pass as it is computed, and the layers that go through tiles."""
    total, tiled = 0.0, []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        (blob,) = inputs
        tile = module.tile(blob) if isinstance(module, FastConv2d) else None
        if tile is None:
            total += 2.0 * output.numel() * module.weight[0].numel()
            return
        n, channels, height, width = blob.shape
        shape = TileShape(n, channels, output.shape[1], height, width, module.kernel_size[0], tile)
        tiled.append(f"{names[module]} {tile}")
        total += 2.0 * (
            shape.products * shape.tiles * channels * output.shape[1] + shape.transform_operations
        )

    names = {module: name for name, module in net.named_modules()}
    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        net(data)
    for hook in hooks:
        hook.remove()
    return total, tiled
