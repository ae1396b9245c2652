"""Receptive fields measured on the running module, to hold the formula in ``cost.py`` against."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cpm_repro.model.build import build
from cpm_repro.model.cost import receptive_field
from cpm_repro.model.pose_machine import PoseMachine

_NARROW = 16
"""Pixels of the side that is not being measured."""


def measured_receptive_field(
    arch: str,
    layers: Iterable[str] | None = None,
    stages: int | None = None,
    max_pool_kernel: int | None = None,
    *,
    features: str | None = None,
    refine: str | None = None,
) -> dict[str, tuple[int, int]]:
    """Height and width, in input pixels, of the region whose pixels move one cell of each layer's output.

    Measured as the support of the middle cell's gradient on a copy of the network with one channel per
    hidden layer, positive weights and average instead of max pooling, where nothing can cancel and no
    maximum hides a pixel. Float64 keeps the smallest products above zero. A gradient is a product of rows and
    columns here, so a tall narrow image tells the height and a wide low one the width, cheaply.

    Args:
        arch: as in :func:`cpm_repro.model.build`.
        layers: names of convolutions; None: all of them.
        stages: cuts the network short.
        max_pool_kernel: kernel of the max pools instead of the network's own.
        features, refine: kernels as in :func:`cpm_repro.model.describe`.
    """
    net = build(arch, stages=stages, parts=1, width=1e-6, features=features, refine=refine).double().eval()
    _make_positive(net, max_pool_kernel)
    formula = receptive_field(net.description, max_pool_kernel)
    wanted = list(formula) if layers is None else list(layers)
    outputs: dict[str, Tensor] = {}
    for name in wanted:
        net.layer(name).register_forward_hook(_keep(outputs, name))
    side = 16 * (max(formula[name] for name in wanted) // 16 + 3)  # room on both sides of the middle cell
    heights = _extents(net, outputs, wanted, side, _NARROW)
    widths = _extents(net, outputs, wanted, _NARROW, side)
    return {name: (heights[name][0], widths[name][1]) for name in wanted}


def _make_positive(net: PoseMachine, max_pool_kernel: int | None) -> None:
    for name, module in list(net.named_children()):
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        elif isinstance(module, nn.MaxPool2d):
            kernel = max_pool_kernel or module.kernel_size
            setattr(net, name, nn.AvgPool2d(kernel, module.stride, ceil_mode=True))


def _keep(outputs: dict[str, Tensor], name: str) -> object:
    """A forward hook that stores the output under ``name``."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        outputs[name] = output.clone()  # the ReLU that follows works in place

    return hook


def _extents(
    net: PoseMachine, outputs: dict[str, Tensor], wanted: list[str], height: int, width: int
) -> dict[str, tuple[int, int]]:
    """Rows and columns of an image of that size that have a gradient from each layer's middle cell."""
    data = torch.ones(1, net.input_channels, height, width, dtype=torch.float64, requires_grad=True)
    net(data)
    return {name: _extent(outputs[name], data) for name in wanted}


def _extent(output: Tensor, data: Tensor) -> tuple[int, int]:
    middle = output[0, 0, output.shape[2] // 2, output.shape[3] // 2]
    (gradient,) = torch.autograd.grad(middle, data, retain_graph=True)
    moved = gradient[0, :3].abs().amax(dim=0)
    rows, columns = (moved.amax(dim=axis).nonzero().flatten() for axis in (1, 0))
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
