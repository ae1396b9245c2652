"""From belief maps to joint positions: enlarge, average over views, take the maximum of each part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from cpm_repro.errors import UserError

_CUBIC_A = -0.75
"""PyTorch's and OpenCV's cubic; MATLAB's (-0.5) belongs to the release's procedure in `ops`."""


def peaks(maps: Tensor, stride: int = 8) -> tuple[Tensor, Tensor]:
    """Position and height of each part's highest belief, on maps enlarged to crop pixels.

    Bicubic enlargement by the stride (PyTorch's cubic, a = -0.75, no antialiasing), half-pixel centres, so
    that grid cell g sits at crop pixel (g + 0.5) * stride - 0.5, as the targets do. The release's own test
    procedure uses MATLAB's resize instead; that is :func:`cpm_repro.ops.fuse_multiscale_peaks`.

    Args:
        maps: (N, K+1, h, w) float, belief maps of one stage with the background last.
        stride: crop pixels per cell.

    Returns:
        xy (N, K, 2) float32, 0-based crop pixels (first maximum in row-major order), and score (N, K).
    """
    return highest(enlarge(maps[:, :-1], stride))


def highest(large: Tensor) -> tuple[Tensor, Tensor]:
    """xy (N, K, 2) float32 and height (N, K) of the first maximum, row by row, of each map (N, K, H, W)."""
    score, index = large.flatten(2).max(dim=2)
    width = large.shape[-1]
    return torch.stack((index % width, index // width), dim=-1).float(), score


def check_finite(beliefs: np.ndarray, whose: str) -> None:
    """Refuse beliefs that no picture has anything to do with.

    Args:
        beliefs: any shape; the highest of each map will do, for a NaN is above all.
        whose: the weights, or the network.

    Raises:
        UserError: one of them is not finite.
    """
    if not np.isfinite(beliefs).all():
        raise UserError(
            f"{whose}: wanted weights whose beliefs are finite numbers, got an overflow, as after a run that "
            "diverged"
        )


def average_views(maps: Tensor, zooms: Sequence[float], stride: int = 8) -> Tensor:
    """Mean belief of several views of the same people, in the pixels of the crop at zoom 1.

    Where a view does not reach, it says 0 for the parts and 1 for the background, as the release's
    procedure does.

    Args:
        maps: (N, V, K+1, h, w) float, background last; view v was seen at ``zooms[v]``.
        zooms: one per view, see :func:`enlarge`.
        stride: crop pixels per cell.

    Returns:
        (N, K+1, h * stride, w * stride) float32.
    """
    total = enlarge(maps[:, 0], stride, zooms[0])
    for view, zoom in enumerate(zooms[1:], start=1):
        total += enlarge(maps[:, view], stride, zoom)
    height, width = maps.shape[-2:]
    for zoom in zooms:
        if zoom > 1:
            rows, columns = (_weights(cells, stride, zoom).sum(1).round() for cells in (height, width))
            total[:, -1] += 1 - torch.outer(rows, columns).to(total.device)
    return total / len(zooms)


def enlarge(maps: Tensor, stride: int = 8, zoom: float = 1.0) -> Tensor:
    """Cubic enlargement (N, C, h, w) -> (N, C, h * stride, w * stride) float32; see :func:`peaks`.

    A view at zoom z shows the person z times as large about the crop's middle; the result is in the pixels
    of the crop at zoom 1, and 0 where the view does not reach.
    """
    maps = maps.float()
    if zoom == 1:
        return functional.interpolate(maps, scale_factor=float(stride), mode="bicubic", align_corners=False)
    rows, columns = (_weights(cells, stride, zoom).to(maps.device) for cells in maps.shape[-2:])
    return rows @ maps @ columns.T


def sub_pixel(large: Tensor, xy: Tensor, step: int = 8) -> Tensor:
    """Move each peak to the top of a parabola through the logarithms of its neighbours.

    The logarithm of a Gaussian is a parabola, so that the top is found exactly on clean belief maps. The
    neighbours are one cell away: closer ones only repeat the enlargement's interpolation.

    Args:
        large: (N, K, H, W) float. xy: (N, K, 2), whole pixels, from :func:`highest`.
        step: distance of the neighbours, pixels.

    Returns:
        (N, K, 2) float32; a coordinate moves by at most half a step, and not at all at the border or where
        the three values are no peak.
    """
    height, width = large.shape[-2:]
    x, y = xy.long().unbind(-1)
    moved = []
    for along, size in ((0, width), (1, height)):
        at = (x, y)[along]
        values = []
        for offset in (-step, 0, step):
            place = (at + offset).clamp(0, size - 1)
            column, row = (place, y) if along == 0 else (x, place)
            values.append(large.flatten(2).gather(2, (row * width + column)[..., None])[..., 0])
        usable = (torch.stack(values).amin(0) > 0) & (at >= step) & (at < size - step)
        left, middle, right = (value.clamp_min(1e-12).log() for value in values)
        bend = 2 * middle - left - right
        shift = (0.5 * step * (right - left) / bend.clamp_min(1e-12)).clamp(-step / 2, step / 2)
        moved.append(at + torch.where(usable & (bend > 0), shift, torch.zeros_like(shift)))
    return torch.stack(moved, dim=-1)


def to_image(xy: Tensor, crop_to_image: Tensor) -> Tensor:
    """Crop pixels to image pixels: (N, K, 2) through (N, 2, 3) affine matrices, in float64."""
    matrix = crop_to_image.double()
    return torch.einsum("nij,nkj->nki", matrix[:, :, :2], xy.double()) + matrix[:, None, :, 2]


@lru_cache(maxsize=64)
def _weights(cells: int, stride: int, zoom: float) -> Tensor:
    """(cells * stride, cells): cubic weights of every crop pixel of zoom 1 on the cells of a zoomed view.

    Cells beyond the border are the border's; a pixel that the view does not show has no weights.
    """
    size = cells * stride
    middle = (size - 1) / 2
    seen = middle + zoom * (torch.arange(size, dtype=torch.float64, device="cpu") - middle)
    at = (seen + 0.5) / stride - 0.5
    first = at.floor().long() - 1
    weights = torch.zeros(size, cells, dtype=torch.float64, device="cpu")
    for tap in range(4):
        cell = first + tap
        weights.scatter_add_(1, cell.clamp(0, cells - 1)[:, None], _cubic(at - cell)[:, None])
    weights[(seen < -0.5) | (seen > size - 0.5)] = 0
    return weights.float()


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel."""
    d, a = distance.abs(), _CUBIC_A
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
