"""Receptive fields measured on the running module, to hold the formula in ``cost.py`` against."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cpm_repro.model.build import build
from cpm_repro.model.cost import receptive_field


def measured_receptive_field(arch: str, layers: Iterable[str], stages: int | None = None) -> dict[str, int]:
    """Side, in input pixels, of the region whose pixels move the middle cell of each layer's output.

    Measured by gradients on a copy of the network with one channel per hidden layer, positive weights and
    average instead of max pooling, where nothing can cancel and no maximum hides a pixel. Float64 keeps the
    smallest products above zero. ``layers`` are names of convolutions; ``stages``
    cuts the network short.
    """
    net = build(arch, stages=stages, parts=1, width=1e-6).double().eval()
    for name, module in list(net.named_children()):
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        elif isinstance(module, nn.MaxPool2d):
            setattr(net, name, nn.AvgPool2d(module.kernel_size, module.stride, ceil_mode=True))
    outputs: dict[str, Tensor] = {}
    wanted = list(layers)
    for name in wanted:
        net.layer(name).register_forward_hook(_keep(outputs, name))
    formula = receptive_field(net.description)
    side = 16 * (max(formula[name] for name in wanted) // 16 + 3)  # room on both sides of the middle cell
    # Kernels are square, so rows tell all; a narrow image keeps the large fields cheap.
    data = torch.ones(1, net.input_channels, side, 64, dtype=torch.float64, requires_grad=True)
    net(data)
    return {name: _extent(outputs[name], data) for name in wanted}


def _keep(outputs: dict[str, Tensor], name: str) -> object:
    """A forward hook that stores the output under ``name``."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        outputs[name] = output.clone()  # the ReLU that follows works in place

    return hook


def _extent(output: Tensor, data: Tensor) -> int:
    """Rows of the image, from first to last, that have a gradient from the middle cell of ``output``."""
    middle = output[0, 0, output.shape[2] // 2, output.shape[3] // 2]
    (gradient,) = torch.autograd.grad(middle, data, retain_graph=True)
    rows = gradient[0, :3].abs().amax(dim=(0, 2)).nonzero().flatten()
    return int(rows[-1] - rows[0]) + 1
