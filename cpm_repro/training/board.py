"""TensorBoard events of a run, where TensorBoard is installed: scalars, belief maps, gradients per layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cpm_repro.config import AugmentConfig
from cpm_repro.data import PoseDataset, val_batches
from cpm_repro.data.release import ReleaseAugment
from cpm_repro.inference.network_input import network_input
from cpm_repro.model import PoseMachine

if TYPE_CHECKING:  # the Caffe room is heavier than a run that does not need it
    from cpm_repro.training.caffe_stages import CaffeStages


class Board:
    """Writes to ``tensorboard/`` in the run folder; look at it with ``tensorboard --logdir RUN``."""

    def __init__(self, folder: Path, iteration: int) -> None:
        """Events after ``iteration``, which a resumed run makes again, are hidden.

        Raises:
            ImportError: TensorBoard is not installed.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=iteration + 1)

    def update(
        self,
        iteration: int,
        rates: Mapping[str, float],
        losses: Sequence[float],
        per_pixel: Sequence[float],
        norm: float,
    ) -> None:
        """The scalars of one update."""
        add = self._writer.add_scalar
        for stage, (loss, pixel) in enumerate(zip(losses, per_pixel, strict=True), start=1):
            add(f"loss/stage{stage}", loss, iteration)
            add(f"loss_per_pixel/stage{stage}", pixel, iteration)
        for name, rate in rates.items():
            add(name, rate, iteration)
        if math.isfinite(norm):
            add("gradient_norm", norm, iteration)

    def scores(self, iteration: int, pck: Sequence[float]) -> None:
        """PCK@0.2 of every stage, percent."""
        for stage, total in enumerate(pck, start=1):
            self._writer.add_scalar(f"pck/stage{stage}", total, iteration)

    def gradients(self, iteration: int, net: nn.Module) -> None:
        """A histogram of every layer's gradient as it stands: the paper's figure of vanishing gradients."""
        for name, weight in net.named_parameters():
            if weight.grad is not None and bool(torch.isfinite(weight.grad).all()):
                self._writer.add_histogram(f"gradient/{name}", weight.grad, iteration)

    def beliefs(
        self,
        iteration: int,
        net: PoseMachine | CaffeStages,
        people: PoseDataset,
        augment: AugmentConfig | ReleaseAugment,
        stages: int,
        sigma: float | None = None,
    ) -> None:
        """What every stage believes about the first held-out person, as one picture.

        ``sigma`` is that of the centre map, as in ``network_input``.
        """
        from cpm_repro.viz import belief_grid  # viz is slow to import

        batch = next(iter(val_batches(people, augment, 1))).batch
        device = next(net.parameters()).device
        data = network_input(batch.image.to(device), batch.center.to(device), sigma=sigma)
        data = data[:, : net.input_channels]
        modes = {module: module.training for module in net.modules()}
        net.eval()
        with torch.no_grad():
            maps = net(data.contiguous(memory_format=torch.channels_last), stages)
        for module, training in modes.items():
            module.training = training
        shown = [stage[0].float().cpu().numpy() for stage in maps]
        grid = belief_grid(batch.image[0].numpy(), shown, people.skeleton.parts, cell=96)
        self._writer.add_image("beliefs", grid[:, :, ::-1].copy(), iteration, dataformats="HWC")

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


def board(folder: Path, iteration: int) -> Board | None:
    """A board, if TensorBoard is installed."""
    try:
        return Board(folder, iteration)
    except ImportError:
        return None
