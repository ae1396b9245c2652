"""Warping on the device: the CPU decodes and cuts windows, the GPU makes the network's input of them.

A window is what of a photograph one crop sees, halved while the crop shrinks it by 2 or more, with the map
between its pixels and the crop's. Windows of a batch are padded to one size with the grey that becomes 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cpm_repro import ops
from cpm_repro.config import center_sigma
from cpm_repro.data.augment import BORDER


def pad_windows(windows: Sequence[np.ndarray]) -> Tensor:
    """Stack (h, w, 3) uint8 windows into (N, H, W, 3), grey 128 right of and below the smaller ones."""
    height, width = (max(window.shape[axis] for window in windows) for axis in (0, 1))
    out = np.full((len(windows), height, width, 3), BORDER, np.uint8)
    for row, window in zip(out, windows, strict=True):
        row[: window.shape[0], : window.shape[1]] = window
    return torch.from_numpy(out)


def window_maps(matrices: Sequence[np.ndarray], window: tuple[int, int]) -> Tensor:
    """Where crop pixels lie in windows padded to one size, for `warp_windows`.

    Made on the host, once for a batch: an inversion on a GPU makes the host wait for it.

    Args:
        matrices: N of (2, 3) float64, window pixels to crop pixels.
        window: (h, w) of the padded windows.

    Returns:
        (N, 2, 3) float32: crop pixels to places whose -1 and 1 are the windows' edges.
    """
    square = np.tile(np.eye(3), (len(matrices), 1, 1))
    square[:, :2] = matrices
    back = np.linalg.inv(square)[:, :2]
    back[:, :, 2] += 0.5
    back *= np.array([[2 / window[1]], [2 / window[0]]])
    back[:, :, 2] -= 1
    return torch.from_numpy(back).float()


def warp_windows(windows: Tensor, matrix: Tensor, center: Tensor, size: tuple[int, int]) -> Tensor:
    """The networks' input of a batch of windows, on their device: one bilinear warp, grey outside.

    Args:
        windows: (N, H, W, 3) uint8 BGR; see `pad_windows`.
        matrix: (N, 2, 3) float32; see `window_maps`.
        center: (N, 2) float, the person's centre in crop pixels.
        size: (h, w) of the crop.

    Returns:
        (N, 4, h, w) float32 as `network_input` gives it: (pixel - 128) / 256, and the centre map. Pixels lie
        between whole levels; OpenCV rounds them, and its coordinates to 1/32 pixel.
    """
    count = len(windows)
    if matrix.shape != (count, 2, 3) or center.shape != (count, 2):
        raise ValueError(
            f"matrix, center: expected ({count}, 2, 3) and ({count}, 2), "
            f"got {tuple(matrix.shape)} and {tuple(center.shape)}"
        )
    centred = windows.permute(0, 3, 1, 2).float().sub_(BORDER).mul_(1 / 256)
    grid = _grid(matrix, size)
    data = torch.empty((count, 4, *size), dtype=torch.float32, device=windows.device)
    # What lies outside is 0 here, which is the grey of the border.
    data[:, :3] = torch.nn.functional.grid_sample(centred, grid, "bilinear", "zeros", align_corners=False)
    data[:, 3:] = ops.center_map(center, size=size, sigma=center_sigma(max(size)))
    return data


def _grid(matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, h, w, 2): where each crop pixel lies in the window, whose edges are -1 and 1."""
    y, x = (torch.arange(n, dtype=torch.float32, device=matrix.device) for n in size)
    along_x = x[None, None, :, None] * matrix[:, None, None, :, 0]
    along_y = y[None, :, None, None] * matrix[:, None, None, :, 1]
    return along_x + along_y + matrix[:, None, None, :, 2]
