"""One network on several ranks: gradients are added over them while the backward pass still goes on."""

# No postponed annotations here: DistributedDataParallel wants to see those of its hook themselves.

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cpm_repro.model import PoseMachine
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.sharding import LossOf, slices_of


@dataclass
class _Exchange:
    """``failed`` tells what another rank's end raises from what our own backward pass raises."""

    failed: bool = False


class Parallel:
    """DistributedDataParallel that adds where it would average: losses are divided by the whole batch's N.

    Made anew whenever other parameters are frozen: those are neither computed nor exchanged.

    Args:
        net: on its device, the same weights on every rank.
        ranks: more than one.
    """

    def __init__(self, net: PoseMachine, ranks: Ranks) -> None:
        self.net, self.ranks = net, ranks
        self._exchange = _Exchange()
        self.module: DistributedDataParallel = ranks.exchange(
            lambda: DistributedDataParallel(net, init_sync=False, gradient_as_bucket_view=True)
        )
        self.module.register_comm_hook(self._exchange, _add)

    def backward(self, batch: int, loss_of: LossOf, weights: Tensor, passes: int = 1) -> Tensor:
        """As :func:`~cpm_repro.training.sharding.sharded_backward`, with every rank's gradients in the sums.

        All passes but the last only add to this rank's own sums.
        """
        try:
            return self._backward(batch, loss_of, weights, passes)
        except RuntimeError as error:
            if self._exchange.failed:
                self.ranks.lost(error)
            raise

    def _backward(self, batch: int, loss_of: LossOf, weights: Tensor, passes: int) -> Tensor:
        for weight in self.net.parameters():
            weight.grad = None
        losses: list[Tensor] = []
        slices = slices_of(batch, passes)
        for part in slices:
            with nullcontext() if part is slices[-1] else self.module.no_sync():
                loss = loss_of(part)
                (loss * weights).sum().backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum(0)


def _add(exchange: _Exchange, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Start to add a bucket of gradients over the ranks."""

    def added(work: torch.futures.Future[Any]) -> Tensor:
        try:
            values: list[Tensor] = work.value()
        except RuntimeError:
            exchange.failed = True
            raise
        return values[0]

    try:
        return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(added)
    except RuntimeError:
        exchange.failed = True
        raise
