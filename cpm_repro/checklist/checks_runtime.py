"""Run time of the released networks on this machine's GPU."""

from __future__ import annotations

import statistics

import torch

from cpm_repro.bench.clock import time_in_turn
from cpm_repro.checklist.context import Context
from cpm_repro.model import build, describe


def forward_milliseconds(_: Context, arch: str) -> float:
    """Median time of one forward pass in float32 at the released input size, one image, on the GPU."""
    channels, height, width = describe(arch).input_shape[1:]
    net = build(arch).cuda().eval()
    data = torch.zeros(1, channels, height, width, device="cuda")
    with torch.no_grad():
        (times,) = time_in_turn({arch: lambda _: net(data)}, device="cuda").values()
    return 1000 * statistics.median(times)
