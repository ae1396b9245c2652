"""Run time of the released networks on this machine's GPU."""

from __future__ import annotations

import statistics
import time

import torch

from cpm_repro.checklist.context import Context
from cpm_repro.model import build, describe


def forward_milliseconds(_: Context, arch: str) -> float:
    """Median time of one forward pass in float32 at the released input size, one image, on the GPU."""
    channels, height, width = describe(arch).input_shape[1:]
    net = build(arch).cuda().eval()
    data = torch.zeros(1, channels, height, width, device="cuda")
    times = []
    with torch.no_grad():
        for _attempt in range(25):
            torch.cuda.synchronize()
            start = time.perf_counter()
            net(data)
            torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[5:])  # the first ones choose algorithms
