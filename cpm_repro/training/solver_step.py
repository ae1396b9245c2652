"""One update of a solver prototxt's run: from batches of crops to moved weights, as Caffe moves them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cpm_repro.caffe.net import CaffeNet
from cpm_repro.caffe.sgd import CaffeSGD
from cpm_repro.data import Batch
from cpm_repro.device import measured_convolutions
from cpm_repro.errors import UserError
from cpm_repro.training.failure import LastUpdate, largest_weight, lost_weights, save_failure
from cpm_repro.training.solver_data import batch_blobs
from cpm_repro.training.solver_plan import SolverPlan


@dataclass(frozen=True)
class Done:
    """What one update tells about itself; losses before it, means over its passes."""

    losses: list[float]  # of every loss layer, as it stands
    objective: float  # what is minimised: each times its loss_weight
    lr: float
    norm: float  # of the mean gradient
    waited: float  # seconds, for its batches


class SolverStep:
    """Makes the updates of one run.

    Args:
        net: the training net, on its device.
        plan: what the prototxts say.
        optimizer: over ``net``'s arrays.
        seed: of what dropout draws.
        failures: folder for what is known about an update that went wrong.

    Attributes:
        losses: tops of the net's loss layers.

    Raises:
        UserError: the net has no loss, or nothing that is trained.
    """

    def __init__(
        self, net: CaffeNet, plan: SolverPlan, optimizer: CaffeSGD, seed: int, failures: Path
    ) -> None:
        self.net, self.plan, self.optimizer, self.seed = net, plan, optimizer, seed
        self.failures = failures
        self.device = next(net.parameters()).device
        self.losses = [layer.top[0] for layer, _ in net.steps() if layer.type.endswith("Loss")]
        self.last: LastUpdate | None = None
        net.loss_weights()  # refuses a net without a loss
        if not any(weight.requires_grad for weight in net.parameters()):
            raise UserError(f"net {net.net_name!r}: nothing is trained, every lr_mult is 0")

    def __call__(self, batches: Iterator[Batch], iteration: int) -> Done:
        """Update number ``iteration`` (0-based), over ``iter_size`` of the ``batches``.

        Raises:
            UserError: a loss or the gradient is not finite; the weights are as they were, and the batch
                and all norms are saved.
        """
        torch.manual_seed(self.seed * 1_000_003 + iteration)  # dropout is the same after a resume
        self.optimizer.zero_grad()
        passes = self.optimizer.iter_size
        sums, objective, norm, waited = [0.0] * len(self.losses), 0.0, 0.0, 0.0
        for _ in range(passes):
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            given = batch_blobs(batch, self.plan.data, self.device)
            with measured_convolutions(self.device):  # crops have one size
                blobs = self.net(**given)
                total = self.net.objective(blobs)
                total.backward()
            # The one read of a pass: until here the host only queues work.
            losses = [blobs[top].detach() for top in self.losses]
            *made, whole, norm = torch.stack([*losses, total.detach(), self._norm()]).tolist()
            self._check_finite(batch, iteration, made, norm)
            objective += whole
            sums = [so_far + loss for so_far, loss in zip(sums, made, strict=True)]
        lr = self.plan.policy(iteration)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        means = [loss / passes for loss in sums]
        self.last = LastUpdate(batch, iteration, means, {"lr": lr})
        return Done(means, objective / passes, lr, norm / passes, waited)

    def _norm(self) -> Tensor:
        """() the norm of the gradient so far."""
        gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _check_finite(self, batch: Batch, iteration: int, losses: list[float], norm: float) -> None:
        """Stop the run over what overflows, before the weights are touched."""
        if math.isfinite(sum(losses)) and math.isfinite(norm):
            return
        what = "gradient" if math.isfinite(sum(losses)) else "loss"
        rates = {"lr": self.plan.policy(iteration)}
        saved = save_failure(self.failures, what, iteration, batch, losses, self.net, rates)
        named = ", ".join(f"{top} {value:g}" for top, value in zip(self.losses, losses, strict=True))
        raise UserError(
            f"the {what} is no longer finite at iteration {iteration} ({named}): {_lower(rates)}; the "
            f"batch and all norms are in {saved}"
        )

    def check_weights(self, kept: str) -> None:
        """Stop the run over weights that are not finite: they are neither scored nor saved.

        Raises:
            UserError: one is not; ``kept`` is what of the run there is to go on from.
        """
        if not math.isfinite(largest_weight(self.net)):
            raise lost_weights(self.failures, self.last, self.net, kept, _lower)


def _lower(rates: Mapping[str, float]) -> str:
    """The advice to lower the rate of a solver prototxt."""
    return f"lower base_lr (the rate is now {rates['lr']:.2e})"
