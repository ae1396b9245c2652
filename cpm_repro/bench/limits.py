"""What the machine can do at most, measured in the same run: memory bandwidth and matrix rate."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Rates of this machine, medians."""

    fill: float  # bytes per second written
    copy: float  # bytes per second read and written together
    float32: float  # floating-point operations per second, matrix product
    bfloat16: float | None  # None where the processor has no such arithmetic

    def seconds(self, written_and_read: float, operations: float, precision: str) -> float:
        """Least time for so many bytes and operations, whichever takes longer; 0 where neither is known."""
        rate = self.bfloat16 if precision == "bfloat16" and self.bfloat16 else self.float32
        return max(written_and_read / self.copy, operations / rate)


def measure_limits(device: str = "cpu", *, quick: bool = False, bfloat16: bool = False) -> Limits:
    """Fill and copy of a block far larger than the caches, and square matrix products.

    Args:
        device: "cpu" or "cuda".
        quick: smaller blocks, for a look whether it runs; the numbers are then no limits.
        bfloat16: also measure its matrix rate (where it is emulated that takes long and says nothing).
    """
    import torch  # reports are read and compared without it

    from cpm_repro.bench.clock import time_in_turn

    count = (1 << 22) if quick else (1 << 26)  # 16 or 256 MB of float32
    side = (256 if quick else 1536) * (4 if device == "cuda" and not quick else 1)
    block, other = torch.empty(count, device=device), torch.zeros(count, device=device)
    a, b = torch.rand(side, side, device=device), torch.rand(side, side, device=device)
    works = {
        "fill": lambda _: block.fill_(1.0),
        "copy": lambda _: block.copy_(other),
        "float32": lambda _: a @ b,
    }
    if bfloat16:
        c, d = a.bfloat16(), b.bfloat16()
        works["bfloat16"] = lambda _: c @ d
    median = {
        name: statistics.median(samples)
        for name, samples in time_in_turn(works, rounds=5 if quick else 11, budget=8, device=device).items()
    }
    product = 2.0 * side**3
    return Limits(
        fill=4.0 * count / median["fill"],
        copy=8.0 * count / median["copy"],
        float32=product / median["float32"],
        bfloat16=product / median["bfloat16"] if bfloat16 else None,
    )
