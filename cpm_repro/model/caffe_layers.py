"""The few layers that pose machines are made of, with Caffe's rounding (spec `training.md`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def pooled_size(size: int, kernel: int, stride: int, pad: int = 0) -> int:
    """Caffe's pooled length of ``size`` cells: rounded up; no window starts outside the padded input."""
    pooled = -(-(size + 2 * pad - kernel) // stride) + 1
    if pad and (pooled - 1) * stride >= size + pad:
        pooled -= 1
    return pooled


def conv(channels_in: int, channels_out: int, kernel: int) -> nn.Conv2d:
    """A float32 convolution that keeps the size, its parameters not filled yet (see ``initialise``)."""
    shape = (channels_in, channels_out, kernel)
    return nn.utils.skip_init(nn.Conv2d, *shape, padding=kernel // 2, dtype=torch.float32)


def max_pool(kernel: int) -> nn.MaxPool2d:
    """Max pooling of stride 2 without padding, rounded up: 368 -> 184 -> 92 -> 46 for kernels 2 and 3."""
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)


def center_pool(kernel: int = 9, stride: int = 8) -> nn.AvgPool2d:
    """Average pooling for the centre map, rounded up: 368 -> 46.

    The last window hangs over the edge at sides of 0 (mod 8); like Caffe, the sum is divided by the part of
    the window inside the input. Without padding ``count_include_pad`` changes nothing here, but with False
    exported graphs say so too.
    """
    return nn.AvgPool2d(kernel, stride, ceil_mode=True, count_include_pad=False)


def relu(x: Tensor) -> Tensor:
    """ReLU in place: as in Caffe the convolution's output is its own bottom, and no second copy is kept."""
    return functional.relu(x, inplace=True)


def concat(*blobs: Tensor) -> Tensor:
    """Concatenate (N, C_i, h, w) along channels in the order given, in the first blob's dtype.

    Under autocast the pooled centre map alone is still float32; without the cast it would pull the whole
    concatenation up to float32, only for the next convolution to cast it down again.
    """
    return torch.cat([blob.to(blobs[0].dtype) for blob in blobs], dim=1)
