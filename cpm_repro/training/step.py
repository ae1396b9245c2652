"""One update of a run: from a batch of crops to moved weights."""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from cpm_repro.config import TrainConfig
from cpm_repro.data import Batch, warp_windows
from cpm_repro.device import float32_products, measured_convolutions
from cpm_repro.errors import UserError
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import PoseMachine
from cpm_repro.training.failure import LastUpdate, lost_weights, save_failure
from cpm_repro.training.gradients import GradientRecorder
from cpm_repro.training.losses import stage_losses
from cpm_repro.training.parallel import Parallel
from cpm_repro.training.ranks import Ranks
from cpm_repro.training.recipe import LossScale, Optimizers, autocast_type, learning_rates, lower
from cpm_repro.training.schemes import Phase
from cpm_repro.training.sharding import Cores, sharded_backward


@dataclass(frozen=True)
class Done:
    """What one update tells about itself."""

    losses: list[float]  # of every stage that ran, before the update
    gradient_norm: float  # of all trained parameters together, before clipping; not finite: update skipped


class Step:
    """Makes the updates of one run.

    Args:
        net: the network, on ``device``.
        config: of the run.
        optimizers: over ``net``'s parameters.
        cores: that share this rank's part of a batch.
        ranks: that share the batch.
        failures: folder for what is known about an update that went wrong.
        recorder: measures the gradients before they are clipped.
    """

    def __init__(
        self,
        net: PoseMachine,
        config: TrainConfig,
        optimizers: Optimizers,
        cores: Cores,
        ranks: Ranks,
        failures: Path,
        recorder: GradientRecorder | None = None,
    ) -> None:
        self.net, self.config, self.optimizers, self.cores = net, config, optimizers, cores
        self.ranks, self.failures, self.recorder = ranks, failures, recorder
        self.device = next(net.parameters()).device
        self.cast = autocast_type(config.solver.precision, self.device)
        self.scale = LossScale(active=self.cast == torch.float16)
        net.recompute = config.solver.recompute
        self.forward = self._compiled(net)
        self.parallel: Parallel | None = None
        self.parallel_for: Phase | None = None
        self.weights, self.weights_sent = torch.empty(0), list[float]()
        self.last: LastUpdate | None = None

    def __call__(self, batch: Batch, iteration: int, phase: Phase, factor: float) -> Done:
        """Move the weights once.

        Args:
            batch: this rank's crops; moved to the network's device if they are elsewhere.
            iteration: 0-based number of this update.
            phase: says which stages run and whose losses count.
            factor: of the learning rates.

        Raises:
            UserError: the loss or the gradient is not finite; the weights are as they were, and the batch,
                the losses and the gradients' norms are saved.
        """
        with float32_products(self.device, tf32=self.config.solver.precision == "tf32"):
            return self._update(batch, iteration, phase, factor)

    def _update(self, batch: Batch, iteration: int, phase: Phase, factor: float) -> Done:
        """One update at the precision asked for."""
        # Every iteration's random numbers (dropout) follow from its number alone, so a resumed run draws
        # what the uninterrupted one would have drawn; every rank draws its own.
        torch.manual_seed(self.config.seed * 1_000_003 + iteration + (self.ranks.rank << 52))
        # The one read of an update: until here the host only queues work, a GPU has no gap to wait in.
        with measured_convolutions(self.device):  # crops have one size
            own_losses = self._backward(batch, phase)
        *own, norm = torch.cat([own_losses, self._unscaled_norm()]).tolist()
        losses = self.ranks.sum(own)
        if not math.isfinite(sum(losses)) or not (math.isfinite(norm) or self.scale.can_fall()):
            self._fail(batch, iteration, losses, norm, factor)
        self.scale.update(finite=math.isfinite(norm))
        if math.isfinite(norm):
            if self.recorder is not None:
                self.recorder.record(iteration, self.net)
            self._clip(norm)
            self.optimizers.step(factor)
        self.last = LastUpdate(batch, iteration, losses, self._rates(factor))
        return Done(losses, norm)

    def _compiled(self, net: nn.Module) -> nn.Module:
        compiled = self.config.solver.compile and self.device.type == "cuda"
        return torch.compile(net) if compiled else net  # type: ignore[return-value]

    def _join(self, phase: Phase) -> Parallel:
        """The network under all ranks, as ``phase`` has frozen it."""
        if self.parallel is None or self.parallel_for != phase:
            self.parallel, self.forward = None, self.net
            gc.collect()  # the phase before waits for its own parameters' gradients until it is gone
            self.parallel, self.parallel_for = Parallel(self.net, self.ranks), phase
            self.forward = self._compiled(self.parallel.module)
        return self.parallel

    def _backward(self, batch: Batch, phase: Phase) -> Tensor:
        """Set the gradients, of all ranks together; (stages,) this rank's part of every stage's loss."""
        image, center, joints, visible = (
            item.to(self.device) for item in (batch.image, batch.center, batch.joints, batch.visible)
        )
        matrix = None if batch.matrix is None else batch.matrix.to(self.device)
        crop = self.config.augment.crop

        def loss_of(part: slice) -> Tensor:
            if matrix is None:
                data = network_input(image[part], center[part])
            else:
                data = warp_windows(image[part], matrix[part], center[part], (crop, crop))
            data = data[:, : self.net.input_channels]
            with torch.autocast(self.device.type, self.cast, enabled=self.cast is not None):
                maps = self.forward(data.contiguous(memory_format=torch.channels_last), phase.stages)
            return stage_losses(
                maps, joints[part], visible[part], self.config.target, self.config.solver.batch
            )

        weights = self._weights(phase)
        passes = self.config.solver.accumulate
        if self.ranks.count > 1:
            return self._join(phase).backward(len(image), loss_of, weights, passes)
        return sharded_backward(self.net, self.cores, len(image), loss_of, weights, passes)

    def _weights(self, phase: Phase) -> Tensor:
        """(stages,) of the losses in the objective, sent to the device only when they change."""
        wanted = [weight * self.scale.value for weight in phase.weights()]
        if wanted != self.weights_sent:
            self.weights_sent = wanted
            self.weights = torch.tensor(wanted, device=self.device)
        return self.weights

    def _gradients(self) -> list[Tensor]:
        return [weight.grad for weight in self.net.parameters() if weight.grad is not None]

    def _unscaled_norm(self) -> Tensor:
        """Take the loss scale out of the gradients; (1,) their common L2 norm."""
        gradients = self._gradients()
        if self.scale.value != 1:
            torch._foreach_mul_(gradients, 1 / self.scale.value)
        return torch.nn.utils.get_total_norm(gradients).reshape(1)

    def _clip(self, norm: float) -> None:
        """Bring the gradients' common norm down to the setting, as torch's clip_grad_norm_ does."""
        factor = self.config.solver.clip / (norm + 1e-6)
        if 0 < factor < 1:
            torch._foreach_mul_(self._gradients(), factor)

    def fail_weights(self, kept: str) -> NoReturn:
        """Stop over weights that are not finite; ``kept`` is what of the run there is to go on from.

        Raises:
            UserError: always, on rank 0. SystemExit: on the others.
        """
        self.ranks.fail(lost_weights(self._failures(), self.last, self.net, kept, lower))

    def _rates(self, factor: float) -> dict[str, float]:
        """The learning rates of an update, by the names of their settings."""
        return learning_rates(self.config.solver, factor)

    def _failures(self) -> Path:
        """This rank's folder for what is known about an update that went wrong."""
        return self.failures if self.ranks.count == 1 else self.failures / f"rank{self.ranks.rank}"

    def _fail(self, batch: Batch, iteration: int, losses: list[float], norm: float, factor: float) -> None:
        what = "gradient" if math.isfinite(sum(losses)) else "loss"
        rates = self._rates(factor)
        saved = save_failure(self._failures(), what, iteration, batch, losses, self.net, rates)
        self.ranks.fail(
            UserError(
                f"the {what} is no longer finite at iteration {iteration} (loss per stage {losses}, gradient "
                f"norm {norm:g}): {lower(rates)}; the batch and all norms are in {saved}"
            )
        )
