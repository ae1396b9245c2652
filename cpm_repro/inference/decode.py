"""From belief maps to joint positions: enlarge, take the maximum of each part."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor


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
    parts = maps[:, :-1].float()
    large = functional.interpolate(parts, scale_factor=float(stride), mode="bicubic", align_corners=False)
    score, index = large.flatten(2).max(dim=2)
    width = large.shape[-1]
    xy = torch.stack((index % width, index // width), dim=-1).float()
    return xy, score


def to_image(xy: Tensor, crop_to_image: Tensor) -> Tensor:
    """Crop pixels to image pixels: (N, K, 2) through (N, 2, 3) affine matrices, in float64."""
    matrix = crop_to_image.double()
    return torch.einsum("nij,nkj->nki", matrix[:, :, :2], xy.double()) + matrix[:, None, :, 2]
