"""From pixels to what a pose machine reads: BGR around zero, with the centre map as the fourth channel."""

from __future__ import annotations

import torch
from torch import Tensor

from cpm_repro import ops
from cpm_repro.config import center_sigma


def network_input(
    image: Tensor,
    center: Tensor,
    *,
    cutoff: bool = True,
    out: Tensor | None = None,
    sigma: float | None = None,
) -> Tensor:
    """Input blob of the pose networks.

    Args:
        image: (N, H, W, 3) uint8, BGR.
        center: (N, 2) float, the person's centre in crop pixels (x right, y down, 0-based).
        cutoff: True draws the centre map as the training data layer does (nothing beyond e = 4.6052),
            False as the release's test programs do.
        out: where to write the result; None allocates it.
        sigma: of the centre map, pixels; None is 21 px at a 368 px crop and in proportion elsewhere (spec
            `transform.md`).

    Returns:
        (N, 4, H, W) float32: channels 0-2 are (pixel - 128) / 256, channel 3 is one Gaussian at the centre.
    """
    count, height, width, _ = image.shape
    shape = (count, 4, height, width)
    data = torch.empty(shape, dtype=torch.float32, device=image.device) if out is None else out
    if data.shape != shape or data.dtype != torch.float32:
        raise ValueError(f"out: expected float32 {shape}, got {data.dtype} {tuple(data.shape)}")
    data[:, :3] = image.permute(0, 3, 1, 2)
    data[:, :3].sub_(128).mul_(1 / 256)  # 1/256 is a power of two: exact
    sigma = center_sigma(max(height, width)) if sigma is None else sigma
    data[:, 3:] = ops.center_map(center, size=(height, width), sigma=sigma, cutoff=cutoff)
    return data
