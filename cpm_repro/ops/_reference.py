"""The operators in plain torch: the judge of the kernels, and what runs where no kernel does.

Derived from the specification on its own; shares no code with csrc/. Letters: N samples, P people, K parts,
h w cells, H W pixels.
"""

from __future__ import annotations

import torch

CUTOFF = 4.6052  # exponent beyond which the original adds nothing (spec `transform.md`, Output)


def gaussian(
    center: torch.Tensor, size: tuple[int, int], stride: float, sigma: float, cutoff: bool = True
) -> torch.Tensor:
    """(..., 2) positions in pixels -> (..., h, w) float32 bumps, zero where a position is not finite.

    The squared distance is float32; halving it, dividing it by sigma twice and comparing it is float64;
    the exponent is float32.
    """
    h, w = size
    device = center.device
    x = torch.arange(w, device=device, dtype=torch.float32) * stride + (stride / 2 - 0.5)
    y = torch.arange(h, device=device, dtype=torch.float32) * stride + (stride / 2 - 0.5)
    dx = x - center[..., 0, None]
    dy = y - center[..., 1, None]
    d2 = dx.square()[..., None, :] + dy.square()[..., :, None]
    exponent = (d2.double() / 2 / sigma / sigma).float()
    outside = ~torch.isfinite(center).all(-1)[..., None, None]
    if cutoff:
        outside = outside | (exponent.double() > CUTOFF)
    return torch.exp(-exponent).masked_fill(outside, 0.0)


def belief_maps(
    joints: torch.Tensor, visible: torch.Tensor, grid: tuple[int, int], stride: float, sigma: float
) -> torch.Tensor:
    """(N,P,K,2) float32 and (N,P,K) -> (N, 2(K+1), h, w) float32, see ``cpm_repro.ops.belief_maps``."""
    drawn = (visible == 0) | (visible == 1)
    bumps = gaussian(joints, grid, stride, sigma) * drawn[..., None, None]
    alone = bumps[:, 0]
    everybody = alone
    for person in range(1, joints.shape[1]):
        everybody = (everybody + bumps[:, person]).clamp(max=1.0)
    groups = []
    for parts in (alone, everybody):
        highest = (
            parts.amax(1, keepdim=True) if parts.shape[1] else torch.zeros_like(parts.sum(1, keepdim=True))
        )
        groups += [parts, (1.0 - highest).clamp(min=0.0)]
    return torch.cat(groups, 1)


def center_map(center: torch.Tensor, size: tuple[int, int], sigma: float, cutoff: bool) -> torch.Tensor:
    """(N,2) float32 -> (N,1,H,W) float32, see ``cpm_repro.ops.center_map``."""
    return gaussian(center, size, 1.0, sigma, cutoff)[:, None]


def belief_map_loss(
    maps: list[torch.Tensor],
    joints: torch.Tensor,
    visible: torch.Tensor,
    stride: float,
    sigma: float,
    scale: float,
) -> torch.Tensor:
    """Per stage the sum of squared differences times ``scale``; see ``cpm_repro.ops.belief_map_loss``."""
    channels, h, w = maps[0].shape[1:]
    label = belief_maps(joints, visible, (h, w), stride, sigma)
    alone, everybody = label[:, :channels], label[:, channels:]
    targets = [everybody] + [alone] * (len(maps) - 1)
    return torch.stack([(m.float() - t).square().sum() * scale for m, t in zip(maps, targets, strict=True)])
