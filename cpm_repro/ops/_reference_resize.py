"""MATLAB's imresize and the multi-scale chain in plain torch float64, one step after the other.

Derived from the specification on its own (spec `inference.md`); shares no code with csrc/. Letters: S scales,
C channels, h w cells, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def cubic(x: torch.Tensor, a: float = -0.5) -> torch.Tensor:
    """Keys' cubic convolution kernel."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def taps(length: int, wanted: int, scale: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices and weights, (wanted, taps) each, of MATLAB's bicubic resampling of one axis."""
    stretch = min(scale, 1.0)  # shrinking widens the kernel: antialiasing
    width = 4 / stretch
    count = math.ceil(width) + 2
    position = torch.arange(1, wanted + 1, dtype=torch.float64, device=device) / scale + 0.5 * (1 - 1 / scale)
    index = torch.floor(position - width / 2)[:, None] + torch.arange(count, device=device)
    weights = stretch * cubic(stretch * (position[:, None] - index))
    weights = weights / weights.sum(1, keepdim=True)
    mirrored = torch.remainder(index.long() - 1, 2 * length)
    return torch.where(mirrored < length, mirrored, 2 * length - 1 - mirrored), weights


def resize_axis(x: torch.Tensor, axis: int, wanted: int, scale: float) -> torch.Tensor:
    """Resample one axis of a float64 tensor."""
    index, weights = taps(x.shape[axis], wanted, scale, x.device)
    shape = [1] * x.ndim
    shape[axis] = wanted
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for tap in range(index.shape[1]):
        total = total + x.index_select(axis, index[:, tap]) * weights[:, tap].view(shape)
    return total


def imresize(x: torch.Tensor, size: tuple[int, int], scales: tuple[float, float]) -> torch.Tensor:
    """(H, W, ...) -> (size..., ...), same dtype; uint8 is rounded and clipped after each axis."""
    result = x.double()
    for axis in sorted((0, 1), key=lambda a: scales[a]):  # smaller scale first, rows first when equal
        result = resize_axis(result, axis, size[axis], scales[axis])
        if x.dtype == torch.uint8:
            result = torch.round(result).clamp(0, 255)  # half to even, as the golden arrays
    return result.to(x.dtype)


def fuse_multiscale(
    maps: torch.Tensor,
    pads: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[int]],
    image: tuple[int, int],
    stride: int,
    weights: Sequence[float],
    background: bool,
) -> torch.Tensor:
    """The release's chain, per scale: enlarge by the stride, undo the padding, resize to the image; mean."""
    total = torch.zeros((maps.shape[1], *image), dtype=torch.float64, device=maps.device)
    for belief, (up, left, _, _), size, weight in zip(maps.double(), pads, sizes, weights, strict=True):
        for axis in (1, 2):
            belief = resize_axis(belief, axis, belief.shape[axis] * stride, float(stride))
        whole = torch.zeros((maps.shape[1], *size), dtype=torch.float64, device=maps.device)
        if background:
            whole[-1:] = 1.0
        rows = _overlap(size[0], up, belief.shape[1])
        columns = _overlap(size[1], left, belief.shape[2])
        if len(rows) and len(columns):
            inside = belief[:, rows.start + up : rows.stop + up, columns.start + left : columns.stop + left]
            whole[:, rows.start : rows.stop, columns.start : columns.stop] = inside
        for axis in (1, 2):
            whole = resize_axis(whole, axis, image[axis - 1], image[axis - 1] / size[axis - 1])
        total += weight * whole
    return total.float()


def _overlap(length: int, offset: int, box: int) -> range:
    """Pixels of an axis of the scaled image that lie inside the padded box."""
    start, stop = max(0, -offset), min(length, box - offset)
    return range(start, max(start, stop))


def fuse_opencv(
    maps: torch.Tensor,
    pads: Sequence[Sequence[int]],
    sizes: Sequence[Sequence[int]],
    image: tuple[int, int],
    stride: int,
    weights: Sequence[float],
    background: bool,
) -> torch.Tensor:
    """One cubic step (a = -0.75, edges repeated, no antialiasing) from the cells to the image, per scale."""
    total = torch.zeros((maps.shape[1], *image), dtype=torch.float64, device=maps.device)
    for belief, (up, left, _, _), size, weight in zip(maps.double(), pads, sizes, weights, strict=True):
        tall, rows = _opencv_axis(belief, 1, image[0], size[0], up, stride)
        whole, columns = _opencv_axis(tall, 2, image[1], size[1], left, stride)
        inside = rows[:, None] & columns
        empty = torch.zeros_like(whole)
        if background:
            empty[-1:] = 1.0
        total += weight * torch.where(inside, whole, empty)
    return total.float()


def _opencv_axis(
    x: torch.Tensor, axis: int, wanted: int, scaled: int, offset: int, stride: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample cells of one axis at the image's pixels; and (wanted,) bool, which lie over the cells.

    The scaled image has ``scaled`` pixels, before which ``offset`` were put.
    """
    cells = x.shape[axis]
    pixels = torch.arange(wanted, dtype=torch.float64, device=x.device) + 0.5
    at = (pixels * scaled / wanted + offset) / stride  # in cells, 0 at the box's border
    index = torch.floor(at - 0.5)[:, None] + torch.arange(-1, 3, device=x.device)
    weights = cubic(at[:, None] - 0.5 - index, -0.75)
    index = index.long().clamp(0, cells - 1)
    shape = [1, 1, 1]
    shape[axis] = wanted
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for tap in range(4):
        total = total + x.index_select(axis, index[:, tap]) * weights[:, tap].view(shape)
    return total, (at >= 0) & (at <= cells)


def first_peaks(maps: torch.Tensor, row_major: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, H, W) -> (C, 2) long x, y of the first maximum and (C,) its value.

    A NaN is never the maximum; of nothing but NaN it is minus infinity at pixel 0.
    """
    height, width = maps.shape[1:]
    values = (maps if row_major else maps.transpose(1, 2)).flatten(1)
    score = values.masked_fill(values.isnan(), -math.inf).amax(1)
    index = (values == score[:, None]).byte().argmax(1)  # the first; 0 if there is none
    x, y = (index % width, index // width) if row_major else (index // height, index % height)
    return torch.stack((x, y), 1), score


def peaks(maps: torch.Tensor, row_major: bool, subpixel: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(C, H, W) -> (C, 2) float32 x, y of the first maximum, refined or not, and (C,) its value."""
    place, score = first_peaks(maps, row_major)
    xy = place.float()
    if subpixel:
        for channel, (x, y) in enumerate(place.tolist()):
            xy[channel, 0] += _top(maps[channel, y], x)
            xy[channel, 1] += _top(maps[channel, :, x], y)
    return xy, score


def _top(line: torch.Tensor, at: int) -> float:
    """Where the parabola through a maximum and its two neighbours is highest, from the maximum."""
    if at == 0 or at == line.numel() - 1:
        return 0.0
    before, here, after = line[at - 1 : at + 2].double().tolist()
    bend = before - 2 * here + after
    return max(-0.5, min(0.5, (before - after) / (2 * bend))) if bend < 0 else 0.0
