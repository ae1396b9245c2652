"""Forward and backward on a CPU, one shard of the batch per core.

PyTorch splits every single operation over the cores; a small network's operations are too short for that
(two cores gain 1.7x at best). Here each core runs the whole network on its own share of the batch, and
the gradients are added in a fixed order, so the result does not depend on which core was faster.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

LossOf = Callable[[slice], Tensor]
"""Loss of every stage, (stages,) float32, of the people in a slice of the batch."""


class ShardedBackward:
    """Runs a loss and its gradient on ``shards`` slices of the batch at once.

    Args:
        net: the network whose parameters get their ``.grad``.
        shards: threads; 1 leaves the splitting to PyTorch's own threads.
    """

    def __init__(self, net: nn.Module, shards: int) -> None:
        self._parameters = [weight for weight in net.parameters() if weight.requires_grad]
        self._shards = shards
        self._pool = (
            ThreadPoolExecutor(shards, "shard", initializer=lambda: torch.set_num_threads(1))
            if shards > 1
            else None
        )

    def __call__(self, batch: int, loss_of: LossOf) -> list[float]:
        """Set every parameter's gradient of the summed loss; returns the loss of every stage."""
        edges = [round(batch * shard / self._shards) for shard in range(self._shards + 1)]
        slices = [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]
        run = self._pool.map if self._pool is not None else map
        results = list(run(lambda part: self._one(loss_of, part), slices))
        losses, gradients = zip(*results, strict=True)
        for index, weight in enumerate(self._parameters):
            weight.grad = gradients[0][index]
            for others in gradients[1:]:
                weight.grad.add_(others[index])
        total: list[float] = torch.stack(losses).sum(0).tolist()
        return total

    def _one(self, loss_of: LossOf, part: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
        losses = loss_of(part)
        return losses.detach(), torch.autograd.grad(losses.sum(), self._parameters)

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def shards_for(net: nn.Module, device: torch.device, batch: int) -> int:
    """How many shards pay: one per thread on a CPU, one on a GPU.

    Networks with dropout get one: threads that draw from one generator would draw in any order.
    """
    random = any(isinstance(module, nn.Dropout) and module.p > 0 for module in net.modules())
    return 1 if device.type != "cpu" or random else min(torch.get_num_threads(), batch)


def keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks instead of returning them to the system.

    A training step frees and allocates the same large blocks over and over; fresh ones cost a page fault
    per 4 KB, about 6 % of a step of ``tiny``. Elsewhere than on Linux nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, 2**31 - 1)
