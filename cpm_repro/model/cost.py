"""What follows from a description alone: blob sizes, parameter counts, multiply-adds and receptive fields."""

from __future__ import annotations

import math

from cpm_repro.model.caffe_layers import pooled_size
from cpm_repro.model.description import Layer, NetDescription


def output_sizes(
    description: NetDescription, height: int | None = None, width: int | None = None
) -> dict[str, tuple[int, int, int]]:
    """(channels, height, width) of every blob for ``height`` x ``width`` input pixels (None: as released).

    Raises:
        ValueError: an input of that size does not go through the network: something pools to nothing, or the
        bottoms of a Concat differ in size (layer and sizes are named).
    """
    channels = description.channels()
    released = description.input_shape[2:]
    start = (height or released[0], width or released[1])
    grids: dict[str, tuple[int, int]] = {description.input_blob: start}
    for layer in description:
        if layer.type == "EuclideanLoss" or layer.bottom == ("label",):
            continue  # a loss has no grid, and a label's is the belief maps'
        grid = _output_grid(layer, [grids[blob] for blob in layer.bottom])
        for blob in layer.top:
            grids[blob] = grid
    return {blob: (channels[blob], *grid) for blob, grid in grids.items()}


def _output_grid(layer: Layer, bottoms: list[tuple[int, int]]) -> tuple[int, int]:
    """(height, width) of a layer's tops from its bottoms'."""
    height, width = bottoms[0]
    if layer.type == "Concat" and len(set(bottoms)) > 1:
        sizes = ", ".join(f"{blob} {h}x{w}" for blob, (h, w) in zip(layer.bottom, bottoms, strict=True))
        raise ValueError(f"{layer.name}: wanted bottoms of one size, got {sizes}")
    if layer.type == "Pooling":
        assert layer.kernel_size is not None
        assert layer.stride is not None
        kernel, stride, pad = layer.kernel_size, layer.stride, layer.pad or 0
        height, width = pooled_size(height, kernel, stride, pad), pooled_size(width, kernel, stride, pad)
        if min(height, width) < 1:
            raise ValueError(f"{layer.name}: nothing is left of {layer.bottom[0]}, which is {bottoms[0]}")
    if layer.type == "Convolution":
        assert layer.kernel_size is not None
        assert layer.pad is not None
        grown = 2 * layer.pad - layer.kernel_size + 1
        height, width = height + grown, width + grown
    return height, width


def parameter_count(description: NetDescription) -> int:
    """Number of weights and biases."""
    return sum(math.prod(shape) for shape in description.parameter_shapes().values())


def multiply_accumulates(
    description: NetDescription,
    height: int | None = None,
    width: int | None = None,
    stages: int | None = None,
) -> int:
    """Multiply-adds of all convolutions for one input of ``height`` x ``width`` pixels (None: as released).

    Counted as if there were no padding to skip and without biases; ``stages`` counts an early exit.
    """
    sizes = output_sizes(description, height, width)
    weights = description.parameter_shapes()
    total = 0
    for layer in _until_stage(description, stages):
        _, h, w = sizes[layer.top[0]]
        total += math.prod(weights[f"{layer.name}.weight"]) * h * w
    return total


def training_operations(
    description: NetDescription, height: int | None = None, width: int | None = None
) -> int:
    """Floating-point operations of all convolutions, forward and backward, for one input.

    A multiply-add is two of them. The backward pass makes the weights' gradient and that of what a
    convolution read, each as much work as the forward pass; that of the picture itself nobody asks for.
    """
    sizes, weights = output_sizes(description, height, width), description.parameter_shapes()
    readers = description.image_convolutions
    spared = sum(
        math.prod(weights[f"{layer.name}.weight"]) * math.prod(sizes[layer.top[0]][1:]) for layer in readers
    )
    return 6 * multiply_accumulates(description, height, width) - 2 * spared


def _until_stage(description: NetDescription, stages: int | None) -> list[Layer]:
    """The convolutions that the first ``stages`` stages need."""
    if stages is None:
        return list(description.convolutions)
    if not 1 <= stages <= description.stages:
        raise ValueError(f"stages: wanted 1..{description.stages}, got {stages}")
    last = description.belief_blobs[stages - 1]
    convolutions = list(description.convolutions)
    return convolutions[: 1 + next(i for i, layer in enumerate(convolutions) if layer.name == last)]


def receptive_field(description: NetDescription, max_pool_kernel: int | None = None) -> dict[str, int]:
    """Side, in input pixels, of the square that one cell of each convolution's output depends on.

    A window of k cells over blobs whose cells lie s pixels apart adds (k - 1) s; a concatenation sees what
    its widest bottom sees. The released networks give 9, 27, 63, 103, 167 in stage 1 and 407 in stage 2;
    with ``max_pool_kernel=2`` the same rule gives the paper's 9, 26, 60, 96, 160 and 240, 320, 400 (its
    figure 2), so the paper's numbers assume 2x2 pooling.
    """
    fields: dict[str, tuple[int, int]] = {description.input_blob: (1, 1)}  # blob -> (field, step), pixels
    for layer in description:
        if layer.type == "EuclideanLoss" or layer.bottom == ("label",):
            continue
        field = max(fields[blob][0] for blob in layer.bottom)
        step = max(fields[blob][1] for blob in layer.bottom)
        kernel = layer.kernel_size or 1
        if layer.pool == "MAX" and max_pool_kernel is not None:
            kernel = max_pool_kernel
        for blob in layer.top:
            fields[blob] = (field + (kernel - 1) * step, step * (layer.stride or 1))
    return {layer.name: fields[layer.top[0]][0] for layer in description.convolutions}
