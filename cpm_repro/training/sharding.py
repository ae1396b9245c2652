"""Work on a CPU, one share per core.

PyTorch splits every single operation over the cores; a small network's operations are too short for that
(two cores gain 1.4 to 1.7 times), and each of them waits for the slowest core, which is bad on a machine that
does something else too. Here each core runs the whole network on its own share of the batch, and gradients
are added in a fixed order, so that the result does not depend on which core was faster.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Item = TypeVar("Item")
Result = TypeVar("Result")

LossOf = Callable[[slice], Tensor]
"""Loss of every stage, (stages,) float32, of the people in a slice of the batch."""


class Cores:
    """As many threads as PyTorch would use, each of which runs its operations alone; 1: plain calls.

    While it is open, operations of the calling thread run on one core too. Use as a context manager.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._before = torch.get_num_threads()
        self._pool: ThreadPoolExecutor | None = None
        if count > 1:
            self._pool = ThreadPoolExecutor(count, "core", initializer=lambda: torch.set_num_threads(1))
            torch.set_num_threads(1)

    def map(self, function: Callable[..., Result], *items: Iterable[Any]) -> Iterator[Result]:
        """``map(function, *items)``, run on the cores; results in order."""
        return map(function, *items) if self._pool is None else self._pool.map(function, *items)

    def stream(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Like :meth:`map` for one iterable that may be long: takes only one item per core at a time."""
        source = iter(items)
        while group := list(itertools.islice(source, self.count)):
            yield from self.map(function, group)

    def close(self) -> None:
        """Stop the threads and give the calling thread its cores back. May be called twice."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
            torch.set_num_threads(self._before)

    def __enter__(self) -> Cores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sharded_backward(
    net: nn.Module,
    cores: Cores,
    batch: int,
    loss_of: LossOf,
    weights: Tensor | None = None,
    passes: int = 1,
) -> Tensor:
    """Set every trained parameter's gradient of the summed loss.

    Nothing is read from the network's device, nor sent there: a GPU never waits for this.

    Args:
        net: the network whose parameters get their ``.grad``.
        cores: each takes one slice of the batch.
        batch: people in the batch.
        loss_of: losses of a slice, already divided by the whole batch's N.
        weights: (stages,) of each stage's loss in the objective, on the losses' device; None: 1.
        passes: parts that the batch goes through one after the other, to spare memory; each has its cores.

    Returns:
        (stages,) the loss of every stage, without ``weights``.
    """
    parameters = [weight for weight in net.parameters() if weight.requires_grad]

    def one(part: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
        losses = loss_of(part)
        objective = losses if weights is None else losses * weights
        return losses.detach(), torch.autograd.grad(objective.sum(), parameters)

    losses = []
    for weight in parameters:
        weight.grad = None
    for loss, gradients in cores.stream(one, slices_of(batch, cores.count * passes)):
        losses.append(loss)
        _add(parameters, gradients)
    return torch.stack(losses).sum(0)


def slices_of(batch: int, shares: int) -> list[slice]:
    """``batch`` people in so many shares, which differ by one at most; empty ones are left out."""
    edges = [round(batch * share / shares) for share in range(shares + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _add(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
    """Add to every ``.grad``; the first time they become it.

    A gradient lies in memory as its weight does, as ``backward`` would leave it: fused optimisers walk both
    side by side, and on a CPU do not look.
    """
    for weight, gradient in zip(parameters, gradients, strict=True):
        if weight.grad is None:
            alike = gradient.stride() == weight.stride()
            weight.grad = gradient if alike else torch.empty_like(weight).copy_(gradient)
        else:
            weight.grad.add_(gradient)


def cores_for(net: nn.Module, device: torch.device, batch: int) -> Cores:
    """How many shares pay: one per thread on a CPU, one on a GPU.

    Networks with dropout get one: threads that draw from one generator would draw in any order.
    """
    random = any(isinstance(module, nn.Dropout) and module.p > 0 for module in net.modules())
    return Cores(1 if device.type != "cpu" or random else min(torch.get_num_threads(), batch))


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
